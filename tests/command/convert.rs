//! Importing checkpoints: good ones work, hostile ones are refused at once, in one line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

#[test]
fn a_public_checkpoint_becomes_a_model_that_upscales() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("model"), folder.path().join("out.png"));
    for (file, name) in [("jan_tiny_gen.pth", "zip"), ("jan_tiny_gen_legacy.pth", "legacy")] {
        let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
            .arg("convert")
            .args([fixtures().join(file), model.clone()])
            .args(["--norm-groups", "8", "--image-size", "16", "--scale", "4", "--name", name])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .arg("upscale")
        .args([fixtures().join("metrics/low_res.png"), out.clone()])
        .args(["--steps", "4", "--model"])
        .arg(&model)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(fs::metadata(out).unwrap().len() > 1000);
}

#[test]
fn a_network_of_guided_diffusion_is_converted_with_the_flags_that_its_file_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let convert = |flags: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
            .arg("convert")
            .args([fixtures().join("adm/adm_base_tiny.pt"), folder.path().join("model")])
            .args(flags)
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (code, complaint) = convert(&[]);
    assert!(code == Some(2) && complaint.contains("noise_schedule"), "{complaint}");
    let (code, complaint) = convert(&["--noise-schedule", "cosine", "--image-size", "32"]);
    assert!(code == Some(2) && complaint.contains("--scale"), "{complaint}");
    let flags = "--noise-schedule cosine --image-size 32 --scale 1 --head-channels 16 --new-attention-order";
    let (code, complaint) = convert(&flags.split(' ').collect::<Vec<_>>());
    assert_eq!(code, Some(0), "{complaint}");
    let config = fs::read(folder.path().join("model/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["model"]["heads"], serde_json::json!({"channels": 16}));
    assert_eq!(config["model"]["attn_res"], serde_json::json!([16, 8]));
}

#[test]
fn every_hostile_checkpoint_is_refused_in_one_line_at_once_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for entry in fs::read_dir(fixtures().join("hostile")).unwrap() {
        let path = entry.unwrap().path();
        let out = folder.path().join("out");
        let arguments = if path.extension().is_some_and(|e| e == "pth") {
            format!("convert '{}' '{}'", path.display(), out.display())
        } else {
            let model = folder.path().join("model");
            fs::create_dir_all(&model).unwrap();
            let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/models/photo-4x/config.json");
            let weights = fs::read(&path).unwrap();
            // The right checksum, so that the file itself is looked at.
            let mut config: serde_json::Value = serde_json::from_slice(&fs::read(config).unwrap()).unwrap();
            config["sha256"] = sr3::proto::Digest::of(&weights).as_str().into();
            fs::write(model.join("config.json"), config.to_string()).unwrap();
            fs::write(model.join("model.safetensors"), weights).unwrap();
            format!("models info '{}'", model.display())
        };
        // 200 MB of data: the text of the program is not counted by this limit.
        let command = format!("ulimit -d 200000; exec '{}' {arguments}", env!("CARGO_BIN_EXE_sr3"));
        let begun = Instant::now();
        let ran = Command::new("sh").args(["-c", &command]).output().unwrap();
        let (seconds, complaint) = (begun.elapsed().as_secs_f64(), String::from_utf8(ran.stderr).unwrap());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(ran.status.code(), Some(2), "{name}: {complaint}");
        assert!(
            complaint.starts_with("sr3: ") && complaint.trim_end().lines().count() == 1,
            "{name}: {complaint}"
        );
        assert!(seconds < 5.0, "{name} took {seconds} s");
        assert!(!out.exists(), "{name} left something behind");
        println!("{seconds:.2} s  {}", complaint.trim_end());
        refused += 1;
    }
    // The two sound files among them hold no SR3 network, so they are refused too, by the tensor that is missing.
    assert_eq!(refused, 26);
}
