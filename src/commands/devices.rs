//! `sr3 devices`: what this machine has to compute on, and whether it computes the same.

use std::time::Instant;

use clap::Args;
use serde_json::json;
use sr3_engine::{
    device::{About, Device},
    ops::{Isa, Precision},
};
use sr3_jobs::{
    Wish, Writing,
    upscale::{EngineModels, Machine, Models, OpenModel},
};
use sr3_worker::memory;

use super::table::table;
use crate::{
    exit::{CommandError, Ending},
    say::print,
};

/// Arguments of `sr3 devices`.
#[derive(Clone, Debug, Args)]
pub struct DevicesArgs {
    /// Compute every operation and a small picture on each device, and compare with the CPU; the CPU itself with plain code.
    #[arg(long)]
    pub verify: bool,
    /// One JSON object a device, or a comparison.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn run(arguments: &DevicesArgs) -> Result<Ending, CommandError> {
    if arguments.verify { verify(arguments.json) } else { list(arguments.json) }
}

fn list(json: bool) -> Result<Ending, CommandError> {
    let mut rows = Vec::new();
    for device in Device::all() {
        let About { name, classes, memory } =
            device.about().map_err(|e| CommandError::failed(e.to_string()))?;
        let [total, free] = match memory {
            Some(of_device) => of_device.map(Some),
            None => [memory::most().map(|room| room.limit), memory::room().map(|room| room.free)],
        };
        let threads = rayon::current_num_threads();
        let seconds = seconds_a_megapixel(device)?;
        if json {
            print(&format!(
                "{}\n",
                json!({ "device": device.to_string(), "name": name, "classes": classes, "memory_bytes": total,
                    "free_bytes": free, "threads": threads, "network_seconds_a_megapixel": seconds })
            ));
            continue;
        }
        let gigabytes =
            |bytes: Option<u64>| bytes.map_or("?".to_string(), |b| format!("{:.1}", b as f64 / 1e9));
        rows.push([
            device.to_string(),
            name,
            classes.join(", "),
            format!("{} of {} GB free", gigabytes(free), gigabytes(total)),
            threads.to_string(),
            format!("{seconds:.2} s"),
        ]);
    }
    if !json {
        let names = ["DEVICE", "NAME", "CLASSES", "MEMORY", "THREADS", "A MEGAPIXEL, ONE EVALUATION"];
        print(&table(names, &rows));
        for missing in missing() {
            say!("{missing}");
        }
    }
    Ok(Ending::Done)
}

/// What would give this machine more.
fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if let Err(error) = Device::Cuda(0).check() {
        missing.push(format!("no GPU: {error}"));
    }
    if let Err(error) = Device::CandleCpu.check() {
        missing.push(error.to_string());
    }
    if !Precision::is_native(Isa::detect()) {
        missing.push("no fast bf16: this processor has no instructions for it".to_string());
    }
    missing
}

/// Of the box's model, found out by computing a small picture.
fn seconds_a_megapixel(device: Device) -> Result<f64, CommandError> {
    let wish = Wish { preset: Some("one".into()), ..Wish::default() };
    let machine = Machine { device: Some(device), batch: None };
    let OpenModel { processor, .. } = EngineModels::default().open(&wish, &Writing::default(), &machine)?;
    processor.measure().map_err(CommandError::failed)
}

fn verify(json: bool) -> Result<Ending, CommandError> {
    let mut all_fine = true;
    for device in Device::all() {
        let begun = Instant::now();
        let found = sr3_engine::device::verify(device).map_err(CommandError::failed)?;
        for difference in &found {
            all_fine &= difference.is_fine();
            let verdict = if difference.is_fine() { "fine" } else { "WRONG" };
            if json {
                print(&format!(
                    "{}\n",
                    json!({ "device": device.to_string(), "what": difference.what, "largest": difference.largest,
                        "allowed": difference.allowed, "fine": difference.is_fine() })
                ));
            } else {
                say!(
                    "{:<11} {:<54} {:>8.1e} of {:>5.0e} allowed  {verdict}",
                    device.to_string(),
                    difference.what,
                    difference.largest,
                    difference.allowed
                );
            }
        }
        if !json {
            let count = found.len();
            say!("{device}: {count} comparisons with the CPU in {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
    match all_fine {
        true => Ok(Ending::Done),
        false => Err(CommandError::failed("a device computes something else than the CPU: do not use it")),
    }
}
