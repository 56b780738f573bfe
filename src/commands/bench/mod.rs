//! `sr3 bench`: how fast this machine is. With `--json` one line a case, with the keys of common PyTorch benchmarks.

mod all_reduce;
mod fid_features;
mod peaks;
mod sampler;
mod unet;

use std::time::Instant;

use clap::{Args, Subcommand, value_parser};
use serde_json::json;
use sr3_engine::device::{Device, DeviceError};
use sr3_engine::model::{CpuUNet, Denoiser, Packed, UNetConfig};
use sr3_engine::ops::{Isa, Precision};
use sr3_jobs::{Dtype, upscale::engine_models::precision};

use super::model_args::start_threads;
use crate::exit::{CommandError, Ending};
use all_reduce::AllReduceArgs;
use fid_features::FidFeaturesArgs;
use sampler::SamplerArgs;
use unet::{UnetArgs, weights};

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// One evaluation of a network, or one training step: images a second.
    Unet(UnetArgs),
    /// A whole sampling loop, bytes in and bytes out: 16 images of 32×32 to 128×128 in 10 steps of DDIM.
    Sampler(SamplerArgs),
    /// The sum of a list over processes of this machine, as training takes it.
    AllReduce(AllReduceArgs),
    /// The features of FID: 32 pictures, from bytes to numbers, by Inception with weights drawn at random.
    FidFeatures(FidFeaturesArgs),
    /// What the processor could do at best, with one thread and with all: multiply-adds, bf16 products, memory.
    Peaks(Timing),
}

/// How often, on how many threads, and how it is said.
#[derive(Clone, Copy, Debug, Args)]
pub struct Timing {
    /// Threads [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Timed repeats; the median is reported.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Instruction set: portable, avx2, avx512 or avx512-bf16, of those that the processor has [default: the best].
    #[arg(long, value_parser = instruction_set)]
    pub isa: Option<Isa>,
    /// Print one JSON line a case.
    #[arg(long)]
    pub json: bool,
}

fn instruction_set(name: &str) -> Result<Isa, String> {
    let available = Isa::available();
    available.iter().find(|isa| isa.to_string() == name).copied().ok_or_else(|| {
        let names: Vec<String> = available.iter().map(ToString::to_string).collect();
        format!("this processor has {}", names.join(", "))
    })
}

/// Runs it.
pub fn run(command: &BenchCommand) -> Result<Ending, CommandError> {
    start_threads(match command {
        BenchCommand::Unet(UnetArgs { timing, .. })
        | BenchCommand::Sampler(SamplerArgs { timing, .. })
        | BenchCommand::FidFeatures(FidFeaturesArgs { timing, .. })
        | BenchCommand::Peaks(timing) => timing.threads,
        BenchCommand::AllReduce(_) => Some(1),
    });
    match command {
        BenchCommand::AllReduce(args) => all_reduce::run(args),
        BenchCommand::Unet(args) => unet::run(args),
        BenchCommand::Sampler(args) => sampler::run(args),
        BenchCommand::FidFeatures(args) => fid_features::run(args),
        BenchCommand::Peaks(timing) => peaks::run(*timing),
    }
    .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(Ending::Done)
}

/// A network on a device; on the CPU with the instruction set that was asked for.
fn open(
    device: Device,
    config: &UNetConfig,
    precision: Precision,
    isa: Isa,
) -> Result<Box<dyn Denoiser>, Box<dyn std::error::Error>> {
    let weights = weights(config)?;
    Ok(match device {
        Device::Cpu => Box::new(CpuUNet::new(config, &weights, isa)?.with_precision(precision)),
        _ => device.open(config, &weights, precision, Packed::Once)?,
    })
}

/// What a device computes convolutions in, of what was asked for.
fn precision_on(device: Device, dtype: Dtype, isa: Isa) -> Result<Precision, DeviceError> {
    let found = match (device, dtype) {
        (Device::Cpu, dtype) => precision(dtype, isa),
        (_, Dtype::Bf16) => Precision::Bf16,
        (_, _) => Precision::F32,
    };
    // Says so where it is not there, or does not have it.
    device.class(found).map(|_| found)
}

type BenchResult = Result<(), Box<dyn std::error::Error>>;

/// Calls before the clock starts.
const WARM_UP: u32 = 2;

/// Seconds of each repeat, shortest first.
fn time<E>(repeat: u32, mut call: impl FnMut() -> Result<(), E>) -> Result<Vec<f64>, E> {
    for _ in 0..WARM_UP {
        call()?;
    }
    let mut seconds = Vec::new();
    for _ in 0..repeat {
        let begun = Instant::now();
        call()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// A measured case.
struct Measured<'a> {
    case: &'a str,
    unit: &'a str,
    /// What a call of so many seconds is worth.
    value: &'a dyn Fn(f64) -> f64,
    seconds: &'a [f64],
    precision: Precision,
    threads: usize,
    device: &'a str,
    layout: &'a str,
}

impl Timing {
    fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }

    /// One line on standard output.
    fn report(&self, measured: &Measured<'_>) {
        let Measured { case, unit, value, seconds, precision, threads, device, layout } = *measured;
        let (median, isa) = (seconds[seconds.len() / 2], self.isa());
        let (min, max) = (1e3 * seconds[0], 1e3 * seconds[seconds.len() - 1]);
        if self.json {
            let dtype = if precision == Precision::F32 { "fp32" } else { "bf16" };
            let line = json!({
                "case": case, "peer": "sr3", "dtype": dtype, "layout": layout, "value": value(median),
                "unit": unit, "threads": threads, "median_ms": 1e3 * median, "min_ms": min, "max_ms": max,
                "repeat": seconds.len(), "device": device, "cpu_features": isa.to_string(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            say!("{line}");
        } else {
            let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
            say!(
                "{case}: {:.2} {unit} ({precision} on {device}, {isa}, {threads}; median of {}: {:.1} ms, {min:.1} to {max:.1})",
                value(median),
                seconds.len(),
                1e3 * median,
            );
        }
    }
}
