//! Calls that cannot work: one line that says what to do, an exit code that is not zero, nothing written.

mod common;

use std::fs;

use common::{Scene, become_the_command_if_asked, sr3};

/// Not a test by itself: what `sr3_process` runs.
#[test]
fn the_command() {
    become_the_command_if_asked();
}

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
    refused(&scene, &input, "s3://bucket/out", &[], 2, "URL");
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
    refused(&scene, &input, &out, &[], 2, "none of its 1 files");
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

#[test]
fn help_names_the_exit_codes() {
    let help = sr3(&["upscale", "--help"]);
    assert_eq!(help.code, 0);
    for code in ["0  ", "1  ", "2  ", "3  ", "130"] {
        assert!(help.out.contains(&format!("\n  {code}")), "{}", help.out);
    }
}
