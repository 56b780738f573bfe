//! The training objective: noisy samples, their noise levels, and the L1 or L2 distance of a prediction.
//!
//! Losses are means over all values, as gradients are of that mean (the public implementation sums, then divides by
//! N·C·H·W). Sums run in f64 over fixed blocks that are joined in order: the same bits for any number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::noise::NoiseSource;
use super::noise_schedule::{LevelDraw, NoiseSchedule};
use super::objective::noise_share;

/// Values whose errors are summed by one thread.
const BLOCK: usize = 4096;

/// How far a prediction is from what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Mean absolute error; its gradient at 0 is 0.
    L1,
    /// Mean squared error.
    L2,
}

impl Loss {
    /// The mean loss of `prediction` against `target`; 0 for none.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn mean(self, prediction: &[f32], target: &[f32]) -> f64 {
        assert_eq!(prediction.len(), target.len(), "prediction and target");
        let of_block =
            |(p, t): (&[f32], &[f32])| p.iter().zip(t).map(|(&p, &t)| self.of_one(p, t)).sum::<f64>();
        let blocks: Vec<f64> =
            prediction.par_chunks(BLOCK).zip(target.par_chunks(BLOCK)).map(of_block).collect();
        blocks.iter().sum::<f64>() / prediction.len().max(1) as f64
    }

    /// The mean loss, and its gradient with respect to every predicted value in `gradient`.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn mean_and_gradient(self, prediction: &[f32], target: &[f32], gradient: &mut [f32]) -> f64 {
        self.gradient(prediction, target, prediction.len(), gradient);
        self.mean(prediction, target)
    }

    /// The gradient of the sum of all errors over `count`, which counts more than these where they are a part of a batch.
    ///
    /// # Panics
    /// Where the lengths differ.
    pub fn gradient(self, prediction: &[f32], target: &[f32], count: usize, gradient: &mut [f32]) {
        let lengths = [target.len(), gradient.len()];
        assert_eq!([prediction.len(); 2], lengths, "prediction, target and gradient");
        let count = count as f32;
        let pairs = prediction.par_iter().zip(target);
        gradient.par_iter_mut().with_min_len(BLOCK).zip(pairs).for_each(|(gradient, (&p, &t))| {
            let error = p - t;
            *gradient = match self {
                Self::L1 if error == 0.0 => 0.0,
                Self::L1 => error.signum() / count,
                Self::L2 => 2.0 * error / count,
            };
        });
    }

    fn of_one(self, prediction: f32, target: f32) -> f64 {
        let error = f64::from(prediction) - f64::from(target);
        match self {
            Self::L1 => error.abs(),
            Self::L2 => error * error,
        }
    }
}

/// x_t = a x_0 + sqrt(1 - a²) noise for one sample at noise level a (paper, equation 4).
///
/// # Panics
/// Where `noise` or `x_t` is shorter than `x0`.
pub fn q_sample(noise_level: f64, x0: &[f32], noise: &[f32], x_t: &mut [f32]) {
    let (a, s) = (noise_level as f32, noise_share(noise_level) as f32);
    let (noise, x_t) = (&noise[..x0.len()], &mut x_t[..x0.len()]);
    for ((x_t, &x0), &noise) in x_t.iter_mut().zip(x0).zip(noise) {
        *x_t = a * x0 + s * noise;
    }
}

/// The noise level of one training sample, piecewise uniform (paper, section 2.3): a timestep t is drawn uniformly
/// from 1..=T, then a level inside t's interval. Each sample has its own (the public implementation draws one
/// timestep for a whole batch). A function of the source, `step` and the sample's `index` in that step alone.
pub fn draw_noise_level(
    schedule: &NoiseSchedule,
    draw: LevelDraw,
    source: &NoiseSource,
    index: u32,
    step: u32,
) -> f64 {
    let [a, b, c, d] = source.words(index, step);
    let timestep = (u128::from(u64::from(a) << 32 | u64::from(b)) * schedule.timesteps() as u128) >> 64;
    let share = ((u64::from(c) << 32 | u64::from(d)) >> 11) as f64 / (1_u64 << 53) as f64;
    schedule.level_between(timestep as usize + 1, share, draw)
}
