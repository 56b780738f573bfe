//! What another upscaler has made, moved onto its inputs, through the real command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use sr3::engine::{
    image::{Channels, DecodeLimits, Metadata, OutputFormat, Picture, Samples, decode, encode},
    ops::resize::{Filter, ResizePlan, resize_u8},
};

const SCALE: usize = 4;

fn photo() -> Picture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/mountain-lake.png");
    decode(&fs::read(path).unwrap(), &DecodeLimits::default()).unwrap().picture
}

fn bytes(picture: &Picture) -> &[u8] {
    match &picture.samples {
        Samples::U8(samples) => samples,
        Samples::U16(_) => panic!("not 8 bit"),
    }
}

fn read(path: &Path) -> Picture {
    decode(&fs::read(path).unwrap(), &DecodeLimits::default()).unwrap().picture
}

fn write(path: &Path, picture: &Picture) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, encode(picture, OutputFormat::Png, 95).unwrap().bytes).unwrap();
}

/// A part of the sample, and what a tool makes of it that enlarges by bicubic and shifts the colours.
fn pair([left, top, width, height]: [usize; 4]) -> (Picture, Picture) {
    let whole = photo();
    let row = |y: usize| bytes(&whole)[(y * whole.width + left) * 3..][..width * 3].to_vec();
    // Neither black nor white: there, what an enlargement would have to go beyond is cut off.
    let softened = |v: u8| (f64::from(v) * 0.6 + 50.0).round() as u8;
    let low: Vec<u8> = (top..top + height).flat_map(row).map(softened).collect();
    let large = resize_u8(&low, [height, width, 3], [height * SCALE, width * SCALE], Filter::Bicubic);
    let cast = [(0.95, 9.0), (0.98, -6.0), (0.9, 4.0)];
    let shifted = large.iter().enumerate().map(|(i, v)| {
        let (times, plus) = cast[i % 3];
        (f64::from(*v) * times + plus).round().clamp(0.0, 255.0) as u8
    });
    let high = Picture {
        width: width * SCALE,
        height: height * SCALE,
        channels: Channels::Rgb,
        samples: Samples::U8(shifted.collect()),
        metadata: Metadata::default(),
    };
    (Picture { width, height, samples: Samples::U8(low), ..whole }, high)
}

/// The picture reduced to a quarter, and rounded to 8 bits once.
fn reduced(picture: &Picture) -> Vec<u8> {
    let (from, to) = ([picture.height, picture.width], [picture.height / SCALE, picture.width / SCALE]);
    let source: Vec<f64> = bytes(picture).iter().map(|v| f64::from(*v)).collect();
    let mut low = vec![0.0; to[0] * to[1] * 3];
    ResizePlan::new(Filter::Bicubic, from, to).apply_f64(&source, 3, &mut low);
    low.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect()
}

fn project(arguments: &[&Path], more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sr3")).arg("project").args(arguments).args(more).output().unwrap()
}

fn said(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout)
}

fn records(out: &Path) -> Vec<Value> {
    let report = fs::read_to_string(out.join(".sr3/report.jsonl")).unwrap();
    report.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Folders {
    folder: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn project(&self, more: &[&str]) -> Output {
        project(&[&self.path("low"), &self.path("high"), &self.path("out")], more)
    }
}

#[test]
fn a_colour_cast_is_repaired_until_every_reduced_value_is_that_of_the_input() {
    let folders = Folders::new();
    let (low, high) = pair([70, 30, 48, 40]);
    write(&folders.path("low/a/x.png"), &low);
    write(&folders.path("high/a/x.png"), &high);
    assert_ne!(reduced(&high), bytes(&low));
    let ran = folders.project(&["--quiet"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let repaired = read(&folders.path("out/a/x.png"));
    assert_eq!((repaired.width, repaired.height), (high.width, high.height));
    assert!(reduced(&repaired) == bytes(&low), "a reduced value is another one than the input's");

    let record = records(&folders.path("out")).remove(0);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&record["enlarged"]["consistency_error"]) > 1e-4, "{record}");
    assert!(number(&record["consistency_error"]) < 1e-6, "{record}");
    let before = record["enlarged"]["mean_shift"].as_array().unwrap().iter().map(number);
    assert!(before.map(f64::abs).fold(0.0, f64::max) > 2.0, "{record}");
    let after = record["mean_shift"].as_array().unwrap().iter().map(number);
    assert!(after.map(f64::abs).fold(0.0, f64::max) < 0.05, "{record}");
    assert!(record["model"].is_null() && record["enlarged"]["sha256"].is_string(), "{record}");

    // Once more there is nothing to do; what has changed is done again, on whichever side.
    let done = |more: &[&str]| {
        let ran = folders.project(&[more, &["--json"]].concat());
        assert!(ran.status.success(), "{}", said(&ran));
        serde_json::from_slice::<Value>(&ran.stdout).unwrap()["done"].as_u64().unwrap()
    };
    assert_eq!(done(&[]), 0);
    write(&folders.path("high/a/x.png"), &pair([71, 30, 48, 40]).1);
    assert_eq!(done(&[]), 1);
    write(&folders.path("low/a/x.png"), &pair([71, 30, 48, 40]).0);
    assert_eq!(done(&[]), 1);
    assert_eq!(done(&[]), 0);
}

#[test]
fn what_does_not_fit_is_set_aside_in_one_line_and_the_rest_is_done() {
    let folders = Folders::new();
    let (low, high) = pair([70, 30, 40, 24]);
    let cut = |picture: &Picture, width: usize, height: usize| Picture {
        width,
        height,
        samples: Samples::U8(bytes(picture)[..width * height * 3].to_vec()),
        ..picture.clone()
    };
    for name in ["fits", "missing", "odd", "side", "same", "broken"] {
        write(&folders.path(&format!("low/{name}.png")), &low);
    }
    // Another tool writes another format, or says so in the name that upscaling would give.
    fs::create_dir_all(folders.path("high")).unwrap();
    fs::write(folders.path("high/fits.jpg"), encode(&high, OutputFormat::Jpeg, 90).unwrap().bytes).unwrap();
    write(&folders.path("high/odd.png"), &cut(&high, high.width - 1, high.height));
    write(&folders.path("high/side.png"), &cut(&high, high.height, high.width));
    write(&folders.path("high/same.png"), &low);
    fs::write(folders.path("high/broken.png"), b"no picture").unwrap();
    let ran = folders.project(&[]);
    assert_eq!(ran.status.code(), Some(3), "{}", said(&ran));
    let out = folders.path("out");
    let reason = |name: &str| {
        let records = records(&out);
        let record = records.iter().find(|record| record["input"] == format!("{name}.png")).unwrap();
        record["reason"].as_str().unwrap_or("done").to_string()
    };
    assert_eq!(reason("fits"), "done");
    assert!(out.join("fits.png").is_file());
    assert_eq!(reason("missing"), "no enlarged picture of this name was found");
    assert_eq!(reason("odd"), "the enlarged picture is 159×96, no whole multiple of its input's 40×24");
    assert!(reason("side").ends_with("it lies on its side: turn it as its input is shown"));
    assert_eq!(reason("same"), "the enlarged picture has the size of its input, 40×24");
    assert!(reason("broken").starts_with("the enlarged picture: "), "{}", reason("broken"));
}

#[test]
fn one_picture_goes_into_one_file_and_nothing_it_is_made_of_is_ever_replaced() {
    let folders = Folders::new();
    let (low, high) = pair([70, 30, 40, 24]);
    let [low_path, high_path, out] = ["low.png", "tool.png", "out.png"].map(|name| folders.path(name));
    write(&low_path, &low);
    write(&high_path, &high);
    let ran = project(&[&low_path, &high_path, &out], &[]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(reduced(&read(&out)) == bytes(&low));
    for (arguments, part) in [
        ([&low_path, &high_path, &high_path], "replace"),
        ([&low_path, &low_path, &folders.path("b.png")], "LOW and HIGH are both"),
        ([&low_path, &folders.path("none.png"), &folders.path("b.png")], "does not exist"),
    ] {
        let ran = project(&arguments.map(PathBuf::as_path), &["--overwrite"]);
        assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
        let said = said(&ran);
        assert!(said.contains(part) && said.trim().lines().count() == 1, "{said}");
    }
    assert!(read(&high_path) == high && read(&low_path) == low);
    let (small, large) = (folders.path("small"), folders.path("large"));
    write(&small.join("x.png"), &low);
    write(&large.join("x.png"), &high);
    write(&small.join("inner/x.png"), &high);
    for (arguments, part) in [
        ([&small, &large, &large], "overlaps"),
        ([&small, &large, &large.join("deeper")], "overlaps"),
        ([&small, &small, &folders.path("o")], "LOW and HIGH are both"),
        ([&small, &small.join("inner"), &folders.path("o")], "inside LOW"),
        ([&small, &high_path, &folders.path("o")], "is no folder"),
    ] {
        let ran = project(&arguments.map(PathBuf::as_path), &["--overwrite"]);
        assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
        assert!(said(&ran).contains(part), "{}", said(&ran));
    }
}

#[test]
fn the_result_is_of_its_inputs_kind_and_its_transparency_reduces_to_the_inputs() {
    let folders = Folders::new();
    let (width, height) = (24, 16);
    let alpha = |x: usize| (20 + 9 * x) as u8;
    let samples = (0..width * height).flat_map(|i| {
        let (x, y) = (i % width, i / width);
        [(9 * x) as u8, (11 * y) as u8, 90, alpha(x)]
    });
    let low = Picture {
        width,
        height,
        channels: Channels::Rgba,
        samples: Samples::U8(samples.collect()),
        metadata: Metadata { density: photo().metadata.density, ..Metadata::default() },
    };
    write(&folders.path("low/a.png"), &low);
    write(&folders.path("low/b.png"), &low);
    // One tool forgets the transparency, another makes a softer edge.
    let (w, h) = (width * SCALE, height * SCALE);
    let opaque = Picture {
        width: w,
        height: h,
        channels: Channels::Rgb,
        samples: Samples::U8(vec![120; w * h * 3]),
        metadata: Metadata::default(),
    };
    write(&folders.path("high/a.png"), &opaque);
    let soft = (0..w * h).flat_map(|i| [120, 120, 120, (255 * (i % w) / w) as u8]);
    let soft = Picture { channels: Channels::Rgba, samples: Samples::U8(soft.collect()), ..opaque };
    write(&folders.path("high/b.png"), &soft);
    let ran = folders.project(&["--quiet"]);
    assert!(ran.status.success(), "{}", said(&ran));
    for name in ["out/a.png", "out/b.png"] {
        let made = read(&folders.path(name));
        assert_eq!((made.channels, made.width, made.height), (Channels::Rgba, w, h));
        let alpha: Vec<f64> = bytes(&made).chunks(4).map(|pixel| f64::from(pixel[3])).collect();
        let mut reduced = vec![0.0; width * height];
        ResizePlan::new(Filter::Bicubic, [h, w], [height, width]).apply_f64(&alpha, 1, &mut reduced);
        for (i, (reduced, pixel)) in reduced.iter().zip(bytes(&low).chunks(4)).enumerate() {
            let off = (reduced - f64::from(pixel[3])).abs();
            assert!(off < 0.5, "{name}: pixel {i} of the input has alpha {}, {reduced} is left", pixel[3]);
        }
    }
}
