//! `sr3 bench sampler`: a whole sampling loop.

use std::hint::black_box;
use std::ops::ControlFlow;

use clap::Args;
use sr3_engine::device::Device;
use sr3_engine::diffusion::{LevelSpacing, Objective, Sampler, Target, Tile};
use sr3_engine::ops::resize::Filter;
use sr3_engine::upscaler::{LowRes, Recipe, UpscaleError, Upscaler};
use sr3_jobs::Dtype;

use super::unet::Case;
use super::{BenchResult, Measured, Timing, open, precision_on, time};

const IMAGES: usize = 16;
const LOW: usize = 32;
const SCALE: usize = 4;
const STEPS: usize = 10;

/// Arithmetic, and how it is timed.
#[derive(Clone, Copy, Debug, Args)]
pub struct SamplerArgs {
    /// cpu, candle-cpu, or cuda:0 for the first NVIDIA GPU.
    #[arg(long, default_value = "cpu", value_parser = super::super::model_args::device)]
    pub device: Device,
    /// What convolutions are computed in: f32, bf16, or auto, the faster one. GPUs have f32 alone.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// Shared options.
    #[command(flatten)]
    pub timing: Timing,
}

pub(super) fn run(args: &SamplerArgs) -> BenchResult {
    let timing = args.timing;
    let precision = precision_on(args.device, args.dtype, timing.isa())?;
    let (config, batch, _) = Case::Small64.network();
    let network = open(args.device, &config, precision, timing.isa())?;
    let recipe = Recipe {
        objective: Objective::Noise,
        target: Target::Image,
        learned_variance: false,
        timesteps: None,
        enlargement: Filter::Bicubic,
        reduction: Filter::Bicubic,
        sampler: Sampler::Ddim { eta: 0.0 },
        noise_levels: LevelSpacing::Linear { start: 1e-6, end: 1e-2, timesteps: 2000 }.levels(STEPS)?,
        end: 1.0,
        clamp: true,
        scale: SCALE,
        tile: Tile { size: LOW * SCALE, overlap: 0 },
        batch,
        seed: 1,
        class: None,
        projection: false,
        precision,
    };
    let mut upscaler = Upscaler::new(network, recipe)?;
    let bytes: Vec<u8> = (0..IMAGES * LOW * LOW * 3).map(|i| (i * 31 % 251) as u8).collect();
    let seconds = time(timing.repeat, || {
        let mut out = Vec::new();
        for images in bytes.chunks(batch * LOW * LOW * 3) {
            let floats: Vec<f32> = images.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
            let inputs: Vec<_> = floats
                .chunks_exact(LOW * LOW * 3)
                .map(|rgb| LowRes { width: LOW, height: LOW, rgb, key: "image", lossy: false })
                .collect();
            for result in upscaler.upscale(&inputs, &mut |_| ControlFlow::Continue(()))? {
                out.extend(result.rgb.iter().map(|v| ((v + 1.0) * 127.5).round() as u8));
            }
        }
        black_box(out);
        Ok::<_, UpscaleError>(())
    })?;
    timing.report(&Measured {
        case: &format!("small-64/ddim{STEPS}/{LOW}->{}", LOW * SCALE),
        unit: "s",
        value: &|seconds| seconds,
        seconds: &seconds,
        precision,
        threads: rayon::current_num_threads(),
        device: &args.device.to_string(),
        layout: if args.device == Device::Cpu { "channels_last" } else { "nchw" },
    });
    Ok(())
}
