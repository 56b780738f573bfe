//! `sr3 devices`, and devices that are named where there are none.

use std::process::{Command, Output};

use serde_json::Value;

fn sr3(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sr3")).args(arguments).output().unwrap()
}

fn lines(arguments: &[&str]) -> Vec<Value> {
    let ran = sr3(arguments);
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let printed = String::from_utf8(ran.stdout).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one line of a command that could not be used.
fn complaint(arguments: &[&str]) -> String {
    let ran = sr3(arguments);
    let error = String::from_utf8(ran.stderr).unwrap();
    assert!(matches!(ran.status.code(), Some(1 | 2)), "{arguments:?}: {error}");
    assert_eq!((error.lines().count(), ran.stdout.len()), (1, 0), "{arguments:?}: {error}");
    error
}

#[test]
fn what_this_machine_has_is_listed_with_its_classes_and_its_speed() {
    let devices = lines(&["devices", "--json"]);
    assert_eq!((&devices[0]["device"], &devices[0]["classes"][0]), (&"cpu".into(), &"f32".into()));
    for device in &devices {
        assert!(device["network_seconds_a_megapixel"].as_f64().unwrap() > 0.0, "{device}");
        assert!(device["threads"].as_u64().unwrap() > 0, "{device}");
    }
    let names: Vec<_> = devices.iter().map(|device| device["device"].as_str().unwrap()).collect();
    assert_eq!(names.contains(&"candle-cpu"), cfg!(feature = "candle"), "{names:?}");

    let table = String::from_utf8(sr3(&["devices"]).stdout).unwrap();
    assert!(names.iter().all(|name| table.lines().any(|line| line.starts_with(name))), "{table}");
    if !cfg!(feature = "cuda") {
        assert!(table.contains("scripts/build-cuda.sh"), "what is missing for more: {table}");
    }
}

#[test]
fn every_device_is_verified_operation_by_operation() {
    let found = lines(&["devices", "--verify", "--json"]);
    for comparison in &found {
        assert_eq!(comparison["fine"], true, "{comparison}");
        // The CPU is held to the bit.
        let is_cpu = comparison["device"] == "cpu";
        assert!(!is_cpu || comparison["largest"].as_f64() == Some(0.0), "{comparison}");
    }
    let of = |device: &str| found.iter().filter(|comparison| comparison["device"] == device).count();
    assert!(of("cpu") > 15, "{} comparisons", of("cpu"));
    assert_eq!(of("candle-cpu"), if cfg!(feature = "candle") { of("cpu") } else { 0 });
}

#[test]
fn a_device_that_is_not_there_is_one_line_that_says_what_to_do() {
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/road-sign.jpg");
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("out.png");
    for command in [
        &["bench", "unet"][..],
        &["bench", "unet", "--mode", "train"],
        &["bench", "sampler"],
        &["upscale", photo, to.to_str().unwrap()],
        &["worker", "--coordinator", "http://127.0.0.1:9"],
    ] {
        let with = |device| complaint(&[command, &["--device", device]].concat());
        let unknown = with("nonsense");
        assert!(
            unknown.contains("no device is called `nonsense`") && unknown.contains("cuda:0"),
            "{unknown}"
        );
        // A machine with so many GPUs has other means.
        let missing = with("cuda:4096");
        assert!(!to.exists(), "nothing is made elsewhere instead");
        assert!(missing.contains("cuda:4096 cannot be used"), "{missing}");
        if !cfg!(feature = "cuda") {
            assert!(missing.contains("scripts/build-cuda.sh"), "{missing}");
            assert!(with("cuda:7").contains("built without CUDA"));
        }
    }
}

#[test]
#[cfg(feature = "candle")]
fn a_benchmark_runs_on_the_device_that_is_asked_for() {
    let measured = lines(&["bench", "unet", "--device", "candle-cpu", "--repeat", "1", "--json"]);
    assert_eq!((measured.len(), &measured[0]["device"]), (1, &"candle-cpu".into()), "{measured:?}");
    let refused = complaint(&["bench", "sampler", "--device", "candle-cpu", "--dtype", "bf16"]);
    assert!(refused.contains("candle-cpu computes in f32 alone"), "{refused}");
}
