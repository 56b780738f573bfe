//! Calls that cannot work: one line that says what to do, an exit code that is not zero, nothing written.

use std::{fs, time::Duration};

use crate::common::{Ran, Scene, ran, sr3, sr3_process};

/// Runs `sr3 upscale SRC DST …` and checks that it is refused in one line holding `part`, with `code`, and without a
/// file more or less in the scene.
fn refused(scene: &Scene, source: &str, destination: &str, more: &[&str], code: i32, part: &str) {
    let before = everything(scene);
    let ran = sr3(&[&["upscale", source, destination], more].concat());
    assert_eq!(ran.code, code, "{source} {destination} {more:?}: {}{}", ran.out, ran.err);
    assert!(ran.refusal().contains(part), "{}", ran.err);
    assert_eq!(everything(scene), before, "{source} {destination} {more:?}");
}

fn everything(scene: &Scene) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![scene.dir.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn places_that_cannot_work_are_refused() {
    let scene = Scene::new(&[("a.png", "a"), ("sub/b.png", "b")]);
    scene.write("file", "x");
    let (input, out) = (scene.text("in"), scene.text("out"));
    refused(&scene, &scene.text("nowhere"), &out, &[], 2, "does not exist");
    refused(&scene, &input, &input, &[], 2, "replace their inputs");
    refused(&scene, &input, &scene.text("in/../in/."), &[], 2, "replace their inputs");
    refused(&scene, &input, &scene.text("in/out"), &[], 2, "inside SRC");
    refused(&scene, &input, &scene.text("in/new/deep/out"), &[], 2, "inside SRC");
    refused(&scene, &scene.text("in/sub"), &input, &[], 2, "inside DST");
    refused(&scene, &input, &scene.text("file"), &[], 2, "is a file");
    refused(&scene, &scene.text("in/a.png"), &input, &[], 2, "replace");
    refused(&scene, &scene.text("in/a.png"), &scene.text("in/a.png"), &["--overwrite"], 2, "replace");
    refused(&scene, &scene.text("in/a.png"), &scene.text("file"), &[], 2, "extension");
    refused(
        &scene,
        &scene.text("in/a.png"),
        &scene.text("x.jpg"),
        &["--format", "png"],
        2,
        "different formats",
    );
    for url in ["https://bucket.s3.amazonaws.com/out", "http://127.0.0.1/out", "ftp://host/out", "s3://"] {
        refused(&scene, &input, url, &[], 2, "s3://bucket/prefix");
        refused(&scene, url, &out, &[], 2, "s3://bucket/prefix");
    }
    refused(&scene, "s3://b/x", "s3://b/x/", &[], 2, "replace their inputs");
    refused(&scene, "s3://b/x", "s3://b/x/out", &[], 2, "inside SRC");
    refused(&scene, "s3://b/x/in", "s3://b/x", &[], 2, "inside DST");
    refused(&scene, "s3://b/x", &scene.text("file"), &[], 2, "is a file");
    refused(&scene, &format!("file://{input}"), &scene.text("in/out"), &[], 2, "inside SRC");
    refused(&scene, "", &out, &[], 2, "empty");
}

#[cfg(unix)]
#[test]
fn a_link_does_not_hide_where_results_would_land() {
    use std::os::unix::fs::symlink;
    let scene = Scene::new(&[("a.png", "a")]);
    symlink(scene.path("in"), scene.path("link")).unwrap();
    symlink("gone", scene.path("dangling")).unwrap();
    refused(&scene, &scene.text("in"), &scene.text("link"), &[], 2, "replace their inputs");
    refused(&scene, &scene.text("in"), &scene.text("link/out"), &[], 2, "inside SRC");
    refused(&scene, &scene.text("in"), &scene.text("dangling/out"), &[], 2, "does not exist");
}

#[test]
fn nothing_to_do_says_what_was_looked_for() {
    let scene = Scene::new(&[]);
    let (input, out) = (scene.text("in"), scene.text("out"));
    refused(&scene, &input, &out, &[], 2, "no files at all");
    scene.write("in/notes.txt", "hello");
    scene.write("in/.sr3/report.jsonl", "{}");
    refused(&scene, &input, &out, &[], 2, "its only file is not named like an image");
    scene.write("in/a.png", "a");
    refused(&scene, &input, &out, &["--include", "*.jpg"], 2, "leave out all of its 2 files");
    refused(&scene, &input, &out, &["--include", "a["], 2, "not a pattern");
    refused(&scene, &input, &out, &["--model", "nonesuch"], 2, "nonesuch");
}

#[test]
fn wrong_option_values_are_refused() {
    let scene = Scene::new(&[("a.png", "a")]);
    let (input, out) = (scene.text("in"), scene.text("out"));
    for wrong in [
        ["--quality", "0"],
        ["--quality", "101"],
        ["--steps", "0"],
        ["--scale", "0"],
        ["--scale", "-1"],
        ["--format", "bmp"],
        ["--threads", "0"],
        ["--batch", "0"],
        ["--tile", "3"],
        ["--seed", "x"],
        ["--max-bad-items", "-1"],
        ["--nonesuch", "1"],
    ] {
        let ran = sr3(&["upscale", &input, &out, wrong[0], wrong[1]]);
        assert_eq!(ran.code, 2, "{wrong:?}");
        assert!(ran.err.contains(wrong[0]), "{wrong:?}: {}", ran.err);
    }
    assert_eq!(sr3(&["upscale", &input]).code, 2);
    assert!(!scene.path("out").exists());
}

#[test]
fn a_state_folder_that_cannot_be_written_stops_the_run_before_it_begins() {
    let scene = Scene::new(&[("a.png", "a")]);
    scene.write("out/.sr3", "a file");
    refused(&scene, &scene.text("in"), &scene.text("out"), &[], 1, ".sr3");
}

#[test]
fn a_damaged_or_newer_record_is_named() {
    let scene = Scene::new(&[("a.png", "a")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    scene.write("out/.sr3/manifests/000009/00000000.json", "{\"version\": 1, ");
    let (input, out) = (scene.text("in"), scene.text("out"));
    refused(&scene, &input, &out, &[], 1, "manifests/000009/00000000.json");
    scene.write("out/.sr3/manifests/000009/00000000.json", "{\"version\": 9}");
    refused(&scene, &input, &out, &[], 1, "version 9");
}

/// The command as somebody whom permissions bind, even when the tests are run by root.
#[cfg(unix)]
fn as_nobody(scene: &Scene, arguments: &[&str]) -> Ran {
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    let mut command = sr3_process(arguments, Duration::ZERO);
    if fs::metadata(scene.dir.path()).unwrap().uid() == 0 {
        command.uid(65534);
    }
    ran(&mut command)
}

#[cfg(unix)]
fn set_mode(scene: &Scene, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(scene.path(name), fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_destination_without_permission_is_refused_in_one_line() {
    let scene = Scene::new(&[("a.png", "a")]);
    fs::create_dir(scene.path("out")).unwrap();
    set_mode(&scene, ".", 0o755);
    set_mode(&scene, "out", 0o555);
    for destination in ["out", "out/new", "out/a.png"] {
        let ran = as_nobody(&scene, &["upscale", &scene.text("in/a.png"), &scene.text(destination)]);
        assert_eq!(ran.code, 1, "{destination}");
        assert!(ran.refusal().contains("no permission"), "{destination}: {}", ran.err);
        assert!(scene.outputs().is_empty());
    }
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_refused_or_set_aside() {
    let scene = Scene::new(&[("a.png", "a"), ("locked/b.png", "b"), ("secret.png", "c")]);
    fs::create_dir(scene.path("out")).unwrap();
    for (name, mode) in [(".", 0o755), ("out", 0o777), ("in/locked", 0), ("in/secret.png", 0)] {
        set_mode(&scene, name, mode);
    }
    let ran = as_nobody(&scene, &["upscale", &scene.text("in"), &scene.text("out")]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(scene.outputs(), ["a.png"]);
    assert!(
        ran.out.contains("locked: cannot be read") && ran.out.contains("secret.png: no permission"),
        "{}",
        ran.out
    );
    set_mode(&scene, "in", 0);
    let ran = as_nobody(&scene, &["upscale", &scene.text("in"), &scene.text("out2")]);
    assert_ne!(ran.code, 0);
    assert!(ran.refusal().contains("permission"), "{}", ran.err);
    assert!(!scene.path("out2").exists());
    set_mode(&scene, "in", 0o755);
    set_mode(&scene, "in/locked", 0o755);
}

#[test]
fn help_names_the_exit_codes() {
    let help = sr3(&["upscale", "--help"]);
    assert_eq!(help.code, 0);
    for code in ["0  ", "1  ", "2  ", "3  ", "130"] {
        assert!(help.out.contains(&format!("\n  {code}")), "{}", help.out);
    }
}
