//! One image in the making: its buffers, and what happens to them in a step.
//!
//! All buffers are (H, W, 3) of the padded size. Everything is done in place and by rows.

use std::ops::Range;

use rayon::prelude::*;

use super::picture::{LowRes, RGB, UpscaleError};
use super::recipe::Recipe;
use crate::diffusion::{NoiseSource, Region, START, Sampler, Step, Tiling};
use crate::ops::resize::resize;

/// Rows that are updated by one thread at a time.
const BAND: usize = 16;

pub(super) struct Canvas {
    /// [height, width] of the result.
    size: [usize; 2],
    tiling: Tiling,
    noise: NoiseSource,
    /// The enlarged input in [-1, 1].
    upsampled: Vec<f32>,
    x: Vec<f32>,
    /// What the network says, then x_0.
    prediction: Vec<f32>,
    /// x_0 of the step before; empty where the sampler does not look back.
    previous: Vec<f32>,
    /// What the network says of the step's variance; empty where the sampler does not ask.
    variance: Vec<f32>,
}

impl Canvas {
    /// The state before the first step: the input enlarged as the recipe says, clamped, and unit noise.
    pub(super) fn new(image: &LowRes<'_>, recipe: &Recipe, multiple: usize) -> Result<Self, UpscaleError> {
        let size = [image.height, image.width].map(|side| side * recipe.scale);
        let tiling = Tiling::new(size, recipe.tile, multiple, recipe.scale)?;
        let [height, width] = tiling.padded_size();
        let mut upsampled = resize(image.rgb, [image.height, image.width, RGB], size, recipe.enlargement);
        clamp(&mut upsampled);
        let upsampled = pad(upsampled, size, [height, width]);
        let noise = NoiseSource::new(recipe.seed, image.key);
        let mut x = vec![0.0; upsampled.len()];
        noise.fill_normal(&mut x, Region { y: 0, x: 0, height, width, channels: RGB }, START);
        let learned = if recipe.sampler == Sampler::AncestralLearned { x.len() } else { 0 };
        let (prediction, variance) = (vec![0.0; x.len()], vec![0.0; learned]);
        Ok(Self { size, tiling, noise, upsampled, x, prediction, previous: vec![], variance })
    }

    pub(super) fn tiling(&self) -> &Tiling {
        &self.tiling
    }

    /// Writes the network's input for a tile: the enlarged input, (h, w, 3), or with x_t behind it, (h, w, 6), as `input` is long.
    pub(super) fn gather(&self, tile: usize, input: &mut [f32]) {
        let (rows, columns, width) = self.window(tile);
        let channels = input.len() / (rows.len() * columns.len());
        let line_len = columns.len() * channels;
        input.par_chunks_exact_mut(line_len).with_min_len(BAND).zip(rows).for_each(|(line, y)| {
            let span = (y * width + columns.start) * RGB..(y * width + columns.end) * RGB;
            let up = self.upsampled[span.clone()].as_chunks::<RGB>().0;
            let x = self.x[span].as_chunks::<RGB>().0;
            if channels == RGB {
                return line.copy_from_slice(up.as_flattened());
            }
            for ((out, up), x) in line.as_chunks_mut::<{ 2 * RGB }>().0.iter_mut().zip(up).zip(x) {
                out[..RGB].copy_from_slice(up);
                out[RGB..].copy_from_slice(x);
            }
        });
    }

    /// Adds a tile's prediction (h, w, 3), or (h, w, 6) with the variance's share behind it, weighted, to the image's. Tiles must
    /// come in order.
    pub(super) fn scatter(&mut self, tile: usize, prediction: &[f32]) {
        let (rows, columns, width) = self.window(tile);
        let [row, column] = self.tiling.place(tile);
        let weights = [self.tiling.rows.weights(row), self.tiling.columns.weights(column)];
        let blend = |image: &mut [f32], offset: usize| {
            if tile == 0 {
                image.par_iter_mut().with_min_len(1 << 16).for_each(|v| *v = 0.0);
            }
            let band = &mut image[rows.start * width * RGB..rows.end * width * RGB];
            add_weighted(band, width, columns.clone(), weights, prediction, offset);
        };
        blend(&mut self.prediction, 0);
        if !self.variance.is_empty() {
            blend(&mut self.variance, RGB);
        }
    }

    /// Turns the blended prediction into x_0 and takes x_t to the next noise level.
    pub(super) fn advance(&mut self, step: &Step, number: u32, recipe: &Recipe) {
        let [_, width] = self.tiling.padded_size();
        let (upsampled, previous, variance, noise) =
            (&self.upsampled, &self.previous, &self.variance, &self.noise);
        let bands =
            self.x.par_chunks_mut(BAND * width * RGB).zip(self.prediction.par_chunks_mut(BAND * width * RGB));
        bands.enumerate().for_each_init(Vec::new, |fresh, (band, (x, x0))| {
            let start = band * BAND * width * RGB;
            let upsampled = &upsampled[start..start + x.len()];
            recipe.objective.to_x0(step.noise_level, x, x0);
            if recipe.clamp {
                recipe.target.clamp(upsampled, x0);
            }
            let previous = if step.uses_previous() { &previous[start..start + x.len()] } else { &[] };
            if step.uses_noise() {
                fresh.resize(x.len(), 0.0);
                let height = x.len() / (width * RGB);
                let region = Region { y: band * BAND, x: 0, height, width, channels: RGB };
                noise.fill_normal(fresh, region, number);
            }
            if step.uses_variance() {
                step.advance_learned(x, x0, &variance[start..start + x.len()], fresh);
            } else {
                step.advance(x, x0, previous, fresh);
            }
        });
        if recipe.sampler.uses_previous() && step.next_noise_level < 1.0 {
            self.previous.resize(self.x.len(), 0.0);
            std::mem::swap(&mut self.previous, &mut self.prediction);
        }
    }

    /// The finished image (H, W, 3) in [-1, 1], without padding.
    pub(super) fn into_image(self, recipe: &Recipe) -> Vec<f32> {
        let end = recipe.end as f32;
        let [_, padded] = self.tiling.padded_size();
        let (mut image, upsampled) = (self.x, self.upsampled);
        image.par_chunks_mut(BAND * padded * RGB).zip(upsampled.par_chunks(BAND * padded * RGB)).for_each(
            |(x0, upsampled)| {
                if end < 1.0 {
                    x0.iter_mut().for_each(|value| *value /= end);
                }
                recipe.target.to_image(upsampled, x0);
                x0.iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
            },
        );
        cut(image, self.tiling.padded_size(), self.size)
    }

    /// Rows and columns of a tile, and the width of the buffers.
    fn window(&self, tile: usize) -> (Range<usize>, Range<usize>, usize) {
        let [row, column] = self.tiling.place(tile);
        let [_, width] = self.tiling.padded_size();
        (self.tiling.rows.span(row), self.tiling.columns.span(column), width)
    }
}

/// Adds three channels of a tile's prediction, from `offset` of each pixel's on, to the rows of an image that it covers.
fn add_weighted(
    band: &mut [f32],
    width: usize,
    columns: Range<usize>,
    [down, across]: [&[f32]; 2],
    prediction: &[f32],
    offset: usize,
) {
    let row_len = prediction.len() / (band.len() / (width * RGB));
    let channels = row_len / columns.len();
    let lines = band
        .par_chunks_exact_mut(width * RGB)
        .with_min_len(BAND)
        .zip(prediction.par_chunks_exact(row_len))
        .zip(down);
    lines.for_each(|((line, prediction), &down)| {
        let out = line[columns.start * RGB..columns.end * RGB].as_chunks_mut::<RGB>().0;
        for ((out, values), &across) in out.iter_mut().zip(prediction.chunks_exact(channels)).zip(across) {
            let weight = down * across;
            for (out, value) in out.iter_mut().zip(&values[offset..]) {
                *out += weight * value;
            }
        }
    });
}

/// Clamps an image to [-1, 1].
pub(super) fn clamp(image: &mut [f32]) {
    image.par_iter_mut().with_min_len(1 << 16).for_each(|v| *v = v.clamp(-1.0, 1.0));
}

/// Whether all values are numbers.
pub(super) fn is_finite(image: &[f32]) -> bool {
    image.par_iter().with_min_len(1 << 16).all(|v| v.is_finite())
}

/// Repeats the last column and row until the image has the size `to`.
pub(super) fn pad(image: Vec<f32>, [height, width]: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    if [height, width] == to {
        return image;
    }
    let mut padded = Vec::with_capacity(to[0] * to[1] * RGB);
    for y in 0..to[0] {
        let line = &image[y.min(height - 1) * width * RGB..][..width * RGB];
        padded.extend_from_slice(line);
        for _ in width..to[1] {
            padded.extend_from_slice(&line[(width - 1) * RGB..]);
        }
    }
    padded
}

/// The first rows and columns of an image of size `from` [height, width], in place.
pub(super) fn cut(mut image: Vec<f32>, from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let [height, width] = to;
    for y in 1..height {
        image.copy_within(y * from[1] * RGB..(y * from[1] + width) * RGB, y * width * RGB);
    }
    image.truncate(height * width * RGB);
    image
}
