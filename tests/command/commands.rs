//! The smaller commands, run as a user would.

use std::process::{Command, Stdio};

use serde_json::Value;

fn sr3(arguments: &[&str]) -> String {
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3")).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_published_networks_have_their_published_size() {
    for (name, parameters) in [("sr3-16-128", 549_979_011), ("janspiry-16-128", 97_807_491_u64)] {
        let info: Value = serde_json::from_str(&sr3(&["models", "info", name, "--json"])).unwrap();
        assert_eq!(info["parameters"], parameters);
    }
    assert!(sr3(&["models", "info", "janspiry-16-128"]).contains("parameters: 97,807,491"));
}

#[test]
fn every_listed_model_has_its_page() {
    let list = sr3(&["models", "list"]);
    let names: Vec<_> =
        list.lines().filter_map(|l| l.strip_prefix("  ")).filter_map(|l| l.split(' ').next()).collect();
    assert!(names.contains(&"photo-4x") && names.len() >= 7, "{list}");
    for name in names {
        assert!(sr3(&["models", "info", name]).starts_with(name));
    }
}

#[test]
fn an_evaluation_prints_a_line_a_picture_and_method_and_the_means() {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/canyons");
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let printed = sr3(&[
        "evaluate",
        photos,
        "--preset",
        "one",
        "--crop",
        "96",
        "--json",
        "--pictures",
        "--out",
        folder,
    ]);
    let lines: Vec<Value> = printed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 6, "two pictures and their mean, by two methods");
    for line in &lines {
        let psnr = line["scores"]["psnr"].as_f64().unwrap();
        assert!((15.0..60.0).contains(&psnr), "{line}");
    }
    let consistency = |line: &Value| line["scores"]["consistency"].as_f64().unwrap();
    assert_eq!(lines[5]["method"], "photo-4x");
    assert!(consistency(&lines[5]) < 1e-6 && consistency(&lines[4]) > 1e-5, "projected, and bicubic");
    assert!(out.path().join("antelope.png").exists() && out.path().join("grand-canyon.png").exists());
}

#[test]
fn a_benchmark_is_one_line_or_one_line_of_json() {
    for arguments in [
        &["bench", "unet", "--repeat", "1", "--threads", "1"][..],
        &["bench", "unet", "--mode", "train", "--repeat", "1"],
    ] {
        let line: Value = serde_json::from_str(&sr3(&[arguments, &["--json"]].concat())).unwrap();
        assert!(line["value"].as_f64().unwrap() > 0.0 && line["peer"] == "sr3", "{line}");
    }
    let lines = sr3(&["bench", "peaks", "--repeat", "1", "--threads", "1", "--json"]);
    let peaks: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(peaks.len() >= 2 && peaks.iter().all(|line| line["value"].as_f64().unwrap() > 0.0));
}

#[test]
fn a_device_or_instruction_set_that_is_not_there_is_one_line() {
    for (arguments, message) in [
        (&["bench", "unet", "--device", "tpu"][..], "no device is called `tpu`"),
        (&["bench", "unet", "--isa", "sse9"], "this processor has portable"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sr3")).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(message), "{error}");
    }
}

#[test]
fn a_reader_may_go_before_everything_is_said() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    let mut running =
        command.args(["models", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(running.stdout.take());
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn every_shell_has_its_completions_and_every_command_its_page() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(sr3(&["completions", shell]).contains("upscale"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    sr3(&["man", folder.path().to_str().unwrap()]);
    for page in ["sr3.1", "sr3-upscale.1", "sr3-certs-issue.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}
