//! Any whole scale from a network of one: as many passes as it takes, the last to the very scale.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::passes::Passes;
use super::picture::{LowRes, RGB, UpscaleError, Upscaled};
use super::{Upscaler, canvas};
use crate::diffusion::Consistency;
use crate::model::Denoiser;
use crate::ops::resize::{Filter, resize};

/// Mean squared error, in [-1, 1], from which clamping has kept a picture from reducing to its input: 8 levels of 255.
const INCONSISTENT: f64 = 4e-3;
/// Input pixels along a region whose mean is kept.
const REGION: usize = 16;
/// How far a region's mean may be off, in [-1, 1]: half a level of 255.
const REGION_ERROR: f32 = 1.0 / 255.0;
/// Each round leaves the share of pixels that have no room.
const REGION_ROUNDS: usize = 8;

impl<D: Denoiser> Upscaler<D> {
    /// Enlarges an image by any `scale` ≥ 1, in the [`Passes`] that the network's own scale makes of it; in the end the
    /// result is projected for the scale asked for.
    ///
    /// # Errors
    /// As [`Upscaler::upscale`].
    pub fn enlarge(
        &mut self,
        image: &LowRes<'_>,
        scale: usize,
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Upscaled, UpscaleError> {
        if scale == 0 {
            return Err(UpscaleError::Zero { name: "scale" });
        }
        let passes = Passes::new(self.recipe().scale, scale);
        let cost = |pass| passes.side(image.width, pass) as f64 * passes.side(image.height, pass) as f64;
        let total: f64 = (1..=passes.count()).map(cost).sum();
        let mut done = 0.0;
        let mut result = self.pass(image, cost(1) / total, done, progress)?;
        if passes.count() == 1 && self.recipe().scale == scale {
            return Ok(result);
        }
        if let Some(ratio) = passes.reduced_to() {
            let filled = [image.height, image.width].map(|side| passes.filled_up(side));
            result = reduced(result, self.recipe().scale, filled, ratio);
        }
        for pass in 2..=passes.count() {
            done += cost(pass - 1) / total;
            let key = format!("{}\u{0}pass {pass}", image.key);
            let next = LowRes {
                width: result.width,
                height: result.height,
                rgb: &result.rgb,
                key: &key,
                lossy: false,
            };
            result = self.pass(&next, cost(pass) / total, done, progress)?;
        }
        let size = [image.height, image.width].map(|side| side * scale);
        let found = [result.height, result.width];
        let mut rgb = if passes.count() > 1 {
            canvas::cut(result.rgb, found, size)
        } else {
            let mut rgb = resize(&result.rgb, [found[0], found[1], RGB], size, Filter::Bicubic);
            canvas::clamp(&mut rgb);
            rgb
        };
        let consistency_error = self.project(image, &mut rgb, size)?;
        Ok(Upscaled { width: size[1], height: size[0], rgb, consistency_error })
    }

    fn pass(
        &mut self,
        image: &LowRes<'_>,
        share: f64,
        done: f64,
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Upscaled, UpscaleError> {
        let mut partial = |part: f64| progress(done + part * share);
        let mut results = self.upscale(std::slice::from_ref(image), &mut partial)?;
        // One image in, one result out.
        results.pop().ok_or_else(|| UpscaleError::NotFinite { key: image.key.to_string() })
    }

    /// Projects a result (if the recipe asks for it) and measures how far its reduction is from the input.
    pub(super) fn project(
        &self,
        image: &LowRes<'_>,
        rgb: &mut [f32],
        size: [usize; 2],
    ) -> Result<f64, UpscaleError> {
        let consistency =
            Consistency::with_reduction(self.recipe().reduction, [image.height, image.width], size)?;
        if self.recipe().projection {
            // Values are in [-1, 1] here: errors are four times those in [0, 1] units.
            let error_max = if image.lossy { 4.0 * super::LOSSY_ERROR_MAX } else { 0.0 };
            // The second pass takes most of what clamping left after the first.
            for _ in 0..2 {
                consistency.project_within(rgb, image.rgb, error_max);
                canvas::clamp(rgb);
            }
            keep_means(&consistency, rgb, image, size);
        }
        Ok(consistency.mean_squared_error(rgb, image.rgb) / 4.0)
    }
}

/// Corrects what clamping has done to the mean brightness of regions: where a picture swings between black and white from
/// pixel to pixel (a dithered scan), an enlargement that reduces to it would have to swing further, and is cut off on
/// one side more than on the other. What is left is added again, region by region, to the pixels that have room for it.
/// Other pictures are consistent already and stay as they are, and so do those that are smaller than a region.
fn keep_means(consistency: &Consistency, rgb: &mut [f32], image: &LowRes<'_>, size: [usize; 2]) {
    if consistency.mean_squared_error(rgb, image.rgb) <= INCONSISTENT {
        return;
    }
    let low = [image.height, image.width];
    let regions = low.map(|side| side / REGION);
    if regions.contains(&0) {
        return;
    }
    for _ in 0..REGION_ROUNDS {
        let rest: Vec<f32> = image.rgb.iter().zip(consistency.reduce(rgb)).map(|(y, d)| y - d).collect();
        let means = resize(&rest, [low[0], low[1], RGB], regions, Filter::Area);
        if means.iter().all(|mean| mean.abs() <= REGION_ERROR) {
            return;
        }
        let shift = resize(&means, [regions[0], regions[1], RGB], size, Filter::Bicubic);
        rgb.par_iter_mut().with_min_len(1 << 16).zip(&shift).for_each(|(value, shift)| *value += shift);
        canvas::clamp(rgb);
    }
}

/// Reduces the first pass's result to `above`/`below` of the input, whose sides, `filled`, are multiples of `below`: the
/// result's last rows and columns are repeated to the same share first, so that all pixels keep one pitch.
fn reduced(first: Upscaled, step: usize, filled: [usize; 2], (above, below): (usize, usize)) -> Upscaled {
    let [height, width] = filled.map(|side| side * step);
    let rgb = canvas::pad(first.rgb, [first.height, first.width], [height, width]);
    let to = filled.map(|side| side / below * above);
    let mut rgb = resize(&rgb, [height, width, RGB], to, Filter::Bicubic);
    canvas::clamp(&mut rgb);
    Upscaled { width: to[1], height: to[0], rgb, ..first }
}
