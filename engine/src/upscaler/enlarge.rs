//! Any whole scale from a network of one: enlarge as often as it takes, then reduce.

use std::ops::ControlFlow;

use super::{LowRes, UpscaleError, Upscaled, Upscaler};
use crate::diffusion::Consistency;
use crate::model::Denoiser;
use crate::ops::resize::{Filter, resize};

impl<D: Denoiser> Upscaler<D> {
    /// Enlarges an image by any `scale` ≥ 1: the network is applied until the scale is reached or passed, and a result
    /// that is too large is reduced by antialiased bicubic; then it is projected for the scale asked for.
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
        let step = self.recipe().scale;
        let passes = passes(step, scale);
        let mut reached = step;
        // A pass costs as many evaluations as its output has pixels.
        let total: f64 = (1..=passes).map(|pass| (step.pow(pass) as f64).powi(2)).sum();
        let mut done = 0.0;
        let mut result = self.pass(image, reached, total, done, progress)?;
        for pass in 2..=passes {
            done += (reached as f64).powi(2);
            reached = step.pow(pass);
            let key = format!("{}\u{0}pass {pass}", image.key);
            let next = LowRes {
                width: result.width,
                height: result.height,
                rgb: &result.rgb,
                key: &key,
                lossy: false,
            };
            result = self.pass(&next, reached, total, done, progress)?;
        }
        if passes == 1 && reached == scale {
            return Ok(result);
        }
        let [height, width] = [image.height, image.width].map(|side| side * scale);
        let mut rgb = result.rgb;
        if reached != scale {
            rgb = resize(&rgb, [result.height, result.width, super::RGB], [height, width], Filter::Bicubic);
            super::canvas::clamp(&mut rgb);
        }
        let consistency_error = self.project(image, &mut rgb, [height, width])?;
        Ok(Upscaled { width, height, rgb, consistency_error })
    }

    fn pass(
        &mut self,
        image: &LowRes<'_>,
        reached: usize,
        total: f64,
        done: f64,
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Upscaled, UpscaleError> {
        let share = (reached as f64).powi(2);
        let mut partial = |part: f64| progress((done + part * share) / total);
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
        let consistency = Consistency::new([image.height, image.width], size)?;
        if self.recipe().projection {
            // Values are in [-1, 1] here: errors are four times those in [0, 1] units.
            let error_max = if image.lossy { 4.0 * super::LOSSY_ERROR_MAX } else { 0.0 };
            // The second pass takes most of what clamping left after the first.
            for _ in 0..2 {
                consistency.project_within(rgb, image.rgb, error_max);
                super::canvas::clamp(rgb);
            }
        }
        Ok(consistency.mean_squared_error(rgb, image.rgb) / 4.0)
    }
}

/// How often a network of scale `step` is applied to reach `scale`.
fn passes(step: usize, scale: usize) -> u32 {
    if step < 2 {
        return 1;
    }
    let (mut passes, mut reached) = (1, step);
    while reached < scale {
        reached *= step;
        passes += 1;
    }
    passes
}
