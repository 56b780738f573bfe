//! Adam (AdamW with weight decay), the gradient's clipping and the weights' moving averages, in one pass over flat lists.
//!
//! Every value is updated by one fixed sequence of f32 operations of its own; the gradient's norm is summed up in f64
//! over fixed blocks joined in order; powers are products. So the result has the same bits for any number of threads,
//! any instruction set and any machine.
//!
//! An average has a half-life in *samples*, so that it means the same at any batch, and a ramp: after s samples the
//! half-life is at most a tenth of s. An early average is then one of recent weights, not of random ones (Karras et al.,
//! 2022, train their networks so).

use rayon::prelude::*;

use crate::ops::Isa;
use crate::ops::adam::{AdamUpdate, Average, sum_of_squares, update};

/// Values that one task updates: parameters are shared out between machines in multiples of it.
pub const BLOCK: usize = 1 << 14;

/// A half-life is at most this share of the samples seen so far.
const RAMP: f64 = 0.1;

/// How Adam steps.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the gradient's moving averages: of itself, and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub eps: f64,
    /// Share of each weight that a step takes away, over the learning rate (Loshchilov and Hutter, 2019); 0 for none.
    pub weight_decay: f64,
    /// The longest gradient that is used as it is; a longer one is shortened to it.
    pub gradient_norm_max: Option<f64>,
    /// Half-lives of the weights' moving averages, in samples.
    pub half_lives: Vec<f64>,
}

impl Default for AdamConfig {
    /// PyTorch's, without clipping, decay and averages.
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            gradient_norm_max: None,
            half_lives: Vec::new(),
        }
    }
}

/// What training has come to: all that a step changes, and nothing else. Lists are as long as the parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Steps so far.
    pub step: u64,
    /// Of these, those that were left out: their samples were used up, the weights stayed.
    pub skipped: u64,
    /// Samples so far.
    pub samples: u64,
    /// Moving average of the gradient.
    pub first: Vec<f32>,
    /// Moving average of its square.
    pub second: Vec<f32>,
    /// Moving averages of the weights, in the order of their half-lives.
    pub averages: Vec<Vec<f32>>,
}

/// Adam for one flat list of parameters.
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    isa: Isa,
    moments: Moments,
    /// beta to the power of the step, of both.
    powers: [f64; 2],
}

/// The length of a gradient, in f64. It is finite if and only if every value of the gradient is.
#[must_use]
pub fn norm(isa: Isa, gradient: &[f32]) -> f64 {
    let blocks: Vec<f64> = gradient.par_chunks(BLOCK).map(|g| sum_of_squares(isa, g)).collect();
    blocks.iter().sum::<f64>().sqrt()
}

impl Adam {
    /// Starts from `parameters`.
    #[must_use]
    pub fn new(config: AdamConfig, parameters: &[f32], isa: Isa) -> Self {
        let zeros = vec![0.0; parameters.len()];
        let averages = config.half_lives.iter().map(|_| parameters.to_vec()).collect();
        let moments = Moments { first: zeros.clone(), second: zeros, averages, ..Moments::default() };
        Self { config, isa, moments, powers: [1.0; 2] }
    }

    /// Goes on from `moments`.
    ///
    /// # Panics
    /// If there are not as many averages as half-lives, lists are of different lengths, or more steps were left out than came.
    #[must_use]
    pub fn resume(config: AdamConfig, moments: Moments, isa: Isa) -> Self {
        assert_eq!(moments.averages.len(), config.half_lives.len(), "an average for each half-life");
        let lists = moments.averages.iter().chain([&moments.second]);
        assert!(lists.into_iter().all(|list| list.len() == moments.first.len()), "lists of one length");
        // The same product that step by step would have come out.
        let taken = moments.step - moments.skipped;
        let powers = config.betas.map(|beta| (0..taken).fold(1.0, |power, _| power * beta));
        Self { config, isa, moments, powers }
    }

    /// What it has come to.
    #[must_use]
    pub const fn moments(&self) -> &Moments {
        &self.moments
    }

    /// The same, to be written somewhere; it is given up.
    #[must_use]
    pub fn into_moments(self) -> Moments {
        self.moments
    }

    /// A step that is left out.
    pub fn skip(&mut self, samples: u64) {
        self.moments.step += 1;
        self.moments.skipped += 1;
        self.moments.samples += samples;
    }

    /// One step: changes the parameters by the gradient of `samples` samples, whose length is `norm` ([`norm`]).
    ///
    /// # Panics
    /// If a list is not as long as the one that the optimizer was made for.
    pub fn step(
        &mut self,
        parameters: &mut [f32],
        gradient: &[f32],
        norm: f64,
        learning_rate: f64,
        samples: u64,
    ) {
        let Self { config, isa, moments, powers } = self;
        let Moments { step, samples: seen, first, second, averages, .. } = moments;
        assert_eq!((parameters.len(), gradient.len()), (first.len(), first.len()), "one list");
        *step += 1;
        *seen += samples;
        let isa = *isa;
        let [beta_1, beta_2] = config.betas;
        *powers = [powers[0] * beta_1, powers[1] * beta_2];
        let shorten = config.gradient_norm_max.filter(|max| norm > *max).map_or(1.0, |max| max / norm);
        let with = AdamUpdate {
            gradient_scale: shorten as f32,
            first_decay: beta_1 as f32,
            first_share: (1.0 - beta_1) as f32,
            second_decay: beta_2 as f32,
            second_share: (1.0 - beta_2) as f32,
            step_size: (learning_rate / (1.0 - powers[0])) as f32,
            second_correction: (1.0 / (1.0 - powers[1]).sqrt()) as f32,
            eps: config.eps as f32,
            keep: (1.0 - learning_rate * config.weight_decay) as f32,
        };
        let shares: Vec<f32> =
            config.half_lives.iter().map(|half_life| share(*half_life, samples, *seen)).collect();
        // One list of blocks for each average, turned into one list of averages for each block.
        let mut of_blocks: Vec<Vec<Average<'_>>> = Vec::new();
        of_blocks.resize_with(parameters.len().div_ceil(BLOCK), Vec::new);
        for (average, share) in averages.iter_mut().zip(shares) {
            for (block, values) in of_blocks.iter_mut().zip(average.chunks_mut(BLOCK)) {
                block.push(Average { values, share });
            }
        }
        let lists = parameters.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
        let state = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
        lists.zip(state).zip(of_blocks).for_each(|(((p, g), (m, v)), mut averages)| {
            update(isa, &with, p, g, m, v, &mut averages);
        });
    }
}

/// How far an average goes towards the weights in a step of `samples` that ends at `seen`.
fn share(half_life: f64, samples: u64, seen: u64) -> f32 {
    let half_life = half_life.min(RAMP * seen as f64).max(f64::MIN_POSITIVE);
    (1.0 - libm::exp2(-(samples as f64) / half_life)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u64 = 8;
    const LEARNING_RATE: f64 = 1e-2;

    /// Adam as the papers write it, in f64: parameters and averages.
    fn reference(
        config: &AdamConfig,
        parameters: &[f32],
        gradients: &[Vec<f32>],
    ) -> (Vec<f64>, Vec<Vec<f64>>) {
        let mut p: Vec<f64> = parameters.iter().map(|&v| f64::from(v)).collect();
        let (mut m, mut v) = (vec![0.0; p.len()], vec![0.0; p.len()]);
        let mut averages = vec![p.clone(); config.half_lives.len()];
        for (t, gradient) in (1..).zip(gradients) {
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let shorten = config.gradient_norm_max.map_or(1.0, |max| (max / norm).min(1.0));
            for i in 0..p.len() {
                let g = f64::from(gradient[i]) * shorten;
                m[i] = config.betas[0] * m[i] + (1.0 - config.betas[0]) * g;
                v[i] = config.betas[1] * v[i] + (1.0 - config.betas[1]) * g * g;
                let first = m[i] / (1.0 - config.betas[0].powi(t));
                let second = v[i] / (1.0 - config.betas[1].powi(t));
                p[i] -= LEARNING_RATE * config.weight_decay * p[i];
                p[i] -= LEARNING_RATE * first / (second.sqrt() + config.eps);
                for (average, half_life) in averages.iter_mut().zip(&config.half_lives) {
                    let half_life = half_life.min(0.1 * f64::from(t) * BATCH as f64);
                    average[i] += (1.0 - 0.5f64.powf(BATCH as f64 / half_life)) * (p[i] - average[i]);
                }
            }
        }
        (p, averages)
    }

    fn lists(n: usize) -> (Vec<f32>, Vec<Vec<f32>>) {
        let value = |i: usize, t: usize| ((i * 7919 + t * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        let gradients = (1..5).map(|t| (0..n).map(|i| value(i, t)).collect()).collect();
        ((0..n).map(|i| value(i, 0)).collect(), gradients)
    }

    fn steps(adam: &mut Adam, parameters: &mut [f32], gradients: &[Vec<f32>]) {
        for gradient in gradients {
            adam.step(parameters, gradient, norm(Isa::detect(), gradient), LEARNING_RATE, BATCH);
        }
    }

    #[test]
    fn steps_are_those_of_the_papers_and_the_same_bits_everywhere() {
        let (parameters, gradients) = lists(2 * BLOCK + 37);
        for (gradient_norm_max, weight_decay) in [(None, 0.0), (Some(3.0), 0.1)] {
            let config = AdamConfig {
                gradient_norm_max,
                weight_decay,
                half_lives: vec![5.0, 1e9],
                ..AdamConfig::default()
            };
            let (expected, expected_averages) = reference(&config, &parameters, &gradients);
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut found = parameters.clone();
                let mut adam = Adam::new(config.clone(), &parameters, isa);
                steps(&mut adam, &mut found, &gradients);
                let near = |found: &[f32], expected: &[f64]| {
                    let far = |(f, e): (&f32, &f64)| (f64::from(*f) - e).abs();
                    found.iter().zip(expected).map(far).fold(0.0, f64::max)
                };
                assert!(near(&found, &expected) < 1e-6, "{isa}");
                for (found, expected) in adam.moments().averages.iter().zip(&expected_averages) {
                    assert!(near(found, expected) < 1e-6, "{isa}");
                }
                assert!(*first.get_or_insert_with(|| found.clone()) == found, "{isa} differs in a bit");
            }
        }
    }

    #[test]
    fn training_that_was_resumed_goes_on_as_if_it_had_not_stopped() {
        let (parameters, gradients) = lists(BLOCK + 5);
        let config = AdamConfig { half_lives: vec![50.0], ..AdamConfig::default() };
        let (mut whole, mut parts) = (parameters.clone(), parameters.clone());
        let mut adam = Adam::new(config.clone(), &parameters, Isa::detect());
        steps(&mut adam, &mut whole, &gradients);

        let mut before = Adam::new(config.clone(), &parameters, Isa::detect());
        steps(&mut before, &mut parts, &gradients[..2]);
        let mut after = Adam::resume(config, before.into_moments(), Isa::detect());
        steps(&mut after, &mut parts, &gradients[2..]);
        assert!(whole == parts);
        assert!(adam.moments() == after.moments());
    }

    #[test]
    fn an_early_average_is_not_one_of_random_weights() {
        let config = AdamConfig { half_lives: vec![1e9], ..AdamConfig::default() };
        let (parameters, gradients) = lists(64);
        let mut found = parameters.clone();
        let mut adam = Adam::new(config, &parameters, Isa::detect());
        for _ in 0..50 {
            steps(&mut adam, &mut found, &gradients);
        }
        // After 200 steps of one size the weights have gone far; the average follows within a tenth of them.
        let moved: f32 = found.iter().zip(&parameters).map(|(a, b)| (a - b).abs()).sum();
        let behind: f32 = found.iter().zip(&adam.moments().averages[0]).map(|(a, b)| (a - b).abs()).sum();
        assert!(behind < 0.3 * moved, "{behind} of {moved}");
    }

    #[test]
    fn a_gradient_with_one_number_that_is_none_has_no_finite_length() {
        let mut gradient = vec![f32::MAX; 3 * BLOCK];
        assert!(norm(Isa::detect(), &gradient).is_finite());
        for bad in [f32::NAN, f32::INFINITY] {
            gradient[BLOCK + 3] = bad;
            assert!(!norm(Isa::detect(), &gradient).is_finite());
        }
    }
}
