//! `sr3 evaluate DIR`: reduces pictures, enlarges them again, and says how near the results are.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sr3_engine::image::{self, Channels, DecodeLimits, Metadata, OutputFormat, Picture, Planes, Samples};
use sr3_engine::metrics::{self, Reduction};
use sr3_engine::model::CpuUNet;
use sr3_engine::ops::Isa;
use sr3_engine::ops::resize::{Filter, resize_u8};
use sr3_engine::upscaler::{LowRes, Upscaler};

use super::ModelArgs;
use crate::engine_models::{read_checkpoint, recipe};
use crate::exit::{CommandError, Ending};

/// Arguments of `sr3 evaluate`.
#[derive(Clone, Debug, Args)]
pub struct EvaluateArgs {
    /// Folder of high-resolution pictures (not searched deeper).
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Shared options.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Only the middle square of this side, in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub crop: Option<usize>,
    /// Write the results here as PNG.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON object a picture and method, and the means last.
    #[arg(long)]
    pub json: bool,
}

/// What a method reaches on a picture, or on average.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Scores {
    /// dB, over R, G and B, whole picture.
    psnr: f64,
    /// dB, luma, without a border as wide as the scale.
    psnr_y: f64,
    /// Luma, without that border.
    ssim_y: f64,
    /// Mean squared error in [0, 1] between the reduced result and the input.
    consistency: f64,
}

/// Runs it.
pub fn run(arguments: &EvaluateArgs) -> Result<Ending, CommandError> {
    arguments.model.start_threads();
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
    let checkpoint = read_checkpoint(&arguments.model.model)?;
    let recipe = recipe(&checkpoint.config, &arguments.model.request(95, None))?;
    let scale = arguments.model.scale.map_or(checkpoint.config.scale, |scale| scale as usize);
    let network =
        CpuUNet::new(&checkpoint.config.model, &checkpoint.weights, Isa::detect()).map_err(|e| failed(&e))?;
    let network = network.with_precision(recipe.precision);
    let mut upscaler = Upscaler::new(network, recipe).map_err(|e| failed(&e))?;
    if let Some(out) = &arguments.out {
        fs::create_dir_all(out)
            .map_err(|e| CommandError::failed(format!("cannot make `{}`: {e}", out.display())))?;
    }
    let pictures = pictures(&arguments.folder)?;
    if !arguments.json {
        say!(
            "{:<24} {:<10} {:>8} {:>8} {:>8} {:>12}",
            "picture",
            "method",
            "PSNR",
            "PSNR-Y",
            "SSIM-Y",
            "consistency"
        );
    }
    let methods = ["bicubic", checkpoint.config.name.as_str()];
    let (mut sums, mut worst, mut count) = ([Scores::default(); 2], [0.0f64; 2], 0);
    for path in pictures {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let truth = load(&path, scale, arguments.crop)?;
        let [low_height, low_width] = [truth.height / scale, truth.width / scale];
        let low =
            resize_u8(&truth.rgb, [truth.height, truth.width, 3], [low_height, low_width], Filter::Bicubic);
        let bicubic =
            resize_u8(&low, [low_height, low_width, 3], [truth.height, truth.width], Filter::Bicubic);
        let rgb: Vec<f32> = low.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
        let input = LowRes { width: low_width, height: low_height, rgb: &rgb, key: &name, lossy: false };
        let result =
            upscaler.enlarge(&input, scale, &mut |_| ControlFlow::Continue(())).map_err(|e| failed(&e))?;
        let planes = Planes { width: result.width, height: result.height, rgb: result.rgb, alpha: None };
        let picture = image::from_planes(&planes, Channels::Rgb, false, Metadata::default());
        let Samples::U8(enlarged) = &picture.samples else { continue };
        for (i, output) in [&bicubic, enlarged].into_iter().enumerate() {
            let scores = score(&truth, output, &low, scale)?;
            print_scores(&name, methods[i], &scores, arguments.json);
            sums[i].add(&scores);
            worst[i] = worst[i].max(scores.consistency);
        }
        count += 1;
        if let Some(out) = &arguments.out {
            write(
                &picture,
                &out.join(format!("{}.png", path.file_stem().unwrap_or_default().to_string_lossy())),
            )?;
        }
    }
    for (i, sum) in sums.into_iter().enumerate() {
        print_scores(&format!("mean of {count}"), methods[i], &sum.over(count), arguments.json);
        if !arguments.json {
            say!("{:<24} {:<10} {:>39.2e}", "worst", methods[i], worst[i]);
        }
    }
    Ok(Ending::Done)
}

impl Scores {
    fn add(&mut self, other: &Self) {
        self.psnr += other.psnr;
        self.psnr_y += other.psnr_y;
        self.ssim_y += other.ssim_y;
        self.consistency += other.consistency;
    }

    fn over(self, count: usize) -> Self {
        let n = count as f64;
        let Self { psnr, psnr_y, ssim_y, consistency } = self;
        Self { psnr: psnr / n, psnr_y: psnr_y / n, ssim_y: ssim_y / n, consistency: consistency / n }
    }
}

fn print_scores(picture: &str, method: &str, scores: &Scores, json: bool) {
    if json {
        say!("{}", serde_json::json!({ "picture": picture, "method": method, "scores": scores }));
    } else {
        let Scores { psnr, psnr_y, ssim_y, consistency } = scores;
        say!("{picture:<24} {method:<10} {psnr:>8.3} {psnr_y:>8.3} {ssim_y:>8.4} {consistency:>12.2e}");
    }
}

/// Eight-bit RGB.
struct Truth {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

fn score(truth: &Truth, output: &[u8], low: &[u8], scale: usize) -> Result<Scores, CommandError> {
    let picture = |w, h, rgb| metrics::Picture::new(w, h, rgb);
    let of = || -> Result<Scores, metrics::MetricError> {
        let a = picture(truth.width, truth.height, output)?;
        let b = picture(truth.width, truth.height, &truth.rgb)?;
        let input = picture(truth.width / scale, truth.height / scale, low)?;
        Ok(Scores {
            psnr: metrics::psnr(a, b, metrics::Channels::Rgb, 0)?,
            psnr_y: metrics::psnr(a, b, metrics::Channels::Luma, scale)?,
            ssim_y: metrics::ssim(a, b, metrics::Channels::Luma, scale)?,
            consistency: metrics::consistency(a, input, Reduction::Float)?,
        })
    };
    of().map_err(|e| CommandError::failed(e.to_string()))
}

fn pictures(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let unreadable = |e| CommandError::usage(format!("cannot read the folder `{}`: {e}", folder.display()));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let known = path.extension().is_some_and(|extension| {
            let extension = extension.to_string_lossy().to_lowercase();
            ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"].contains(&extension.as_str())
        });
        if known && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(CommandError::usage(format!(
            "no pictures in `{}`: looked for PNG, JPEG, WebP, TIFF and BMP by name",
            folder.display()
        )));
    }
    Ok(paths)
}

/// A picture as 8-bit RGB, cut at the right and below to a multiple of the scale (or to the middle square).
fn load(path: &Path, scale: usize, crop: Option<usize>) -> Result<Truth, CommandError> {
    let wrong = |e: &dyn std::fmt::Display| CommandError::usage(format!("`{}`: {e}", path.display()));
    let bytes = fs::read(path).map_err(|e| wrong(&e))?;
    let picture = image::decode(&bytes, &DecodeLimits::default()).map_err(|e| wrong(&e))?.picture;
    let planes = image::to_planes(&picture);
    let side = |length: usize| crop.map_or(length, |crop| crop.min(length)) / scale * scale;
    let (width, height) = (side(picture.width), side(picture.height));
    // SSIM looks through a window of 11 pixels inside a border of the scale's width.
    let least = 11 + 2 * scale;
    if width < least || height < least {
        return Err(wrong(&format!(
            "too small to compare at {scale}×: at least {least} pixels a side are needed"
        )));
    }
    let (left, top) = crop.map_or((0, 0), |_| ((picture.width - width) / 2, (picture.height - height) / 2));
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in top..top + height {
        let row = &planes.rgb[(y * picture.width + left) * 3..][..width * 3];
        rgb.extend(row.iter().map(|v| ((v + 1.0) * 127.5).round() as u8));
    }
    Ok(Truth { width, height, rgb })
}

fn write(picture: &Picture, path: &Path) -> Result<(), CommandError> {
    let failed =
        |e: &dyn std::fmt::Display| CommandError::failed(format!("cannot write `{}`: {e}", path.display()));
    let encoded = image::encode(picture, OutputFormat::Png, 100).map_err(|e| failed(&e))?;
    fs::write(path, encoded.bytes).map_err(|e| failed(&e))
}
