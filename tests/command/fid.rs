//! `sr3 fid`: its numbers are those of the pictures, whatever they lie in and however they are looked at.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sr3::engine::{
    image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode},
    model::tensors::{Dtype, HostTensor, TensorMap, read_npz, write_npz},
};
use tempfile::TempDir;

use crate::inception;

const ALL: &str = "fid,sfid,kid,mind,precision-recall";

/// Square pictures of a photograph, one after the other.
fn pictures(name: &str, sides: &[usize]) -> Vec<Picture> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos").join(name);
    let source = decode(&fs::read(path).unwrap(), &DecodeLimits::default()).unwrap().picture;
    let Samples::U8(samples) = &source.samples else { panic!("the samples are 8 bit") };
    let cut = |(number, side): (usize, &usize)| {
        let (left, top) = (number * 31 % (source.width - side), number * 17 % (source.height - side));
        let row = |y: usize| &samples[(y * source.width + left) * 3..][..side * 3];
        let samples = (top..top + side).flat_map(|y| row(y).to_vec()).collect();
        Picture { width: *side, height: *side, samples: Samples::U8(samples), ..source.clone() }
    };
    sides.iter().enumerate().map(cut).collect()
}

fn png(picture: &Picture) -> Vec<u8> {
    encode(picture, OutputFormat::Png, 100).unwrap().bytes
}

/// Writes pictures under names that sort as they come, or the other way round.
fn write(folder: &Path, pictures: &[Picture], reversed: bool) -> String {
    fs::create_dir_all(folder).unwrap();
    for (number, picture) in pictures.iter().enumerate() {
        let number = if reversed { 999 - number } else { number };
        fs::write(folder.join(format!("{number:03}.png")), png(picture)).unwrap();
    }
    folder.to_str().unwrap().to_string()
}

/// What a call prints, and how it ends.
fn call(arguments: &[&str], cache: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    let output = command.args(arguments).env("SR3_CACHE", cache).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The result of `sr3 fid … --json`, with nothing looked at before.
fn fid(arguments: &[&str]) -> Value {
    fid_with(arguments, inception::cache().path())
}

fn fid_with(arguments: &[&str], cache: &Path) -> Value {
    let (code, out, errors) = call(&[&["fid"], arguments, &["--json"]].concat(), cache);
    assert!(code == 0 || code == 3, "{arguments:?}: {errors}");
    serde_json::from_str(&out).unwrap()
}

fn digests(result: &Value) -> Vec<&Value> {
    result["sets"].as_array().unwrap().iter().map(|set| &set["sha256"]).collect()
}

fn distance(result: &Value) -> f64 {
    result["numbers"]["fid"].as_f64().unwrap()
}

struct Sets {
    folder: TempDir,
    a: String,
    b: String,
}

fn sets() -> Sets {
    let folder = tempfile::tempdir().unwrap();
    let a = write(
        &folder.path().join("a"),
        &pictures("mountain-lake.png", &[40, 64, 33, 50, 41, 64, 40, 77, 60]),
        false,
    );
    let b = write(&folder.path().join("b"), &pictures("canyons/grand-canyon.png", &[64; 10]), false);
    Sets { folder, a, b }
}

#[test]
fn numbers_have_the_same_bits_for_any_batch_threads_and_listing() {
    let Sets { folder, a, b } = sets();
    let expected = fid(&[&a, &b, "--metrics", ALL]);
    let numbers = expected["numbers"].as_object().unwrap();
    assert_eq!(numbers.keys().collect::<Vec<_>>(), ["fid", "kid", "mind", "precision", "recall", "sfid"]);
    for (batch, threads) in [("1", "1"), ("7", "3"), ("64", "2")] {
        let found = fid(&[&a, &b, "--metrics", ALL, "--batch", batch, "--threads", threads]);
        assert_eq!(found, expected, "batch {batch}, {threads} threads");
    }
    let turned = pictures("mountain-lake.png", &[40, 64, 33, 50, 41, 64, 40, 77, 60]);
    let turned = write(&folder.path().join("turned/a"), &turned, true);
    let found = fid(&[&turned, &b, "--metrics", ALL]);
    assert_eq!((&found["numbers"], digests(&found)), (&expected["numbers"], digests(&expected)));
}

#[test]
fn pictures_are_the_same_in_folders_archives_and_arrays() {
    let Sets { folder, a, b } = sets();
    let path = |name: &str| folder.path().join(name);
    let pixels = |picture: &Picture| match &picture.samples {
        Samples::U8(samples) => samples.clone(),
        Samples::U16(_) => panic!("the samples are 8 bit"),
    };
    let expected = fid(&[&a, &b]);
    let b = pictures("canyons/grand-canyon.png", &[64; 10]);
    let data = b.iter().rev().flat_map(pixels).collect();
    let samples = HostTensor { dtype: Dtype::U8, shape: vec![10, 64, 64, 3], data };
    let labels = HostTensor { dtype: Dtype::I64, shape: vec![10], data: vec![0; 80] };
    let arrays = TensorMap::from([("arr_0".into(), samples), ("arr_1".into(), labels)]);
    fs::write(path("b.npz"), write_npz(&arrays)).unwrap();
    let mut tar = tar::Builder::new(File::create(path("a.tar")).unwrap());
    for entry in fs::read_dir(&a).unwrap() {
        let entry = entry.unwrap().path();
        tar.append_path_with_name(&entry, Path::new("some/where").join(entry.file_name().unwrap())).unwrap();
    }
    tar.into_inner().unwrap();
    let at = |name: &str| path(name).to_str().unwrap().to_string();
    let found = fid(&[&at("a.tar"), &at("b.npz")]);
    assert_eq!((&found["numbers"], digests(&found)), (&expected["numbers"], digests(&expected)));
    fs::create_dir(path("shards")).unwrap();
    fs::rename(path("a.tar"), path("shards/0.tar")).unwrap();
    assert_eq!(fid(&[&at("shards"), &at("b.npz")])["numbers"], expected["numbers"]);
}

#[test]
fn a_set_is_at_no_distance_from_itself() {
    let Sets { folder, a, .. } = sets();
    let cache = inception::cache();
    assert_eq!(distance(&fid_with(&[&a, &a], cache.path())), 0.0);
    let again = pictures("mountain-lake.png", &[40, 64, 33, 50, 41, 64, 40, 77, 60]);
    let again = write(&folder.path().join("again"), &again, true);
    let (code, out, _) = call(&["fid", &a, &again], cache.path());
    assert!(code == 0 && out.contains("fid               0.000000\n"), "{out}");
}

#[test]
fn what_was_looked_at_once_is_not_read_again_and_what_changed_is() {
    let Sets { folder: _kept, a, b } = sets();
    let cache = inception::cache();
    let expected = fid_with(&[&a, &b], cache.path());
    // Other bytes behind the same length and time.
    let path = PathBuf::from(&a).join("003.png");
    let (time, good) = (fs::metadata(&path).unwrap().modified().unwrap(), fs::read(&path).unwrap());
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![7; good.len()], 0).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(fid_with(&[&a, &b], cache.path()), expected);
    fs::write(&path, [7; 100]).unwrap();
    let found = fid_with(&[&a, &b], cache.path());
    assert_eq!(found["sets"][0]["images"], 8);
    assert_ne!(found["numbers"]["fid"], expected["numbers"]["fid"]);
    // In another mode everything is other.
    assert_ne!(distance(&fid_with(&[&b, &a, "--mode", "clean-fid"], cache.path())), distance(&found));
}

#[test]
fn a_damaged_picture_is_listed_and_not_counted() {
    let Sets { folder, a, b } = sets();
    let cache = inception::cache();
    let expected = fid_with(&[&a, &b], cache.path());
    fs::write(Path::new(&a).join("broken.png"), &fs::read(Path::new(&a).join("003.png")).unwrap()[..200])
        .unwrap();
    let out = folder.path().join("out");
    let (code, printed, errors) = call(&["fid", &a, &b, "--out", out.to_str().unwrap()], cache.path());
    assert_eq!(code, 3, "{errors}");
    assert!(
        printed.contains("9 images, 1 left out") && printed.contains("left out: broken.png: "),
        "{printed}"
    );
    let written: Value = serde_json::from_slice(&fs::read(out.join("compared.json")).unwrap()).unwrap();
    assert_eq!(written["numbers"], expected["numbers"]);
    let lines = fs::read_to_string(out.join("left-out.jsonl")).unwrap();
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&line["set"], &line["name"]), (&Value::from(a), &"broken.png".into()));
    // Warned of once, with the number.
    assert_eq!(errors.matches("has 9 images, fewer than the 2048 features").count(), 1, "{errors}");
}

#[test]
fn statistics_are_exchanged_and_those_of_another_mode_refused() {
    let Sets { folder, a, b } = sets();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let cache = inception::cache();
    let expected = fid_with(&[&a, &b], cache.path());
    let saved = path("a.npz");
    fid_with(&[&a, "--save-stats", &saved], cache.path());
    let mut arrays = read_npz(&fs::read(&saved).unwrap(), &Default::default()).unwrap();
    assert_eq!((&arrays["mu"].shape[..], &arrays["sigma"].shape[..]), (&[2048][..], &[2048, 2048][..]));
    let found = fid_with(&[&saved, &b, "--metrics", ALL], cache.path());
    assert!((distance(&found) / distance(&expected) - 1.0).abs() < 1e-6, "{found}");
    assert_eq!((&found["sets"][0]["images"], digests(&found)), (&9.into(), digests(&expected)));
    assert_eq!(found["numbers"].as_object().unwrap().len(), 1, "FID alone: {found}");
    assert!(found["notes"].to_string().contains("left out: kid, mind, precision-recall"), "{found}");
    assert_eq!(distance(&fid_with(&[&saved, &a], cache.path())), 0.0);
    let refused = |file: &str, mode: &str| {
        let (code, _, errors) = call(&["fid", file, &b, "--mode", mode], cache.path());
        assert!(code != 0 && errors.lines().count() == 1, "{errors}");
        errors
    };
    let errors = refused(&saved, "clean-fid");
    assert!(errors.contains("of mode pytorch-fid, and clean-fid was asked for"), "{errors}");
    // Another tool's: nobody knows as what pictures were prepared.
    arrays.remove("sr3");
    let theirs = path("theirs.npz");
    fs::write(&theirs, write_npz(&arrays)).unwrap();
    let found = fid_with(&[&theirs, &b], cache.path());
    assert_eq!(found["numbers"]["fid"], fid_with(&[&saved, &b], cache.path())["numbers"]["fid"]);
    assert!(found["notes"].to_string().contains("does not say as which tool"), "{found}");
    // Of guided-diffusion's evaluator it is known.
    let spatial = |shape: Vec<usize>| {
        let data = vec![0; 8 * shape.iter().product::<usize>()];
        HostTensor { dtype: Dtype::F64, shape, data }
    };
    arrays.insert("mu_s".into(), spatial(vec![2023]));
    arrays.insert("sigma_s".into(), spatial(vec![2023, 2023]));
    fs::write(&theirs, write_npz(&arrays)).unwrap();
    assert!(refused(&theirs, "pytorch-fid").contains("of mode torch-fidelity"));
    // Of another network.
    let small = |shape: Vec<usize>| HostTensor {
        dtype: Dtype::F64,
        data: vec![0; 8 * shape.iter().product::<usize>()],
        shape,
    };
    let other = TensorMap::from([("mu".into(), small(vec![64])), ("sigma".into(), small(vec![64, 64]))]);
    fs::write(&theirs, write_npz(&other)).unwrap();
    assert!(refused(&theirs, "pytorch-fid").contains("of 64 features"));
}

#[test]
fn what_cannot_be_done_is_told_in_a_line_that_says_what_to_do() {
    let Sets { folder, a, b } = sets();
    let nothing = folder.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    let empty = nothing.to_str().unwrap();
    let cache = inception::cache();
    let refused = |arguments: &[&str], cache: &Path, part: &str| {
        let (code, out, errors) = call(arguments, cache);
        assert!(code != 0 && out.is_empty() && errors.lines().count() == 1, "{arguments:?}: {errors}");
        assert!(errors.contains(part), "{arguments:?}: {errors}");
    };
    refused(&["fid", &a, &b], &nothing, "run `sr3 weights import FILE`");
    refused(&["fid", &a], cache.path(), "B: name the set to compare with");
    refused(&["fid", &a, empty], cache.path(), "has no pictures");
    refused(&["fid", &a, &b, "--metrics", "inception-score"], cache.path(), "needs a classifier");
    refused(&["fid", &a, &b, "--metrics", "memorisation"], cache.path(), "held-out pictures");
    refused(&["fid", &a, &b, "--mode", "fid"], cache.path(), "pytorch-fid, torch-fidelity or clean-fid");
    let other =
        TensorMap::from([("x".into(), HostTensor { dtype: Dtype::U8, shape: vec![1], data: vec![0] })]);
    let file = folder.path().join("x.npz");
    fs::write(&file, write_npz(&other)).unwrap();
    refused(&["fid", &a, file.to_str().unwrap()], cache.path(), "neither pictures (arr_0) nor statistics");
}
