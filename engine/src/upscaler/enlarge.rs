//! Any whole scale from a network of one: as many passes as it takes, the last to the very scale.

use std::ops::ControlFlow;

use super::passes::Passes;
use super::picture::{LowRes, RGB, UpscaleError, Upscaled};
use super::project::{PASSES, project_by};
use super::{Upscaler, canvas};
use crate::diffusion::Consistency;
use crate::model::Denoiser;
use crate::ops::resize::{Filter, resize};

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
            project_by(&consistency, image, rgb, size, PASSES);
        }
        Ok(consistency.mean_squared_error(rgb, image.rgb) / 4.0)
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
