//! `sr3 bench`: how fast this machine is, in the words of common PyTorch benchmarks: one JSON line a case.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum, value_parser};
use serde_json::json;
use sr3_engine::diffusion::{LevelSpacing, Loss, Objective, Sampler, Target, Tile};
use sr3_engine::model::{CpuUNet, Denoiser, Graph, Layout, UNetConfig, Weights, random_weights};
use sr3_engine::ops::Isa;
use sr3_engine::upscaler::{LowRes, Recipe, Upscaler};

use super::model_args::start_threads;
use crate::exit::{CommandError, Ending};

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// One evaluation of a network, or one evaluation with all gradients: images a second.
    Unet {
        /// Network and batch.
        #[arg(long, value_enum, default_value = "small-64")]
        case: Case,
        /// What is timed.
        #[arg(long, value_enum, default_value = "sample")]
        mode: Mode,
        /// Shared options.
        #[command(flatten)]
        timing: Timing,
    },
    /// A whole sampling loop, bytes in and bytes out: 16 images of 32×32 to 128×128 in 10 steps of DDIM.
    Sampler {
        /// Shared options.
        #[command(flatten)]
        timing: Timing,
    },
    /// One 3×3 convolution of 64 to 64 channels on a 64×64 image.
    Conv {
        /// Shared options.
        #[command(flatten)]
        timing: Timing,
    },
}

/// How often, and on how many threads.
#[derive(Clone, Copy, Debug, Args)]
pub struct Timing {
    /// Threads [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Timed repeats; the median is reported.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
}

/// Networks and batches that are measured: those of the usual PyTorch comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// 6.1 million parameters, 8 images of 64×64.
    #[value(name = "small-64")]
    Small64,
    /// 97.8 million parameters, 2 images of 128×128.
    #[value(name = "face-16-128")]
    Face16To128,
    /// 11.3 million parameters, one image of 256×256.
    #[value(name = "wide-256")]
    Wide256,
}

/// What of a network is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// One evaluation.
    Sample,
    /// One evaluation, the L1 loss and the gradient of every weight.
    Gradients,
}

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Small64 => "small-64",
            Self::Face16To128 => "face-16-128",
            Self::Wide256 => "wide-256",
        }
    }

    /// The network, its batch, and the side of its images.
    fn network(self) -> (UNetConfig, usize, usize) {
        let network =
            |inner_channel, norm_groups, mults: &[usize], attn_res: &[usize], res_blocks, size| UNetConfig {
                layout: Layout::Janspiry,
                in_channel: 6,
                out_channel: 3,
                inner_channel,
                norm_groups,
                channel_mults: mults.to_vec(),
                attn_res: attn_res.to_vec(),
                res_blocks,
                dropout: 0.0,
                use_affine_level: false,
                image_size: Some(size),
            };
        match self {
            Self::Small64 => (network(32, 16, &[1, 2, 4, 4], &[8], 2, 64), 8, 64),
            Self::Face16To128 => (network(64, 32, &[1, 2, 4, 8, 8], &[16], 2, 128), 2, 128),
            Self::Wide256 => (network(32, 16, &[1, 2, 4, 4, 8], &[], 1, 256), 1, 256),
        }
    }
}

/// Evaluations before the clock starts.
const WARM_UP: u32 = 2;

/// Runs it.
pub fn run(command: &BenchCommand) -> Result<Ending, CommandError> {
    match command {
        BenchCommand::Unet { case, mode, timing } => unet(*case, *mode, *timing),
        BenchCommand::Sampler { timing } => sampler(*timing),
        BenchCommand::Conv { timing } => conv(*timing),
    }
    .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(Ending::Done)
}

fn weights_of(config: &UNetConfig) -> Result<Weights, Box<dyn std::error::Error>> {
    Ok(random_weights(&Graph::build(config)?, 1))
}

fn unet(case: Case, mode: Mode, timing: Timing) -> Result<(), Box<dyn std::error::Error>> {
    start_threads(timing.threads);
    let (config, batch, side) = case.network();
    let weights = weights_of(&config)?;
    let mut network = CpuUNet::new(&config, &weights, Isa::detect())?;
    let input: Vec<f32> = (0..batch * side * side * 6).map(|i| ((i % 977) as f32 / 488.0) - 1.0).collect();
    let (levels, noise) = (vec![0.5; batch], vec![0.25; batch * side * side * 3]);
    let mut prediction = noise.clone();
    let shape = [batch, side, side];
    let seconds = match mode {
        Mode::Sample => time(timing.repeat, || network.predict(shape, &input, &levels, &mut prediction))?,
        Mode::Gradients => time(timing.repeat, || {
            let gradients = network.gradients(shape, &input, &levels, |prediction, out| {
                Loss::L1.mean_and_gradient(prediction, &noise, out);
            });
            gradients.map(|gradients| drop(black_box(gradients)))
        })?,
    };
    let mode = if mode == Mode::Sample { "sample" } else { "gradients" };
    report(&format!("{}/{mode}", case.name()), "img/s", &seconds, |s| batch as f64 / s);
    Ok(())
}

fn sampler(timing: Timing) -> Result<(), Box<dyn std::error::Error>> {
    const IMAGES: usize = 16;
    const LOW: usize = 32;
    const SCALE: usize = 4;
    const STEPS: usize = 10;
    start_threads(timing.threads);
    let (config, batch, _) = Case::Small64.network();
    let weights = weights_of(&config)?;
    let network = CpuUNet::new(&config, &weights, Isa::detect())?;
    let recipe = Recipe {
        objective: Objective::Noise,
        target: Target::Image,
        sampler: Sampler::Ddim { eta: 0.0 },
        noise_levels: LevelSpacing::Linear { start: 1e-6, end: 1e-2, timesteps: 2000 }.levels(STEPS)?,
        clamp: true,
        scale: SCALE,
        tile: Tile { size: LOW * SCALE, overlap: 0 },
        batch,
        seed: 1,
        projection: false,
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
        Ok::<_, sr3_engine::upscaler::UpscaleError>(())
    })?;
    report(&format!("small-64/ddim{STEPS}/{LOW}->{}", LOW * SCALE), "s", &seconds, |s| s);
    Ok(())
}

fn conv(timing: Timing) -> Result<(), Box<dyn std::error::Error>> {
    const CHANNELS: usize = 64;
    const SIDE: usize = 64;
    /// Convolutions a repeat: one alone is too short to time.
    const EACH: usize = 20;
    start_threads(timing.threads);
    let weights: Vec<f32> = (0..CHANNELS * CHANNELS * 9).map(|i| (i % 101) as f32 / 1000.0 - 0.05).collect();
    let kernel =
        sr3_engine::ops::Conv2d::new(Isa::detect(), &weights, [CHANNELS, CHANNELS, 3], &[0.0; CHANNELS]);
    let input: Vec<f32> = (0..SIDE * SIDE * CHANNELS).map(|i| (i % 89) as f32 / 44.0 - 1.0).collect();
    let mut out = vec![0.0; SIDE * SIDE * CHANNELS];
    let seconds = time(timing.repeat, || {
        for _ in 0..EACH {
            rayon::scope(|_| kernel.forward([SIDE, SIDE], black_box(&input), &mut out));
        }
        black_box(&out);
        Ok::<_, std::convert::Infallible>(())
    })?;
    let operations = 2.0 * (SIDE * SIDE * CHANNELS * CHANNELS * 9 * EACH) as f64;
    report(&format!("conv3x3/{CHANNELS}->{CHANNELS}/{SIDE}x{SIDE}"), "GFLOP/s", &seconds, |s| {
        operations / s / 1e9
    });
    Ok(())
}

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

/// One line, with the keys of the PyTorch comparison.
fn report(case: &str, unit: &str, seconds: &[f64], value: impl Fn(f64) -> f64) {
    let median = seconds[seconds.len() / 2];
    println!(
        "{}",
        json!({
            "case": case, "peer": "sr3", "dtype": "fp32", "layout": "channels_last", "value": value(median),
            "unit": unit, "threads": rayon::current_num_threads(), "median_ms": 1e3 * median,
            "min_ms": 1e3 * seconds[0], "max_ms": 1e3 * seconds[seconds.len() - 1], "repeat": seconds.len(),
            "isa": Isa::detect().to_string(), "version": env!("CARGO_PKG_VERSION"),
        })
    );
}
