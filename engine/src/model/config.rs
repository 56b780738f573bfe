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
    /// openai/guided-diffusion's (ADM): residual blocks that also resample, the timestep's scale and shift after the norm.
    Adm,
    /// openai/improved-diffusion's: the same blocks, strided convolutions down, nearest upsampling and a convolution up.
    Iddpm,
}

/// What a network is told about the noise in its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditioning {
    /// sqrt(alphas_cumprod), in (0, 1].
    NoiseLevel,
    /// The timestep of its noise schedule, counted from 0 (the least noise); fractions are allowed.
    Timestep,
}

impl Layout {
    /// What networks of this layout are told about the noise.
    #[must_use]
    pub const fn conditioning(self) -> Conditioning {
        match self {
            Self::Janspiry | Self::Paper => Conditioning::NoiseLevel,
            Self::Adm | Self::Iddpm => Conditioning::Timestep,
        }
    }
}

/// Into how many parts attention cuts its channels; each attends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// As many as this, at every width.
    Count(usize),
    /// As many as there are parts of this many channels.
    Channels(usize),
}

impl Heads {
    /// Attention over all channels at once.
    pub const ONE: Self = Self::Count(1);

    /// Heads at a width.
    #[must_use]
    pub const fn of(self, width: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Channels(channels) => width / channels,
        }
    }

    /// Whether a width splits evenly.
    const fn divide(self, width: usize) -> bool {
        let (Self::Count(part) | Self::Channels(part)) = self;
        part > 0 && width.is_multiple_of(part)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_one(&self) -> bool {
        *self == Self::ONE
    }
}

impl Default for Heads {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Channels(channels) => write!(f, "{channels} channels each"),
        }
    }
}

/// The name that a checkpoint's configuration gives it.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Janspiry => "janspiry",
            Self::Paper => "paper",
            Self::Adm => "adm",
            Self::Iddpm => "iddpm",
        })
    }
}

/// Shape of a U-Net. Names are those of the public SR3 configuration files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// How the levels are wired.
    pub layout: Layout,
    /// Input channels: condition and noisy image together (6 for RGB), or the noisy image alone.
    pub in_channel: usize,
    /// Predicted channels (3 for RGB), and as many more where the variance is learned.
    pub out_channel: usize,
    /// Width of the first level, and of the noise level's or timestep's encoding.
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
    /// Whether the noise level (or timestep, with the class) scales and shifts (true) or only shifts (false) a block's
    /// activations. The layouts of guided-diffusion and improved-diffusion scale and shift after the norm, all others before.
    #[serde(default)]
    pub use_affine_level: bool,
    /// The image size that `attn_res` refers to. Needed where `attn_res` is not empty; the network runs on any size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Heads of attention.
    #[serde(default, skip_serializing_if = "Heads::is_one")]
    pub heads: Heads,
    /// Classes that the network is told apart from the timestep; 0 where it is told none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub classes: usize,
    /// Whether the second half of the predicted channels says where the variance of a step lies between its bounds (Nichol and
    /// Dhariwal, 2021, equation 15).
    #[serde(default, skip_serializing_if = "is_false")]
    pub learned_variance: bool,
    /// What the timestep is multiplied by before it is encoded: 1000 / T for `rescale_timesteps` of improved-diffusion.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub timestep_scale: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(value: &usize) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

const fn one() -> f64 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
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
    /// Attention cannot split a width.
    #[error("heads ({heads}) do not split the width {width}, at which blocks attend")]
    Heads {
        /// Heads.
        heads: Heads,
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
        self.validate_conditioning()?;
        self.widths().iter().try_for_each(|&width| self.divides(width))?;
        self.attending_widths().try_for_each(|width| {
            if self.heads.divide(width) {
                Ok(())
            } else {
                Err(ConfigError::Heads { heads: self.heads, width })
            }
        })
    }

    fn validate_conditioning(&self) -> Result<(), ConfigError> {
        let range = |field, value: String, allowed, ok: bool| {
            if ok { Ok(()) } else { Err(ConfigError::Range { field, value, allowed }) }
        };
        let [classes, scale] = [self.classes.to_string(), self.timestep_scale.to_string()];
        if self.layout.conditioning() == Conditioning::NoiseLevel {
            range("classes", classes, "0 in this layout", self.classes == 0)?;
            range("timestep_scale", scale, "1 in this layout", self.timestep_scale == 1.0)?;
        } else {
            range("classes", classes, "at most 65536", self.classes <= 1 << 16)?;
            let scale_ok = self.timestep_scale > 0.0 && self.timestep_scale <= 1e6;
            range("timestep_scale", scale, "above 0 and at most 1000000", scale_ok)?;
            // Here the first convolution's output is normalised as it is.
            self.divides(self.inner_channel)?;
        }
        let halves = !self.learned_variance || self.out_channel.is_multiple_of(2);
        range("out_channel", self.out_channel.to_string(), "even where the variance is learned", halves)
    }

    /// Channels of the image that is denoised.
    #[must_use]
    pub const fn image_channels(&self) -> usize {
        if self.learned_variance { self.out_channel / 2 } else { self.out_channel }
    }

    /// Widths at which anything attends; the middle, of the last width, always does.
    fn attending_widths(&self) -> impl Iterator<Item = usize> {
        let (widths, last) = (self.widths(), self.channel_mults.len() - 1);
        widths.into_iter().enumerate().filter(move |(l, _)| *l == last || self.attends(*l)).map(|(_, w)| w)
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
