//! What a network is shown in a step, and what it should say.

use rayon::prelude::*;

use super::pictures::Square;
use super::{Draws, TrainingLevels};
use crate::diffusion::{Loss, Objective, Target, q_sample};
use crate::ops::resize::{Filter, resize};

/// What is learned.
#[derive(Clone, Debug)]
pub struct Task {
    /// What the network predicts; none for a network that sees no x_t and predicts x_0 in one go (the paper's baseline).
    pub objective: Option<Objective>,
    /// What x_0 is.
    pub target: Target,
    /// How far a prediction is from it.
    pub loss: Loss,
    /// At which noise levels.
    pub levels: TrainingLevels,
}

/// A pair of pictures, and where it stands.
#[derive(Clone, Debug)]
pub struct Example {
    /// What is to be restored.
    pub high: Square,
    /// From what.
    pub low: Square,
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
    /// (N, H, W, 6): the enlarged low resolution and x_t; 3 channels without x_t.
    pub input: Vec<f32>,
    /// (N)
    pub levels: Vec<f32>,
    /// (N, H, W, 3)
    pub target: Vec<f32>,
    /// (N): their places in the step's batch.
    pub places: Vec<u32>,
    /// The step.
    pub step: u64,
}

impl Task {
    /// Channels that the network takes.
    #[must_use]
    pub const fn in_channels(&self) -> usize {
        if self.objective.is_some() { 6 } else { 3 }
    }

    /// Some examples of one size, as the network takes them.
    ///
    /// # Panics
    /// If there are none, or they are of different sizes.
    #[must_use]
    pub fn examples(&self, examples: &[Example], draws: &Draws) -> Examples {
        let Square { width, height, .. } = examples[0].high;
        let (values, channels) = (height * width * 3, self.in_channels());
        let mut all = Examples {
            shape: [examples.len(), height, width],
            input: vec![0.0; examples.len() * height * width * channels],
            levels: vec![0.0; examples.len()],
            target: vec![0.0; examples.len() * values],
            places: examples.iter().map(|example| example.place).collect(),
            step: examples[0].step,
        };
        let inputs = all.input.par_chunks_exact_mut(height * width * channels);
        let outputs = all.target.par_chunks_exact_mut(values).zip(&mut all.levels);
        examples.par_iter().zip(inputs).zip(outputs).for_each(|((example, input), (target, level))| {
            *level = self.example(example, draws, input, target);
        });
        all
    }

    /// Fills one example's input and target; yields its noise level.
    fn example(&self, example: &Example, draws: &Draws, input: &mut [f32], target: &mut [f32]) -> f32 {
        let Example { high, low, step, place } = example;
        let size = [high.height, high.width];
        let enlarged = enlarged(low, size);
        let mut x0 = planes(high);
        self.target.from_image(&enlarged, &mut x0);
        let Some(objective) = self.objective else {
            input.copy_from_slice(&enlarged);
            target.copy_from_slice(&x0);
            return 0.0;
        };
        let level = draws.noise_level(&self.levels, *step, *place);
        let mut noise = vec![0.0; x0.len()];
        draws.noise(*step, *place, size, &mut noise);
        objective.training_target(level, &x0, &noise, target);
        let mut x_t = vec![0.0; x0.len()];
        q_sample(level, &x0, &noise, &mut x_t);
        let pixels = enlarged.chunks_exact(3).zip(x_t.chunks_exact(3));
        for (input, (condition, x_t)) in input.chunks_exact_mut(6).zip(pixels) {
            input[..3].copy_from_slice(condition);
            input[3..].copy_from_slice(x_t);
        }
        level as f32
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
