//! `sr3 bench fid-features`: from pictures in memory to what distances between sets are computed from.

use std::hint::black_box;

use clap::Args;
use sr3_engine::metrics::Picture;
use sr3_engine::ops::Precision;
use sr3_engine::vision::{FidMode, Inception};

use super::{BenchResult, Measured, Timing, time};

/// Pictures that are looked at in one call.
const BATCH: usize = 32;

/// Pictures, and how it is timed.
#[derive(Clone, Copy, Debug, Args)]
pub struct FidFeaturesArgs {
    /// Rows and columns of the pictures.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub size: u16,
    /// As which tool pictures are prepared: pytorch-fid, torch-fidelity or clean-fid.
    #[arg(long = "fid-mode", default_value_t = FidMode::PytorchFid)]
    pub mode: FidMode,
    /// Shared options.
    #[command(flatten)]
    pub timing: Timing,
}

pub(super) fn run(args: &FidFeaturesArgs) -> BenchResult {
    let (timing, side) = (args.timing, usize::from(args.size));
    let mut network = Inception::seeded(1, timing.isa())?;
    let bytes: Vec<u8> = (0..BATCH * side * side * 3).map(|i| (i * 31 % 251) as u8).collect();
    let pictures = bytes.chunks_exact(side * side * 3).map(|rgb| Picture::new(side, side, rgb));
    let pictures: Vec<Picture<'_>> = pictures.collect::<Result<_, _>>()?;
    let seconds = time(timing.repeat, || {
        black_box(network.features(&pictures, args.mode)?);
        Ok::<_, sr3_engine::vision::VisionError>(())
    })?;
    timing.report(&Measured {
        case: &format!("inception/{}/{side}px", args.mode),
        unit: "img/s",
        value: &|seconds| BATCH as f64 / seconds,
        seconds: &seconds,
        precision: Precision::F32,
        threads: rayon::current_num_threads(),
        device: "cpu",
        layout: "channels_last",
    });
    Ok(())
}
