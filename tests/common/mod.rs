//! A processor without a network, so that everything around one can be tested in milliseconds: the output is the
//! input's bytes in capitals, with the seed and the format before them. An input that says `BAD` cannot be read,
//! one that says `PANIC` breaks the decoder, one that says `BURST` the device, one that says `KILL` ends the process.

// Each test binary uses its part.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sr3::{
    jobs::{
        Wish, Writing,
        images::OutputFormat,
        upscale::{
            Bits, Computed, Encoded, F32_CLASS, Files, Forecast, ItemError, Machine, ModelError, Models,
            OpenModel, Processor, Resolved,
        },
    },
    proto::{Cancel, Digest, Key},
};
use tempfile::TempDir;

const ARGUMENTS: &str = "SR3_TEST_ARGUMENTS";
const STEP_MS: &str = "SR3_TEST_STEP_MS";

pub struct Double {
    seed: u64,
    step: Duration,
    pub computed: AtomicUsize,
}

impl Double {
    pub fn new(seed: u64, step: Duration) -> Self {
        Self { seed, step, computed: AtomicUsize::new(0) }
    }
}

impl Processor for Double {
    type Decoded = Vec<u8>;
    type Computed = Vec<u8>;
    type Device = ();

    fn open_device(&self) -> Result<(), String> {
        Ok(())
    }

    fn decode(
        &self,
        _: &Key,
        Files { input: bytes, .. }: Files<'_>,
        _: OutputFormat,
    ) -> Result<Vec<u8>, ItemError> {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("PANIC"), "decoder broke");
        if text.contains("BAD") { Err(ItemError::bad("not readable")) } else { Ok(bytes.to_vec()) }
    }

    fn output_pixels(&self, decoded: &Vec<u8>) -> u64 {
        decoded.len() as u64 * 1_000_000
    }

    fn compute(
        &self,
        (): &mut (),
        input: &Key,
        decoded: Vec<u8>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Vec<u8>>, ItemError> {
        assert!(!decoded.starts_with(b"BURST"), "device broke");
        if decoded.starts_with(b"KILL") {
            std::process::abort();
        }
        for step in 0..10 {
            let until = Instant::now() + self.step / 10;
            while Instant::now() < until {
                if cancel.is_cancelled() {
                    return Err(ItemError::Cancelled);
                }
                thread::park_timeout(Duration::from_millis(1));
            }
            progress(step as f32 / 10.0);
        }
        self.computed.fetch_add(1, Ordering::Relaxed);
        let mut output = format!("{} {} ", self.seed, input.name()).into_bytes();
        output.extend(decoded.to_ascii_uppercase());
        Ok(Computed {
            image_class: None,
            output,
            input_size: [decoded.len() as u32, 1],
            output_size: [decoded.len() as u32 * 4, 4],
            consistency_error: Some(1e-7),
            repaired: None,
            notes: vec!["in capitals".into()],
        })
    }

    fn encode(&self, computed: Vec<u8>, format: OutputFormat) -> Result<Encoded, ItemError> {
        let mut bytes = format!("{format:?} ").into_bytes();
        bytes.extend(computed);
        Ok(Encoded { bytes, notes: Vec::new() })
    }
}

/// Every input is a picture of its length by 1, and takes the same time.
struct Steady(Duration);

impl Forecast for Steady {
    fn size(&self, start: &[u8]) -> Option<[usize; 2]> {
        Some([start.len(), 1])
    }

    fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|side| 4 * side)
    }

    fn work(&self, _: [usize; 2]) -> f64 {
        1.0
    }

    fn seconds_of_work(&self) -> Result<f64, String> {
        Ok(self.0.as_secs_f64())
    }

    fn pace(&self) -> Option<f64> {
        Some(1.0)
    }

    fn quicker(&self) -> Option<(String, f64)> {
        Some(("fast".into(), 0.5))
    }
}

pub struct Doubles;

impl Models for Doubles {
    type Processor = Double;

    fn open(&self, wish: &Wish, _: &Writing, _: &Machine) -> Result<OpenModel<Double>, ModelError> {
        if wish.model != "photo-4x" {
            return Err(ModelError::Wish(format!("unknown model `{}`", wish.model)));
        }
        let step = std::env::var(STEP_MS).ok().and_then(|ms| ms.parse().ok()).unwrap_or(0);
        Ok(OpenModel {
            processor: Double::new(wish.seed, Duration::from_millis(step)),
            forecast: Arc::new(Steady(Duration::from_millis(step))),
            resolved: Resolved {
                looker: None,
                name: wish.model.clone(),
                digest: Digest::of(b"weights"),
                preset: wish.preset.clone().unwrap_or_else(|| "default".into()),
                sampling: "as played".into(),
                scale: wish.scale.unwrap_or(4),
                memory_bytes: 0,
            },
            bits: Bits { dtype: wish.dtype, class: F32_CLASS.into() },
        })
    }
}

/// What the process that [`sr3_process`] starts does: the command with the double, and then its exit code.
pub fn become_the_command_if_asked() {
    if let Ok(arguments) = std::env::var(ARGUMENTS) {
        let arguments: Vec<String> = serde_json::from_str(&arguments).unwrap();
        std::process::exit(
            sr3::cli::main_with(&Arc::new(Doubles), arguments.into_iter().map(OsString::from)).into(),
        );
    }
}

/// The command in a process of its own: this test binary, running its test `the_command`.
pub fn sr3_process(arguments: &[&str], step: Duration) -> Command {
    let all: Vec<&str> = [&["sr3"], arguments].concat();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "the_command", "--nocapture", "--test-threads=1"])
        .env(ARGUMENTS, serde_json::to_string(&all).unwrap())
        .env(STEP_MS, step.as_millis().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// The JSON object that `--json` prints.
    pub fn json(&self) -> Value {
        let line = self.out.lines().last().unwrap();
        serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
    }

    /// The one line on stderr of a refusal.
    pub fn refusal(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "{}", self.err);
        assert!(lines[0].starts_with("sr3: "), "{}", self.err);
        lines[0]
    }
}

pub fn sr3(arguments: &[&str]) -> Ran {
    ran(&mut sr3_process(arguments, Duration::ZERO))
}

pub fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    // What the test harness around the command prints before it.
    let harness = "\nrunning 1 test\ntest the_command ... ";
    let out = String::from_utf8(output.stdout).unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: out.strip_prefix(harness).or(out.strip_prefix("\nrunning 1 test\n")).unwrap().to_string(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A place with a folder of inputs `in` and a path `out` where nothing is yet.
pub struct Scene {
    pub dir: TempDir,
}

impl Scene {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let scene = Self { dir: TempDir::new().unwrap() };
        fs::create_dir(scene.path("in")).unwrap();
        for (name, text) in files {
            scene.write(&format!("in/{name}"), text);
        }
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `sr3 upscale in out …`.
    pub fn upscale(&self, more: &[&str]) -> Ran {
        let (source, destination) = (self.text("in"), self.text("out"));
        sr3(&[&["upscale", &source, &destination], more].concat())
    }

    pub fn report(&self) -> Vec<Value> {
        self.read("out/.sr3/report.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Every file below `out` but the state, sorted.
    pub fn outputs(&self) -> Vec<String> {
        let mut found = Vec::new();
        files_below(&self.path("out"), "", &mut found);
        found.sort();
        found
    }
}

fn files_below(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if name == ".sr3" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), &format!("{name}/"), found);
        } else {
            found.push(name);
        }
    }
}
