//! From nothing but noise to a picture: the first stage of a cascade.
//!
//! **Promises.** A picture is a function of the network, the [`GeneratorRecipe`] without its batch, its key and its class.
//! It is bitwise the same whatever else is in the call.
//!
//! **Never.** Files, clocks, or more randomness than [`NoiseSource`].

use std::ops::ControlFlow;

use rayon::prelude::*;

use crate::diffusion::{
    NoiseSchedule, NoiseSource, Objective, Region, START, Sampler, SamplerError, Step, Target,
};
use crate::model::checkpoint::CheckpointConfig;
use crate::model::{Conditioning, Conditions, Denoiser, DenoiserError};
use crate::ops::Precision;
use crate::upscaler::{RecipeError, RecipeRequest, Sampling, stop_early};

/// Channels of an image.
const RGB: usize = 3;
/// Pictures at once where nothing is asked for: a small network's convolutions are worth it from so many on.
const DEFAULT_BATCH: usize = 8;

/// How a network that makes pictures of noise is used.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorRecipe {
    /// Height and width of the pictures.
    pub size: [usize; 2],
    /// What the network predicts.
    pub objective: Objective,
    /// Whether it says the variance of its steps beside that.
    pub learned_variance: bool,
    /// The process whose timesteps the network is told; none where it is told noise levels.
    pub timesteps: Option<NoiseSchedule>,
    /// How x_t is taken from level to level.
    pub sampler: Sampler,
    /// Noise levels at which the network is evaluated, rising.
    pub noise_levels: Vec<f64>,
    /// The level after the last: 1 for clean pictures. Others are as noisy as it says, which a later stage of a cascade may have
    /// learned to take (truncated conditioning augmentation).
    pub end: f64,
    /// Classes that may be asked for; 0 where none may.
    pub classes: usize,
    /// What stands for any class; none where the network has not learned one.
    pub any_class: Option<u32>,
    /// How far a prediction is taken beyond what is said of any class, towards what is said of the class (classifier-free
    /// guidance, Ho and Salimans, 2022): 1 for not at all. Other values cost a second evaluation.
    pub guidance: f64,
    /// Pictures at once. Changes speed and memory, never results.
    pub batch: usize,
    /// Seed of the job.
    pub seed: u64,
    /// What the network's convolutions multiply, where it is run by this engine's own plan.
    pub precision: Precision,
}

/// A picture that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Names its noise.
    pub key: &'a str,
    /// What it shows, counted from 0; none for a network that is not told.
    pub class: Option<u32>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// What is asked for is not in the model.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The network is not one that makes pictures of noise.
    #[error(
        "the network has {inputs} input and {outputs} output channels: generation needs 3 and 3, or 3 and 6 where the variance is \
         learned; one of 6 inputs enlarges pictures"
    )]
    Channels {
        /// Channels that it takes.
        inputs: usize,
        /// Channels that it gives.
        outputs: usize,
    },
    /// Nothing says how large its pictures are.
    #[error("the model's config.json has no `model.image_size`, the size of the pictures that it makes")]
    NoSize,
    /// It makes differences from a small picture, and there is none.
    #[error("the model's target is a residual, which needs a small picture")]
    Residual,
    /// A class that the model does not have.
    #[error("{key}: class {} where the model has {classes}, counted from 0", in_words(*class))]
    Class {
        /// Which picture.
        key: String,
        /// The class that was asked for.
        class: Option<u32>,
        /// How many there are.
        classes: usize,
    },
    /// Guidance needs a network that knows of pictures of any class.
    #[error(
        "guidance is {guidance}, and the model was not trained without classes now and then (`label_dropout`): leave it out"
    )]
    Guidance {
        /// What was asked for.
        guidance: f64,
    },
    /// The sampler cannot run along these levels.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The network failed.
    #[error(transparent)]
    Denoiser(#[from] DenoiserError),
}

fn in_words(class: Option<u32>) -> String {
    class.map_or("none".to_string(), |class| class.to_string())
}

impl GeneratorRecipe {
    /// The checkpoint's way to sample, with what a user asked for instead.
    ///
    /// # Errors
    /// [`GenerateError`] where the checkpoint makes no pictures of noise, or the request names what is not there.
    pub fn new(
        config: &CheckpointConfig,
        request: &RecipeRequest<'_>,
        guidance: f64,
    ) -> Result<Self, GenerateError> {
        let model = &config.model;
        let expected = if model.learned_variance { 2 * RGB } else { RGB };
        if model.in_channel != RGB || model.out_channel != expected {
            return Err(GenerateError::Channels { inputs: model.in_channel, outputs: model.out_channel });
        }
        if config.x0_target() != Target::Image {
            return Err(GenerateError::Residual);
        }
        let side = model.image_size.ok_or(GenerateError::NoSize)?;
        let Sampling { sampler, noise_levels } = Sampling::new(config, request)?;
        let (classes, any_class) = match config.any_class {
            true => (model.classes.saturating_sub(1), Some(model.classes as u32 - 1)),
            false => (model.classes, None),
        };
        if guidance != 1.0 && any_class.is_none() {
            return Err(GenerateError::Guidance { guidance });
        }
        Ok(Self {
            size: [side, side],
            objective: config.objective,
            learned_variance: model.learned_variance,
            timesteps: match model.layout.conditioning() {
                Conditioning::NoiseLevel => None,
                Conditioning::Timestep => config.noise_schedule.process(),
            },
            sampler,
            noise_levels,
            end: 1.0,
            classes,
            any_class,
            guidance,
            batch: request.batch.unwrap_or(DEFAULT_BATCH).max(1),
            seed: request.seed,
            precision: request.precision,
        })
    }

    /// Stopped early, where noise of `deviation`, in pictures of [-1, 1], is left on the pictures; 0 leaves the recipe as it is.
    ///
    /// # Errors
    /// The network begins with less noise than that.
    pub fn truncated(mut self, deviation: f64) -> Result<Self, RecipeError> {
        self.end = stop_early(&mut self.noise_levels, deviation)?;
        Ok(self)
    }
}

/// A network that makes pictures of noise, and how it is used.
#[derive(Debug)]
pub struct Generator<D> {
    denoiser: D,
    recipe: GeneratorRecipe,
    steps: Vec<Step>,
}

/// A picture in the making, all (H, W, 3).
struct Canvas {
    noise: NoiseSource,
    x: Vec<f32>,
    /// What the network says, then x_0.
    prediction: Vec<f32>,
    /// x_0 of the step before; empty where the sampler does not look back.
    previous: Vec<f32>,
    /// What the network says of the step's variance; empty where it is not asked.
    variance: Vec<f32>,
}

impl<D: Denoiser> Generator<D> {
    /// Joins a network and a recipe.
    ///
    /// # Errors
    /// [`GenerateError`] where the recipe or the network cannot be used.
    pub fn new(denoiser: D, recipe: GeneratorRecipe) -> Result<Self, GenerateError> {
        let (inputs, outputs) = (denoiser.in_channels(), denoiser.out_channels());
        let expected = if recipe.learned_variance { 2 * RGB } else { RGB };
        if inputs != RGB || outputs != expected {
            return Err(GenerateError::Channels { inputs, outputs });
        }
        let steps = recipe.sampler.steps_to(&recipe.noise_levels, recipe.end)?;
        Ok(Self { denoiser, recipe, steps })
    }

    /// Makes pictures, (H, W, 3) in [-1, 1] each; none in place of one that holds values that are no numbers. `progress` hears, after each batch, the share of all network evaluations
    /// that is done, in (0, 1]; its `Break` ends the work.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate(
        &mut self,
        wanted: &[Wanted<'_>],
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<Option<Vec<f32>>>, GenerateError> {
        for Wanted { key, class } in wanted {
            let classes = self.recipe.classes;
            if class.map_or(classes > 0, |class| class as usize >= classes) {
                return Err(GenerateError::Class { key: (*key).to_string(), class: *class, classes });
            }
        }
        let mut canvases: Vec<_> =
            wanted.iter().map(|wanted| Canvas::new(wanted.key, &self.recipe)).collect();
        let total = (self.steps.len() * wanted.len()) as f64;
        let mut done = 0;
        let steps = self.steps.clone();
        for (number, step) in steps.iter().enumerate() {
            let mut at = 0;
            while at < canvases.len() {
                let batch = at..canvases.len().min(at + self.recipe.batch);
                match self.evaluate(&mut canvases[batch.clone()], &wanted[batch.clone()], step) {
                    Ok(()) => {}
                    // Half as many may fit, now and from now on; no result depends on how many there are.
                    Err(DenoiserError::OutOfMemory { .. }) if batch.len() > 1 => {
                        self.recipe.batch = batch.len().div_ceil(2);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
                done += batch.len();
                at = batch.end;
                if progress(done as f64 / total).is_break() {
                    return Err(GenerateError::Cancelled);
                }
            }
            canvases.par_iter_mut().for_each(|canvas| canvas.advance(step, number as u32, &self.recipe));
        }
        let finished = canvases.into_iter().map(|canvas| {
            let mut x = canvas.x;
            let is_finite = x.iter().all(|value| value.is_finite());
            let end = self.recipe.end as f32;
            x.iter_mut().for_each(|value| *value = (*value / end).clamp(-1.0, 1.0));
            is_finite.then_some(x)
        });
        Ok(finished.collect())
    }

    /// Asks the network about some pictures, and about what any class would be where guidance wants that.
    fn evaluate(
        &mut self,
        canvases: &mut [Canvas],
        wanted: &[Wanted<'_>],
        step: &Step,
    ) -> Result<(), DenoiserError> {
        let labels: Vec<u32> = wanted.iter().filter_map(|wanted| wanted.class).collect();
        let mut said = self.ask(canvases, &labels, step)?;
        if let Some(any) = self.recipe.any_class.filter(|_| self.recipe.guidance != 1.0) {
            let of_any = self.ask(canvases, &vec![any; canvases.len()], step)?;
            let guidance = self.recipe.guidance as f32;
            let (pixel, guided) = (self.denoiser.out_channels(), RGB);
            let pairs = said.par_chunks_exact_mut(pixel).zip(of_any.par_chunks_exact(pixel));
            // The variance is the class's own.
            pairs.with_min_len(1 << 12).for_each(|(said, any)| {
                for (said, any) in said.iter_mut().zip(any).take(guided) {
                    *said = any + guidance * (*said - any);
                }
            });
        }
        let values = said.len() / canvases.len();
        for (canvas, said) in canvases.iter_mut().zip(said.chunks_exact(values)) {
            canvas.take(said, self.denoiser.out_channels());
        }
        Ok(())
    }

    fn ask(&mut self, canvases: &[Canvas], labels: &[u32], step: &Step) -> Result<Vec<f32>, DenoiserError> {
        let [height, width] = self.recipe.size;
        let input: Vec<f32> = canvases.iter().flat_map(|canvas| &canvas.x).copied().collect();
        let process = self.recipe.timesteps.as_ref();
        let told = process.map_or(step.noise_level, |process| process.timestep_of(step.noise_level)) as f32;
        let noise = vec![told; canvases.len()];
        let mut said = vec![0.0; canvases.len() * height * width * self.denoiser.out_channels()];
        let shape = [canvases.len(), height, width];
        self.denoiser.predict_conditioned(shape, &input, Conditions { noise: &noise, labels }, &mut said)?;
        Ok(said)
    }
}

impl Canvas {
    fn new(key: &str, recipe: &GeneratorRecipe) -> Self {
        let [height, width] = recipe.size;
        let noise = NoiseSource::new(recipe.seed, key);
        let mut x = vec![0.0; height * width * RGB];
        noise.fill_normal(&mut x, Region { y: 0, x: 0, height, width, channels: RGB }, START);
        let learned = if recipe.sampler == Sampler::AncestralLearned { x.len() } else { 0 };
        Self { noise, prediction: vec![0.0; x.len()], x, previous: Vec::new(), variance: vec![0.0; learned] }
    }

    /// What the network said, (H, W, channels).
    fn take(&mut self, said: &[f32], channels: usize) {
        for (pixel, said) in self.prediction.chunks_exact_mut(RGB).zip(said.chunks_exact(channels)) {
            pixel.copy_from_slice(&said[..RGB]);
        }
        for (pixel, said) in self.variance.chunks_exact_mut(RGB).zip(said.chunks_exact(channels)) {
            pixel.copy_from_slice(&said[RGB..]);
        }
    }

    /// Turns the prediction into x_0 and takes x_t to the next noise level.
    fn advance(&mut self, step: &Step, number: u32, recipe: &GeneratorRecipe) {
        let Self { noise, x, prediction: x0, previous, variance } = self;
        recipe.objective.to_x0(step.noise_level, x, x0);
        Target::Image.clamp(&[], x0);
        let mut fresh = Vec::new();
        if step.uses_noise() {
            let [height, width] = recipe.size;
            fresh.resize(x.len(), 0.0);
            noise.fill_normal(&mut fresh, Region { y: 0, x: 0, height, width, channels: RGB }, number);
        }
        if step.uses_variance() {
            step.advance_learned(x, x0, variance, &fresh);
        } else {
            step.advance(x, x0, if step.uses_previous() { previous } else { &[] }, &fresh);
        }
        if recipe.sampler.uses_previous() && step.next_noise_level < 1.0 {
            previous.resize(x.len(), 0.0);
            std::mem::swap(previous, x0);
        }
    }
}
