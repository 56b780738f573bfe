//! Schedules of noise: how much of the image is left at each timestep.
//!
//! Computed in f64, in the reference implementation's order of operations, so that rounding to f32 gives the buffers
//! that it stores in checkpoints. A schedule knows nothing of samplers, which take any rising list of noise levels.
//!
//! **Counting.** Buffers count timesteps t from 0, as their names in checkpoints do. [`NoiseSchedule::noise_level`]
//! counts as the paper does: 0 is the clean image, T the noisiest; buffer index t belongs to noise level t + 1.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

/// Largest number of timesteps that is accepted.
const TIMESTEPS_MAX: usize = 1_000_000;
/// Offset of the cosine schedule (Nichol and Dhariwal, 2021), and the largest beta that it may have.
const COSINE_OFFSET: f64 = 0.008;
const COSINE_BETA_MAX: f64 = 0.999;

/// How beta, the variance that a timestep adds, runs over time. Names as in the public SR3 configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Betas {
    /// Evenly spaced from `start` to `end`.
    Linear {
        /// Beta of the cleanest timestep.
        start: f64,
        /// Beta of the noisiest timestep.
        end: f64,
    },
    /// Squares of evenly spaced numbers.
    Quad {
        /// Beta of the cleanest timestep.
        start: f64,
        /// Beta of the noisiest timestep.
        end: f64,
    },
    /// The same everywhere.
    Const {
        /// That beta.
        end: f64,
    },
    /// Linear over the first tenth, then constant.
    Warmup10 {
        /// Beta of the cleanest timestep.
        start: f64,
        /// Beta from the tenth on.
        end: f64,
    },
    /// Linear over the first half, then constant.
    Warmup50 {
        /// Beta of the cleanest timestep.
        start: f64,
        /// Beta from the middle on.
        end: f64,
    },
    /// alphas_cumprod follows a squared cosine with offset 0.008; beta at most 0.999.
    Cosine,
    /// 1/T, 1/(T-1) … 1. The last timestep keeps nothing of the image: 1/alphas_cumprod is infinite there.
    Jsd,
}

/// Everything that defines a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseScheduleConfig {
    /// The run of beta.
    #[serde(flatten)]
    pub betas: Betas,
    /// Timesteps T.
    pub timesteps: usize,
}

/// Why a configuration is no schedule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The number of timesteps lies outside what makes sense.
    #[error("a noise schedule of {timesteps} timesteps: take 1 to {TIMESTEPS_MAX}")]
    Timesteps {
        /// What was asked for.
        timesteps: usize,
    },
    /// A beta lies outside (0, 1).
    #[error("beta {name} is {value}: take a number above 0 and below 1")]
    Beta {
        /// Which end.
        name: &'static str,
        /// Its value.
        value: f64,
    },
}

/// How the noise level of a training sample is drawn inside the interval of its timestep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LevelDraw {
    /// gamma = alphas_cumprod is uniform: the paper, section 2.3.
    Gamma,
    /// sqrt(gamma), the noise level itself, is uniform: the public implementation.
    #[default]
    NoiseLevel,
}

/// A schedule with T timesteps; every buffer has T entries, counted from 0. Names are those of the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    /// beta_t, the variance that timestep t adds.
    pub betas: Vec<f64>,
    /// gamma_t, the product of 1 - beta up to and with t: the share of the image's variance that is left.
    pub alphas_cumprod: Vec<f64>,
    /// gamma_{t-1}; 1 for t = 0.
    pub alphas_cumprod_prev: Vec<f64>,
    /// sqrt(gamma_t): the noise level of x_t.
    pub sqrt_alphas_cumprod: Vec<f64>,
    /// sqrt(1 - gamma_t): the standard deviation of the noise in x_t.
    pub sqrt_one_minus_alphas_cumprod: Vec<f64>,
    /// ln(1 - gamma_t).
    pub log_one_minus_alphas_cumprod: Vec<f64>,
    /// sqrt(1/gamma_t).
    pub sqrt_recip_alphas_cumprod: Vec<f64>,
    /// sqrt(1/gamma_t - 1).
    pub sqrt_recipm1_alphas_cumprod: Vec<f64>,
    /// Variance of q(x_{t-1} given x_t, x_0): beta_t (1 - gamma_{t-1})/(1 - gamma_t).
    pub posterior_variance: Vec<f64>,
    /// Its logarithm, the variance taken as at least 1e-20.
    pub posterior_log_variance_clipped: Vec<f64>,
    /// What x_0 counts in that distribution's mean: beta_t sqrt(gamma_{t-1})/(1 - gamma_t).
    pub posterior_mean_coef1: Vec<f64>,
    /// What x_t counts in it: (1 - gamma_{t-1}) sqrt(1 - beta_t)/(1 - gamma_t).
    pub posterior_mean_coef2: Vec<f64>,
}

impl NoiseSchedule {
    /// Computes the buffers.
    ///
    /// # Errors
    /// [`ScheduleError`] where the configuration describes no schedule.
    pub fn new(config: &NoiseScheduleConfig) -> Result<Self, ScheduleError> {
        Ok(Self::of_betas(config.betas.values(config.timesteps)?))
    }

    /// The process that visits only some of the timesteps, `kept`, which rise: its alphas_cumprod are theirs, and all else
    /// follows (Nichol and Dhariwal, 2021, section 4).
    ///
    /// # Panics
    /// Where a timestep is not the schedule's.
    #[must_use]
    pub fn respaced(&self, kept: &[usize]) -> Self {
        let mut before = 1.0;
        let betas = kept.iter().map(|t| {
            let beta = 1.0 - self.alphas_cumprod[*t] / before;
            before = self.alphas_cumprod[*t];
            beta
        });
        Self::of_betas(betas.collect())
    }

    fn of_betas(betas: Vec<f64>) -> Self {
        let alphas_cumprod: Vec<f64> = betas
            .iter()
            .scan(1.0, |product, beta| {
                *product *= 1.0 - beta;
                Some(*product)
            })
            .collect();
        let alphas_cumprod_prev: Vec<f64> =
            std::iter::once(1.0).chain(alphas_cumprod.iter().copied()).take(betas.len()).collect();
        let of_gamma = |f: fn(f64) -> f64| alphas_cumprod.iter().map(|&g| f(g)).collect::<Vec<f64>>();
        let of_all = |f: fn(f64, f64, f64) -> f64| {
            let both = alphas_cumprod.iter().zip(&alphas_cumprod_prev);
            betas.iter().zip(both).map(|(&b, (&g, &p))| f(b, g, p)).collect::<Vec<f64>>()
        };
        let posterior_variance = of_all(|b, g, p| b * (1.0 - p) / (1.0 - g));
        Self {
            sqrt_alphas_cumprod: of_gamma(f64::sqrt),
            sqrt_one_minus_alphas_cumprod: of_gamma(|g| (1.0 - g).sqrt()),
            log_one_minus_alphas_cumprod: of_gamma(|g| libm::log(1.0 - g)),
            sqrt_recip_alphas_cumprod: of_gamma(|g| (1.0 / g).sqrt()),
            sqrt_recipm1_alphas_cumprod: of_gamma(|g| (1.0 / g - 1.0).sqrt()),
            posterior_log_variance_clipped: posterior_variance
                .iter()
                .map(|v| libm::log(v.max(1e-20)))
                .collect(),
            posterior_mean_coef1: of_all(|b, g, p| b * p.sqrt() / (1.0 - g)),
            posterior_mean_coef2: of_all(|b, g, p| (1.0 - p) * (1.0 - b).sqrt() / (1.0 - g)),
            posterior_variance,
            betas,
            alphas_cumprod,
            alphas_cumprod_prev,
        }
    }

    /// Between which logarithms of the variance of step `t` (a buffer's index) a network that learns it chooses: that of the
    /// posterior, which at 0 is taken from 1, and that of beta (Nichol and Dhariwal, 2021, equation 15).
    ///
    /// # Panics
    /// Where `t` is not the schedule's, or it has one timestep only.
    #[must_use]
    pub fn log_variances(&self, t: usize) -> [f64; 2] {
        [libm::log(self.posterior_variance[t.max(1)]), libm::log(self.betas[t])]
    }

    /// The timestep, counted from 0, whose noise level this is. Between two timesteps, a fraction: linear in log-SNR; beyond
    /// the ends, the end.
    #[must_use]
    pub fn timestep_of(&self, noise_level: f64) -> f64 {
        let levels = &self.sqrt_alphas_cumprod;
        let clean = levels.partition_point(|level| *level > noise_level);
        if clean == 0 || clean == levels.len() {
            return clean.min(levels.len() - 1) as f64;
        }
        // On one scale where neither end's logarithm is lost.
        let log_snr = |level: f64| 2.0 * libm::log(level) - libm::log((1.0 - level) * (1.0 + level));
        let [before, here, after] = [levels[clean - 1], noise_level, levels[clean]].map(log_snr);
        (clean - 1) as f64 + (before - here) / (before - after)
    }

    /// Timesteps T.
    pub fn timesteps(&self) -> usize {
        self.betas.len()
    }

    /// sqrt(alphas_cumprod) after `t` timesteps, t in 0..=T: 1 for t = 0. What a network is told when x_t has gone
    /// through t timesteps; the reference's array `sqrt_alphas_cumprod_prev[t]`.
    ///
    /// # Panics
    /// Where `t` is above T.
    pub fn noise_level(&self, t: usize) -> f64 {
        if t == 0 { 1.0 } else { self.sqrt_alphas_cumprod[t - 1] }
    }

    /// The noise level of a training sample at timestep `t` in 1..=T (the paper's), `share` in [0, 1) of the way
    /// from the noisier end of the timestep's interval, noise_level(t), to the cleaner, noise_level(t - 1).
    ///
    /// # Panics
    /// Where `t` is 0 or above T.
    pub fn level_between(&self, t: usize, share: f64, draw: LevelDraw) -> f64 {
        match draw {
            LevelDraw::Gamma => {
                let (noisy, clean) = (self.alphas_cumprod[t - 1], self.alphas_cumprod_prev[t - 1]);
                (noisy + share * (clean - noisy)).sqrt()
            }
            LevelDraw::NoiseLevel => {
                let (noisy, clean) = (self.noise_level(t), self.noise_level(t - 1));
                noisy + share * (clean - noisy)
            }
        }
    }

    /// The twelve buffers under the names that they have in the reference's checkpoints.
    pub fn buffers(&self) -> [(&'static str, &[f64]); 12] {
        [
            ("betas", &self.betas),
            ("alphas_cumprod", &self.alphas_cumprod),
            ("alphas_cumprod_prev", &self.alphas_cumprod_prev),
            ("sqrt_alphas_cumprod", &self.sqrt_alphas_cumprod),
            ("sqrt_one_minus_alphas_cumprod", &self.sqrt_one_minus_alphas_cumprod),
            ("log_one_minus_alphas_cumprod", &self.log_one_minus_alphas_cumprod),
            ("sqrt_recip_alphas_cumprod", &self.sqrt_recip_alphas_cumprod),
            ("sqrt_recipm1_alphas_cumprod", &self.sqrt_recipm1_alphas_cumprod),
            ("posterior_variance", &self.posterior_variance),
            ("posterior_log_variance_clipped", &self.posterior_log_variance_clipped),
            ("posterior_mean_coef1", &self.posterior_mean_coef1),
            ("posterior_mean_coef2", &self.posterior_mean_coef2),
        ]
    }
}

impl Betas {
    fn values(&self, timesteps: usize) -> Result<Vec<f64>, ScheduleError> {
        if !(1..=TIMESTEPS_MAX).contains(&timesteps) {
            return Err(ScheduleError::Timesteps { timesteps });
        }
        let inside = |name, value: f64| {
            if value > 0.0 && value < 1.0 { Ok(()) } else { Err(ScheduleError::Beta { name, value }) }
        };
        match *self {
            Self::Linear { start, end }
            | Self::Quad { start, end }
            | Self::Warmup10 { start, end }
            | Self::Warmup50 { start, end } => inside("start", start).and(inside("end", end))?,
            Self::Const { end } => inside("end", end)?,
            Self::Cosine | Self::Jsd => {}
        }
        Ok(match *self {
            Self::Linear { start, end } => linspace(start, end, timesteps),
            Self::Quad { start, end } => {
                linspace(start.sqrt(), end.sqrt(), timesteps).iter().map(|root| root * root).collect()
            }
            Self::Const { end } => vec![end; timesteps],
            Self::Warmup10 { start, end } => warmup(start, end, timesteps, 0.1),
            Self::Warmup50 { start, end } => warmup(start, end, timesteps, 0.5),
            Self::Cosine => cosine(timesteps),
            Self::Jsd => linspace(timesteps as f64, 1.0, timesteps).iter().map(|t| 1.0 / t).collect(),
        })
    }
}

/// NumPy's `linspace`, in its order of operations.
fn linspace(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (end - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = end;
    values
}

fn warmup(start: f64, end: f64, timesteps: usize, share: f64) -> Vec<f64> {
    let mut betas = linspace(start, end, (timesteps as f64 * share) as usize);
    betas.resize(timesteps, end);
    betas
}

fn cosine(timesteps: usize) -> Vec<f64> {
    let f = |t: usize| {
        let time = t as f64 / timesteps as f64 + COSINE_OFFSET;
        let c = libm::cos(time / (1.0 + COSINE_OFFSET) * FRAC_PI_2);
        c * c
    };
    let beta = |t| (1.0 - (f(t + 1) / f(0)) / (f(t) / f(0))).min(COSINE_BETA_MAX);
    (0..timesteps).map(beta).collect()
}
