//! What a person may choose: as which tool, and which numbers.

use std::{borrow::Cow, fmt, str::FromStr};

use clap::ValueEnum;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sr3_engine::vision::{FidMode, VisionError};

/// As which tool pictures are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub FidMode);

impl Default for Mode {
    fn default() -> Self {
        Self(FidMode::PytorchFid)
    }
}

impl Mode {
    /// How pictures are resized, in words.
    pub fn resize(self) -> &'static str {
        match self.0 {
            FidMode::PytorchFid => "bilinear, half-pixel centres, not antialiased",
            FidMode::TorchFidelity => "bilinear from the corners, not antialiased (TensorFlow 1)",
            FidMode::CleanFid => "bicubic, antialiased, on floats (PIL)",
        }
    }
}

impl FromStr for Mode {
    type Err = VisionError;

    fn from_str(name: &str) -> Result<Self, VisionError> {
        name.parse().map(Self)
    }
}

impl TryFrom<String> for Mode {
    type Error = VisionError;

    fn try_from(name: String) -> Result<Self, VisionError> {
        name.parse()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["pytorch-fid", "torch-fidelity", "clean-fid"] })
    }
}

/// A number of two sets, or of one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Fréchet Inception Distance.
    Fid,
    /// FID of spatial features, as guided-diffusion's evaluator has it.
    Sfid,
    /// Kernel Inception Distance.
    Kid,
    /// Monge Inception Distance.
    Mind,
    /// Precision and recall by third neighbours.
    PrecisionRecall,
    /// Inception Score of the source alone; needs weights with a classifier.
    InceptionScore,
    /// Distance to the nearest picture of the reference, beside that of held-out pictures.
    Memorisation,
}

impl Metric {
    /// Whether it compares with a reference.
    pub fn needs_reference(self) -> bool {
        self != Self::InceptionScore
    }
}
