//! Destinations on file systems that lack something: links, syncing of folders, locks, names, capitals.
//!
//! What a call refuses is played by a small library that stands before the system's (`tests/common/refuse.c`). Real file
//! systems are mounted where this machine has them and lets us; where not, the test says that it was left out.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::{Ran, Scene, ran, sr3, sr3_process};

const EPERM: i32 = 1;
const EIO: i32 = 5;
const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EXDEV: i32 = 18;
const EINVAL: i32 = 22;
const EMLINK: i32 = 31;
const ENOLCK: i32 = 37;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// The library, compiled.
fn refuse(scene: &Scene) -> PathBuf {
    let library = scene.path("refuse.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/refuse.c");
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status().unwrap();
    assert!(cc.success());
    library
}

/// `sr3 upscale in out …`, of whose calls those named in `refused` fail with these numbers.
fn upscale(scene: &Scene, library: &Path, refused: &[(&str, i32)], more: &[&str]) -> Ran {
    let (source, destination) = (scene.text("in"), scene.text("out"));
    let mut command = sr3_process(&[&["upscale", &source, &destination], more].concat(), Duration::ZERO);
    command.env("LD_PRELOAD", library).env("REFUSED_LOG", scene.path("refused"));
    for (call, number) in refused {
        command.env(format!("REFUSE_{call}"), number.to_string());
    }
    ran(&mut command)
}

fn was_refused(scene: &Scene, call: &str) -> bool {
    fs::read_to_string(scene.path("refused")).unwrap_or_default().lines().any(|line| line == call)
}

/// Three runs: a foreign file stays, what is new is made, nothing is made twice.
fn works_as_anywhere(scene: &Scene, upscale: impl Fn(&[&str]) -> Ran) {
    scene.write("out/foreign.png", "precious");
    let first = upscale(&[]);
    assert_eq!(first.code, 3, "{}{}", first.out, first.err);
    assert!(first.out.contains("2 done, 0 skipped, 1 set aside"), "{}", first.out);
    assert_eq!(scene.read("out/foreign.png"), "precious");
    assert_eq!(scene.read("out/a.png"), "Png 0 a.png A");
    assert_eq!(scene.read("out/deep/er/b.png"), "Png 0 b.png B");
    assert!(upscale(&[]).out.contains("0 done, 2 skipped, 1 set aside"));
    assert_eq!(upscale(&["--overwrite"]).code, 0);
    assert_eq!(scene.read("out/foreign.png"), "Png 0 foreign.png F");
    assert!(scene.path("out/.sr3/_SUCCESS").exists());
    assert_eq!(fs::read_dir(scene.path("out/.sr3/tmp")).unwrap().count(), 0);
}

fn scene() -> Scene {
    Scene::new(&[("a.png", "a"), ("deep/er/b.png", "b"), ("foreign.png", "f")])
}

#[test]
fn without_hard_links_a_file_is_still_created_once() {
    for number in [EMLINK, EINVAL, EXDEV, ENOSYS, EOPNOTSUPP, EPERM, EACCES] {
        let scene = scene();
        let library = refuse(&scene);
        works_as_anywhere(&scene, |more| upscale(&scene, &library, &[("LINK", number)], more));
        assert!(was_refused(&scene, "LINK"));
    }
}

#[test]
fn where_folders_cannot_be_synced_or_opened_the_run_goes_on() {
    for (call, numbers) in
        [("FSYNC_FOLDER", &[EINVAL, ENOSYS, EOPNOTSUPP, EBADF][..]), ("OPEN_FOLDER", &[EACCES, EINVAL])]
    {
        for number in numbers {
            let scene = scene();
            let library = refuse(&scene);
            works_as_anywhere(&scene, |more| upscale(&scene, &library, &[(call, *number)], more));
            assert!(was_refused(&scene, call), "{call}");
        }
    }
}

#[test]
fn a_disk_that_fails_is_never_taken_for_one_that_cannot() {
    let scene = scene();
    let library = refuse(&scene);
    for call in ["FSYNC_FOLDER", "LINK"] {
        let failed = upscale(&scene, &library, &[(call, EIO)], &[]);
        assert_eq!(failed.code, 1, "{call}: {}{}", failed.out, failed.err);
    }
}

#[test]
fn without_locks_the_run_goes_on_and_warns() {
    for number in [ENOLCK, ENOSYS, EOPNOTSUPP] {
        let scene = scene();
        let library = refuse(&scene);
        let unlocked = |more: &[&str]| upscale(&scene, &library, &[("FLOCK", number)], more);
        works_as_anywhere(&scene, unlocked);
        let warned = unlocked(&[]);
        assert_eq!(warned.code, 0, "{}{}", warned.out, warned.err);
        assert!(warned.refusal().contains("has no locks: let nothing else write there"), "{}", warned.err);
        assert!(unlocked(&["--quiet"]).err.is_empty());
    }
}

/// A file system at `out` of the scene, gone with this.
struct Mounted(PathBuf);

impl Mounted {
    /// None, said in a line, if the machine has no such file system or does not let us.
    fn new(scene: &Scene, kind: &str, arguments: &[&str]) -> Option<Self> {
        let at = scene.path("out");
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", kind]).args(arguments).arg(&at).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        println!("left out: no {kind} can be mounted here");
        None
    }

    fn vfat(scene: &Scene) -> Option<Self> {
        let image = scene.path("image");
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.vfat").arg(&image).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("left out: mkfs.vfat is not here");
            return None;
        }
        Self::new(scene, "vfat", &["-o", "loop", image.to_str().unwrap()])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_destination_in_memory_or_in_layers_works_as_anywhere() {
    let in_memory = scene();
    if let Some(_mounted) = Mounted::new(&in_memory, "tmpfs", &["tmpfs"]) {
        works_as_anywhere(&in_memory, |more| in_memory.upscale(more));
    }
    let layered = scene();
    for folder in ["lower", "upper", "work"] {
        fs::create_dir(layered.path(folder)).unwrap();
    }
    layered.write("lower/seen.png", "below");
    let layers = ["lower", "upper", "work"].map(|name| format!("{name}dir={}", layered.text(name))).join(",");
    if let Some(_mounted) = Mounted::new(&layered, "overlay", &["-o", &layers, "overlay"]) {
        layered.write("in/seen.png", "s");
        let ran = layered.upscale(&["--include", "seen.png"]);
        assert_eq!((ran.code, layered.read("out/seen.png")), (3, "below".into()));
        fs::remove_file(layered.path("in/seen.png")).unwrap();
        works_as_anywhere(&layered, |more| layered.upscale(more));
    }
}

#[test]
fn on_fat_what_it_cannot_hold_is_set_aside_and_nothing_is_lost() {
    let works = scene();
    let Some(_mounted) = Mounted::vfat(&works) else { return };
    works_as_anywhere(&works, |more| works.upscale(more));

    let names = Scene::new(&[
        ("a:b.png", "colon"),
        ("what?.png", "question"),
        ("c.png", "c"),
        ("A.png", "capital"),
        ("a.png", "small"),
        ("dot./x.png", "dot"),
        ("dot/x.png", "none"),
    ]);
    let Some(_mounted) = Mounted::vfat(&names) else { return };
    for more in [&[][..], &["--overwrite"], &[]] {
        let ran = sr3(&[&["upscale", &names.text("in"), &names.text("out")], more].concat());
        assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("4 set aside"), "{}", ran.out);
        assert!(
            ran.out.contains("a:b.png") && ran.out.contains("the system refuses this name there"),
            "{}",
            ran.out
        );
        assert_eq!(names.read("out/A.png"), "Png 0 A.png CAPITAL");
        assert_eq!(names.read("out/c.png"), "Png 0 c.png C");
        assert_eq!(names.read("out/dot/x.png"), "Png 0 x.png DOT");
    }
}
