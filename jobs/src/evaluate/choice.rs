//! Which numbers a person may choose.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::Network;

/// Something that is measured of a picture.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// PSNR over red, green and blue, and over luma.
    Psnr,
    /// SSIM over red, green and blue, and over luma.
    Ssim,
    /// How far the picture, reduced, is from its input.
    Consistency,
    /// Mean of each channel above that of what it should be.
    MeanShift,
    /// Power of each octave of detail over that of what it should be, in dB.
    Spectrum,
    /// ST-LPIPS, a distance as people judge it; needs its weights.
    StLpips,
    /// Whether EfficientNet-Lite0 tells the class that the picture's folder names, first or among five; needs its weights.
    Accuracy,
}

impl Metric {
    /// What is measured where nobody says.
    pub(super) fn usual() -> Vec<Self> {
        vec![Self::Psnr, Self::Ssim, Self::Consistency, Self::MeanShift, Self::Spectrum]
    }

    /// The network that it takes.
    pub fn network(self) -> Option<Network> {
        match self {
            Self::StLpips => Some(Network::StLpips),
            Self::Accuracy => Some(Network::EfficientNetLite0),
            _ => None,
        }
    }

    /// Memory that it takes with the largest picture that it takes, in bytes.
    pub(super) const fn memory_bytes(self) -> u64 {
        match self {
            // 490 bytes a pixel.
            Self::StLpips => 2200 << 20,
            Self::Accuracy => 200 << 20,
            _ => 0,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
