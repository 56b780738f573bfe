//! The process of discrete timesteps that a checkpoint's noise schedule is, where it is one.

use super::config::NoiseSchedule;
use crate::diffusion::{self, Betas, NoiseScheduleConfig};

impl NoiseSchedule {
    /// The schedule with all its buffers; none where it is continuous, or has a share or an offset that no buffers are known of.
    #[must_use]
    pub fn process(&self) -> Option<diffusion::NoiseSchedule> {
        let (betas, timesteps) = match *self {
            Self::Linear { start, end, timesteps } => (Betas::Linear { start, end }, timesteps),
            Self::Quad { start, end, timesteps } => (Betas::Quad { start, end }, timesteps),
            Self::Const { end, timesteps } => (Betas::Const { end }, timesteps),
            Self::Warmup { start, end, timesteps, share: 0.1 } => (Betas::Warmup10 { start, end }, timesteps),
            Self::Warmup { start, end, timesteps, share: 0.5 } => (Betas::Warmup50 { start, end }, timesteps),
            Self::Cosine { timesteps, s: 0.008 } => (Betas::Cosine, timesteps),
            Self::Jsd { timesteps } => (Betas::Jsd, timesteps),
            Self::Warmup { .. } | Self::Cosine { .. } | Self::LogSnrNormal { .. } => return None,
        };
        diffusion::NoiseSchedule::new(&NoiseScheduleConfig { betas, timesteps }).ok()
    }
}
