//! The collection of hard pictures through the real command and the real model: every file comes out as it should, or
//! is set aside with a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sr3::engine::image::{Channels, DecodeLimits, Decoded, Samples, decode};

fn hard() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hard")
}

fn expected() -> Vec<Value> {
    let json: Value = serde_json::from_slice(&fs::read(hard().join("expected.json")).unwrap()).unwrap();
    json["files"].as_array().unwrap().clone()
}

/// Whether the list allows what the report says; it has "quarantine" and "skip" for "quarantined" and "skipped".
fn allowed(entry: &Value, status: &str) -> bool {
    let may = entry["may"].as_array().into_iter().flatten().chain([&entry["action"]]);
    may.filter_map(Value::as_str).any(|outcome| status.starts_with(outcome))
}

#[test]
fn every_hard_picture_comes_out_right_or_is_set_aside_with_a_reason() {
    let out = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .arg("upscale")
        .args([hard().as_path(), out.path()])
        .args(["--preset", "one", "--quiet"])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(3), "{}", String::from_utf8_lossy(&ran.stderr));

    let report = fs::read_to_string(out.path().join(".sr3/report.jsonl")).unwrap();
    let records: BTreeMap<String, Value> = report
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| (record["input"].as_str().unwrap().to_string(), record))
        .collect();
    let mut outputs = BTreeMap::new();
    for entry in expected() {
        let path = entry["path"].as_str().unwrap();
        let record = records.get(path).unwrap_or_else(|| panic!("{path} is not in the report"));
        let status = record["status"].as_str().unwrap();
        assert!(allowed(&entry, status), "{path}: {status}, {}", record["reason"]);
        if status != "ok" {
            let reason = record["reason"].as_str().unwrap();
            assert!(!reason.is_empty() && !reason.contains('\n'), "{path}: {reason:?}");
            continue;
        }
        let output = record["output"].as_str().unwrap();
        assert!(outputs.insert(output.to_string(), path.to_string()).is_none(), "{output} was written twice");
        check(&entry, &fs::read(out.path().join(output)).unwrap(), output);
    }
    let collide: Vec<_> = outputs.keys().filter(|name| name.starts_with("collide/")).collect();
    assert_eq!(collide.len(), 3, "three inputs that differ in extension only: {collide:?}");
    assert!(
        fs::read_dir(out.path().join(".sr3/tmp")).unwrap().next().is_none(),
        "nothing half-written is left"
    );
}

/// An output against what is known of its input.
fn check(entry: &Value, bytes: &[u8], output: &str) {
    let path = entry["path"].as_str().unwrap();
    let Decoded { picture, .. } =
        decode(bytes, &DecodeLimits::default()).unwrap_or_else(|e| panic!("{output}: {e}"));
    if let (Some(width), Some(height)) = (entry["width"].as_u64(), entry["height"].as_u64()) {
        assert_eq!([picture.width as u64, picture.height as u64], [4 * width, 4 * height], "{path}");
    }
    if !path.ends_with(".jpg") && entry["bit_depth"] == 16 {
        assert!(matches!(picture.samples, Samples::U16(_)), "{path} keeps its 16 bits");
    }
    let alpha = entry["has_alpha"] == true;
    assert_eq!(picture.channels.has_alpha(), alpha, "{path}: transparency");
    if entry["colour"] == "gray" && !output.ends_with(".webp") {
        assert!(!picture.channels.is_colour(), "{path} stays gray");
    }
    let profile = entry["has_icc"] == true && entry["icc_valid"] != false;
    assert_eq!(picture.metadata.icc.is_some(), profile, "{path}: colour profile");
    if entry["has_exif"] == true && entry["exif_valid"] != false {
        assert!(picture.metadata.exif.is_some(), "{path}: EXIF");
    }
    if let Some(corners) = entry["corners"].as_object() {
        let (w, h) = (picture.width, picture.height);
        for (name, [x, y]) in [
            ("top_left", [40, 40]),
            ("top_right", [w - 40, 40]),
            ("bottom_left", [40, h - 40]),
            ("bottom_right", [w - 40, h - 40]),
        ] {
            let Samples::U8(samples) = &picture.samples else { panic!("{path}") };
            let found = &samples[(y * w + x) * picture.channels.count()..][..3];
            for (found, wanted) in found.iter().zip(corners[name].as_array().unwrap()) {
                let difference = (f64::from(*found) - wanted.as_f64().unwrap()).abs();
                assert!(difference <= 12.0, "{path}: the corner {name} is {found}, not {wanted}");
            }
        }
    }
    if path.contains("sizes/one_pixel") || path.contains("sizes/flat") {
        let Samples::U8(samples) = &picture.samples else { panic!("{path}") };
        assert!(samples.chunks_exact(3).all(|pixel| pixel == &samples[..3]), "{path} stays one flat colour");
    }
    if alpha && picture.channels == Channels::Rgba && !path.contains("gif_transparent") {
        no_hidden_colour_bleeds(path, &picture.samples);
    }
}

/// The colour hidden under full transparency is magenta (or green): none of it may show where the picture does.
fn no_hidden_colour_bleeds(path: &str, samples: &Samples) {
    let Samples::U8(samples) = samples else { return };
    let magenta = |p: &&[u8]| p[3] > 8 && p[0] > 230 && p[1] < 25 && p[2] > 230;
    let bleeding = samples.chunks_exact(4).filter(magenta).count();
    assert_eq!(bleeding, 0, "{path}: hidden magenta shows in {bleeding} pixels");
}

#[test]
fn a_picture_that_claims_to_be_enormous_costs_neither_time_nor_memory() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = folder.path().join("in");
    fs::create_dir(&inputs).unwrap();
    for name in ["bomb_header_60000x60000.png", "bomb_valid_60000x60000_1bit.png", "bomb_65500x65500.jpg"] {
        fs::copy(hard().join("broken").join(name), inputs.join(name)).unwrap();
    }
    let begun = std::time::Instant::now();
    // A limit on the address space: an allocation by the claim would end the process.
    let command = format!(
        "ulimit -v 3000000; exec '{}' upscale '{}' '{}' --quiet --threads 1",
        env!("CARGO_BIN_EXE_sr3"),
        inputs.display(),
        folder.path().join("out").display()
    );
    let ran = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert_eq!(ran.status.code(), Some(3), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(begun.elapsed().as_secs() < 20);
    let report = fs::read_to_string(folder.path().join("out/.sr3/report.jsonl")).unwrap();
    assert_eq!(report.matches("\"quarantined\"").count(), 3, "{report}");
}
