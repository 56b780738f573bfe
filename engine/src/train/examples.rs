//! What a network is shown in a step, what it should say, and how far off it is.

use std::sync::Arc;

use rayon::prelude::*;

use super::pictures::Square;
use super::{Draws, TrainingLevels};
use crate::diffusion::{HybridSample, Loss, NoiseSchedule, Objective, Target, q_sample};
use crate::model::Conditions;
use crate::ops::resize::{Filter, resize};

/// Channels of an image.
const RGB: usize = 3;
/// Timesteps over which the bound's weight is 1 (Nichol and Dhariwal, 2021, section 3.1: a thousandth of the sum over all).
const BOUND_TIMESTEPS: f64 = 1000.0;

/// What is learned.
#[derive(Clone, Debug)]
pub struct Task {
    /// Whether the network is shown the low resolution, enlarged; else it makes pictures of noise alone.
    pub low_res: bool,
    /// What the network predicts; none for a network that sees no x_t and predicts x_0 in one go (the paper's baseline).
    pub objective: Option<Objective>,
    /// What x_0 is.
    pub target: Target,
    /// How far a prediction is from it. Where the variance is learned the hybrid loss is taken instead.
    pub loss: Loss,
    /// At which noise, and what the network is told of it.
    pub noise: Noise,
    /// Classes that the network is told apart; 0 where it is told none.
    pub classes: usize,
    /// Share of the samples whose class is kept from the network: it is told the last of its classes, which stands for any.
    pub label_dropout: f64,
    /// Whether the network says the variance of its steps as well.
    pub learned_variance: bool,
}

/// How noisy samples are.
#[derive(Clone, Debug)]
pub enum Noise {
    /// The network is told noise levels, drawn from these.
    Levels(TrainingLevels),
    /// It is told timesteps of this process, drawn evenly.
    Timesteps(Arc<NoiseSchedule>),
}

impl Noise {
    /// The noise level of a sample, and what the network is told of it.
    #[must_use]
    pub fn draw(&self, draws: &Draws, step: u64, place: u32) -> (f64, f32) {
        match self {
            Self::Levels(levels) => {
                let level = draws.noise_level(levels, step, place);
                (level, level as f32)
            }
            Self::Timesteps(process) => {
                let timestep = draws.timestep(process.timesteps(), step, place);
                (process.noise_level(timestep + 1), timestep as f32)
            }
        }
    }
}

/// A picture to learn from, and where it stands.
#[derive(Clone, Debug)]
pub struct Example {
    /// What is to be restored.
    pub high: Square,
    /// From what; none where it is made of noise alone.
    pub low: Option<Square>,
    /// What it shows, counted from 0; 0 where nobody asks.
    pub label: u32,
    /// The step whose noise it gets.
    pub step: u64,
    /// Its place in that step's batch.
    pub place: u32,
}

/// Some examples as the network takes them.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Number, height, width.
    pub shape: [usize; 3],
    /// (N, H, W, channels): the enlarged low resolution, then x_t, of these what the task shows.
    pub input: Vec<f32>,
    /// (N): noise levels; 0 where there is no noise.
    pub levels: Vec<f32>,
    /// (N): what the network is told of them.
    pub told: Vec<f32>,
    /// (N): what it is told of what they show; empty where it is told nothing.
    pub labels: Vec<u32>,
    /// (N, H, W, 3)
    pub target: Vec<f32>,
    /// (N, H, W, 3): x_0; empty where the loss does not ask.
    pub images: Vec<f32>,
    /// (N): their places in the step's batch.
    pub places: Vec<u32>,
    /// The step.
    pub step: u64,
}

impl Examples {
    /// What the network is told beside its input.
    #[must_use]
    pub fn conditions(&self) -> Conditions<'_> {
        Conditions { noise: &self.told, labels: &self.labels }
    }

    /// x_t of one of them.
    fn noisy(&self, index: usize) -> Vec<f32> {
        let [count, height, width] = self.shape;
        let channels = self.input.len() / (count * height * width);
        let input = &self.input[index * height * width * channels..][..height * width * channels];
        input.chunks_exact(channels).flat_map(|pixel| &pixel[channels - RGB..]).copied().collect()
    }
}

impl Task {
    /// Channels that the network takes.
    #[must_use]
    pub const fn in_channels(&self) -> usize {
        RGB * (self.low_res as usize + self.objective.is_some() as usize)
    }

    /// Channels that it gives.
    #[must_use]
    pub const fn out_channels(&self) -> usize {
        if self.learned_variance { 2 * RGB } else { RGB }
    }

    /// Some examples of one size, as the network takes them.
    ///
    /// # Panics
    /// If there are none, or they are of different sizes.
    #[must_use]
    pub fn examples(&self, examples: &[Example], draws: &Draws) -> Examples {
        let Square { width, height, .. } = examples[0].high;
        let (values, channels) = (height * width * RGB, self.in_channels());
        let all = examples.len() * values;
        let mut laid_out = Examples {
            shape: [examples.len(), height, width],
            input: vec![0.0; examples.len() * height * width * channels],
            levels: vec![0.0; examples.len()],
            told: vec![0.0; examples.len()],
            labels: self.labels(examples, draws),
            target: vec![0.0; all],
            images: vec![0.0; if self.learned_variance { all } else { 0 }],
            places: examples.iter().map(|example| example.place).collect(),
            step: examples[0].step,
        };
        let inputs = laid_out.input.par_chunks_exact_mut(height * width * channels);
        let outputs = laid_out.target.par_chunks_exact_mut(values);
        let told = laid_out.levels.par_iter_mut().zip(&mut laid_out.told);
        let images: Vec<_> = examples
            .par_iter()
            .zip(inputs.zip(outputs).zip(told))
            .map(|(example, ((input, target), (level, told)))| {
                let (x0, noise_level, of_noise) = self.example(example, draws, input, target);
                (*level, *told) = (noise_level as f32, of_noise);
                x0
            })
            .collect();
        if self.learned_variance {
            laid_out.images = images.concat();
        }
        laid_out
    }

    /// Fills one example's input and target; yields x_0, its noise level, and what the network is told of that.
    fn example(
        &self,
        example: &Example,
        draws: &Draws,
        input: &mut [f32],
        target: &mut [f32],
    ) -> (Vec<f32>, f64, f32) {
        let Example { high, low, step, place, .. } = example;
        let size = [high.height, high.width];
        let shown = low.as_ref().filter(|_| self.low_res).map_or(Vec::new(), |low| enlarged(low, size));
        let mut x0 = planes(high);
        self.target.from_image(&shown, &mut x0);
        let Some(objective) = self.objective else {
            input.copy_from_slice(&shown);
            target.copy_from_slice(&x0);
            return (x0, 0.0, 0.0);
        };
        let (level, told) = self.noise.draw(draws, *step, *place);
        let mut noise = vec![0.0; x0.len()];
        draws.noise(*step, *place, size, &mut noise);
        objective.training_target(level, &x0, &noise, target);
        let mut x_t = vec![0.0; x0.len()];
        q_sample(level, &x0, &noise, &mut x_t);
        if self.low_res {
            let pixels = shown.chunks_exact(RGB).zip(x_t.chunks_exact(RGB));
            for (input, (condition, x_t)) in input.chunks_exact_mut(2 * RGB).zip(pixels) {
                input[..RGB].copy_from_slice(condition);
                input[RGB..].copy_from_slice(x_t);
            }
        } else {
            input.copy_from_slice(&x_t);
        }
        (x0, level, told)
    }

    /// What the network is told that examples show.
    fn labels(&self, examples: &[Example], draws: &Draws) -> Vec<u32> {
        if self.classes == 0 {
            return Vec::new();
        }
        let any = self.classes as u32 - 1;
        let of = |example: &Example| match draws.unlabelled(example.step, example.place) < self.label_dropout
        {
            true => any,
            false => example.label,
        };
        examples.iter().map(of).collect()
    }

    /// The loss of each of some examples, and with `gradient`, in the prediction's shape, that of their sum over `batch`.
    ///
    /// # Panics
    /// Where lengths differ.
    pub fn losses(
        &self,
        call: &Examples,
        prediction: &[f32],
        gradient: Option<(&mut [f32], usize)>,
    ) -> Vec<f64> {
        let items = call.shape[0];
        let values = call.target.len() / items;
        match (&self.noise, self.learned_variance) {
            (Noise::Timesteps(process), true) => {
                let mut unasked = Vec::new();
                let (gradient, batch) = gradient.unwrap_or_else(|| {
                    unasked.resize(prediction.len(), 0.0);
                    (&mut unasked, 1)
                });
                let lambda = process.timesteps() as f64 / BOUND_TIMESTEPS;
                let share = 1.0 / batch as f32;
                let all =
                    prediction.par_chunks_exact(2 * values).zip(gradient.par_chunks_exact_mut(2 * values));
                let loss = |(index, (prediction, gradient)): (usize, (&[f32], &mut [f32]))| {
                    let of = |all: &[f32]| all[index * values..][..values].to_vec();
                    let (x0, noise, x_t) = (of(&call.images), of(&call.target), call.noisy(index));
                    let sample = HybridSample { x0: &x0, noise: &noise, x_t: &x_t };
                    let timestep = call.told[index] as usize;
                    let found = process.hybrid_loss(timestep, sample, RGB, prediction, lambda, gradient);
                    gradient.iter_mut().for_each(|value| *value *= share);
                    found.simple + lambda * found.bound
                };
                all.enumerate().map(loss).collect()
            }
            _ => {
                if let Some((gradient, batch)) = gradient {
                    self.loss.gradient(prediction, &call.target, batch * values, gradient);
                }
                let items = prediction.chunks_exact(values).zip(call.target.chunks_exact(values));
                items.map(|(prediction, target)| self.loss.mean(prediction, target)).collect()
            }
        }
    }
}

/// Eight bits as the network takes them, in [-1, 1].
#[must_use]
pub fn planes(square: &Square) -> Vec<f32> {
    square.rgb.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect()
}

/// A small picture as the network is shown it: enlarged as it is when pictures are upscaled.
#[must_use]
pub fn enlarged(low: &Square, size: [usize; 2]) -> Vec<f32> {
    let mut enlarged = resize(&planes(low), [low.height, low.width, 3], size, Filter::Bicubic);
    enlarged.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0));
    enlarged
}
