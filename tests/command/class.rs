//! `--class`: one for all pictures, by their folders, or by a network that looks at them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    classes::{self, CANYON},
    wheels,
};

struct Folders(TempDir);

impl Folders {
    /// The models, and pictures of the Grand Canyon.
    fn new(pictures: &[&str]) -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        classes::models(folders.0.path());
        let canyon = classes::canyon();
        pictures.iter().for_each(|picture| folders.put(picture, &canyon));
        folders
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn call(&self, arguments: &[&str], cache: &Path) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
        let ran = command.current_dir(&self.0).args(arguments).env("SR3_CACHE", cache).output().unwrap();
        (ran.status.code().unwrap(), String::from_utf8(ran.stderr).unwrap())
    }

    /// How upscaling ends.
    fn upscale(&self, [from, to, model, class]: [&str; 4]) -> (i32, String) {
        let arguments = ["upscale", from, to, "--model", model, "--steps", "2", "--class", class];
        self.call(&arguments, wheels::cache())
    }

    /// What was said of a picture.
    fn record(&self, out: &str, input: &str) -> Value {
        let report = fs::read_to_string(self.path(out).join(".sr3/report.jsonl")).unwrap();
        let mut records = report.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.find(|record| record["input"] == input).unwrap()
    }
}

#[test]
fn a_folder_called_by_a_class_says_what_its_pictures_show() {
    let folders = Folders::new(&["in/0/a.png", "in/7/a.png", "in/cats/a.png", "alone/7/a.png"]);
    let (code, complaint) = folders.upscale(["in", "out", "ten", "folder"]);
    assert_eq!(code, 3, "{complaint}");
    assert_eq!(folders.upscale(["alone", "seven", "ten", "7"]).0, 0);
    let made = |path: &str| fs::read(folders.path(path)).unwrap();
    assert!(made("out/7/a.png") == made("seven/7/a.png"), "it is what was told it by number");
    assert!(made("out/0/a.png") != made("out/7/a.png"), "all classes look alike");
    assert_eq!(folders.record("out", "7/a.png")["image_class"], 7);
    let reason = folders.record("out", "cats/a.png")["reason"].to_string();
    assert!(reason.contains("`cats` names no class: name folders by class, 0 to 9"), "{reason}");
    // Of other pictures nothing is computed again.
    fs::rename(folders.path("in/cats"), folders.path("in/4")).unwrap();
    assert_eq!(folders.upscale(["in", "out", "ten", "folder"]).0, 0);
    assert_eq!(folders.record("out", "0/a.png")["status"], "skipped");
    assert_eq!(folders.record("out", "4/a.png")["image_class"], 4);
}

#[test]
fn a_network_that_looks_says_what_pictures_show() {
    let folders = Folders::new(&["in/a.png"]);
    let (code, complaint) = folders.upscale(["in", "out", "thousand", "auto"]);
    assert_eq!(code, 0, "{complaint}");
    assert_eq!(folders.record("out", "a.png")["image_class"].to_string(), CANYON);
    assert_eq!(folders.upscale(["in", "told", "thousand", CANYON]).0, 0);
    assert!(fs::read(folders.path("out/a.png")).unwrap() == fs::read(folders.path("told/a.png")).unwrap());
    // Results of one are none of the other.
    let (_, complaint) = folders.upscale(["in", "out", "thousand", CANYON]);
    assert!(complaint.contains("image_class auto, now 766"), "{complaint}");
}

#[test]
fn what_cannot_be_told_is_refused_before_anything_is_computed() {
    let folders = Folders::new(&["in/a.png"]);
    let nothing = folders.path("empty");
    for (model, class, cache, part) in [
        ("ten", "auto", wheels::cache(), "class `auto` tells ImageNet's 1000 classes, and `"),
        ("thousand", "auto", &nothing, "`sr3 weights import"),
        ("ten", "10", wheels::cache(), "name a class from 0 to 9"),
        ("ten", "cat", wheels::cache(), "expected a class from 0 to 65535, `folder` or `auto`, found `cat`"),
        ("photo-4x", "folder", wheels::cache(), "the model is not told what an image shows"),
    ] {
        let arguments = ["upscale", "in", "out", "--model", model, "--class", class];
        let (code, complaint) = folders.call(&arguments, cache);
        assert!(code == 2 && complaint.contains(part), "{code}: {complaint}");
        assert!(!folders.path("out").exists());
    }
}
