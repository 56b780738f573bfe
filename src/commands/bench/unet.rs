//! `sr3 bench unet`: one evaluation or one training step of a whole network.

use std::hint::black_box;

use clap::{Args, ValueEnum};
use sr3_engine::device::Device;
use sr3_engine::diffusion::Loss;
use sr3_engine::model::{CpuUNet, Denoiser, Graph, Heads, Layout, UNetConfig, Weights, random_weights};
use sr3_engine::ops::Isa;
use sr3_engine::train::{Adam, AdamConfig, norm};
use sr3_jobs::Dtype;

use super::{BenchResult, Measured, Timing, open, precision_on, time};

/// Network, work and device.
#[derive(Clone, Debug, Args)]
pub struct UnetArgs {
    /// Network and batch.
    #[arg(long, value_enum, default_value = "small-64")]
    pub case: Case,
    /// What is timed.
    #[arg(long, value_enum, default_value = "sample")]
    pub mode: Mode,
    /// Images that the network is given at once [default: the case's].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: Option<u32>,
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
    /// One evaluation, the L1 loss, the gradient of every weight, and Adam.
    Train,
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
    pub(super) fn network(self) -> (UNetConfig, usize, usize) {
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
                heads: Heads::ONE,
                classes: 0,
                learned_variance: false,
                timestep_scale: 1.0,
            };
        match self {
            Self::Small64 => (network(32, 16, &[1, 2, 4, 4], &[8], 2, 64), 8, 64),
            Self::Face16To128 => (network(64, 32, &[1, 2, 4, 8, 8], &[16], 2, 128), 2, 128),
            Self::Wide256 => (network(32, 16, &[1, 2, 4, 4, 8], &[], 1, 256), 1, 256),
        }
    }
}

/// Seeded weights of a network.
pub(super) fn weights(config: &UNetConfig) -> Result<Weights, Box<dyn std::error::Error>> {
    Ok(random_weights(&Graph::build(config)?, 1))
}

/// A batch as a training step sees it: channels-last input, noise levels, noise.
struct Batch {
    shape: [usize; 3],
    input: Vec<f32>,
    levels: Vec<f32>,
    noise: Vec<f32>,
}

pub(super) fn run(args: &UnetArgs) -> BenchResult {
    let (config, n, side) = args.case.network();
    let n = args.batch.map_or(n, |n| n as usize);
    let pixels = n * side * side;
    let batch = Batch {
        shape: [n, side, side],
        input: (0..pixels * 6).map(|i| ((i % 977) as f32 / 488.0) - 1.0).collect(),
        levels: vec![0.5; n],
        noise: (0..pixels * 3).map(|i| ((i * 31 % 983) as f32 / 491.0) - 1.0).collect(),
    };
    let repeat = args.timing.repeat;
    let (on_cpu, isa) = (args.device == Device::Cpu, args.timing.isa());
    let precision = precision_on(args.device, args.dtype, isa)?;
    let seconds = match args.mode {
        Mode::Sample => sample(open(args.device, &config, precision, isa)?, &batch, repeat)?,
        Mode::Train if on_cpu => {
            let network = CpuUNet::new(&config, &weights(&config)?, isa)?.with_precision(precision);
            train_on_cpu(network, &batch, isa, repeat)?
        }
        Mode::Train => train_on_device(&config, &batch, args.device, repeat)?,
    };
    args.timing.report(&Measured {
        case: &format!("{}/{}", args.case.name(), if args.mode == Mode::Sample { "sample" } else { "train" }),
        unit: "img/s",
        value: &|seconds| n as f64 / seconds,
        seconds: &seconds,
        precision,
        threads: rayon::current_num_threads(),
        device: &args.device.to_string(),
        layout: if on_cpu { "channels_last" } else { "nchw" },
    });
    Ok(())
}

type Seconds = Result<Vec<f64>, Box<dyn std::error::Error>>;

fn sample(mut network: impl Denoiser, batch: &Batch, repeat: u32) -> Seconds {
    let mut prediction = vec![0.0; batch.noise.len()];
    Ok(time(repeat, || network.predict(batch.shape, &batch.input, &batch.levels, &mut prediction))?)
}

fn train_on_cpu(mut network: CpuUNet, batch: &Batch, isa: Isa, repeat: u32) -> Seconds {
    let n = batch.shape[0] as u64;
    let mut adam = network.update(|parameters, _| Adam::new(AdamConfig::default(), parameters, isa));
    Ok(time(repeat, || {
        network.backward(batch.shape, &batch.input, &batch.levels, |prediction, out| {
            black_box(Loss::L1.mean_and_gradient(prediction, &batch.noise, out));
        })?;
        network.update(|parameters, gradient| adam.step(parameters, gradient, norm(isa, gradient), 1e-4, n));
        Ok::<_, sr3_engine::model::DenoiserError>(())
    })?)
}

#[cfg(not(feature = "candle"))]
fn train_on_device(_: &UNetConfig, _: &Batch, device: Device, _: u32) -> Seconds {
    Err(device.check().err().map_or("it does not train here".into(), Into::into))
}

#[cfg(feature = "candle")]
fn train_on_device(config: &UNetConfig, batch: &Batch, device: Device, repeat: u32) -> Seconds {
    use sr3_engine::{
        model::CandleUNet,
        train::{CandleTrainer, Tensor},
    };

    let device = device.candle()?;
    let network = CandleUNet::new(config, &weights(config)?, &device)?;
    let mut trainer = CandleTrainer::new(network, &AdamConfig::default(), 1e-4)?;
    let [n, height, width] = batch.shape;
    let image = |values: &[f32], channels| {
        Tensor::from_slice(values, (n, height, width, channels), &device)?.permute((0, 3, 1, 2))?.contiguous()
    };
    let (input, noise) = (image(&batch.input, 6)?, image(&batch.noise, 3)?);
    let levels = Tensor::from_slice(&batch.levels, n, &device)?;
    Ok(time(repeat, || {
        trainer.step(&input, &levels, &noise)?;
        device.synchronize()
    })?)
}
