//! What a person may choose, for whatever kind of job: read from the command line and from specs alike.
//!
//! These structs are no part of what is kept: an order has a canonical form of its own.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use clap::{ArgAction, Args};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use sr3_proto::job_spec::check;

use crate::{ClassChoice, Colour, DeviceChoice, Dtype, images::FormatChoice};

/// The numbers that may be chosen.
pub mod ranges {
    use std::ops::RangeInclusive;

    /// Output size over input size.
    pub const SCALE: RangeInclusive<u32> = 1..=64;
    /// Sampling steps.
    pub const STEPS: RangeInclusive<u32> = 1..=10_000;
    /// A model's classes; it has fewer.
    pub const CLASS: RangeInclusive<u32> = 0..=65_535;
    /// Tile side in output pixels.
    pub const TILE: RangeInclusive<u32> = 16..=65_536;
    /// Quality of lossy formats.
    pub const QUALITY: RangeInclusive<u8> = 1..=100;
    /// Weight among running jobs.
    pub const PRIORITY: RangeInclusive<u8> = 1..=100;
}

/// A model and how it is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Model in the box, or folder of a checkpoint.
    #[serde(default = "default_model", deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    #[arg(long, default_value = "photo-4x")]
    pub model: String,
    /// The model's setting of sampler and steps: for photo-4x one, fast, default or fine, from quick to careful [default: the
    /// model's own choice].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long)]
    pub preset: Option<String>,
    /// Output size over input size: any whole number [default: the model's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "scale")]
    #[schemars(range(min = *ranges::SCALE.start(), max = *ranges::SCALE.end()))]
    #[arg(long, value_parser = whole_scale)]
    pub scale: Option<u32>,
    /// Sampling steps [default: the preset's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "steps")]
    #[schemars(range(min = *ranges::STEPS.start(), max = *ranges::STEPS.end()))]
    #[arg(long, value_parser = |text: &str| within(text, &ranges::STEPS))]
    pub steps: Option<u32>,
    /// Sampler: ddim, dpmpp_2m, ancestral, ancestral_posterior or ancestral_learned [default: the preset's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    #[arg(long)]
    pub sampler: Option<String>,
    /// What images show, for models that are told: a class's number for all, folder (each lies in a folder that is called by
    /// its number or WordNet id), or auto (EfficientNet-Lite0 looks; needs its weights) [default: none].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "N|folder|auto")]
    pub class: Option<ClassChoice>,
    /// Side of the tiles that large images are computed in, in output pixels [default: the model's].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "tile")]
    #[schemars(range(min = *ranges::TILE.start(), max = *ranges::TILE.end()))]
    #[arg(long, value_parser = |text: &str| within(text, &ranges::TILE))]
    pub tile: Option<u32>,
    /// Seed of the noise; the same seed gives the same bytes.
    #[serde(default)]
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Whether results are projected so that, reduced to the input's size, they are the input.
    #[serde(default = "yes")]
    #[arg(long = "no-projection", action = ArgAction::SetFalse, help = "Do not project results so that, reduced to the \
        input's size, they are the input")]
    pub projection: bool,
    /// What convolutions are computed in: f32 (the same bytes from every machine), bf16 (the same from machines of one
    /// kind), or auto (bf16 where it is found to be faster).
    #[serde(default)]
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// What may compute it: any, cpu or cuda. Results of CPUs and of GPUs are never mixed in one destination.
    #[serde(default)]
    #[arg(skip)]
    pub device: DeviceChoice,
}

/// How results are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(deny_unknown_fields)]
pub struct Writing {
    /// Output format: auto (the input's, PNG for formats that are only read), png, jpeg, webp or tiff.
    #[serde(default = "default_format")]
    #[schemars(schema_with = "crate::schema::format_choice")]
    #[arg(long, default_value = "auto")]
    pub format: FormatChoice,
    /// Quality of JPEG, 1 to 100; other formats are written without loss.
    #[serde(default = "default_quality", deserialize_with = "quality")]
    #[schemars(range(min = *ranges::QUALITY.start(), max = *ranges::QUALITY.end()))]
    #[arg(long, default_value_t = default_quality(), value_parser = |text: &str| within(text, &ranges::QUALITY))]
    pub quality: u8,
    /// What lies under transparent pixels of a JPEG, which knows none: white, black or #rrggbb [default: such pictures are
    /// set aside].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "COLOUR")]
    pub background: Option<Colour>,
}

/// Which objects of a source are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Args)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Take only paths that match this glob, relative to the source; `*` also matches `/`, and an extension counts in any
    /// case: '*.jpg' takes .JPG. There may be several.
    #[serde(default)]
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out paths that match this glob, read as those of include. There may be several.
    #[serde(default)]
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Take only objects of at least so many bytes, encoded [default: no bound].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "BYTES")]
    pub bytes_min: Option<u64>,
    /// Take only objects of at most so many bytes, encoded [default: no bound].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[arg(long, value_name = "BYTES")]
    pub bytes_max: Option<u64>,
}

impl Default for Wish {
    /// Everything as documented for an absent field.
    fn default() -> Self {
        Self {
            model: default_model(),
            preset: None,
            scale: None,
            steps: None,
            sampler: None,
            class: None,
            tile: None,
            seed: 0,
            projection: true,
            dtype: Dtype::F32,
            device: DeviceChoice::Any,
        }
    }
}

impl Default for Writing {
    /// Everything as documented for an absent field.
    fn default() -> Self {
        Self { format: default_format(), quality: default_quality(), background: None }
    }
}

impl Selection {
    /// A field that does not go with another, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let (min, max) = (self.bytes_min?, self.bytes_max?);
        (min > max)
            .then(|| ("bytes_max", format!("{max} is below `bytes_min`, {min}: no image would be left")))
    }
}

fn default_model() -> String {
    "photo-4x".to_string()
}

fn default_format() -> FormatChoice {
    FormatChoice::Auto
}

fn default_quality() -> u8 {
    95
}

fn yes() -> bool {
    true
}

fn scale<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    check::some_number(value, &ranges::SCALE)
}

fn steps<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    check::some_number(value, &ranges::STEPS)
}

fn tile<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u32>, D::Error> {
    check::some_number(value, &ranges::TILE)
}

fn quality<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    check::number(value, &ranges::QUALITY)
}

pub(crate) fn default_priority() -> u8 {
    1
}

pub(crate) fn priority<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    check::number(value, &ranges::PRIORITY)
}

/// A scale; a fraction is told that it is one.
fn whole_scale(text: &str) -> Result<u32, String> {
    let (least, most) = (ranges::SCALE.start(), ranges::SCALE.end());
    let whole = text.parse().ok().filter(|scale| ranges::SCALE.contains(scale));
    whole.ok_or_else(|| format!("a whole number from {least} to {most} is wanted"))
}

/// A number of the command line.
fn within<T: FromStr + PartialOrd + fmt::Display>(
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{text} is not in {}..={}", range.start(), range.end()))
}
