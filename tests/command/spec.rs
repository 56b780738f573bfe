//! `sr3 spec`, run as a user would.

use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn sr3(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .arg("spec")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that has seen enough does not read the rest.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The one line of a refusal.
fn refused(text: &[u8]) -> String {
    let ran = sr3(&["validate", "-"], text);
    let line = String::from_utf8(ran.stderr).unwrap();
    assert_eq!((ran.status.code(), line.lines().count()), (Some(2), 1), "{line}");
    line.strip_prefix("sr3: stdin:").unwrap().trim_end().to_string()
}

#[test]
fn the_schema_is_json_and_names_every_kind() {
    let ran = sr3(&["schema"], b"");
    let schema: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(schema["oneOf"][0]["properties"]["kind"]["const"], "upscale");
}

#[test]
fn every_recipe_can_be_used() {
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/recipes")).unwrap() {
        let file = entry.unwrap().path();
        let ran = sr3(&["validate", file.to_str().unwrap()], b"");
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{file:?}: {said}");
        // A line a job.
        let is_cascade = file.to_str().unwrap().contains("train-flowers-cascade");
        assert_eq!(said.lines().count(), if is_cascade { 2 } else { 1 }, "{file:?}: {said}");
        for line in said.lines() {
            let says = |parts: &[&str]| parts.iter().all(|part| line.contains(part));
            let is_known = says(&[": upscale ", "photo-4x"])
                || says(&[": evaluate ", " against "])
                || says(&[": compare ", " with "])
                || says(&[": generate ", " into "])
                || says(&[": train "])
                || says(&[": project ", " onto "]);
            assert!(is_known, "{file:?}: {line}");
        }
    }
}

#[test]
fn a_spec_that_cannot_be_used_is_refused_with_its_line() {
    let least = "kind: upscale\nsource: in\ndestination: out\n";
    for (more, parts) in [
        ("sede: 1\n", ["4: ", "`seed`"]),
        ("preset: best\n", ["4: ", "fine"]),
        ("steps: 4\nsampler: dim\n", ["5: ", "ddim"]),
        ("model: photo-5x\n", ["4: ", "photo-4x"]),
        ("include: ['a[']\n", ["4: ", "a["]),
        ("preset: \"be\\nst\"\n", ["4: ", "be\\nst"]),
    ] {
        let line = refused(format!("{least}{more}").as_bytes());
        assert!(line.starts_with(parts[0]) && line.contains(parts[1]), "{line}");
    }
    let least = "kind: evaluate\nsource: in\ndestination: out\n";
    for (more, parts) in
        [("metrics: []\n", ["4: ", "at least"]), ("metrics: [psnr, lpips]\n", ["4: ", "st-lpips"])]
    {
        let line = refused(format!("{least}{more}").as_bytes());
        assert!(line.starts_with(parts[0]) && line.contains(parts[1]), "{line}");
    }
    assert!(refused(b"kind: upscale\nsource: \xff\n").starts_with("2: "));
    assert!(refused(&vec![b'#'; 3 << 20]).contains("right file"));
    assert!(refused("é".repeat(1 << 20).as_bytes()).contains("right file"));
}

#[test]
fn a_model_that_only_the_cluster_sees_is_left_to_it() {
    let text =
        b"kind: upscale\nsource: s3://a/in\ndestination: s3://a/out\nmodel: s3://a/model\npreset: best\n";
    let ran = sr3(&["validate", "-"], text);
    assert!(ran.status.success() && String::from_utf8(ran.stdout).unwrap().contains("not checked"));
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let ran = sr3(&["validate", "no-such.yaml"], b"");
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("no-such.yaml"));
}
