//! Pictures and calls as people have them, through the real command: the result, or one line that says what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sr3::engine::image::{Channels, DecodeLimits, Metadata, OutputFormat, Picture, Samples, decode, encode};
use tempfile::TempDir;

struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(TempDir::new().unwrap());
        fs::create_dir(scene.path("in")).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A PNG of that size in the folder of inputs: a slope of `channels`, the last half transparent if `hole`.
    fn draw(&self, name: &str, width: usize, height: usize, channels: Channels, hole: bool) {
        let count = channels.count();
        let sample = |i: usize| match (channels.has_alpha() && i % count == count - 1, hole) {
            (true, true) if i / count % width >= width / 2 => 0,
            (true, _) => 255,
            _ => (i / count % width * 200 / width + 20) as u8,
        };
        let samples = Samples::U8((0..width * height * count).map(sample).collect());
        let picture = Picture { width, height, channels, samples, metadata: Metadata::default() };
        fs::write(self.path("in").join(name), encode(&picture, OutputFormat::Png, 90).unwrap().bytes)
            .unwrap();
    }

    fn sr3(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
        command.current_dir(self.0.path()).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn upscale(&self, more: &[&str]) -> Output {
        self.sr3(&[&["upscale", "in", "out", "--preset", "one"], more].concat())
    }

    fn report(&self) -> Vec<Value> {
        let report = fs::read_to_string(self.path("out/.sr3/report.jsonl")).unwrap();
        report.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn reason(&self, name: &str) -> String {
        let report = self.report();
        let record = report.iter().find(|record| record["input"] == name).unwrap();
        assert_eq!(record["status"], "quarantined", "{record}");
        record["reason"].as_str().unwrap().to_string()
    }
}

fn picture(path: &Path) -> Picture {
    decode(&fs::read(path).unwrap(), &DecodeLimits::default()).unwrap().picture
}

fn code(ran: &Output) -> i32 {
    ran.status.code().unwrap()
}

/// The one line on standard error.
fn line(ran: &Output) -> String {
    let error = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn a_picture_without_a_transparent_pixel_becomes_a_jpeg() {
    let scene = Scene::new();
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/opaque_alpha_jpeg/opaque_rgba.png");
    fs::copy(&real, scene.path("in/screenshot.png")).unwrap();
    assert_eq!(code(&scene.upscale(&["--format", "jpeg"])), 0);
    let (input, output) = (picture(&real), picture(&scene.path("out/screenshot.png.jpg")));
    assert_eq!(output.channels, Channels::Rgb);
    assert_eq!([output.width, output.height], [4 * input.width, 4 * input.height]);
}

#[test]
fn a_picture_with_transparent_pixels_becomes_a_jpeg_on_a_background() {
    let scene = Scene::new();
    scene.draw("logo.png", 24, 16, Channels::Rgba, true);
    assert_eq!(code(&scene.upscale(&["--format", "jpeg"])), 3);
    let reason = scene.reason("logo.png");
    assert!(reason.contains("transparency") && reason.contains("--background"), "{reason}");
    assert_eq!(code(&scene.upscale(&["--format", "jpeg", "--background", "#ff8000", "--overwrite"])), 0);
    let Samples::U8(samples) = picture(&scene.path("out/logo.png.jpg")).samples else { panic!() };
    let corner = &samples[samples.len() - 3..];
    let off = corner.iter().zip([255, 128, 0]).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max().unwrap();
    assert!(off <= 6, "{corner:?}");
    assert!(scene.report()[0]["notes"].to_string().contains("background"), "{:?}", scene.report());
    assert!(line(&scene.upscale(&["--background", "puce"])).contains("white, black, or #rrggbb"));
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_it_is_computed() {
    let scene = Scene::new();
    // 16,400 and 65,600 pixels wide: hours, were they computed.
    scene.draw("wide.png", 4_100, 700, Channels::Gray, false);
    scene.draw("wider.png", 16_400, 300, Channels::Gray, false);
    let begun = std::time::Instant::now();
    assert_eq!(code(&scene.upscale(&["--format", "webp"])), 3);
    assert!(scene.reason("wide.png").contains("16383"), "{}", scene.reason("wide.png"));
    let out = scene.path("out");
    fs::remove_dir_all(out).unwrap();
    fs::remove_file(scene.path("in/wide.png")).unwrap();
    assert_eq!(code(&scene.upscale(&["--format", "jpeg"])), 3);
    assert!(scene.reason("wider.png").contains("65535"), "{}", scene.reason("wider.png"));
    assert!(begun.elapsed().as_secs() < 60);
}

#[test]
fn what_a_scale_is_computed_at_is_what_is_checked_and_told() {
    let scene = Scene::new();
    // 32 megapixels out, but the network's step is 4: 512.
    scene.draw("big.png", 8_000, 4_000, Channels::Gray, false);
    assert_eq!(code(&scene.upscale(&["--scale", "1"])), 3);
    let reason = scene.reason("big.png");
    assert!(reason.contains("computed at 512 megapixels") && reason.contains("over 400"), "{reason}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_limit_on_memory_is_a_reason_not_a_crash() {
    let scene = Scene::new();
    scene.draw("large.png", 2_000, 1_500, Channels::Rgb, false);
    scene.draw("small.png", 16, 12, Channels::Rgb, false);
    let command = format!(
        "ulimit -v 2500000; exec '{}' upscale in out --preset one --threads 1 --quiet",
        env!("CARGO_BIN_EXE_sr3")
    );
    let ran = Command::new("sh").current_dir(scene.0.path()).args(["-c", &command]).output().unwrap();
    assert_eq!(code(&ran), 3, "{}", String::from_utf8_lossy(&ran.stderr));
    let reason = scene.reason("large.png");
    assert!(reason.contains("ulimit -v") && reason.contains("GB"), "{reason}");
    assert!(scene.path("out/small.png").exists());
}

#[test]
fn several_files_are_taken_like_a_folder_of_them() {
    let scene = Scene::new();
    fs::create_dir(scene.path("in/sub")).unwrap();
    for name in ["a.png", "b.png", "c.png", "sub/d.png"] {
        scene.draw(name, 12, 8, Channels::Rgb, false);
    }
    let ran = scene.sr3(&["upscale", "in/b.png", "in/sub/d.png", "--preset", "one", "in/a.png", "out"]);
    assert_eq!(code(&ran), 0, "{}", String::from_utf8_lossy(&ran.stderr));
    let made = ["a.png", "b.png", "sub/d.png"].map(|name| scene.path("out").join(name).exists());
    assert_eq!((made, scene.path("out/c.png").exists()), ([true; 3], false));
    // They are the folder's results, too.
    let whole = String::from_utf8(scene.upscale(&[]).stdout).unwrap();
    assert!(whole.starts_with("1 done, 3 skipped"), "{whole}");
    for (call, part) in [
        (&["in/a.png", "in/b.png", "both.png"][..], "name a folder as DST"),
        (&["in/a.png", "in/sub", "elsewhere"], "no file"),
        (&["in/a.png", "s3://bucket/x", "elsewhere"], "files of this machine"),
        (&["in/a.png", "in/b.png", "in"], "replace"),
        (&["in/a.png", "picture.gif"], "GIF is not written"),
        (&["in/a.png"], "<DST>"),
    ] {
        let ran = scene.sr3(&[&["upscale"], call].concat());
        assert_eq!(code(&ran), 2, "{call:?}");
        assert!(line(&ran).contains(part), "{call:?}: {}", line(&ran));
    }
}

#[test]
fn a_call_that_is_nearly_right_is_told_what_would_be() {
    let scene = Scene::new();
    scene.draw("a.png", 12, 8, Channels::Rgb, false);
    let ran = scene.sr3(&["in/a.png", "out.png"]);
    assert_eq!(code(&ran), 2);
    assert!(line(&ran).contains("sr3 upscale in/a.png out.png"), "{}", line(&ran));
    let ran = scene.upscale(&["--scale", "2.5"]);
    assert_eq!(code(&ran), 2);
    assert!(line(&ran).contains("a whole number from 1 to 64"), "{}", line(&ran));
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"in/caf\xe9.png");
        let ran =
            Command::new(env!("CARGO_BIN_EXE_sr3")).arg("upscale").arg(odd).arg("out").output().unwrap();
        assert_eq!(code(&ran), 2);
        assert!(line(&ran).contains("caf\u{fffd}.png"), "{}", line(&ran));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3")).args(["models", "list"]).stdout(full).output().unwrap();
    assert_eq!(code(&ran), 1);
    assert!(line(&ran).contains("standard output"), "{}", line(&ran));
}

#[test]
fn a_dry_run_lists_sizes_and_time_and_writes_nothing() {
    let scene = Scene::new();
    scene.draw("a.png", 12, 8, Channels::Rgb, false);
    scene.draw("b.png", 20, 10, Channels::Rgb, false);
    fs::write(scene.path("in/notes.txt"), "no picture").unwrap();
    let ran = scene.upscale(&["--dry-run"]);
    let out = String::from_utf8(ran.stdout.clone()).unwrap();
    assert_eq!(code(&ran), 0);
    assert!(out.contains("a.png → a.png: 12×8 → 48×32\nb.png → b.png: 20×10 → 80×40\n"), "{out}");
    assert!(out.contains("2 images to do, 1 to skip, 0 to set aside\n"), "{out}");
    assert!(out.contains("on this machine with preset one: about 0:01"), "{out}");
    assert!(!scene.path("out").exists());
    let lines = String::from_utf8(scene.upscale(&["--dry-run", "--json"]).stdout).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["due"], &last["skipped"]), (&2.into(), &1.into()));
    assert!(last["seconds_a_megapixel"].as_f64().unwrap() > 0.0);
    assert_eq!(code(&scene.upscale(&["--quiet"])), 0);
    let out = String::from_utf8(scene.upscale(&["--dry-run"]).stdout).unwrap();
    assert!(out.starts_with("0 images to do, 3 to skip"), "{out}");
}

#[test]
fn notes_are_counted_and_shown() {
    let scene = Scene::new();
    let hard = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hard/formats");
    fs::copy(hard.join("gif_animated.gif"), scene.path("in/moving.gif")).unwrap();
    scene.draw("plain.png", 12, 8, Channels::Rgb, false);
    let out = String::from_utf8(scene.upscale(&[]).stdout).unwrap();
    assert!(
        out.starts_with("2 done, 0 skipped, 0 set aside in ") && out.contains("; 1 with notes\n"),
        "{out}"
    );
    assert!(out.contains("  moving.gif: first frame of an animation\n"), "{out}");
    let json = String::from_utf8(scene.upscale(&["--overwrite", "--json"]).stdout).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["with_notes"], 1);
}

#[test]
fn a_dithered_scan_keeps_its_brightness_and_says_what_it_lost() {
    let scene = Scene::new();
    let dots = |i: usize| u8::from(!(i * 7 + i / 40 * 3).is_multiple_of(5)) * 255;
    let samples = Samples::U8((0..40 * 30).map(dots).collect());
    let scan =
        Picture { width: 40, height: 30, channels: Channels::Gray, samples, metadata: Metadata::default() };
    fs::write(scene.path("in/scan.png"), encode(&scan, OutputFormat::Png, 90).unwrap().bytes).unwrap();
    assert_eq!(code(&scene.upscale(&[])), 0);
    let mean = |picture: &Picture| {
        let Samples::U8(samples) = &picture.samples else { panic!() };
        samples.iter().map(|&v| f64::from(v)).sum::<f64>() / samples.len() as f64
    };
    let shift = mean(&picture(&scene.path("out/scan.png"))) - mean(&scan);
    assert!(shift.abs() < 1.0, "{shift}");
    assert!(scene.report()[0]["notes"].to_string().contains("dithered"), "{}", scene.report()[0]);
}

#[test]
fn a_sound_file_of_another_kind_is_not_called_damaged() {
    let scene = Scene::new();
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real");
    let kinds = [
        ("wrong_words/arith.jpg", "this kind of JPEG is not read: it is arithmetic-coded"),
        ("wrong_words/cgbi.png", "this kind of PNG is not read: it is Apple's CgBI variant"),
        ("wrong_words/s3x1.jpg", "this kind of JPEG is not read: its colours are stored at an unusual size"),
        ("raw_thumbnail/IMG_0001.dng", "this is a camera RAW file, which is not read: develop it first"),
    ];
    for (path, _) in kinds {
        fs::copy(real.join(path), scene.path("in").join(Path::new(path).file_name().unwrap())).unwrap();
    }
    assert_eq!(code(&scene.upscale(&[])), 3);
    for (path, words) in kinds {
        let reason = scene.reason(path.rsplit('/').next().unwrap());
        assert!(reason.starts_with(words), "{path}: {reason}");
    }
}

#[test]
fn formats_that_are_only_read_come_out_as_png() {
    let scene = Scene::new();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real/formats");
    let names = [
        "lossy_rgba8.jxl",
        "lossless_gray16.jxl",
        "yuv420.avif",
        "12bit.avif",
        "ycbcr_2x2_lzw.tif",
        "zstd_rgb8.tif",
    ];
    for name in names {
        fs::copy(files.join(name), scene.path("in").join(name)).unwrap();
    }
    fs::write(scene.path("in/drawing.pgm"), b"P2 3 2 9\n0 4 9\n9 4 0\n").unwrap();
    fs::write(scene.path("in/phone.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    assert_eq!(code(&scene.upscale(&[])), 3, "one is set aside");
    let size = |name: &str| {
        let picture = picture(&scene.path("out").join(name));
        (picture.width, picture.height, picture.channels, picture.samples.bits())
    };
    assert_eq!(size("lossy_rgba8.jxl.png"), (228, 156, Channels::Rgba, 8));
    assert_eq!(size("lossless_gray16.jxl.png"), (228, 156, Channels::Gray, 16));
    assert_eq!(size("yuv420.avif.png"), (228, 156, Channels::Rgb, 8));
    assert_eq!(size("12bit.avif.png"), (228, 156, Channels::Rgb, 16));
    assert_eq!(size("drawing.pgm.png"), (12, 8, Channels::Gray, 8));
    assert_eq!(size("ycbcr_2x2_lzw.tif"), (228, 156, Channels::Rgb, 8));
    assert_eq!(size("zstd_rgb8.tif"), (228, 156, Channels::Rgb, 8));
    assert!(scene.reason("phone.heic").contains("HEIC"), "{}", scene.reason("phone.heic"));
}
