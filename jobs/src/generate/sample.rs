//! A sample's names, a unit's bytes, and what lies at the destination of it. Pure.
//!
//! ```text
//! roses/00000012.png                      sample 12, whose class is called roses
//! 00000/00000012.png                      the same where nobody is told a class
//! .sr3/stages/0/00000012.png              what stage 0 made of it
//! .sr3/made/0-00000000-64.json            the unit of stage 0 with 64 samples from 0 on: written when all of it lies there
//! .sr3/generate.json                      which job this is; created first
//! samples.jsonl                           a line a sample, in order; written at the end
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{Digest, FailureKind, Key, layout};
use sr3_worker::Failure;

use super::order::GenerateOrder;
use crate::images::{FormatChoice, OutputFormat, naming};

/// Samples of a folder where nobody is told a class.
const FOLDER: u64 = 1000;

/// A sample to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Counted from 0.
    pub(super) index: u64,
    /// The small picture that it is made from, in the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<Input>,
}

/// A small picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Input {
    pub(super) key: Key,
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

/// A unit: some samples in a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnitBytes {
    pub(super) stage: usize,
    pub(super) samples: Vec<Sample>,
}

/// A sample that was made, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Counted from 0.
    pub index: u64,
    /// Where it lies at the destination.
    pub key: String,
    /// What it shows, as the models number it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<u32>,
    /// The small picture that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Digest of its file; none of one that was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Why it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What says that a unit is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// [`GenerateOrder::recipe_digest`].
    pub(super) recipe: Digest,
    pub(super) samples: Vec<Made>,
}

/// What says which job lies at a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Began {
    /// [`GenerateOrder::recipe_digest`].
    pub(super) recipe: Digest,
}

impl UnitBytes {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Failure> {
        serde_json::from_slice(bytes).map_err(|e| {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("the unit of kind `generate` cannot be read by this sr3 ({version}): {e}");
            Failure::new(FailureKind::Worker, text)
        })
    }

    /// Where it is said that it is done.
    pub(super) fn manifest_key(&self) -> Key {
        let first = self.samples.first().map_or(0, |sample| sample.index);
        layout::state_key(&format!("made/{}-{first:08}-{}.json", self.stage, self.samples.len()))
    }
}

/// Below it, all of them.
pub(super) fn manifests() -> Key {
    layout::state_key("made")
}

/// Below it, pictures of all stages but the last.
pub(super) fn stages() -> Key {
    layout::state_key("stages")
}

pub(super) fn began_key() -> Key {
    layout::state_key("generate.json")
}

/// A line of JSON a sample, in order.
pub fn samples_key() -> Key {
    Key::literal("samples.jsonl")
}

/// The samples in a file of [`samples_key`].
///
/// # Errors
/// A line is none.
pub fn read_samples(bytes: &[u8]) -> Result<Vec<Made>, serde_json::Error> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

impl Sample {
    /// Where what a stage makes of it goes.
    ///
    /// # Errors
    /// Its name cannot be one.
    pub(super) fn key(&self, order: &GenerateOrder, stage: usize) -> Result<Key, String> {
        if stage + 1 < order.stages.len() {
            return Ok(layout::state_key(&format!("stages/{stage}/{:08}.png", self.index)));
        }
        if let Some(input) = &self.input {
            let png = FormatChoice::Fixed(OutputFormat::Png);
            return Ok(naming::output_key(&input.key, png).map_err(|e| e.to_string())?.0);
        }
        let folder = match order.class_of(self.index) {
            Some(class) => order.class_name(class),
            None => format!("{:05}", self.index / FOLDER),
        };
        Key::new(format!("{folder}/{:08}.png", self.index)).map_err(|e| e.to_string())
    }

    /// Names its noise in a stage.
    pub(super) fn noise_key(&self, stage: usize) -> String {
        match &self.input {
            Some(input) => format!("stage {stage} of {}", input.key),
            None => format!("stage {stage} of sample {}", self.index),
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        self.input.as_ref().map_or_else(|| format!("sample {}", self.index), |input| input.key.to_string())
    }
}

impl Sample {
    /// What is known of it before it is made.
    pub(super) fn made(&self, order: &GenerateOrder, stage: usize) -> Made {
        Made {
            index: self.index,
            key: self.key(order, stage).map_or_else(|_| String::new(), |key| key.to_string()),
            class: order.class_of(self.index),
            input: self.input.as_ref().map(|input| input.key.to_string()),
            sha256: None,
            reason: None,
        }
    }

    /// It is not made, and why.
    pub(super) fn set_aside(&self, order: &GenerateOrder, stage: usize, reason: &str) -> Made {
        Made { reason: Some(reason.to_string()), ..self.made(order, stage) }
    }
}

impl Made {
    /// For people.
    pub fn name(&self) -> String {
        self.input.clone().unwrap_or_else(|| format!("sample {}", self.index))
    }
}
