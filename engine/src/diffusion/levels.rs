//! Lists of noise levels to sample with. A network sees a continuous noise level, so the list need not come from the
//! schedule that it was trained with.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::noise_schedule::{Betas, NoiseSchedule, NoiseScheduleConfig, ScheduleError};

/// How the levels between pure noise and the clean image are spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LevelSpacing {
    /// Every so many timesteps of a linear schedule, from its noisiest on: the paper's way.
    Linear {
        /// Beta of the cleanest timestep.
        start: f64,
        /// Beta of the noisiest timestep.
        end: f64,
        /// Timesteps of the whole schedule.
        timesteps: usize,
    },
    /// Evenly spaced in log-SNR = ln(a²/(1 - a²)), both ends included; a single level lies at `first`.
    LogSnr {
        /// log-SNR of the noisiest level, negative for more noise than image.
        first: f64,
        /// log-SNR of the cleanest level.
        last: f64,
    },
    /// Cosines of evenly spaced angles, from acos(`first`) towards the clean image.
    Cosine {
        /// The noisiest level, in (0, 1).
        first: f64,
    },
}

/// Why there is no such list.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LevelsError {
    /// Fewer than one step, or more than the schedule has.
    #[error("{steps} steps cannot be spread here: take 1 to {steps_max}")]
    Steps {
        /// What was asked for.
        steps: usize,
        /// The most there can be.
        steps_max: usize,
    },
    /// Ends of the range that make no rising list.
    #[error("noise levels cannot be spread from {first} to {last}: take finite ends, the first one noisier")]
    Range {
        /// Noisiest end.
        first: f64,
        /// Cleanest end.
        last: f64,
    },
    /// The schedule to take timesteps from is none.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}

impl LevelSpacing {
    /// `steps` noise levels (sqrt of alphas_cumprod), rising, all in (0, 1).
    ///
    /// # Errors
    /// [`LevelsError`] where the numbers make no such list.
    pub fn levels(&self, steps: usize) -> Result<Vec<f64>, LevelsError> {
        let steps_max = if let Self::Linear { timesteps, .. } = *self { timesteps } else { 10_000 };
        if !(1..=steps_max).contains(&steps) {
            return Err(LevelsError::Steps { steps, steps_max });
        }
        match *self {
            Self::Linear { start, end, timesteps } => {
                let config = NoiseScheduleConfig { betas: Betas::Linear { start, end }, timesteps };
                let schedule = NoiseSchedule::new(&config)?;
                let timestep = |i: usize| ((steps - i) * timesteps).div_ceil(steps);
                Ok((0..steps).map(|i| schedule.noise_level(timestep(i))).collect())
            }
            Self::LogSnr { first, last } => {
                if !(first.is_finite() && last.is_finite() && first < last) {
                    return Err(LevelsError::Range { first, last });
                }
                let gap = (last - first) / (steps.max(2) - 1) as f64;
                let sigmoid = |snr: f64| 1.0 / (1.0 + libm::exp(-snr));
                Ok((0..steps).map(|i| sigmoid(first + i as f64 * gap).sqrt()).collect())
            }
            Self::Cosine { first } => {
                if !(first > 0.0 && first < 1.0) {
                    return Err(LevelsError::Range { first, last: 1.0 });
                }
                let widest = libm::acos(first).min(FRAC_PI_2);
                Ok((0..steps).map(|i| libm::cos(widest * (steps - i) as f64 / steps as f64)).collect())
            }
        }
    }
}
