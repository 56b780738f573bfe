//! Adam with the gradient's clipping and the weights' moving average, in one pass over flat lists.
//!
//! Every value is updated by one fixed sequence of f32 operations of its own; the gradient's norm is summed up in f64
//! over fixed blocks joined in order. So the result has the same bits for any number of threads and any instruction
//! set.

use rayon::prelude::*;

use crate::ops::Isa;
use crate::ops::adam::{AdamUpdate, sum_of_squares, update};

/// Values that one task updates.
const BLOCK: usize = 1 << 14;

/// How Adam steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the gradient's moving averages: of itself, and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub eps: f64,
    /// The longest gradient that is used as it is; a longer one is shortened to it.
    pub gradient_norm_max: Option<f64>,
    /// Decay of the weights' moving average; none is kept without.
    pub ema_decay: Option<f64>,
}

impl Default for AdamConfig {
    /// PyTorch's, at the paper's learning rate, without clipping and average.
    fn default() -> Self {
        Self { learning_rate: 1e-4, betas: [0.9, 0.999], eps: 1e-8, gradient_norm_max: None, ema_decay: None }
    }
}

/// Adam's state for one flat list of parameters.
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    isa: Isa,
    step: u64,
    first: Vec<f32>,
    second: Vec<f32>,
    average: Vec<f32>,
}

impl Adam {
    /// Starts from `parameters`.
    #[must_use]
    pub fn new(config: AdamConfig, parameters: &[f32], isa: Isa) -> Self {
        let zeros = vec![0.0; parameters.len()];
        let average = if config.ema_decay.is_some() { parameters.to_vec() } else { Vec::new() };
        Self { config, isa, step: 0, first: zeros.clone(), second: zeros, average }
    }

    /// The weights' moving average, if one is kept.
    #[must_use]
    pub fn average(&self) -> Option<&[f32]> {
        self.config.ema_decay.map(|_| self.average.as_slice())
    }

    /// One step: changes the parameters by their gradient. Yields the gradient's norm, before clipping, where clipping
    /// asks for it.
    ///
    /// # Panics
    /// If a list is not as long as the one that the optimizer was made for.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32]) -> Option<f64> {
        assert_eq!((parameters.len(), gradient.len()), (self.first.len(), self.first.len()), "one list");
        let Self { config, isa, step, first, second, average } = self;
        *step += 1;
        let isa = *isa;
        let norm = config.gradient_norm_max.map(|_| {
            let blocks: Vec<f64> = gradient.par_chunks(BLOCK).map(|g| sum_of_squares(isa, g)).collect();
            blocks.iter().sum::<f64>().sqrt()
        });
        let shorten = match (config.gradient_norm_max, norm) {
            (Some(max), Some(norm)) if norm > max => max / norm,
            _ => 1.0,
        };
        let power = i32::try_from(*step).unwrap_or(i32::MAX);
        let [beta_1, beta_2] = config.betas;
        let with = AdamUpdate {
            gradient_scale: shorten as f32,
            first_decay: beta_1 as f32,
            first_share: (1.0 - beta_1) as f32,
            second_decay: beta_2 as f32,
            second_share: (1.0 - beta_2) as f32,
            step_size: (config.learning_rate / (1.0 - beta_1.powi(power))) as f32,
            second_correction: (1.0 / (1.0 - beta_2.powi(power)).sqrt()) as f32,
            eps: config.eps as f32,
            average_share: config.ema_decay.map(|decay| (1.0 - decay) as f32),
        };
        let lists = parameters.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
        let state = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
        if average.is_empty() {
            lists.zip(state).for_each(|((p, g), (m, v))| update(isa, &with, p, g, m, v, &mut []));
        } else {
            lists.zip(state).zip(average.par_chunks_mut(BLOCK)).for_each(|(((p, g), (m, v)), a)| {
                update(isa, &with, p, g, m, v, a);
            });
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adam as the paper writes it, in f64.
    fn reference(config: &AdamConfig, parameters: &[f32], gradients: &[Vec<f32>]) -> (Vec<f64>, Vec<f64>) {
        let mut p: Vec<f64> = parameters.iter().map(|&v| f64::from(v)).collect();
        let (mut m, mut v, mut average) = (vec![0.0; p.len()], vec![0.0; p.len()], p.clone());
        for (t, gradient) in (1..).zip(gradients) {
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let shorten = config.gradient_norm_max.map_or(1.0, |max| (max / norm).min(1.0));
            for i in 0..p.len() {
                let g = f64::from(gradient[i]) * shorten;
                m[i] = config.betas[0] * m[i] + (1.0 - config.betas[0]) * g;
                v[i] = config.betas[1] * v[i] + (1.0 - config.betas[1]) * g * g;
                let first = m[i] / (1.0 - config.betas[0].powi(t));
                let second = v[i] / (1.0 - config.betas[1].powi(t));
                p[i] -= config.learning_rate * first / (second.sqrt() + config.eps);
                average[i] += (1.0 - config.ema_decay.unwrap_or(1.0)) * (p[i] - average[i]);
            }
        }
        (p, average)
    }

    #[test]
    fn steps_are_those_of_the_paper_and_the_same_bits_everywhere() {
        let n = 2 * BLOCK + 37;
        let value = |i: usize, t: usize| ((i * 7919 + t * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        let parameters: Vec<f32> = (0..n).map(|i| value(i, 0)).collect();
        let gradients: Vec<Vec<f32>> = (1..5).map(|t| (0..n).map(|i| value(i, t)).collect()).collect();
        for gradient_norm_max in [None, Some(3.0)] {
            let config = AdamConfig {
                learning_rate: 1e-2,
                gradient_norm_max,
                ema_decay: Some(0.9),
                ..AdamConfig::default()
            };
            let (expected, expected_average) = reference(&config, &parameters, &gradients);
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut found = parameters.clone();
                let mut adam = Adam::new(config, &parameters, isa);
                for gradient in &gradients {
                    let norm = adam.step(&mut found, gradient);
                    assert_eq!(norm.is_some(), gradient_norm_max.is_some());
                }
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert!((f64::from(*found) - expected).abs() < 1e-6, "{i}: {found} against {expected}");
                }
                for (found, expected) in adam.average().unwrap_or(&[]).iter().zip(&expected_average) {
                    assert!((f64::from(*found) - expected).abs() < 1e-6);
                }
                assert!(*first.get_or_insert_with(|| found.clone()) == found, "{isa} differs in a bit");
            }
        }
    }
}
