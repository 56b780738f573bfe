//! Every input that is kept in `fuzz/corpus`, through the functions that are fuzzed: what once went wrong stays mended. Here without
//! a sanitizer; scripts/fuzz.sh looks for new ones.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, clippy::expect_used, reason = "a library elsewhere")]
mod targets;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("job_spec", targets::job_spec),
    ("wire", targets::wire),
    ("ledger_rows", targets::ledger_rows),
    ("records", targets::records),
    ("image", targets::image),
    ("avif", targets::avif),
    ("safetensors", targets::safetensors),
    ("pth", targets::pth),
    ("npz", targets::npz),
    ("model_config", targets::model_config),
    ("certificate", targets::certificate),
];

/// Whether there was a panic, even one that was caught.
static PANICKED: AtomicBool = AtomicBool::new(false);

#[test]
fn every_kept_input_is_taken_or_refused() {
    targets::watch(|| PANICKED.store(true, Ordering::Relaxed));
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} is empty", folder.display());
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            println!("{}", path.display());
            target(&bytes);
            assert!(!PANICKED.load(Ordering::Relaxed), "{} makes our own code panic", path.display());
        }
    }
}
