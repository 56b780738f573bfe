//! How large steps are: a rise to the full rate, then a fall, or none.

use std::f64::consts::PI;

/// How the learning rate falls after its rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Not at all: the paper.
    Constant,
    /// As half a cosine, to nothing at the last step.
    Cosine,
    /// Evenly, to nothing at the last step.
    Linear,
}

/// The learning rate of every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// The largest.
    pub peak: f64,
    /// Steps over which it rises evenly to that.
    pub warmup: u64,
    /// How it falls then.
    pub decay: Decay,
    /// Steps of the whole run.
    pub steps: u64,
}

impl LearningRate {
    /// Of a step, counted from 0.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * ((step + 1) as f64 / self.warmup as f64);
        }
        let falling = self.steps.saturating_sub(self.warmup).max(1);
        let share = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Cosine => self.peak * (0.5 + 0.5 * libm::cos(PI * share)),
            Decay::Linear => self.peak * (1.0 - share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_its_peak_and_falls_as_asked() {
        let rate = |decay| LearningRate { peak: 2.0, warmup: 4, decay, steps: 104 };
        for decay in [Decay::Constant, Decay::Cosine, Decay::Linear] {
            let first: Vec<f64> = (0..5).map(|step| rate(decay).at(step)).collect();
            assert_eq!(first, [0.5, 1.0, 1.5, 2.0, 2.0]);
        }
        assert_eq!(rate(Decay::Constant).at(90), 2.0);
        assert!((rate(Decay::Linear).at(54) - 1.0).abs() < 1e-12);
        assert!((rate(Decay::Cosine).at(54) - 1.0).abs() < 1e-12);
        assert!(rate(Decay::Cosine).at(103) < 0.001 && rate(Decay::Linear).at(200) == 0.0);
    }
}
