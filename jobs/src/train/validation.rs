//! How well a network does on pictures that it has not learned from.
//!
//! Every picture has its crop, its noise level and its noise, the same at every validation, so that losses of two
//! validations differ by the weights alone. Some are sampled as users would, without projection, and measured. Members
//! share the pictures; a picture's numbers are its own, and means are taken in the order of the index, so it does not
//! matter who computed what.

use std::ops::{ControlFlow, Range};

use serde::{Deserialize, Serialize};
use sr3_engine::{
    diffusion::{LevelSpacing, Objective, Sampler, Tile},
    generator::{Generator, GeneratorRecipe, Wanted},
    image::{self, Channels, Metadata, OutputFormat, Picture, Planes, Samples},
    metrics::{self, Channels as Measured, Reduction},
    model::Denoiser,
    ops::Precision,
    ops::resize::{Filter, resize_u8},
    train::{Example, Examples, Noise, Square, planes},
    upscaler::{LowRes, Recipe as Upscaling, Upscaler},
};

use super::{
    checkpoint,
    curve::{Sampled, Validation},
    order::Recipe,
};

/// Steps of the sampler: enough to see what a network can do, few enough to be worth it.
const STEPS: usize = 20;

/// Numbers of one picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scored {
    pub(super) index: u64,
    pub(super) loss: f64,
    pub(super) loss_averaged: f64,
    pub(super) sampled: Option<Scores>,
    /// 8-bit RGB of the result, for the grid.
    pub(super) result: Option<Vec<u8>>,
}

/// Numbers of a sampled picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Scores {
    psnr: f64,
    psnr_bicubic: f64,
    ssim: f64,
    ssim_bicubic: f64,
    consistency: f64,
    mean_shift: [f64; 3],
}

/// Which pictures a member validates with: contiguous parts in the order of ranks.
pub(super) fn share(pictures: u64, rank: usize, members: usize) -> Range<u64> {
    let bound = |i: usize| pictures * i as u64 / members as u64;
    bound(rank)..bound(rank + 1)
}

/// The loss of each example, with the network as it is.
pub(super) fn losses(
    network: &mut dyn Denoiser,
    recipe: &Recipe,
    call: &Examples,
) -> Result<Vec<f64>, String> {
    let task = recipe.task().map_err(|e| e.to_string())?;
    let [count, height, width] = call.shape;
    let mut prediction = vec![0.0; count * height * width * task.out_channels()];
    let asked = network.predict_conditioned(call.shape, &call.input, call.conditions(), &mut prediction);
    asked.map_err(|e| e.to_string())?;
    Ok(task.losses(call, &prediction, None))
}

/// What the network makes of an example's small picture, without projection, or of noise and its label; as 8-bit RGB.
pub(super) fn sample(
    network: &mut dyn Denoiser,
    recipe: &Recipe,
    example: &Example,
) -> Result<Vec<u8>, String> {
    match &example.low {
        Some(low) => enlarge(network, recipe, low, example),
        None => generate(network, recipe, example),
    }
}

fn generate(network: &mut dyn Denoiser, recipe: &Recipe, example: &Example) -> Result<Vec<u8>, String> {
    let preset = checkpoint::preset(recipe, STEPS);
    let task = recipe.task().map_err(|e| e.to_string())?;
    let side = recipe.high_res as usize;
    let generating = GeneratorRecipe {
        size: [side, side],
        objective: recipe.objective().unwrap_or(Objective::Image),
        learned_variance: recipe.model.learned_variance,
        timesteps: match task.noise {
            Noise::Timesteps(process) => Some((*process).clone()),
            Noise::Levels(_) => None,
        },
        sampler: preset.sampler(),
        noise_levels: preset.noise_levels().to_vec(),
        end: 1.0,
        classes: recipe.classes as usize,
        any_class: None,
        guidance: 1.0,
        batch: 1,
        seed: recipe.seed,
        precision: Precision::F32,
    };
    let mut generator = Generator::new(network, generating).map_err(|e| e.to_string())?;
    let key = format!("validation {}", example.place);
    let class = (recipe.classes > 0).then_some(example.label);
    let wanted = [Wanted { key: &key, class }];
    let mut made =
        generator.generate(&wanted, &mut |_| ControlFlow::Continue(())).map_err(|e| e.to_string())?;
    let made = made.pop().flatten().ok_or_else(|| "a sample holds values that are no numbers".to_string())?;
    Ok(rounded(side, side, made))
}

fn enlarge(
    network: &mut dyn Denoiser,
    recipe: &Recipe,
    small: &Square,
    example: &Example,
) -> Result<Vec<u8>, String> {
    let levels = LevelSpacing::LogSnr { first: -7.0, last: 9.0 }.levels(STEPS).map_err(|e| e.to_string())?;
    let upscaling = Upscaling {
        // A regression says the image itself.
        objective: recipe.objective().unwrap_or(Objective::Image),
        target: recipe.target(),
        learned_variance: recipe.model.learned_variance,
        timesteps: match recipe.task().map_err(|e| e.to_string())?.noise {
            Noise::Timesteps(process) => Some((*process).clone()),
            Noise::Levels(_) => None,
        },
        enlargement: Filter::Bicubic,
        reduction: Filter::Bicubic,
        sampler: Sampler::Ddim { eta: 0.0 },
        noise_levels: levels,
        end: 1.0,
        clamp: true,
        scale: example.high.width / small.width,
        tile: Tile { size: recipe.high_res as usize, overlap: 0 },
        batch: 1,
        seed: recipe.seed,
        class: (recipe.classes > 0).then_some(example.label),
        projection: false,
        precision: Precision::F32,
    };
    let low = planes(small);
    let key = format!("validation {}", example.place);
    let low_res = LowRes { width: small.width, height: small.height, rgb: &low, key: &key, lossy: false };
    let mut upscaler = Upscaler::new(network, upscaling).map_err(|e| e.to_string())?;
    let mut made =
        upscaler.upscale(&[low_res], &mut |_| ControlFlow::Continue(())).map_err(|e| e.to_string())?;
    let made = made.pop().ok_or_else(|| "nothing was made".to_string())?;
    Ok(rounded(made.width, made.height, made.rgb))
}

fn rounded(width: usize, height: usize, rgb: Vec<f32>) -> Vec<u8> {
    let planes = Planes { width, height, rgb, alpha: None };
    match image::from_planes(&planes, Channels::Rgb, false, Metadata::default()).samples {
        Samples::U8(pixels) => pixels,
        Samples::U16(_) => Vec::new(),
    }
}

/// The numbers of a result; none of one that was made of noise, which is no copy of anything.
pub(super) fn scores(example: &Example, result: &[u8]) -> Result<Option<Scores>, String> {
    let Square { width, height, rgb: truth } = &example.high;
    let Some(small) = &example.low else { return Ok(None) };
    let size = [*height, *width];
    let bicubic = resize_u8(&small.rgb, [small.height, small.width, 3], size, Filter::Bicubic);
    let of = || -> Result<Scores, metrics::MetricError> {
        let picture = |pixels| metrics::Picture::new(*width, *height, pixels);
        let (made, truth, bicubic) = (picture(result)?, picture(truth)?, picture(&bicubic)?);
        let input = metrics::Picture::new(small.width, small.height, &small.rgb)?;
        let ssim = |a| {
            if width.min(height) < &11 { Ok(f64::NAN) } else { metrics::ssim(a, truth, Measured::Rgb, 0) }
        };
        Ok(Scores {
            psnr: metrics::psnr(made, truth, Measured::Rgb, 0)?.min(99.0),
            psnr_bicubic: metrics::psnr(bicubic, truth, Measured::Rgb, 0)?.min(99.0),
            ssim: ssim(made)?,
            ssim_bicubic: ssim(bicubic)?,
            consistency: metrics::consistency(made, input, Reduction::Float)?,
            mean_shift: shift(result, &example.high.rgb),
        })
    };
    of().map(Some).map_err(|e| e.to_string())
}

fn shift(a: &[u8], b: &[u8]) -> [f64; 3] {
    let mut sums = [0i64; 3];
    for (a, b) in a.chunks_exact(3).zip(b.chunks_exact(3)) {
        for channel in 0..3 {
            sums[channel] += i64::from(a[channel]) - i64::from(b[channel]);
        }
    }
    sums.map(|sum| sum as f64 / (a.len() / 3).max(1) as f64)
}

/// Means over all pictures, which come in any order.
pub(super) fn joined(mut all: Vec<Scored>) -> Validation {
    all.sort_by_key(|scored| scored.index);
    let count = all.len().max(1) as f64;
    let mean = |of: &dyn Fn(&Scored) -> f64| all.iter().map(of).sum::<f64>() / count;
    let sampled: Vec<&Scores> = all.iter().filter_map(|scored| scored.sampled.as_ref()).collect();
    let of_samples =
        |of: &dyn Fn(&Scores) -> f64| sampled.iter().map(|s| of(s)).sum::<f64>() / sampled.len() as f64;
    Validation {
        pictures: all.len() as u64,
        loss: mean(&|s| s.loss),
        loss_averaged: mean(&|s| s.loss_averaged),
        samples: (!sampled.is_empty()).then(|| Sampled {
            pictures: sampled.len() as u64,
            psnr: of_samples(&|s| s.psnr),
            psnr_bicubic: of_samples(&|s| s.psnr_bicubic),
            ssim: of_samples(&|s| s.ssim),
            ssim_bicubic: of_samples(&|s| s.ssim_bicubic),
            consistency: of_samples(&|s| s.consistency),
            mean_shift: [0, 1, 2].map(|c| of_samples(&|s| s.mean_shift[c])),
        }),
    }
}

/// A PNG of results: a row each of what the network was given, if anything, what it made, and what it should have made, or a
/// picture of the same label.
pub(super) fn grid(examples: &[Example], results: &[Vec<u8>]) -> Result<Vec<u8>, String> {
    let Some(first) = examples.first() else { return Err("nothing was sampled".to_string()) };
    let (side, columns) = (first.high.width, examples.len());
    let given = usize::from(first.low.is_some());
    let (width, height) = (columns * side, (given + 2) * side);
    let mut pixels = vec![0u8; width * height * 3];
    let mut put = |row: usize, column: usize, rgb: &[u8]| {
        for (y, line) in rgb.chunks_exact(side * 3).enumerate() {
            let at = ((row * side + y) * width + column * side) * 3;
            pixels[at..at + side * 3].copy_from_slice(line);
        }
    };
    for (column, (example, result)) in examples.iter().zip(results).enumerate() {
        if let Some(small) = &example.low {
            let enlarged = resize_u8(&small.rgb, [small.height, small.width, 3], [side, side], Filter::Box);
            put(0, column, &enlarged);
        }
        put(given, column, result);
        put(given + 1, column, &example.high.rgb);
    }
    let picture = Picture {
        width,
        height,
        channels: Channels::Rgb,
        samples: Samples::U8(pixels),
        metadata: Metadata::default(),
    };
    image::encode(&picture, OutputFormat::Png, 100).map(|encoded| encoded.bytes).map_err(|e| e.to_string())
}
