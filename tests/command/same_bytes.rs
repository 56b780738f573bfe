//! One seed, one result: whatever the company, the batch, the threads, or how often the run was interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};

/// Pictures cut out of the samples, larger than a tile once enlarged: name, place and size.
const CUTS: [(&str, [usize; 4]); 3] =
    [("a/one.png", [20, 10, 72, 60]), ("a/two.png", [60, 40, 60, 72]), ("three.png", [100, 30, 52, 52])];

fn cut(out: &Path, name: &str, [left, top, width, height]: [usize; 4]) {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/canyons/grand-canyon.png");
    let picture = decode(&fs::read(photo).unwrap(), &DecodeLimits::default()).unwrap().picture;
    let Samples::U8(samples) = &picture.samples else { panic!() };
    let rows =
        (top..top + height).flat_map(|y| samples[(y * picture.width + left) * 3..][..width * 3].to_vec());
    let part = Picture { width, height, samples: Samples::U8(rows.collect()), ..picture.clone() };
    let path = out.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, encode(&part, OutputFormat::Png, 100).unwrap().bytes).unwrap();
}

fn command(source: &Path, destination: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sr3"));
    command.arg("upscale").args([source, destination]).args(["--preset", "fast", "--quiet"]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn results(destination: &Path) -> BTreeMap<String, Vec<u8>> {
    CUTS.iter()
        .filter_map(|(name, _)| Some((name.to_string(), fs::read(destination.join(name)).ok()?)))
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_however_it_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("in"), |name: &str| folder.path().join(name));
    for (name, place) in CUTS {
        cut(&source, name, place);
    }
    assert!(command(&source, &out("first"), &[]).status().unwrap().success());
    let first = results(&out("first"));
    assert_eq!(first.len(), CUTS.len());

    for options in [&["--batch", "1", "--threads", "1"][..], &["--batch", "5", "--threads", "2"]] {
        assert!(command(&source, &out("again"), options).status().unwrap().success());
        assert!(results(&out("again")) == first, "{options:?} changes the result");
        fs::remove_dir_all(out("again")).unwrap();
    }

    let alone = folder.path().join("alone");
    cut(&alone, CUTS[0].0, CUTS[0].1);
    assert!(command(&alone, &out("alone-out"), &[]).status().unwrap().success());
    assert!(results(&out("alone-out"))[CUTS[0].0] == first[CUTS[0].0], "company changes the result");

    assert!(command(&source, &out("other"), &["--seed", "1"]).status().unwrap().success());
    let other = results(&out("other"));
    assert!(CUTS.iter().all(|(name, _)| other[*name] != first[*name]), "another seed gives another picture");

    // Killed as soon as something is finished, then run again.
    let mut killed = command(&source, &out("killed"), &[]).spawn().unwrap();
    let finished = || results(&out("killed")).len();
    while finished() == 0 && killed.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    for (name, bytes) in results(&out("killed")) {
        assert!(bytes == first[&name], "{name} is under its name, so it is whole");
    }
    assert!(command(&source, &out("killed"), &[]).status().unwrap().success());
    assert!(results(&out("killed")) == first, "an interruption changes the result");
    // And once more: nothing is left to do.
    let ran = command(&source, &out("killed"), &["--json"]).stdout(Stdio::piped()).output().unwrap();
    let end: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((end["done"].as_u64(), end["skipped"].as_u64()), (Some(0), Some(3)), "{end}");
}

#[test]
fn any_whole_scale_gives_its_size_and_reduces_to_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    cut(&source, "p.png", [40, 40, 20, 16]);
    for scale in [1, 2, 3, 8] {
        let out = folder.path().join(format!("out{scale}"));
        assert!(command(&source, &out, &["--scale", &scale.to_string()]).status().unwrap().success());
        let picture =
            decode(&fs::read(out.join("p.png")).unwrap(), &DecodeLimits::default()).unwrap().picture;
        assert_eq!([picture.width, picture.height], [20 * scale, 16 * scale]);
        let record: serde_json::Value =
            serde_json::from_str(fs::read_to_string(out.join(".sr3/report.jsonl")).unwrap().trim()).unwrap();
        let error = record["consistency_error"].as_f64().unwrap();
        assert!(error < 1e-5, "scale {scale}: {error}");
    }
}

#[test]
fn bf16_gives_almost_the_same_picture_and_the_report_says_which_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("in");
    cut(&source, "p.png", [40, 40, 20, 16]);
    let upscale = |dtype: &str, out: &str| {
        let out = folder.path().join(out);
        assert!(
            command(&source, &out, &["--dtype", dtype]).stderr(Stdio::null()).status().unwrap().success()
        );
        let record: serde_json::Value =
            serde_json::from_str(fs::read_to_string(out.join(".sr3/report.jsonl")).unwrap().trim()).unwrap();
        let picture =
            decode(&fs::read(out.join("p.png")).unwrap(), &DecodeLimits::default()).unwrap().picture;
        let Samples::U8(samples) = picture.samples else { panic!() };
        (record["dtype"].as_str().unwrap().to_string(), samples)
    };
    let (exact, exact_samples) = upscale("f32", "exact");
    let (rounded, samples) = upscale("bf16", "rounded");
    assert_eq!([exact.as_str(), rounded.as_str()], ["f32", "bf16"]);
    assert!(samples != exact_samples, "rounding to 8 bits of mantissa leaves its mark");
    let squares = samples.iter().zip(&exact_samples).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let psnr = 10.0 * (255.0f64.powi(2) * samples.len() as f64 / squares.sum::<f64>()).log10();
    assert!(psnr > 40.0, "{psnr} dB between the two");

    // Left to the machine, it is one of the two, and the report names that one.
    let (chosen, samples) = upscale("auto", "chosen");
    assert!(chosen == "f32" && samples == exact_samples || chosen == "bf16", "{chosen}");

    // In the place of results in f32, those of bf16 are others'.
    let again = command(&source, &folder.path().join("exact"), &["--dtype", "bf16", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8(again.stderr).unwrap() + &String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("dtype"), "{said}");
}
