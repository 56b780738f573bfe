//! What is drawn for a sample: functions of the seed and of where the sample stands, never of who asks.
//!
//! What is done to a *picture* (crop, orientation, degradation) depends on the epoch and the picture's place in the index;
//! what is done to a *sample* (noise level, noise, dropout) on the step and the sample's place in the batch.

use super::TrainingLevels;
use crate::diffusion::{NoiseSource, Region};

/// Steps wrap here; a run has fewer.
fn word(number: u64) -> u32 {
    number as u32
}

/// The draws of a run.
#[derive(Clone, Copy, Debug)]
pub struct Draws {
    seed: u64,
    crops: NoiseSource,
    degradations: NoiseSource,
    levels: NoiseSource,
    labels: NoiseSource,
    dropout: NoiseSource,
    audits: NoiseSource,
}

impl Draws {
    /// Of a run with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let source = |purpose| NoiseSource::new(seed, purpose);
        Self {
            seed,
            crops: source("crops"),
            degradations: source("degradations"),
            levels: source("noise levels"),
            labels: source("labels"),
            dropout: source("dropout"),
            audits: source("audits"),
        }
    }

    /// Four words for the crop and orientation of a picture in an epoch.
    #[must_use]
    pub fn crop(&self, epoch: u64, index: u64) -> [u32; 4] {
        self.crops.words(word(index), word(epoch))
    }

    /// Four words for the degradation of a picture in an epoch.
    #[must_use]
    pub fn degradation(&self, epoch: u64, index: u64) -> [u32; 4] {
        self.degradations.words(word(index), word(epoch))
    }

    /// Normals for the noise of a low-resolution picture (H, W, 3) in an epoch.
    pub fn degradation_noise(&self, epoch: u64, index: u64, [height, width]: [usize; 2], out: &mut [f32]) {
        let source = NoiseSource::new(self.seed, &format!("degradation\u{0}{index}"));
        source.fill_normal(out, Region { y: 0, x: 0, height, width, channels: 3 }, word(epoch));
    }

    /// The noise level of the sample at `place` of a step's batch.
    #[must_use]
    pub fn noise_level(&self, levels: &TrainingLevels, step: u64, place: u32) -> f64 {
        levels.draw(&self.levels, place, word(step))
    }

    /// The timestep of the sample at `place` of a step's batch: one of so many, evenly.
    #[must_use]
    pub fn timestep(&self, timesteps: usize, step: u64, place: u32) -> usize {
        let [a, b, ..] = self.levels.words(place, word(step));
        ((u128::from(u64::from(a) << 32 | u64::from(b)) * timesteps as u128) >> 64) as usize
    }

    /// A number in [0, 1) that says whether the class of the sample at `place` of a step's batch is kept from the network.
    #[must_use]
    pub fn unlabelled(&self, step: u64, place: u32) -> f64 {
        f64::from(self.labels.words(place, word(step))[0]) / 4_294_967_296.0
    }

    /// The noise of the sample at `place` of a step's batch, (H, W, 3).
    pub fn noise(&self, step: u64, place: u32, [height, width]: [usize; 2], out: &mut [f32]) {
        let source = NoiseSource::new(self.seed, &format!("noise\u{0}{place}"));
        source.fill_normal(out, Region { y: 0, x: 0, height, width, channels: 3 }, word(step));
    }

    /// Four words for what is looked at twice in a step.
    #[must_use]
    pub fn audit(&self, step: u64) -> [u32; 4] {
        self.audits.words(0, word(step))
    }

    /// Where dropout's masks of a step come from.
    #[must_use]
    pub const fn dropout(&self) -> NoiseSource {
        self.dropout
    }
}
