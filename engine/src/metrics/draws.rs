//! Draws for metrics that sample: functions of a seed, a purpose and a number, as all that the engine draws.

use crate::diffusion::NoiseSource;

/// Draws for one purpose.
pub(super) struct Draws(NoiseSource);

impl Draws {
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        Self(NoiseSource::new(seed, purpose))
    }

    /// Number `index` of `round`: a whole number below `end`, each as likely as the others to 2^-64 · `end`.
    pub(super) fn below(&self, end: usize, index: usize, round: usize) -> usize {
        let words = self.0.words((index / 2) as u32, round as u32);
        let half = 2 * (index % 2);
        let bits = u64::from(words[half]) << 32 | u64::from(words[half + 1]);
        ((u128::from(bits) * end as u128) >> 64) as usize
    }

    /// Number `index` of `round`: a normal of mean 0 and variance 1.
    pub(super) fn normal(&self, index: usize, round: usize) -> f64 {
        self.0.normal(index as u32, round as u32)
    }

    /// `size` different whole numbers below `end`, in the order they were drawn.
    pub(super) fn subset(&self, end: usize, size: usize, round: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        for i in 0..size.min(end) {
            all.swap(i, i + self.below(end - i, i, round));
        }
        all.truncate(size);
        all
    }
}
