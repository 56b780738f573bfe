//! What a person writes to ask for a job: one YAML document, of one kind.
//!
//! [`JobSpec::parse`] reads it and answers with one line that names the line and the nearest right name.
//! [`JobSpec::schema`] describes the same types as JSON Schema, for editors. Nothing here is executed, nothing is
//! looked up: aliases and tags are refused, so that a text means what it says and costs what it weighs.
//!
//! A spec names things as people do (a model by its name); [`crate::UpscaleSpec`] is what becomes of it once the
//! model is open.

mod check;
mod error;
mod parse;
mod read;
mod schema;
mod tree;

use serde::{Deserialize, Serialize};

use crate::{Colour, Dtype, FormatChoice};

pub use check::ranges;
pub use error::SpecError;
pub use parse::TEXT_BYTES_MAX;

/// A job for sr3, told apart by `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobSpec {
    /// Upscale every image of a source into a destination.
    Upscale(UpscaleJob),
}

/// Upscale every image of a source into a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpscaleJob {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// Where the images lie: a folder, taken at any depth, or a URL such as s3://bucket/prefix.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub source: String,
    /// Where the results go, in the tree and under the names of their inputs: a folder or a URL.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub destination: String,
    /// Model in the box, or folder of a checkpoint.
    #[serde(default = "default_model", deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub model: String,
    /// The model's setting of sampler and steps, for photo-4x one, fast, default or fine; absent: the model's own
    /// choice.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    pub preset: Option<String>,
    /// Output size over input size; absent: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::scale")]
    #[schemars(range(min = *ranges::SCALE.start(), max = *ranges::SCALE.end()))]
    pub scale: Option<u32>,
    /// Sampling steps; absent: the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::steps")]
    #[schemars(range(min = *ranges::STEPS.start(), max = *ranges::STEPS.end()))]
    pub steps: Option<u32>,
    /// Sampler: ddim, dpmpp_2m, ancestral or ancestral_posterior; absent: the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    #[schemars(length(min = 1))]
    pub sampler: Option<String>,
    /// Side of the tiles that large images are computed in, in output pixels; absent: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::tile")]
    #[schemars(range(min = *ranges::TILE.start(), max = *ranges::TILE.end()))]
    pub tile: Option<u32>,
    /// Seed of the noise; the same seed gives the same bytes.
    #[serde(default)]
    pub seed: u64,
    /// Whether results are projected so that, reduced to the input's size, they are the input.
    #[serde(default = "default_projection")]
    pub projection: bool,
    /// What convolutions are computed in: f32 (the same bytes from every machine), bf16 (the same from machines of one
    /// kind), or auto (bf16 where it is found to be faster).
    #[serde(default)]
    pub dtype: Dtype,
    /// Output format: auto (the input's, PNG for formats that are only read), png, jpeg, webp or tiff.
    #[serde(default = "default_format")]
    pub format: FormatChoice,
    /// Quality of JPEG; other formats are written without loss.
    #[serde(default = "default_quality", deserialize_with = "check::quality")]
    #[schemars(range(min = *ranges::QUALITY.start(), max = *ranges::QUALITY.end()))]
    pub quality: u8,
    /// What lies under transparent pixels where the output's format (JPEG) knows none: white, black or #rrggbb; absent: such
    /// images are set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Colour>,
    /// Globs on the path relative to the source, `*` also matches `/`, and an extension counts in any case; if there are
    /// any, an image must match one.
    #[serde(default)]
    pub include: Vec<String>,
    /// Globs as for include; an image that matches one is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Take only objects of at least so many bytes, encoded; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_min: Option<u64>,
    /// Take only objects of at most so many bytes, encoded; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Compute everything again and replace what is there.
    #[serde(default)]
    pub overwrite: bool,
    /// Fail when more images than this have to be set aside; absent: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bad_items: Option<u64>,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "default_priority", deserialize_with = "check::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    pub priority: u8,
}

impl UpscaleJob {
    /// A job in which everything but its places is as documented for an absent field.
    pub fn new(source: impl Into<String>, destination: impl Into<String>) -> Self {
        Self {
            name: None,
            source: source.into(),
            destination: destination.into(),
            model: default_model(),
            preset: None,
            scale: None,
            steps: None,
            sampler: None,
            tile: None,
            seed: 0,
            projection: default_projection(),
            dtype: Dtype::F32,
            format: default_format(),
            quality: default_quality(),
            background: None,
            include: Vec::new(),
            exclude: Vec::new(),
            bytes_min: None,
            bytes_max: None,
            overwrite: false,
            max_bad_items: None,
            priority: default_priority(),
        }
    }
}

impl From<UpscaleJob> for JobSpec {
    fn from(job: UpscaleJob) -> Self {
        Self::Upscale(job)
    }
}

fn default_model() -> String {
    "photo-4x".to_string()
}

fn default_projection() -> bool {
    true
}

fn default_format() -> FormatChoice {
    FormatChoice::Auto
}

fn default_quality() -> u8 {
    95
}

fn default_priority() -> u8 {
    1
}
