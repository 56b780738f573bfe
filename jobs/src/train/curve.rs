//! What a trainer looks at: a row for each logged step, at the destination in segments that go with the checkpoints.
//!
//! A segment holds the rows after one checkpoint up to the next, and is written before that is named. So whatever ends a
//! run, the segments up to its last checkpoint are its curve, without a gap and without a double. What a row says of the
//! run (loss, norms, rates) is a function of the run; what it says of time is of whoever computed it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Key, Store, StoreError,
    store::{ListEntry, PutMode},
};

use super::index::key;

const PREFIX: &str = "curve/";
/// Parts of the noise levels that have a loss of their own, the noisiest first.
pub(super) const QUARTILES: usize = 4;

/// A logged step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Samples done.
    pub samples: u64,
    /// Mean loss of the samples since the last row.
    pub loss: f64,
    /// The same by quarter of the noise levels, the noisiest first; null where a quarter had no sample.
    pub loss_by_level: [Option<f64>; QUARTILES],
    /// Length of the last step's gradient, before it is shortened.
    pub gradient_norm: f64,
    /// Of the last step.
    pub learning_rate: f64,
    /// Steps left out so far.
    pub skipped: u64,
    /// What a validation said, where one came here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// Of whoever wrote it.
    pub time: Time,
}

/// Numbers of pictures that were not learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Pictures.
    pub pictures: u64,
    /// Mean loss, with the weights as they are.
    pub loss: f64,
    /// Mean loss, with the first average's.
    pub loss_averaged: f64,
    /// Means over the sampled pictures, without projection; none where none was sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Sampled>,
}

/// Numbers of sampled pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Pictures.
    pub pictures: u64,
    /// PSNR in dB, and that of bicubic.
    pub psnr: f64,
    /// See above.
    pub psnr_bicubic: f64,
    /// SSIM, and that of bicubic.
    pub ssim: f64,
    /// See above.
    pub ssim_bicubic: f64,
    /// Mean squared error of the reduced result, in [0, 1] units.
    pub consistency: f64,
    /// Mean of each channel above the truth's, of 255.
    pub mean_shift: [f64; 3],
}

/// Where the time went since the last row, in seconds of the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Members that took part in the last step.
    pub members: u32,
    /// Samples a second, of all members together.
    pub samples_per_second: f64,
    /// Waiting for samples.
    pub data: f64,
    /// Forward and backward passes.
    pub gradient: f64,
    /// Exchange with other members.
    pub exchange: f64,
    /// The optimizer.
    pub optimizer: f64,
    /// All of it, and what lies between.
    pub all: f64,
}

/// What a run has to tell that is not told yet: rows, and what the next one is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    pub(super) rows: Vec<Row>,
    pub(super) sums: Sums,
}

/// What the next row is made of: the steps since the last one. It goes with the state, so that a run that was stopped amid
/// them tells the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) steps: u64,
    /// Bits of a number: text would round it.
    loss: u64,
    /// Bits of a sum, and how many samples it is of.
    by_level: [(u64, u64); QUARTILES],
}

impl Sums {
    /// Adds the losses of a step, each with the quarter of its noise level.
    pub(super) fn add(&mut self, losses: impl ExactSizeIterator<Item = (f64, usize)>) {
        let count = losses.len().max(1) as f64;
        let mut sum = 0.0;
        for (loss, quarter) in losses {
            sum += loss;
            let (of_quarter, samples) = &mut self.by_level[quarter];
            *of_quarter = (f64::from_bits(*of_quarter) + loss).to_bits();
            *samples += 1;
        }
        self.steps += 1;
        self.loss = (f64::from_bits(self.loss) + sum / count).to_bits();
    }

    /// The mean loss.
    pub(super) fn loss(&self) -> f64 {
        f64::from_bits(self.loss) / self.steps.max(1) as f64
    }

    /// The same by quarter of the noise levels.
    pub(super) fn loss_by_level(&self) -> [Option<f64>; QUARTILES] {
        self.by_level.map(|(sum, count)| (count > 0).then(|| f64::from_bits(sum) / count as f64))
    }
}

/// The key of the segment that goes with the checkpoint of a step.
fn segment(step: u64) -> Key {
    key(&format!("{PREFIX}step-{step:012}.jsonl"))
}

/// Writes the rows that came after the checkpoint before, up to that of `step`.
pub(super) async fn write(store: &Store, step: u64, rows: &[Row]) -> Result<(), StoreError> {
    store.put(&segment(step), encode(rows), PutMode::Replace).await
}

pub(super) fn encode(rows: &[Row]) -> Bytes {
    let mut text = String::new();
    for row in rows {
        // Numbers that are none become null; they are never read back as numbers.
        text += &serde_json::to_string(row).unwrap_or_default();
        text.push('\n');
    }
    text.into()
}

/// The rows of a segment, a JSON object a line; what is none is left out.
pub fn decode_curve(bytes: &[u8]) -> Vec<Row> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// All rows of a run, in order, up to its newest checkpoint.
///
/// # Errors
/// The store's.
pub async fn read_curve(store: &Store) -> Result<Vec<Row>, StoreError> {
    let newest = super::checkpoints(store).await?.last().map_or(0, |checkpoint| checkpoint.step);
    let entries: Vec<ListEntry> = store.list().try_collect().await?;
    let mut segments: Vec<Key> = Vec::new();
    for entry in entries {
        if let ListEntry::Object(info) = entry
            && info.key.as_str().starts_with(PREFIX)
            && info.key <= segment(newest)
        {
            segments.push(info.key);
        }
    }
    segments.sort();
    // A segment whose checkpoint was never named is told again by the next.
    let mut rows = BTreeMap::new();
    for segment in segments {
        let (_, bytes) = store.get(&segment).await?;
        rows.extend(decode_curve(&bytes).into_iter().map(|row| (row.step, row)));
    }
    Ok(rows.into_values().collect())
}
