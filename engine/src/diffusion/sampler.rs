//! Samplers: from pure noise to x_0 along a rising list of noise levels.
//!
//! All samplers here are linear: x' = c_x x + c_0 x_0 + c_p x_0(previous step) + c_z z, with the noise eps that a
//! formula may mention written as (x - a x_0)/s, so that a clamp of x_0 reaches it by itself. A [`Step`] is those four
//! numbers, computed in f64 and rounded once; it works on slices, so an image may be updated in any pieces and in
//! place. Samplers never run the network, never draw noise and hold no pixels.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::objective::{LEVEL_MAX, LEVEL_MIN, noise_share};

/// The update rule. In the formulas a, s are noise level and noise share of the current level, a', s' of the next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sampler", rename_all = "snake_case")]
pub enum Sampler {
    /// The paper's algorithm 2: the posterior's mean with variance 1 - alpha_t.
    Ancestral,
    /// The same mean with the posterior's own variance: the public implementation.
    AncestralPosterior,
    /// The same mean with the variance that the network learned (Nichol and Dhariwal, 2021, equation 15).
    AncestralLearned,
    /// DDIM (Song et al., 2020): deterministic for eta = 0, the posterior's variance for eta = 1.
    Ddim {
        /// Share of the posterior's standard deviation that is added as noise, in [0, 1].
        #[serde(default)]
        eta: f64,
    },
    /// DPM-Solver++(2M) (Lu et al., 2022): second order in log-SNR from two data predictions; the first and the last
    /// step are of first order.
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m,
}

/// Why a list of noise levels cannot be sampled.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// There is no step to take.
    #[error("the list of noise levels is empty: give at least one")]
    NoLevels,
    /// A level is not inside (0, 1).
    #[error("noise level {level} (number {index}) lies outside {LEVEL_MIN} to 1 - 1e-12")]
    Level {
        /// Its place, counted from 0.
        index: usize,
        /// Its value.
        level: f64,
    },
    /// A level does not lie above the one before.
    #[error(
        "noise level {level} (number {index}) is not above the one before: list them from noisy to clean"
    )]
    NotRising {
        /// Its place, counted from 0.
        index: usize,
        /// Its value.
        level: f64,
    },
    /// eta is no share.
    #[error("eta is {eta}: take a number from 0 to 1")]
    Eta {
        /// What was asked for.
        eta: f64,
    },
}

/// One update, from one noise level to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Noise level at which the network is evaluated.
    pub noise_level: f64,
    /// Noise level after the step; 1 after the last.
    pub next_noise_level: f64,
    x: f32,
    x0: f32,
    previous: f32,
    noise: f32,
    /// Logarithms of the variances that a learned one lies between.
    log_variances: Option<[f64; 2]>,
}

/// The name that a recipe and a user give it.
impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ancestral => f.write_str("ancestral"),
            Self::AncestralPosterior => f.write_str("ancestral_posterior"),
            Self::AncestralLearned => f.write_str("ancestral_learned"),
            Self::Ddim { eta } if *eta == 0.0 => f.write_str("ddim"),
            Self::Ddim { eta } => write!(f, "ddim with eta {eta}"),
            Self::Dpmpp2m => f.write_str("dpmpp_2m"),
        }
    }
}

impl Sampler {
    /// The steps along `noise_levels`, which rise from noisy to clean; the level after the last is 1.
    ///
    /// # Errors
    /// [`SamplerError`] where the list is empty, does not rise or leaves (0, 1), or eta is no share.
    pub fn steps(self, noise_levels: &[f64]) -> Result<Vec<Step>, SamplerError> {
        self.steps_to(noise_levels, 1.0)
    }

    /// The same, but the level after the last is `end`: what comes of it is as noisy as that says.
    ///
    /// # Errors
    /// As [`Self::steps`], and where `end` does not lie above the last level.
    pub fn steps_to(self, noise_levels: &[f64], end: f64) -> Result<Vec<Step>, SamplerError> {
        if noise_levels.is_empty() {
            return Err(SamplerError::NoLevels);
        }
        for (index, &level) in noise_levels.iter().enumerate() {
            if !(LEVEL_MIN..=LEVEL_MAX).contains(&level) {
                return Err(SamplerError::Level { index, level });
            }
            if index > 0 && level <= noise_levels[index - 1] {
                return Err(SamplerError::NotRising { index, level });
            }
        }
        if !(end <= 1.0 && noise_levels.iter().all(|level| *level < end)) {
            return Err(SamplerError::NotRising { index: noise_levels.len(), level: end });
        }
        if let Self::Ddim { eta } = self
            && !(0.0..=1.0).contains(&eta)
        {
            return Err(SamplerError::Eta { eta });
        }
        let step = |i: usize| {
            let before = if i > 0 { Some(noise_levels[i - 1]) } else { None };
            let next = noise_levels.get(i + 1).copied().unwrap_or(end);
            self.step(before, noise_levels[i], next)
        };
        Ok((0..noise_levels.len()).map(step).collect())
    }

    /// Whether steps read the x_0 of the step before.
    pub fn uses_previous(self) -> bool {
        self == Self::Dpmpp2m
    }

    /// Whether steps add fresh noise.
    pub fn is_stochastic(self) -> bool {
        match self {
            Self::Ancestral | Self::AncestralPosterior | Self::AncestralLearned => true,
            Self::Ddim { eta } => eta > 0.0,
            Self::Dpmpp2m => false,
        }
    }

    fn step(self, before: Option<f64>, a: f64, next: f64) -> Step {
        let [x, x0, previous, noise] = match self {
            // The level after the last is 1: every rule then ends at x_0 itself.
            _ if next == 1.0 => [0.0, 1.0, 0.0, 0.0],
            Self::Ancestral => posterior(a, next, |alpha, _| (1.0 - alpha).sqrt()),
            Self::AncestralPosterior => posterior(a, next, |_, variance| variance.max(1e-20).sqrt()),
            // Of one; the network says how much it is.
            Self::AncestralLearned => posterior(a, next, |_, _| 1.0),
            Self::Ddim { eta } => ddim(a, next, eta),
            Self::Dpmpp2m => dpmpp_2m(before, a, next),
        }
        .map(|c: f64| c as f32);
        let log_variances = (self == Self::AncestralLearned && next < 1.0).then(|| log_variances(a, next));
        Step { noise_level: a, next_noise_level: next, x, x0, previous, noise, log_variances }
    }
}

/// Mean of q(x' | x, x_0), and a standard deviation made of alpha = a²/a'² and the posterior's variance.
fn posterior(a: f64, next: f64, deviation: fn(f64, f64) -> f64) -> [f64; 4] {
    let (s, next_s) = (noise_share(a), noise_share(next));
    let root_alpha = a / next;
    let beta = (1.0 - root_alpha) * (1.0 + root_alpha);
    let share = next_s * next_s / (s * s);
    [share * root_alpha, beta * next / (s * s), 0.0, deviation(root_alpha * root_alpha, beta * share)]
}

/// ln of the posterior's variance, and of beta = 1 - a²/a'².
fn log_variances(a: f64, next: f64) -> [f64; 2] {
    let [.., posterior_deviation] = posterior(a, next, |_, variance| variance.sqrt());
    let [.., deviation] = posterior(a, next, |alpha, _| (1.0 - alpha).sqrt());
    [posterior_deviation, deviation].map(|deviation| 2.0 * libm::log(deviation))
}

/// x' = a' x_0 + sqrt(s'² - sigma²) eps + sigma z, sigma = eta · the posterior's standard deviation.
fn ddim(a: f64, next: f64, eta: f64) -> [f64; 4] {
    let [.., deviation] = posterior(a, next, |_, variance| variance.sqrt());
    let sigma = eta * deviation;
    let next_s = noise_share(next);
    let per_noise = (next_s * next_s - sigma * sigma).max(0.0).sqrt() / noise_share(a);
    [per_noise, next - per_noise * a, 0.0, sigma]
}

/// x' = (s'/s) x - a' (e^-h - 1) D with lambda = ln(a/s), h = lambda' - lambda.
fn dpmpp_2m(before: Option<f64>, a: f64, next: f64) -> [f64; 4] {
    let (s, next_s) = (noise_share(a), noise_share(next));
    let per_d = next - a * next_s / s;
    let lambda = |level: f64| libm::log(level / noise_share(level));
    let extrapolation =
        before.map_or(0.0, |before| (lambda(next) - lambda(a)) / (lambda(a) - lambda(before)) / 2.0);
    [next_s / s, per_d * (1.0 + extrapolation), -per_d * extrapolation, 0.0]
}

impl Step {
    /// Whether [`advance`](Self::advance) reads the x_0 of the step before.
    pub fn uses_previous(&self) -> bool {
        self.previous != 0.0
    }

    /// Whether [`advance`](Self::advance) reads noise.
    pub fn uses_noise(&self) -> bool {
        self.noise != 0.0
    }

    /// Whether the step is taken by [`advance_learned`](Self::advance_learned): it needs what the network says of its variance.
    pub fn uses_variance(&self) -> bool {
        self.log_variances.is_some()
    }

    /// [`advance`](Self::advance) with a learned variance: where `v` is -1 it is the posterior's, where 1 beta, between them
    /// and beyond in proportion to its logarithm. A step without a learned variance does as if there were no noise.
    ///
    /// # Panics
    /// Where a slice is shorter than `x`.
    pub fn advance_learned(&self, x: &mut [f32], x0: &[f32], v: &[f32], noise: &[f32]) {
        let Some([low, high]) = self.log_variances else { return self.advance(x, x0, &[], &[]) };
        let (x0, v, noise) = (&x0[..x.len()], &v[..x.len()], &noise[..x.len()]);
        for (((x, &x0), &v), &noise) in x.iter_mut().zip(x0).zip(v).zip(noise) {
            let share = (f64::from(v) + 1.0) / 2.0;
            let deviation = libm::exp((share * high + (1.0 - share) * low) / 2.0) as f32;
            *x = self.x * *x + self.x0 * x0 + deviation * noise;
        }
    }

    /// Takes `x` to the next noise level, in place. `x0` is this step's estimate (clamped or not), `previous` that of
    /// the step before, `noise` unit normal; the last two may be empty where the step does not use them.
    ///
    /// # Panics
    /// Where a slice that the step uses is shorter than `x`.
    pub fn advance(&self, x: &mut [f32], x0: &[f32], previous: &[f32], noise: &[f32]) {
        let x0 = &x0[..x.len()];
        if self.uses_previous() {
            for ((x, &x0), &previous) in x.iter_mut().zip(x0).zip(&previous[..x0.len()]) {
                *x = self.x * *x + self.x0 * x0 + self.previous * previous;
            }
        } else if self.uses_noise() {
            for ((x, &x0), &noise) in x.iter_mut().zip(x0).zip(&noise[..x0.len()]) {
                *x = self.x * *x + self.x0 * x0 + self.noise * noise;
            }
        } else {
            for (x, &x0) in x.iter_mut().zip(x0) {
                *x = self.x * *x + self.x0 * x0;
            }
        }
    }
}
