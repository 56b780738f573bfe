//! `config.json` of a checkpoint: what the network predicts, what it was trained on, and how to sample from it.
//!
//! The schema is closed: an unknown field is an error, so that a misspelt one is not ignored. Everything is data; the
//! types that compute with it are those of the `diffusion` and `image` modules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use crate::diffusion::{self, Objective, Sampler, Tile};
use crate::model::tensors::one_line;
use crate::model::{Conditioning, UNetConfig};

/// The value of `format`.
pub const FORMAT: &str = "sr3-checkpoint/1";

/// What is denoised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The high-resolution image itself, in [-1, 1].
    Image,
    /// `residual_scale` · (image − upsampled input).
    Residual,
}

/// How the low-resolution input is enlarged to condition the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// The filter.
    pub filter: ResizeFilter,
    /// The cubic's parameter: -0.5 is PIL's. Without effect for other filters.
    pub a: f64,
    /// What the enlarged image is clamped to; null for no clamp.
    pub clamp: Option<[f64; 2]>,
}

/// Filters of a resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeFilter {
    /// Piecewise cubic with parameter `a`, support 2.
    Bicubic,
    /// Piecewise linear, support 1.
    Bilinear,
    /// Area averages.
    Area,
}

/// How low-resolution images were made in training: what the network may expect of its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degradation {
    /// The filter of the reduction.
    pub downsample: ResizeFilter,
    /// The cubic's parameter; without effect for other filters.
    pub a: f64,
    /// Whether the filter is stretched by the ratio.
    pub antialias: bool,
    /// What the reduced image was rounded to; null for nothing.
    pub rounded_to: Option<Rounding>,
    /// Standard deviations of a Gaussian blur before the reduction, from and to, in pixels; null for none.
    pub blur: Option<[f64; 2]>,
    /// Sizes, from and to, of the reduced image that it is first resized to, as factors of its own; null for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<[f64; 2]>,
    /// Standard deviations of Gaussian noise after the reduction, from and to, of 255; null for none.
    pub noise: Option<[f64; 2]>,
    /// JPEG qualities after the reduction, from and to; null for none.
    pub jpeg: Option<[u8; 2]>,
}

impl Degradation {
    /// As the paper reduces pictures: antialiased bicubic, in eight bits, and nothing else.
    pub const PAPER: Self = Self {
        downsample: ResizeFilter::Bicubic,
        a: -0.5,
        antialias: true,
        rounded_to: Some(Rounding::U8),
        blur: None,
        resize: None,
        noise: None,
        jpeg: None,
    };
}

/// Numbers that an image may be rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// 0 to 255.
    U8,
}

/// The noise levels of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NoiseSchedule {
    /// beta rises evenly.
    Linear {
        /// First beta.
        start: f64,
        /// Last beta.
        end: f64,
        /// Their number.
        timesteps: usize,
    },
    /// sqrt(beta) rises evenly.
    Quad {
        /// First beta.
        start: f64,
        /// Last beta.
        end: f64,
        /// Their number.
        timesteps: usize,
    },
    /// beta is `end`.
    Const {
        /// Every beta.
        end: f64,
        /// Their number.
        timesteps: usize,
    },
    /// beta rises evenly over the first `share`, then stays.
    Warmup {
        /// First beta.
        start: f64,
        /// Last beta.
        end: f64,
        /// Their number.
        timesteps: usize,
        /// Part of the timesteps over which beta rises.
        share: f64,
    },
    /// alphas_cumprod falls like a squared cosine.
    Cosine {
        /// Number of betas.
        timesteps: usize,
        /// Offset, 0.008 in the paper that proposed it.
        s: f64,
    },
    /// beta = 1/T, 1/(T-1), …, 1.
    Jsd {
        /// Their number.
        timesteps: usize,
    },
    /// The log signal-to-noise ratio is drawn from a normal distribution.
    LogSnrNormal {
        /// Its mean.
        mean: f64,
        /// Its standard deviation.
        std: f64,
        /// What it is cut to.
        range: [f64; 2],
        /// A second schedule that some samples come from.
        #[serde(default)]
        mixed_with: Option<MixedSchedule>,
    },
}

/// A discrete schedule that part of the samples come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedSchedule {
    /// How beta rises.
    pub kind: MixedKind,
    /// First beta.
    pub start: f64,
    /// Last beta.
    pub end: f64,
    /// Their number.
    pub timesteps: usize,
    /// Part of the samples that use it.
    pub share: f64,
}

/// Kinds of a [`MixedSchedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixedKind {
    /// beta rises evenly.
    Linear,
}

/// A sampler, and the noise levels at which it evaluates the network: sqrt(alphas_cumprod), noisy to clean. The level
/// after the last is 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "sampler", rename_all = "snake_case", deny_unknown_fields)]
pub enum SamplerPreset {
    /// DDIM.
    Ddim {
        /// Share of the ancestral noise that is added in each step; 0 for none.
        #[serde(default)]
        eta: f64,
        /// Noisy to clean.
        noise_levels: Vec<f64>,
    },
    /// DPM-Solver++(2M).
    #[serde(rename = "dpmpp_2m")]
    Dpmpp2m {
        /// Noisy to clean.
        noise_levels: Vec<f64>,
    },
    /// The paper's algorithm 2.
    Ancestral {
        /// Noisy to clean.
        noise_levels: Vec<f64>,
    },
    /// The posterior of the clamped estimate, as the public implementation samples.
    AncestralPosterior {
        /// Noisy to clean.
        noise_levels: Vec<f64>,
    },
    /// The same mean with the variance that the network learned.
    AncestralLearned {
        /// Noisy to clean.
        noise_levels: Vec<f64>,
    },
}

impl SamplerPreset {
    /// The levels, noisy to clean.
    #[must_use]
    pub fn noise_levels(&self) -> &[f64] {
        match self {
            Self::Ddim { noise_levels, .. }
            | Self::Dpmpp2m { noise_levels }
            | Self::Ancestral { noise_levels }
            | Self::AncestralPosterior { noise_levels }
            | Self::AncestralLearned { noise_levels } => noise_levels,
        }
    }

    /// The sampler.
    #[must_use]
    pub const fn sampler(&self) -> Sampler {
        match *self {
            Self::Ddim { eta, .. } => Sampler::Ddim { eta },
            Self::Dpmpp2m { .. } => Sampler::Dpmpp2m,
            Self::Ancestral { .. } => Sampler::Ancestral,
            Self::AncestralPosterior { .. } => Sampler::AncestralPosterior,
            Self::AncestralLearned { .. } => Sampler::AncestralLearned,
        }
    }
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// What they were made from.
    pub source: String,
    /// sha256 of the file they were made from, in hexadecimal.
    pub source_sha256: String,
}

/// `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// [`FORMAT`].
    pub format: String,
    /// The model's name.
    pub name: String,
    /// Output size over input size.
    pub scale: usize,
    /// The network.
    pub model: UNetConfig,
    /// What it predicts.
    pub objective: Objective,
    /// What is denoised.
    pub target: Target,
    /// Factor of the residual; without effect where the target is the image.
    pub residual_scale: f64,
    /// How the input is enlarged.
    pub upsample: Upsample,
    /// What the input may look like.
    pub degradation: Degradation,
    /// The noise levels of training.
    pub noise_schedule: NoiseSchedule,
    /// The tiles that the network should be run with; null where it is not known. A group norm takes its statistics
    /// from the tile, so the result depends on the tile's size: it is a property of the model.
    #[serde(default)]
    pub tile: Option<Tile>,
    /// Ways to sample, by name.
    pub presets: BTreeMap<String, SamplerPreset>,
    /// The preset that is used where none is asked for.
    pub default_preset: String,
    /// What the model's classes are called, in order; empty where nobody has named them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// Whether the last of the model's classes stands for any of the others: what classifier-free guidance compares with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_class: bool,
    /// What one may do with the weights.
    pub licence: String,
    /// Whom to name.
    #[serde(default)]
    pub credits: Vec<String>,
    /// sha256 of `model.safetensors`, in lower-case hexadecimal.
    pub sha256: String,
    /// Where the weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

const NEEDS_VARIANCE: &str = "another, as this network's variance is not learned";
const SCALE_MAX: usize = 16;
const TILE_MAX: usize = 1 << 14;
const LEVELS_MAX: usize = 10_000;
const TIMESTEPS_MAX: usize = 1_000_000;

impl CheckpointConfig {
    /// Reads a configuration; `file` is what errors call it.
    ///
    /// # Errors
    /// [`CheckpointError`] where it is none, or describes nothing that can be.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self, CheckpointError> {
        let config: Self = serde_json::from_slice(bytes).map_err(|error| CheckpointError::Json {
            file: file.to_string(),
            reason: one_line(&error.to_string()),
        })?;
        config.validate(file)?;
        Ok(config)
    }

    /// What is denoised, with the factor of the residual.
    #[must_use]
    pub const fn x0_target(&self) -> diffusion::Target {
        match self.target {
            Target::Image => diffusion::Target::Image,
            Target::Residual => diffusion::Target::Residual { scale: self.residual_scale as f32 },
        }
    }

    /// Checks every value. `file` is what messages call the file.
    pub(super) fn validate(&self, file: &str) -> Result<(), CheckpointError> {
        let check = Check { file };
        check.that(self.format == FORMAT, "format", &self.format, FORMAT)?;
        check.label("name", &self.name)?;
        check.that((1..=SCALE_MAX).contains(&self.scale), "scale", self.scale, "1 to 16")?;
        let model = |source| CheckpointError::Model { file: file.to_string(), source };
        self.model.validate().map_err(model)?;
        let named = self.model.classes.saturating_sub(usize::from(self.any_class));
        let names_ok = self.class_names.is_empty() || self.class_names.len() == named;
        let [found, allowed] = [self.class_names.len(), named].map(|n| format!("{n} names"));
        check.that(names_ok, "class_names", found, &format!("{allowed}, or none"))?;
        let any_ok = !self.any_class || self.model.classes > 1;
        check.that(any_ok, "any_class", self.any_class, "false where the model is told no classes")?;
        check.positive("residual_scale", self.residual_scale)?;
        self.validate_images(&check)?;
        validate_schedule(&self.noise_schedule, &check)?;
        if self.model.layout.conditioning() == Conditioning::Timestep {
            let ok = self.noise_schedule.process().is_some();
            let allowed = "one with timesteps, as the network is told them";
            check.that(ok, "noise_schedule", "another", allowed)?;
        }
        self.validate_tile(&check)?;
        for (name, preset) in &self.presets {
            validate_preset(name, preset, &check)?;
            let learned =
                !matches!(preset, SamplerPreset::AncestralLearned { .. }) || self.model.learned_variance;
            check.that(learned, &format!("presets.{name}.sampler"), "ancestral_learned", NEEDS_VARIANCE)?;
        }
        let known = self.presets.contains_key(&self.default_preset);
        let names: Vec<_> = self.presets.keys().map(String::as_str).collect();
        let allowed = format!("one of the presets: {}", names.join(", "));
        check.that(known, "default_preset", &self.default_preset, &allowed)?;
        check.sha256("sha256", &self.sha256)?;
        self.provenance
            .as_ref()
            .map_or(Ok(()), |provenance| check.sha256("provenance.source_sha256", &provenance.source_sha256))
    }

    fn validate_images(&self, check: &Check<'_>) -> Result<(), CheckpointError> {
        check.within("upsample.a", self.upsample.a, [-2.0, 0.0])?;
        check.rising("upsample.clamp", self.upsample.clamp, [-100.0, 100.0])?;
        check.within("degradation.a", self.degradation.a, [-2.0, 0.0])?;
        check.rising("degradation.blur", self.degradation.blur, [0.0, 100.0])?;
        check.rising("degradation.resize", self.degradation.resize, [0.1, 16.0])?;
        check.rising("degradation.noise", self.degradation.noise, [0.0, 255.0])?;
        let jpeg = self.degradation.jpeg.map(|range| range.map(f64::from));
        check.rising("degradation.jpeg", jpeg, [1.0, 100.0])
    }

    fn validate_tile(&self, check: &Check<'_>) -> Result<(), CheckpointError> {
        let Some(Tile { size, overlap }) = self.tile else { return Ok(()) };
        let multiple = self.model.size_multiple();
        let size_ok = (1..=TILE_MAX).contains(&size) && size.is_multiple_of(multiple);
        check.that(size_ok, "tile.size", size, &format!("a multiple of {multiple}, at most {TILE_MAX}"))?;
        check.that(overlap <= size / 2, "tile.overlap", overlap, "at most half of tile.size")
    }
}

fn validate_schedule(schedule: &NoiseSchedule, check: &Check<'_>) -> Result<(), CheckpointError> {
    let betas = |start: f64, end: f64, timesteps: usize| {
        check.within("noise_schedule.start", start, [1e-12, 1.0])?;
        check.within("noise_schedule.end", end, [start, 1.0])?;
        let count_ok = (1..=TIMESTEPS_MAX).contains(&timesteps);
        check.that(count_ok, "noise_schedule.timesteps", timesteps, "1 to 1000000")
    };
    match *schedule {
        NoiseSchedule::Linear { start, end, timesteps } | NoiseSchedule::Quad { start, end, timesteps } => {
            betas(start, end, timesteps)
        }
        NoiseSchedule::Const { end, timesteps } => betas(end, end, timesteps),
        NoiseSchedule::Warmup { start, end, timesteps, share } => {
            check.within("noise_schedule.share", share, [0.0, 1.0])?;
            betas(start, end, timesteps)
        }
        NoiseSchedule::Cosine { timesteps, s } => {
            check.within("noise_schedule.s", s, [0.0, 1.0])?;
            betas(1.0, 1.0, timesteps)
        }
        NoiseSchedule::Jsd { timesteps } => betas(1.0, 1.0, timesteps),
        NoiseSchedule::LogSnrNormal { mean, std, range, ref mixed_with } => {
            check.within("noise_schedule.mean", mean, [-50.0, 50.0])?;
            check.positive("noise_schedule.std", std)?;
            check.rising("noise_schedule.range", Some(range), [-50.0, 50.0])?;
            mixed_with.as_ref().map_or(Ok(()), |mixed| {
                check.within("noise_schedule.mixed_with.share", mixed.share, [0.0, 1.0])?;
                betas(mixed.start, mixed.end, mixed.timesteps)
            })
        }
    }
}

fn validate_preset(name: &str, preset: &SamplerPreset, check: &Check<'_>) -> Result<(), CheckpointError> {
    check.label("presets", name)?;
    if let SamplerPreset::Ddim { eta, .. } = *preset {
        check.within(&format!("presets.{name}.eta"), eta, [0.0, 1.0])?;
    }
    let (levels, field) = (preset.noise_levels(), format!("presets.{name}.noise_levels"));
    let count_ok = (1..=LEVELS_MAX).contains(&levels.len());
    check.that(count_ok, &field, format!("{} levels", levels.len()), "1 to 10000 levels")?;
    let mut before = 0.0;
    for &level in levels {
        // NaN fails both comparisons.
        let ok = level > before && level <= 1.0;
        check.that(ok, &field, level, &format!("rising: above {before} here, and at most 1"))?;
        before = level;
    }
    Ok(())
}

/// Turns a failed check into an error that names file, field, value and what is allowed.
struct Check<'a> {
    file: &'a str,
}

impl Check<'_> {
    fn that(
        &self,
        ok: bool,
        field: &str,
        value: impl ToString,
        allowed: &str,
    ) -> Result<(), CheckpointError> {
        if ok {
            return Ok(());
        }
        let [field, value, allowed] = [field, &value.to_string(), allowed].map(one_line);
        Err(CheckpointError::Field { file: self.file.to_string(), field, value, allowed })
    }

    fn within(&self, field: &str, value: f64, [low, high]: [f64; 2]) -> Result<(), CheckpointError> {
        self.that((low..=high).contains(&value), field, value, &format!("{low} to {high}"))
    }

    fn positive(&self, field: &str, value: f64) -> Result<(), CheckpointError> {
        self.that(value > 0.0 && value <= 1e6, field, value, "above 0 and at most 1000000")
    }

    fn rising(
        &self,
        field: &str,
        range: Option<[f64; 2]>,
        [low, high]: [f64; 2],
    ) -> Result<(), CheckpointError> {
        let Some([from, to]) = range else { return Ok(()) };
        let ok = low <= from && from <= to && to <= high;
        self.that(
            ok,
            field,
            format!("[{from}, {to}]"),
            &format!("two numbers, not falling, from {low} to {high}"),
        )
    }

    /// A name that people type and programs print.
    fn label(&self, field: &str, name: &str) -> Result<(), CheckpointError> {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        let ok = !name.is_empty() && name.len() <= 100 && name.chars().all(plain);
        self.that(ok, field, name, "1 to 100 letters, digits, - _ . and spaces")
    }

    fn sha256(&self, field: &str, digest: &str) -> Result<(), CheckpointError> {
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ok = digest.len() == 64 && digest.bytes().all(hexadecimal);
        self.that(ok, field, digest, "64 lower-case hexadecimal digits")
    }
}
