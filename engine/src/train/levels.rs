//! The noise levels of training: drawn from the schedule that a checkpoint records, discrete or continuous.

use crate::diffusion::{
    Betas, LevelDraw, NoiseSchedule, NoiseScheduleConfig, NoiseSource, ScheduleError, draw_noise_level,
};
use crate::model::checkpoint;

/// The word that chooses between two schedules: of the others, levels and normals are made.
const WHICH: usize = 3;

/// Where noise levels come from.
#[derive(Clone, Debug)]
pub struct TrainingLevels {
    main: Distribution,
    /// Another distribution, and the share of samples that it has.
    mixed: Option<(Distribution, f64)>,
}

#[derive(Clone, Debug)]
enum Distribution {
    /// Piecewise uniform between the timesteps.
    Discrete(Box<NoiseSchedule>, LevelDraw),
    /// The log signal-to-noise ratio is normal, and cut.
    LogSnr { mean: f64, std: f64, range: [f64; 2] },
}

/// Why a schedule has no levels to draw.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainingLevelsError {
    /// It is none.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The network is told timesteps, and it has none.
    #[error("it has no timesteps, which this network is told: take cosine or linear, with `timesteps`")]
    NoTimesteps,
    /// It may be sampled from, not trained with.
    #[error("{field} is {value}: training knows {known}")]
    Unknown {
        /// What.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is known.
        known: &'static str,
    },
}

impl TrainingLevels {
    /// Of a schedule; `draw` says what is uniform between two timesteps.
    ///
    /// # Errors
    /// [`TrainingLevelsError`].
    pub fn new(schedule: &checkpoint::NoiseSchedule, draw: LevelDraw) -> Result<Self, TrainingLevelsError> {
        use checkpoint::NoiseSchedule as From;
        let discrete = |betas, timesteps| -> Result<Distribution, TrainingLevelsError> {
            let schedule = NoiseSchedule::new(&NoiseScheduleConfig { betas, timesteps })?;
            Ok(Distribution::Discrete(Box::new(schedule), draw))
        };
        let mut mixed = None;
        let main = match *schedule {
            From::Linear { start, end, timesteps } => discrete(Betas::Linear { start, end }, timesteps)?,
            From::Quad { start, end, timesteps } => discrete(Betas::Quad { start, end }, timesteps)?,
            From::Const { end, timesteps } => discrete(Betas::Const { end }, timesteps)?,
            From::Warmup { start, end, timesteps, share: 0.1 } => {
                discrete(Betas::Warmup10 { start, end }, timesteps)?
            }
            From::Warmup { start, end, timesteps, share: 0.5 } => {
                discrete(Betas::Warmup50 { start, end }, timesteps)?
            }
            From::Warmup { share, .. } => {
                return Err(unknown("noise_schedule.share", share, "0.1 and 0.5"));
            }
            From::Cosine { timesteps, s: 0.008 } => discrete(Betas::Cosine, timesteps)?,
            From::Cosine { s, .. } => return Err(unknown("noise_schedule.s", s, "0.008")),
            From::Jsd { timesteps } => discrete(Betas::Jsd, timesteps)?,
            From::LogSnrNormal { mean, std, range, ref mixed_with } => {
                if let Some(other) = mixed_with {
                    let betas = Betas::Linear { start: other.start, end: other.end };
                    mixed = Some((discrete(betas, other.timesteps)?, other.share));
                }
                Distribution::LogSnr { mean, std, range }
            }
        };
        Ok(Self { main, mixed })
    }

    /// The noise level at `index` and `step` of a source: in (0, 1).
    #[must_use]
    pub fn draw(&self, source: &NoiseSource, index: u32, step: u32) -> f64 {
        let distribution = match &self.mixed {
            Some((other, share)) if unit(source.words(index, step)[WHICH]) < *share => other,
            _ => &self.main,
        };
        match distribution {
            Distribution::Discrete(schedule, draw) => draw_noise_level(schedule, *draw, source, index, step),
            Distribution::LogSnr { mean, std, range: [low, high] } => {
                let snr = (mean + std * source.normal(index, step)).clamp(*low, *high);
                (1.0 / (1.0 + libm::exp(-snr))).sqrt()
            }
        }
    }
}

fn unknown(field: &'static str, value: f64, known: &'static str) -> TrainingLevelsError {
    TrainingLevelsError::Unknown { field, value, known }
}

/// A number in [0, 1).
fn unit(word: u32) -> f64 {
    f64::from(word) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::checkpoint::{MixedKind, MixedSchedule, NoiseSchedule as From};

    fn drawn(schedule: &From, count: u32) -> Vec<f64> {
        let levels = TrainingLevels::new(schedule, LevelDraw::Gamma).unwrap();
        let source = NoiseSource::new(3, "levels");
        (0..count).map(|index| levels.draw(&source, index, 9)).collect()
    }

    #[test]
    fn a_continuous_schedule_is_normal_in_its_log_snr_and_cut() {
        let schedule = From::LogSnrNormal { mean: 0.5, std: 2.5, range: [-4.0, 5.0], mixed_with: None };
        let snr: Vec<f64> = drawn(&schedule, 40_000).iter().map(|a| (a * a / (1.0 - a * a)).ln()).collect();
        let mean = snr.iter().sum::<f64>() / snr.len() as f64;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
        assert!(snr.iter().all(|snr| (-4.0 - 1e-9..=5.0 + 1e-9).contains(snr)));
        let cut = snr.iter().filter(|snr| **snr < -3.999).count() as f64 / 40_000.0;
        // A normal distribution is below -1.8 deviations with a probability of 3.6 %.
        assert!((cut - 0.036).abs() < 0.005, "{cut}");
    }

    #[test]
    fn a_second_schedule_has_its_share_of_the_samples() {
        let mixed =
            MixedSchedule { kind: MixedKind::Linear, start: 1e-6, end: 0.01, timesteps: 2000, share: 0.3 };
        let schedule =
            From::LogSnrNormal { mean: 9.0, std: 0.001, range: [-20.0, 20.0], mixed_with: Some(mixed) };
        let near = (1.0 / (1.0 + (-9.0f64).exp())).sqrt();
        let others = drawn(&schedule, 20_000).iter().filter(|a| (*a - near).abs() > 1e-5).count();
        assert!((others as f64 / 20_000.0 - 0.3).abs() < 0.02, "{others}");
    }

    #[test]
    fn what_training_does_not_know_is_said() {
        let error =
            TrainingLevels::new(&From::Cosine { timesteps: 10, s: 0.1 }, LevelDraw::Gamma).unwrap_err();
        assert!(error.to_string().contains("0.008"));
    }
}
