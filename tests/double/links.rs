//! Links in a source: what is said of them, and what `--follow-links` takes.
#![cfg(unix)]

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use crate::common::{Scene, ran, sr3, sr3_process};

fn link(scene: &Scene, to: &str, at: &str) {
    let at = scene.path(at);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(scene.path(to), at).unwrap();
}

/// Input and what became of it, in the order of the report.
fn told(scene: &Scene) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_string();
    scene.report().iter().map(|line| format!("{} {}", text(&line["input"]), text(&line["status"]))).collect()
}

fn reason_of(scene: &Scene, input: &str) -> String {
    let report = scene.report();
    let line = report.iter().find(|line| line["input"] == input).unwrap();
    line["reason"].as_str().unwrap().to_string()
}

#[test]
fn a_source_without_images_says_what_it_holds_instead() {
    let scene = Scene::new(&[]);
    for n in 0..12 {
        scene.write(&format!("photos/{n}.png"), "x");
        link(&scene, &format!("photos/{n}.png"), &format!("in/{n}.png"));
    }
    let line = scene.upscale(&[]);
    assert_eq!(line.code, 2);
    let due = "it holds 12 links that lead out of it: copy the files in, or pass --follow-links";
    assert!(line.refusal().ends_with(due), "{}", line.err);
    assert!(!scene.path("out").exists());
    assert_eq!(scene.upscale(&["--follow-links"]).code, 0);
    assert_eq!(scene.outputs().len(), 12);

    let scene = Scene::new(&[]);
    link(&scene, "gone.png", "in/a.png");
    assert!(scene.upscale(&[]).refusal().contains("1 link to nothing"));
    scene.write("in/notes.txt", "x");
    let both = scene.upscale(&[]);
    assert!(both.refusal().contains("its only file is not named") && both.err.contains("1 link to nothing"));
}

#[test]
fn a_source_of_folders_that_cannot_be_read_says_so() {
    use std::os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    };
    let scene = Scene::new(&[("locked/a.png", "a")]);
    let mode = |name: &str, mode| {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(".", 0o755);
    mode("in/locked", 0);
    let mut command = sr3_process(&["upscale", &scene.text("in"), &scene.text("out")], Duration::ZERO);
    if fs::metadata(scene.dir.path()).unwrap().uid() == 0 {
        command.uid(65534);
    }
    let refused = ran(&mut command);
    mode("in/locked", 0o755);
    assert_eq!(refused.code, 2);
    assert!(refused.refusal().contains("1 entry that cannot be read: Permission denied"), "{}", refused.err);
}

#[test]
fn followed_links_are_listed_under_their_own_paths_in_order_and_made_as_copies_would_be() {
    let scene = Scene::new(&[("b.png", "b"), ("sub/z.png", "z")]);
    scene.write("far/one.png", "one");
    scene.write("far/deep/two.png", "two");
    scene.write("farther/three.png", "three");
    link(&scene, "far", "in/album");
    link(&scene, "far/one.png", "in/a.png");
    link(&scene, "farther", "far/deep/more");
    // Between `album` and `album/…` in the order of bytes.
    scene.write("in/album-1.png", "between");
    let ran = scene.upscale(&["--follow-links"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let due = [
        "a.png",
        "album-1.png",
        "album/deep/more/three.png",
        "album/deep/two.png",
        "album/one.png",
        "b.png",
        "sub/z.png",
    ];
    assert_eq!(told(&scene), due.map(|name| format!("{name} ok")));
    assert_eq!(scene.outputs(), due);

    let copied = Scene::new(&[]);
    for name in due {
        copied.write(&format!("in/{name}"), &scene.read(&format!("in/{name}")));
    }
    assert_eq!(copied.upscale(&[]).code, 0);
    for name in due {
        assert_eq!(copied.read(&format!("out/{name}")), scene.read(&format!("out/{name}")), "{name}");
    }

    assert!(scene.upscale(&["--follow-links"]).out.contains("0 done, 7 skipped"));
    let without = scene.upscale(&[]);
    assert_eq!(without.code, 3);
    assert!(without.out.contains("0 done, 3 skipped, 2 set aside"), "{}", without.out);
    assert!(without.out.contains("album: a link that leads out of the source folder"), "{}", without.out);
}

#[test]
fn links_in_circles_end() {
    let scene = Scene::new(&[("a.png", "a"), ("sub/b.png", "b")]);
    scene.write("x/x.png", "x");
    scene.write("y/y.png", "y");
    link(&scene, "x", "in/x");
    link(&scene, "y", "x/to-y");
    link(&scene, "x", "y/to-x");
    link(&scene, "x", "x/self");
    link(&scene, "in", "in/sub/loop");
    link(&scene, "in", "y/home");
    // The folder of everything: source, x, y and the destination.
    link(&scene, ".", "in/up");
    let ran = scene.upscale(&["--follow-links"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let made = scene.outputs();
    assert_eq!(
        made.iter().filter(|name| !name.starts_with("up/")).collect::<Vec<_>>(),
        ["a.png", "sub/b.png", "x/to-y/y.png", "x/x.png"]
    );
    assert_eq!(
        made.iter().filter(|name| name.starts_with("up/")).collect::<Vec<_>>(),
        ["up/x/to-y/y.png", "up/x/x.png", "up/y/to-x/x.png", "up/y/y.png"]
    );
    assert!(reason_of(&scene, "x/self").contains("listed already"));
    assert!(reason_of(&scene, "sub/loop").contains("under their own names"));
    assert!(reason_of(&scene, "up/in").contains("under their own names"));
    // Now that there are results they lie on the way of `up`.
    let again = scene.upscale(&["--follow-links"]);
    assert_eq!((again.code, scene.outputs()), (0, made), "{}", again.out);
    assert!(reason_of(&scene, "up/out").contains("results are no inputs"));
}

#[test]
fn a_link_into_the_destination_never_makes_results_inputs() {
    let scene = Scene::new(&[("a.png", "a")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    link(&scene, "out", "in/results");
    link(&scene, "out/a.png", "in/one.png");
    fs::create_dir(scene.path("far")).unwrap();
    symlink("../out/a.png", scene.path("far/back.png")).unwrap();
    link(&scene, "far", "in/far");
    link(&scene, "out", "other-name");
    for destination in ["out", "other-name"] {
        let ran = sr3(&["upscale", &scene.text("in"), &scene.text(destination), "--follow-links"]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert_eq!(scene.outputs(), ["a.png"]);
        assert_eq!(
            told(&scene),
            ["a.png skipped", "far/back.png skipped", "one.png skipped", "results skipped"]
        );
        assert!(reason_of(&scene, "one.png").contains("results are no inputs"));
    }
}

#[test]
fn a_maze_of_links_has_an_end() {
    let scene = Scene::new(&[("a.png", "a")]);
    for n in 0..12 {
        scene.write(&format!("{n}/p.png"), "p");
        link(&scene, &(n + 1).to_string(), &format!("{n}/next"));
    }
    fs::create_dir(scene.path("12")).unwrap();
    link(&scene, "0", "in/next");
    let ran = scene.upscale(&["--follow-links"]);
    assert_eq!(ran.code, 3, "what is not looked into is said: {}", ran.out);
    assert_eq!(scene.outputs().len(), 9);
    assert!(ran.out.contains("a link behind 8 others"), "{}", ran.out);
}

#[test]
fn following_links_is_refused_where_it_means_nothing() {
    let scene = Scene::new(&[("a.png", "a")]);
    let (input, out) = (scene.text("in"), scene.text("out"));
    let follow = |source: &str, more: &[&str]| {
        let ran = sr3(&[&["upscale", source, &out, "--follow-links"], more].concat());
        assert_eq!(ran.code, 2, "{}", ran.err);
        ran.refusal().to_string()
    };
    assert!(follow(&scene.text("in/a.png"), &[]).contains("is none"));
    assert!(follow("s3://bucket/photos", &[]).contains("is none"));
    let cluster = follow(&input, &["--coordinator", "http://127.0.0.1:9"]);
    assert!(cluster.contains("--follow-links is for this machine alone"), "{cluster}");
    assert!(!Path::new(&out).exists());
}
