//! `sr3 tune`, through the real command: what it finds is what `sr3 evaluate` says, and it is a preset afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};

use crate::wheels;

fn sr3(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sr3")).args(arguments).output().unwrap()
}

fn said(ran: &Output) -> String {
    String::from_utf8_lossy(&ran.stderr).into_owned() + &String::from_utf8_lossy(&ran.stdout)
}

fn lines(ran: &Output) -> Vec<Value> {
    let text = String::from_utf8(ran.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Parts of a sample photograph, and a copy of the model in the box.
fn scene() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let photo = fs::read(root.join("tests/photos/canyons/grand-canyon.png")).unwrap();
    let whole = decode(&photo, &DecodeLimits::default()).unwrap().picture;
    let Samples::U8(samples) = &whole.samples else { panic!() };
    let path = folder.path().to_path_buf();
    fs::create_dir_all(path.join("in")).unwrap();
    for (number, left) in [10, 60, 110].into_iter().enumerate() {
        let row = |y: usize| samples[(y * whole.width + left) * 3..][..48 * 3].to_vec();
        let rows = (20..64).flat_map(row).collect();
        let part = Picture { width: 48, height: 44, samples: Samples::U8(rows), ..whole.clone() };
        let bytes = encode(&part, OutputFormat::Png, 100).unwrap().bytes;
        fs::write(path.join(format!("in/{number}.png")), bytes).unwrap();
    }
    fs::create_dir_all(path.join("model")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(root.join("engine/models/photo-4x").join(name), path.join("model").join(name)).unwrap();
    }
    (folder, move |name: &str| path.join(name))
}

#[test]
fn the_best_is_what_evaluate_says_and_becomes_a_preset() {
    let (_folder, path) = scene();
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    let (model, source, out) = (text("model"), text("in"), text("out"));
    let tune = |more: &[&str]| {
        let fixed = ["tune", &model, "--source", &source, "--out", &out, "--shape", "log_snr", "--last", "7"];
        sr3(&[&fixed[..], more].concat())
    };
    let ran = tune(&["--steps", "1,2", "--sampler", "ddim", "--json"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let found = lines(&ran);
    let mean = |found: &Value| found["mean"].as_f64().unwrap();
    assert_eq!(found.len(), 2);
    assert!(mean(&found[0]) >= mean(&found[1]), "the best comes first");
    assert_eq!(found[0]["pictures"], 3);

    // More candidates: those that are measured are not measured again, whatever else is asked of them.
    let seen = |name: &str| {
        fs::metadata(path(&format!("out/candidates/{name}/evaluation.json"))).unwrap().modified().unwrap()
    };
    let before = seen("ddim-2_-7to7");
    let ran = tune(&["--steps", "1,2", "--sampler", "ddim,dpmpp_2m", "--metric", "ssim", "--write", "found"]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(said(&ran).contains("2 candidates measured by an earlier run"), "{}", said(&ran));
    assert_eq!(seen("ddim-2_-7to7"), before);
    let search: Value = serde_json::from_slice(&fs::read(path("out/tune.json")).unwrap()).unwrap();
    let best = &search["found"][0];
    assert_eq!((search["found"].as_array().unwrap().len(), &search["metric"]), (4, &"ssim".into()));
    assert!(fs::read_to_string(path("out/tune.svg")).unwrap().starts_with("<svg"));

    // The model has it now, and reaches with it what the search said.
    let ran = sr3(&["evaluate", &source, "--model", &model, "--preset", "found", "--json"]);
    assert!(ran.status.success(), "{}", said(&ran));
    let means = lines(&ran).pop().unwrap();
    assert_eq!(means["scores"]["ssim"], best["mean"]);
    let config: Value = serde_json::from_slice(&fs::read(path("model/config.json")).unwrap()).unwrap();
    assert_eq!(config["presets"]["found"], best["preset"]);
    assert!(config["presets"].as_object().unwrap().contains_key("default"), "the others stay");

    // A page about it.
    let page = text("page.html");
    let ran = sr3(&["report", &out, "--out", &page]);
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(fs::read_to_string(page).unwrap().contains("4 candidates for "));

    // By distance the least is best; what was measured without it is measured again.
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .args(["tune", &model, "--source", &source, "--out", &out, "--shape", "log_snr", "--last", "7"])
        .args(["--steps", "1,2", "--sampler", "ddim", "--metric", "st_lpips", "--json"])
        .env("SR3_CACHE", wheels::cache())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    let found = lines(&ran);
    assert!(found.len() == 2 && mean(&found[0]) <= mean(&found[1]) && mean(&found[0]) > 0.0, "{found:?}");
    assert_ne!(seen("ddim-2_-7to7"), before);

    // Another question is not answered by what was measured for this one.
    let ran = tune(&["--steps", "1", "--seed", "1"]);
    assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
    assert!(said(&ran).contains("choose another place as --out"));
}

#[test]
fn what_cannot_be_searched_is_refused_in_one_line() {
    let (_folder, path) = scene();
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    let (source, out) = (text("in"), text("out"));
    for (arguments, part) in [
        (["photo-4x", "--write", "mine"], "lies in the box"),
        (["photo-4x", "--last", "-9"], "spread from -7 to -9"),
        (["photo-4x", "--eta", "2"], "from 0 to 1"),
        (["none-such", "--seed", "1"], "unknown model `none-such`"),
    ] {
        let [model, option, value] = arguments;
        let ran = sr3(&["tune", model, "--source", &source, "--out", &out, option, value]);
        assert!(!ran.status.success());
        let said = said(&ran);
        assert!(said.contains(part) && said.trim().lines().count() == 1, "{said}");
    }
}
