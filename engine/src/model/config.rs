//! The configuration from which every U-Net here is built.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the levels of a U-Net are wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The layout of the public SR3 implementation (Janspiry): DDPM blocks, strided convolutions down, nearest
    /// upsampling and a convolution up, one attention head.
    Janspiry,
    /// The paper's: BigGAN residual blocks that also resample, skip connections scaled by 1/sqrt 2.
    Paper,
}

/// The name that a checkpoint's configuration gives it.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Janspiry => "janspiry",
            Self::Paper => "paper",
        })
    }
}

/// Shape of a U-Net. Names are those of the public SR3 configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// How the levels are wired.
    pub layout: Layout,
    /// Input channels: condition and noisy image together (6 for RGB).
    pub in_channel: usize,
    /// Predicted channels (3 for RGB).
    pub out_channel: usize,
    /// Width of the first level, and of the noise level's embedding.
    pub inner_channel: usize,
    /// Groups of every group norm; divides every width.
    pub norm_groups: usize,
    /// Width of each level as a multiple of `inner_channel`; each level halves height and width.
    pub channel_mults: Vec<usize>,
    /// Sizes at which residual blocks attend, of an image of `image_size`. The middle always attends.
    pub attn_res: Vec<usize>,
    /// Residual blocks a level on the way down; one more on the way up.
    pub res_blocks: usize,
    /// Probability with which training drops an activation of a block's second half. Evaluation never drops.
    #[serde(default)]
    pub dropout: f64,
    /// Whether the noise level scales and shifts (true) or only shifts (false) a block's activations.
    #[serde(default)]
    pub use_affine_level: bool,
    /// The image size that `attn_res` refers to. Needed where `attn_res` is not empty; the network runs on any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
}

/// Why a configuration describes no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number lies outside what makes sense.
    #[error("{field} is {value}: it must be {allowed}")]
    Range {
        /// Name in the file.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// Group norm cannot split a width.
    #[error("norm_groups {groups} does not divide the width {width}")]
    Groups {
        /// Groups.
        groups: usize,
        /// Channels.
        width: usize,
    },
    /// Attention sizes without the size they refer to.
    #[error("attn_res needs image_size, the size of image that it refers to")]
    ImageSizeMissing,
}

impl UNetConfig {
    /// Checks that the numbers describe a network, so that building one cannot fail.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, value: usize, allowed, ok: bool| {
            if ok { Ok(()) } else { Err(ConfigError::Range { field, value: value.to_string(), allowed }) }
        };
        // The bounds are far beyond any published network; they keep a hostile file from asking for terabytes.
        range("in_channel", self.in_channel, "1 to 64", (1..=64).contains(&self.in_channel))?;
        range("out_channel", self.out_channel, "1 to 64", (1..=64).contains(&self.out_channel))?;
        let inner_ok = (2..=1024).contains(&self.inner_channel) && self.inner_channel.is_multiple_of(2);
        range("inner_channel", self.inner_channel, "even, 2 to 1024", inner_ok)?;
        let levels = self.channel_mults.len();
        range("channel_mults", levels, "1 to 10 levels", (1..=10).contains(&levels))?;
        range("res_blocks", self.res_blocks, "1 to 16", (1..=16).contains(&self.res_blocks))?;
        range("norm_groups", self.norm_groups, "1 or more", self.norm_groups >= 1)?;
        for &mult in &self.channel_mults {
            range("channel_mults", mult, "1 to 64 each", (1..=64).contains(&mult))?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let value = self.dropout.to_string();
            return Err(ConfigError::Range { field: "dropout", value, allowed: "0 or more and less than 1" });
        }
        if !self.attn_res.is_empty() && self.image_size.is_none() {
            return Err(ConfigError::ImageSizeMissing);
        }
        self.widths().iter().try_for_each(|&width| self.divides(width))
    }

    /// Channels of each level.
    #[must_use]
    pub fn widths(&self) -> Vec<usize> {
        self.channel_mults.iter().map(|mult| mult * self.inner_channel).collect()
    }

    /// Whether the residual blocks of a level attend.
    #[must_use]
    pub fn attends(&self, level: usize) -> bool {
        self.image_size.is_some_and(|size| self.attn_res.contains(&(size >> level)))
    }

    /// Height and width of every input must be multiples of this.
    #[must_use]
    pub fn size_multiple(&self) -> usize {
        1 << (self.channel_mults.len() - 1)
    }

    fn divides(&self, width: usize) -> Result<(), ConfigError> {
        if width.is_multiple_of(self.norm_groups) {
            Ok(())
        } else {
            Err(ConfigError::Groups { groups: self.norm_groups, width })
        }
    }
}
