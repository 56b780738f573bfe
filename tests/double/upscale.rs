//! `sr3 upscale` from outside: arguments, files, report, exit codes. Everything but the network is real.

use std::{collections::BTreeSet, fs, path::Path};

use crate::common::{Scene, sr3};

#[test]
fn a_folder_comes_out_as_the_same_tree_with_a_line_per_image() {
    let scene = Scene::new(&[("b.png", "bb"), ("a/x.JPG", "xx"), ("a/y.gif", "yy"), ("notes.txt", "hello")]);
    let ran = scene.upscale(&[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(scene.outputs(), ["a/x.JPG", "a/y.gif.png", "b.png"]);
    assert_eq!(scene.read("out/a/x.JPG"), "Jpeg 0 x.JPG XX");
    let report = scene.report();
    let inputs: Vec<_> = report.iter().map(|r| r["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, ["a/x.JPG", "a/y.gif", "b.png", "notes.txt"], "in input order");
    assert_eq!(report[0]["status"], "ok");
    assert_eq!(report[1]["output"], "a/y.gif.png");
    assert_eq!(report[0]["input_size"], serde_json::json!([2, 1]));
    assert_eq!(report[0]["output_size"], serde_json::json!([8, 4]));
    assert_eq!(report[0]["consistency_error"], 1e-7);
    assert_eq!(report[0]["seed"], 0);
    assert_eq!(report[0]["input_sha256"], sha(&scene.path("in/a/x.JPG")));
    assert_eq!(report[0]["output_sha256"], sha(&scene.path("out/a/x.JPG")));
    assert_eq!(report[3]["status"], "skipped");
    assert!(scene.path("out/.sr3/_SUCCESS").exists());
    assert!(ran.out.contains("3 done, 1 skipped, 0 set aside"), "{}", ran.out);
}

fn sha(path: &Path) -> String {
    sr3::proto::Digest::of(&fs::read(path).unwrap()).to_string()
}

#[test]
fn a_bad_image_is_set_aside_with_its_reason_and_the_rest_goes_on() {
    let scene = Scene::new(&[("a.png", "BAD"), ("b.png", "PANIC"), ("c.png", "BURST"), ("d.png", "fine")]);
    let ran = scene.upscale(&["--json"]);
    assert_eq!(ran.code, 3);
    let end = ran.json();
    assert_eq!((&end["done"], &end["quarantined"]), (&1.into(), &3.into()));
    assert_eq!(scene.outputs(), ["d.png"]);
    let report = scene.report();
    assert_eq!(report[0]["reason"], "not readable");
    assert!(report[1]["reason"].as_str().unwrap().contains("internal error"));
    assert!(report[2]["reason"].as_str().unwrap().contains("internal error"));
    // Tried again by the next run.
    scene.write("in/a.png", "good now");
    let again = scene.upscale(&["--json"]).json();
    assert_eq!((&again["done"], &again["skipped"], &again["quarantined"]), (&1.into(), &1.into(), &2.into()));
}

/// What lies under `.sr3/` of a version before classes of bits were written down is recognised.
#[test]
fn a_destination_of_the_version_before_is_recognised() {
    let scene = Scene::new(&[("a.png", "aa"), ("b/c.jpg", "cc")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    for name in ["out/.sr3/jobs/000001.json", "out/.sr3/manifests/000001/00000000.json"] {
        let with: Vec<String> = scene.read(name).lines().map(String::from).collect();
        // It was the last field of a recipe.
        let at = with.iter().position(|line| line.contains("\"class\": \"f32\"")).expect("a class");
        let mut before = with;
        before.remove(at);
        before[at - 1] = before[at - 1].trim_end_matches(',').to_string();
        scene.write(name, &before.join("\n"));
    }
    let again = scene.upscale(&["--json"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let end = again.json();
    assert_eq!((&end["done"], &end["skipped"]), (&0.into(), &2.into()), "{end}");
}

#[test]
fn too_many_bad_images_fail_the_run_and_finished_ones_stay() {
    let scene = Scene::new(&[("a.png", "fine")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    for bad in ["in/b.png", "in/c.png", "in/d.png"] {
        scene.write(bad, "BAD");
    }
    let ran = scene.upscale(&["--max-bad-items", "1"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("max_bad_items) allows 1"), "{}", ran.err);
    assert!(!scene.path("out/.sr3/_SUCCESS").exists());
    assert_eq!(scene.outputs(), ["a.png"]);
    let enough = scene.upscale(&["--max-bad-items", "3"]);
    assert_eq!(enough.code, 3);
    assert!(enough.out.contains("1 skipped: finished by an earlier run"), "{}", enough.out);
}

#[test]
fn a_second_run_computes_only_what_is_missing_or_changed() {
    let scene = Scene::new(&[("a.png", "a"), ("b.png", "b"), ("c.png", "c"), ("d.png", "d")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    let all = scene.upscale(&["--json"]).json();
    assert_eq!((&all["done"], &all["skipped"]), (&0.into(), &4.into()));
    scene.write("in/a.png", "changed");
    fs::remove_file(scene.path("out/b.png")).unwrap();
    // The same content under a new time is not a change.
    fs::rename(scene.path("in/c.png"), scene.path("in/old")).unwrap();
    fs::copy(scene.path("in/old"), scene.path("in/c.png")).unwrap();
    fs::remove_file(scene.path("in/old")).unwrap();
    scene.write("in/e.png", "new");
    let some = scene.upscale(&["--json"]).json();
    assert_eq!((&some["done"], &some["skipped"]), (&3.into(), &2.into()));
    assert_eq!(scene.read("out/a.png"), "Png 0 a.png CHANGED");
    assert_eq!(scene.read("out/b.png"), "Png 0 b.png B");
    let report = scene.report();
    assert_eq!(report.len(), 5);
    assert_eq!(report[2]["output_sha256"], sha(&scene.path("out/c.png")), "skipped items keep their facts");
}

#[test]
fn a_foreign_file_is_kept_unless_it_is_the_result() {
    let scene = Scene::new(&[("a.png", "a"), ("b.png", "b")]);
    scene.write("out/a.png", "precious");
    scene.write("out/b.png", "Png 0 b.png B");
    let ran = scene.upscale(&["--json"]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.read("out/a.png"), "precious");
    let report = scene.report();
    assert!(report[0]["reason"].as_str().unwrap().contains("--overwrite"));
    assert_eq!(report[0]["output_sha256"], serde_json::Value::Null);
    assert_eq!(report[1]["status"], "ok");
    assert_eq!(scene.upscale(&["--overwrite"]).code, 0);
    assert_eq!(scene.read("out/a.png"), "Png 0 a.png A");
}

#[test]
fn a_result_that_was_edited_by_hand_is_not_replaced_when_its_input_changes() {
    let scene = Scene::new(&[("a.png", "a")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    scene.write("out/a.png", "retouched");
    scene.write("in/a.png", "new");
    assert_eq!(scene.upscale(&[]).code, 3);
    assert_eq!(scene.read("out/a.png"), "retouched");
}

#[test]
fn results_of_another_source_are_not_taken_for_earlier_ones() {
    let scene = Scene::new(&[("a.png", "a"), ("same.png", "s")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    scene.write("in2/a.png", "another a");
    scene.write("in2/same.png", "s");
    let ran = sr3(&["upscale", &scene.text("in2"), &scene.text("out"), "--json"]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.read("out/a.png"), "Png 0 a.png A");
    assert_eq!(ran.json()["skipped"], 1, "the same content is the same work");
}

#[test]
fn another_recipe_is_refused_before_anything_is_computed() {
    let scene = Scene::new(&[("a.png", "a"), ("b.png", "b")]);
    assert_eq!(scene.upscale(&[]).code, 0);
    scene.write("in/c.png", "c");
    let refused = scene.upscale(&["--seed", "7"]);
    assert_eq!(refused.code, 2);
    let line = refused.refusal();
    assert!(line.contains("seed 0, now 7") && line.contains("--overwrite"), "{line}");
    assert_eq!(scene.outputs(), ["a.png", "b.png"]);
    assert_eq!(scene.upscale(&["--seed", "7", "--overwrite"]).code, 0);
    assert_eq!(scene.read("out/a.png"), "Png 7 a.png A");
    // And now the new recipe is the one that goes on.
    assert_eq!(scene.upscale(&["--seed", "7", "--json"]).json()["skipped"], 3);
}

#[test]
fn globs_choose_and_outputs_never_meet() {
    let scene =
        Scene::new(&[("a.jpg", "1"), ("a.png", "2"), ("a.webp", "3"), ("a.jpg.png", "4"), ("t/a.png", "5")]);
    let ran = scene.upscale(&["--format", "png", "--exclude", "t"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert_eq!(scene.outputs(), ["a.jpg.png", "a.jpg.png.png", "a.png", "a.webp.png"]);
    assert_eq!(scene.read("out/a.jpg.png"), "Png 0 a.jpg 1");
    assert_eq!(scene.read("out/a.jpg.png.png"), "Png 0 a.jpg.png 4");
    let only = Scene::new(&[("a.jpg", "1"), ("t/a.png", "5")]);
    assert_eq!(only.upscale(&["--include", "*.png"]).code, 0);
    assert_eq!(only.outputs(), ["t/a.png"]);
}

#[test]
fn every_hard_name_comes_out_under_its_own_name() {
    let scene = Scene::new(&[]);
    let names = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hard/names");
    let mut count = 0;
    for entry in fs::read_dir(names).unwrap() {
        let name = entry.unwrap().file_name();
        let text = name.to_str().unwrap();
        // The double reads anything; without an extension only the first bytes tell an image.
        let content = if text == "no_extension" { "\u{89}PNG" } else { "x" };
        fs::write(scene.path("in").join(&name), content).unwrap();
        count += 1;
    }
    fs::write(scene.path("in/no_extension"), b"\x89PNG\r\n\x1a\n").unwrap();
    for extra in ["photo.png#1.png", "shot #2", "new\nline.png"] {
        fs::write(scene.path("in").join(extra), b"\x89PNG\r\n\x1a\n").unwrap();
        count += 1;
    }
    let ran = scene.upscale(&["--json"]);
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert_eq!(ran.json()["done"], count);
    let inputs: BTreeSet<String> = fs::read_dir(scene.path("in"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for output in scene.outputs() {
        assert!(
            inputs.contains(&output) || inputs.contains(output.strip_suffix(".sr3.png").unwrap()),
            "{output}"
        );
    }
    assert_eq!(scene.outputs().len(), count);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_an_item_is_reported_and_never_followed() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let scene = Scene::new(&[("a.png", "a")]);
    scene.write("secret/s.png", "s");
    symlink(scene.path("secret"), scene.path("in/link")).unwrap();
    fs::write(scene.path("in").join(std::ffi::OsStr::from_bytes(b"x\xff.png")), "x").unwrap();
    let name = format!("in/{}.gif", "x".repeat(250));
    scene.write(&name, "too long once .png is added");
    let ran = scene.upscale(&[]);
    assert_eq!(ran.code, 3);
    assert_eq!(scene.outputs(), ["a.png"]);
    let reasons: Vec<_> =
        scene.report().iter().filter_map(|r| r["reason"].as_str().map(str::to_string)).collect();
    assert_eq!(reasons.len(), 3);
    for part in ["UTF-8", "leads out", "258 bytes"] {
        assert!(reasons.iter().any(|r| r.contains(part)), "{part}: {reasons:?}");
    }
}

#[test]
fn a_single_image_goes_into_a_folder_or_a_named_file() {
    let scene = Scene::new(&[("a.png", "a")]);
    let input = scene.text("in/a.png");
    assert_eq!(sr3(&["upscale", &input, &scene.text("out")]).code, 0);
    assert_eq!(scene.read("out/a.png"), "Png 0 a.png A");
    assert_eq!(sr3(&["upscale", &input, &scene.text("new/b.jpg")]).code, 0);
    assert_eq!(scene.read("new/b.jpg"), "Jpeg 0 a.png A");
    assert_eq!(fs::read_dir(scene.path("new")).unwrap().count(), 1, "no state beside a named file");
    let again = sr3(&["upscale", &input, &scene.text("new/b.jpg")]);
    assert_eq!(again.code, 2);
    assert!(again.refusal().contains("--overwrite"));
    assert_eq!(sr3(&["upscale", &input, &scene.text("new/b.jpg"), "--overwrite", "--seed", "1"]).code, 0);
    assert_eq!(scene.read("new/b.jpg"), "Jpeg 1 a.png A");
    scene.write("in/bad.png", "BAD");
    let bad = sr3(&["upscale", &scene.text("in/bad.png"), &scene.text("new/c.png")]);
    assert_eq!(bad.code, 3);
    assert!(bad.out.contains("not readable"), "{}", bad.out);
    assert!(!scene.path("new/c.png").exists());
}

#[test]
fn quiet_says_nothing_and_json_says_one_object() {
    let scene = Scene::new(&[("a.png", "a")]);
    let quiet = scene.upscale(&["--quiet"]);
    assert!(quiet.out.is_empty() && quiet.err.is_empty(), "{}{}", quiet.out, quiet.err);
    let json = scene.upscale(&["--json", "--overwrite"]);
    assert_eq!(json.json()["outcome"], "finished");
    assert!(json.err.is_empty());
}
