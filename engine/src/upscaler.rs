//! The whole path from a low-resolution image to a high-resolution one: enlarge, start from noise, sample tile by tile,
//! project.
//!
//! **Promises.** An image's result is a function of the network, the [`Recipe`] without its batch, the pixels and the
//! key. It is bitwise the same whatever the batch and the other images in the call. Noise depends on the position
//! in the image, not on tiles; predictions of overlapping tiles are blended at every step in the tiles' order.
//!
//! **Memory.** At most four f32 RGB buffers of the output's size live at a time for every image of the call (x_t, the
//! enlarged input, the prediction, and the previous x_0 for DPM-Solver++ or a learned variance): 805 MB for one image of
//! 4096×4096. What comes on top is one batch of tiles and what the network needs for it: a device that has no room for it gets half of it,
//! and so on down to one. Pass large images one by one.
//!
//! **Never.** Files, alpha, colour profiles, clocks, or more randomness than [`NoiseSource`](crate::diffusion::NoiseSource).

mod canvas;
mod enlarge;
mod passes;
mod picture;
mod project;
mod recipe;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use crate::diffusion::{Objective, Sampler, Step, Target};
use crate::model::{Conditions, Denoiser, DenoiserError};
use canvas::Canvas;
pub use passes::Passes;
use picture::RGB;
pub use picture::{LowRes, UpscaleError, Upscaled};
pub use project::project;
pub(crate) use recipe::stop_early;
pub use recipe::{Recipe, RecipeError, RecipeRequest, Sampling};

/// A network and how it is used.
#[derive(Debug)]
pub struct Upscaler<D> {
    denoiser: D,
    recipe: Recipe,
    steps: Vec<Step>,
}

impl<D: Denoiser> Upscaler<D> {
    /// Joins a network and a recipe.
    ///
    /// # Errors
    /// [`UpscaleError`] where the recipe or the network cannot be used.
    pub fn new(denoiser: D, recipe: Recipe) -> Result<Self, UpscaleError> {
        let (inputs, outputs) = (denoiser.in_channels(), denoiser.out_channels());
        let regresses = inputs == RGB && recipe.objective == Objective::Image;
        let expected = if recipe.learned_variance { 2 * RGB } else { RGB };
        let asked = recipe.learned_variance || recipe.sampler != Sampler::AncestralLearned;
        if outputs != expected || !asked || !(inputs == 2 * RGB || regresses) {
            return Err(UpscaleError::Channels { inputs, outputs });
        }
        for (name, value) in [("scale", recipe.scale), ("batch", recipe.batch)] {
            if value == 0 {
                return Err(UpscaleError::Zero { name });
            }
        }
        if let Target::Residual { scale } = recipe.target
            && !(scale.is_finite() && scale > 0.0)
        {
            return Err(UpscaleError::ResidualScale { scale });
        }
        recipe.tile.validate()?;
        let mut steps = recipe.sampler.steps_to(&recipe.noise_levels, recipe.end)?;
        if regresses {
            // A network that sees no x_t says the same at every step: it is asked once, and its answer is the image.
            steps.drain(..steps.len() - 1);
            steps.iter_mut().for_each(|step| step.noise_level = 0.0);
        }
        Ok(Self { denoiser, recipe, steps })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Gives the network back.
    pub fn into_denoiser(self) -> D {
        self.denoiser
    }

    /// Enlarges `images`, together: tiles of one shape share the network's batches. `progress` hears, after each
    /// batch, the share of all network evaluations that is done, in (0, 1]; its `Break` ends the work.
    ///
    /// An image of one colour has nothing to refine: its result is that colour, exactly, and the network is not asked.
    ///
    /// # Errors
    /// [`UpscaleError`]; one bad image fails the call, so check images before or pass them one by one.
    pub fn upscale(
        &mut self,
        images: &[LowRes<'_>],
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<Upscaled>, UpscaleError> {
        for image in images {
            self.check(image)?;
        }
        let mut canvases = Vec::new();
        for (index, image) in images.iter().enumerate() {
            if !is_uniform(image) {
                canvases.push((index, Canvas::new(image, &self.recipe, self.denoiser.size_multiple())?));
            }
        }
        self.sample(&mut canvases, progress)?;
        let mut sampled = canvases.into_iter().peekable();
        let mut results = Vec::with_capacity(images.len());
        for (index, image) in images.iter().enumerate() {
            let result = match sampled.next_if(|(of, _)| *of == index) {
                Some((_, canvas)) => self.finish(image, canvas.into_image(&self.recipe))?,
                None => self.flat(image),
            };
            results.push(result);
        }
        Ok(results)
    }

    /// What the network is told about the noise at a step.
    fn told(&self, step: &Step) -> f32 {
        let timesteps = self.recipe.timesteps.as_ref();
        timesteps.map_or(step.noise_level, |process| process.timestep_of(step.noise_level)) as f32
    }

    fn check(&self, image: &LowRes<'_>) -> Result<(), UpscaleError> {
        let LowRes { width, height, rgb, .. } = *image;
        let key = || image.key.to_string();
        let pixels = width.checked_mul(height).filter(|&pixels| pixels > 0);
        if pixels.and_then(|pixels| pixels.checked_mul(RGB)) != Some(rgb.len()) {
            return Err(UpscaleError::Pixels { key: key(), width, height, found: rgb.len() });
        }
        // Room for padding, and for sizes in bytes.
        let scaled =
            |side: usize| side.checked_mul(self.recipe.scale)?.checked_add(self.denoiser.size_multiple());
        let bytes =
            scaled(width).zip(scaled(height)).and_then(|(w, h)| w.checked_mul(h)?.checked_mul(RGB * 4));
        if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(UpscaleError::TooLarge { key: key(), width, height, scale: self.recipe.scale });
        }
        Ok(())
    }

    /// Runs every step on every canvas.
    fn sample(
        &mut self,
        canvases: &mut [(usize, Canvas)],
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<(), UpscaleError> {
        let total =
            self.steps.len() * canvases.iter().map(|(_, canvas)| canvas.tiling().count()).sum::<usize>();
        let mut done = 0;
        let (mut input, mut prediction) = (Vec::new(), Vec::new());
        let (channels, outputs) = (self.denoiser.in_channels(), self.denoiser.out_channels());
        for (number, step) in self.steps.iter().enumerate() {
            let mut due: VecDeque<_> = batches(canvases, self.recipe.batch).into();
            while let Some(batch) = due.pop_front() {
                let [height, width] = canvases[batch[0].0].1.tiling().tile_size();
                let pixels = height * width;
                input.resize(batch.len() * pixels * channels, 0.0);
                prediction.resize(batch.len() * pixels * outputs, 0.0);
                for (&(canvas, tile), input) in batch.iter().zip(input.chunks_exact_mut(pixels * channels)) {
                    canvases[canvas].1.gather(tile, input);
                }
                let noise = vec![self.told(step); batch.len()];
                let labels: Vec<u32> =
                    self.recipe.class.iter().flat_map(|class| vec![*class; batch.len()]).collect();
                let (shape, told) =
                    ([batch.len(), height, width], Conditions { noise: &noise, labels: &labels });
                match self.denoiser.predict_conditioned(shape, &input, told, &mut prediction) {
                    Ok(()) => {}
                    // Half as many may fit, now and from now on; no result depends on how many there are.
                    Err(DenoiserError::OutOfMemory { .. }) if batch.len() > 1 => {
                        self.recipe.batch = batch.len().div_ceil(2);
                        batch.chunks(self.recipe.batch).rev().for_each(|half| due.push_front(half.to_vec()));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                for (&(canvas, tile), prediction) in
                    batch.iter().zip(prediction.chunks_exact(pixels * outputs))
                {
                    canvases[canvas].1.scatter(tile, prediction);
                }
                done += batch.len();
                if progress(done as f64 / total as f64).is_break() {
                    return Err(UpscaleError::Cancelled);
                }
            }
            for (_, canvas) in canvases.iter_mut() {
                canvas.advance(step, number as u32, &self.recipe);
            }
        }
        Ok(())
    }

    /// Checks, projects and measures a sampled image.
    fn finish(&self, image: &LowRes<'_>, mut rgb: Vec<f32>) -> Result<Upscaled, UpscaleError> {
        let low = [image.height, image.width];
        let [height, width] = low.map(|side| side * self.recipe.scale);
        let consistency_error = self.project(image, &mut rgb, [height, width])?;
        if !canvas::is_finite(&rgb) {
            return Err(UpscaleError::NotFinite { key: image.key.to_string() });
        }
        Ok(Upscaled { width, height, rgb, consistency_error })
    }

    /// The result for an image of one colour.
    fn flat(&self, image: &LowRes<'_>) -> Upscaled {
        let [height, width] = [image.height, image.width].map(|side| side * self.recipe.scale);
        let mut rgb = image.rgb[..RGB].repeat(height * width);
        canvas::clamp(&mut rgb);
        Upscaled { width, height, rgb, consistency_error: 0.0 }
    }
}

/// Whether all pixels are equal. One that is no number is equal to nothing.
fn is_uniform(image: &LowRes<'_>) -> bool {
    image.rgb.chunks_exact(RGB).all(|pixel| pixel == &image.rgb[..RGB])
}

/// (canvas, tile) pairs in lots of at most `size`, all of a lot of one shape; tiles of a canvas stay in order.
fn batches(canvases: &[(usize, Canvas)], size: usize) -> Vec<Vec<(usize, usize)>> {
    let mut shapes: BTreeMap<[usize; 2], Vec<(usize, usize)>> = BTreeMap::new();
    for (number, (_, canvas)) in canvases.iter().enumerate() {
        let tiles = (0..canvas.tiling().count()).map(|tile| (number, tile));
        shapes.entry(canvas.tiling().tile_size()).or_default().extend(tiles);
    }
    shapes.values().flat_map(|all| all.chunks(size).map(<[_]>::to_vec)).collect()
}
