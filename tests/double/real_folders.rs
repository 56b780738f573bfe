//! Folders as people have them: links, what systems leave behind, names that could meet, destinations of several
//! sources.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Ran, Scene, sr3};
use serde_json::Value;

/// What tells a picture that no name tells.
const FIRST_BYTES: &str = "GIF89a";

/// What `sr3 upscale in out …` says of every input: its status, and its output or the reason.
fn verdicts(scene: &Scene) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let told =
        |line: &Value| if line["reason"].is_null() { text(&line["output"]) } else { text(&line["reason"]) };
    scene
        .report()
        .iter()
        .map(|l| format!("{} {}: {}", text(&l["input"]), text(&l["status"]), told(l)))
        .collect()
}

/// The real command on real pictures.
fn real(folder: &str, out: &Path) -> (i32, String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    let ran =
        command.arg("upscale").args([source.as_path(), out]).args(["--preset", "one"]).output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.code().unwrap(), String::from_utf8(said).unwrap())
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".sr3").collect();
    names.sort();
    names
}

mod systems {
    use super::*;

    #[test]
    fn a_folder_from_a_mac_is_done_and_its_doubles_are_skipped() {
        let scene = Scene::new(&[]);
        let (code, said) = real("appledouble", &scene.path("out"));
        assert_eq!(code, 0, "{said}");
        assert_eq!(files(&scene.path("out")), ["IMG_1.png", "IMG_2.png"]);
        assert!(said.contains("2 done, 2 skipped, 0 set aside"), "{said}");
        assert!(said.contains("2 skipped: a system's own file"), "{said}");
    }

    #[test]
    fn what_systems_leave_behind_is_skipped_with_a_reason_and_a_picture_never_is() {
        let scene = Scene::new(&[
            ("a.png", "a"),
            ("._a.png", "\0\u{5}\u{16}\u{7}\0\u{2}\0\0Mac OS X        "),
            ("._mine.png", "a picture called so"),
            ("sub/.DS_Store", "x"),
            ("sub/Thumbs.db", "x"),
            ("desktop.ini", "x"),
            ("sub/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "thumb"),
            ("sub/@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "thumb"),
            (".Trash-1000/files/old.png", "old"),
            ("$RECYCLE.BIN/S-1-5/x.png", "old"),
            (".thumbnails/normal/x.png", "thumb"),
            ("__MACOSX/._b.png", "x"),
            ("lost+found.png", "mine"),
        ]);
        let ran = scene.upscale(&[]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert_eq!(scene.outputs(), ["._mine.png", "a.png", "lost+found.png"]);
        assert_eq!(
            verdicts(&scene),
            [
                "$RECYCLE.BIN skipped: a system's own folder",
                ".Trash-1000 skipped: a system's own folder",
                "._a.png skipped: a system's own file",
                "._mine.png ok: ._mine.png",
                ".thumbnails skipped: a system's own folder",
                "__MACOSX skipped: a system's own folder",
                "a.png ok: a.png",
                "desktop.ini skipped: a system's own file",
                "lost+found.png ok: lost+found.png",
                "sub/.DS_Store skipped: a system's own file",
                "sub/@eaDir skipped: a system's own folder",
                "sub/Thumbs.db skipped: a system's own file",
            ]
        );
        assert_eq!(scene.upscale(&["--json"]).json()["skipped"], 12);
    }

    #[test]
    fn a_source_that_is_named_so_itself_is_taken() {
        let scene = Scene::new(&[]);
        scene.write(".thumbnails/normal/a.png", "a");
        let ran = sr3(&["upscale", &scene.text(".thumbnails"), &scene.text("out")]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(scene.outputs(), ["normal/a.png"]);
        scene.write("in/@eaDir/a.png", "a");
        let nothing = scene.upscale(&[]);
        assert_eq!(nothing.code, 2);
        assert!(nothing.refusal().contains("1 file or folder of the system's own"), "{}", nothing.err);
    }
}

mod names {
    use super::*;

    #[test]
    fn a_gif_and_what_it_would_grow_to_are_both_made() {
        let scene = Scene::new(&[]);
        let (code, said) = real("name_collision", &scene.path("out"));
        assert_eq!(code, 0, "{said}");
        assert_eq!(files(&scene.path("out")), ["photo.gif.png", "photo.gif.png.png"]);
        assert!(real("name_collision", &scene.path("out")).1.contains("0 done, 2 skipped"));
    }

    #[test]
    fn inputs_whose_names_could_meet_have_an_output_each_whichever_came_first() {
        for (one, other, outputs, more) in [
            ("photo.gif", "photo.gif.png", ["photo.gif.png", "photo.gif.png.png"], &[][..]),
            ("cat", "cat.png", ["cat.png", "cat.sr3.png"], &[]),
            ("cat", "cat.sr3.png", ["cat.sr3.png", "cat.sr3.png.png"], &[]),
            ("a.png", "a.png.jpg", ["a.png.jpg", "a.png.jpg.jpg"], &["--format", "jpeg"]),
        ] {
            for (first, second) in [(one, other), (other, one)] {
                let scene = Scene::new(&[(first, FIRST_BYTES)]);
                assert_eq!(scene.upscale(more).code, 0, "{first}");
                scene.write(&format!("in/{second}"), &format!("{FIRST_BYTES} 2"));
                let both = scene.upscale(more);
                assert_eq!(both.code, 0, "{first} {second}: {}", both.out);
                assert!(both.out.contains("1 done, 1 skipped"), "{first} {second}: {}", both.out);
                assert_eq!(scene.outputs(), outputs);
                for line in scene.report() {
                    let (input, output) = (line["input"].as_str().unwrap(), line["output"].as_str().unwrap());
                    assert!(scene.read(&format!("out/{output}")).contains(&format!(" {input} ")), "{line}");
                }
                assert!(scene.upscale(more).out.contains("0 done, 2 skipped"));
            }
        }
    }

    /// What an earlier version wrote under the name that another input has now.
    #[test]
    fn a_result_under_a_name_of_before_is_neither_taken_for_another_nor_replaced() {
        let scene = Scene::new(&[("photo.gif", "gif"), ("photo.gif.png", "png")]);
        scene.write("out/photo.gif.png", "what the png once became");
        let ran = scene.upscale(&[]);
        assert_eq!(ran.code, 3);
        assert_eq!(scene.read("out/photo.gif.png"), "what the png once became");
        assert_eq!(scene.read("out/photo.gif.png.png"), "Png 0 photo.gif.png PNG");
    }

    #[test]
    fn an_extension_in_a_glob_counts_in_any_case() {
        let scene = Scene::new(&[("A.JPG", "1"), ("b.jpg", "2"), ("C.Png", "3"), ("d.tif", "4")]);
        assert_eq!(scene.upscale(&["--include", "*.jpg", "--include", "*.PNG"]).code, 0);
        assert_eq!(scene.outputs(), ["A.JPG", "C.Png", "b.jpg"]);
        let other = Scene::new(&[("A.JPG", "1"), ("a.png", "2"), ("B.png", "3")]);
        assert_eq!(other.upscale(&["--exclude", "*.jpg", "--exclude", "b*.png"]).code, 0);
        assert_eq!(other.outputs(), ["B.png", "a.png"]);
    }

    /// `.sr3/LOCK` beside `.sr3/lock` is what a file system looks like that takes one for the other.
    #[test]
    fn where_capitals_do_not_count_the_second_is_set_aside_and_never_lost() {
        let scene = Scene::new(&[("A.png", "capital"), ("a.png", "small"), ("b.png", "b")]);
        scene.write("out/.sr3/LOCK", "");
        for more in [&[][..], &["--overwrite"], &[]] {
            let ran = scene.upscale(more);
            assert_eq!(ran.code, 3, "{}", ran.out);
            assert_eq!(scene.read("out/A.png"), "Png 0 A.png CAPITAL");
            assert_eq!(scene.outputs(), ["A.png", "b.png"]);
            assert!(ran.out.contains("a.png: its result would be one file"), "{}", ran.out);
        }
    }
}

mod reports {
    use super::*;

    fn told(scene: &Scene) -> Vec<String> {
        let root = scene.dir.path().canonicalize().unwrap();
        let source = |line: &Value| {
            let source = PathBuf::from(line["source"].as_str().unwrap());
            source.strip_prefix(&root).unwrap().display().to_string()
        };
        scene.report().iter().map(|l| format!("{}:{}", source(l), l["input"].as_str().unwrap())).collect()
    }

    fn upscale(scene: &Scene, source: &str, more: &[&str]) -> Ran {
        sr3(&[&["upscale", &scene.text(source), &scene.text("out")], more].concat())
    }

    #[test]
    fn lines_of_other_sources_stay_and_the_end_counts_only_its_own() {
        let scene = Scene::new(&[("a.png", "a"), ("bad.png", "BAD")]);
        scene.write("in2/b.png", "b");
        scene.write("in2/notes.txt", "x");
        assert_eq!(upscale(&scene, "in", &[]).code, 3);
        let second = upscale(&scene, "in2", &[]);
        assert_eq!(second.code, 0);
        assert!(second.out.contains("1 done, 1 skipped, 0 set aside"), "{}", second.out);
        assert!(
            !second.out.contains("bad.png") && second.out.contains("1 skipped: not an image"),
            "{}",
            second.out
        );
        assert_eq!(told(&scene), ["in:a.png", "in:bad.png", "in2:b.png", "in2:notes.txt"]);
        fs::remove_file(scene.path("in/bad.png")).unwrap();
        assert_eq!(upscale(&scene, "in", &[]).code, 0);
        assert_eq!(told(&scene), ["in2:b.png", "in2:notes.txt", "in:a.png"]);
    }

    #[test]
    fn pictures_given_one_by_one_are_all_in_the_report() {
        let scene = Scene::new(&[("a.png", "a"), ("b.png", "b"), ("c.png", "BAD")]);
        for (name, code) in [("in/a.png", 0), ("in/b.png", 0), ("in/c.png", 3), ("in/a.png", 0)] {
            assert_eq!(upscale(&scene, name, &[]).code, code);
        }
        assert_eq!(told(&scene), ["in/b.png:b.png", "in/c.png:c.png", "in/a.png:a.png"]);
    }

    #[test]
    fn a_run_that_fails_replaces_its_own_lines_alone() {
        let scene = Scene::new(&[("a.png", "BAD"), ("b.png", "BAD")]);
        scene.write("in2/x.png", "x");
        assert_eq!(upscale(&scene, "in2", &[]).code, 0);
        let failed = upscale(&scene, "in", &["--max-bad-items", "0"]);
        assert_eq!(failed.code, 1);
        assert_eq!(told(&scene)[0], "in2:x.png");
        assert!(told(&scene)[1..].iter().all(|line| line.starts_with("in:")), "{:?}", told(&scene));
    }

    #[test]
    fn lines_of_versions_that_named_no_source_go() {
        let scene = Scene::new(&[("a.png", "a")]);
        scene.write("out/.sr3/report.jsonl", "{\"input\":\"old.png\"}\n");
        assert_eq!(scene.upscale(&[]).code, 0);
        assert_eq!(told(&scene), ["in:a.png"]);
    }
}
