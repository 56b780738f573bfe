//! The first stage: every picture is read and decoded once, so that what cannot be is left out everywhere alike.
//!
//! Reading the headers alone would be quicker; but a file that is cut short would then be found by one worker amid a step,
//! when all others count on it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::image::{self, DecodeLimits};
use sr3_proto::{
    Digest, FailureKind, Key, Store, UnitId, off_thread,
    session::UnitResult,
    store::{ObjectInfo, PutMode},
};
use sr3_worker::{Attempt, Failure, Pipeline, Stop, UnitWork, telemetry};

use super::{
    index::{self, Entry, Part},
    order::Recipe,
};
use crate::images::{check_length, read};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;

/// A picture to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

impl From<ObjectInfo> for Item {
    fn from(info: ObjectInfo) -> Self {
        Self { key: info.key, bytes: info.bytes, etag: info.etag }
    }
}

/// What came of one: its place in the unit, and its line, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) place: u32,
    pub(super) found: Result<Entry, (String, String)>,
}

/// What came of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surveyed {
    pub(super) part: Part,
    /// Pictures that were left out, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
}

/// A unit at work.
pub(super) struct SurveyUnit {
    pub(super) id: UnitId,
    pub(super) recipe: Arc<Recipe>,
    /// Whether all its pictures are only validated with.
    pub(super) held_out: bool,
    /// With their places, those without a verdict.
    pub(super) items: Vec<(u32, Item)>,
    pub(super) earlier: Vec<Verdict>,
    pub(super) source: Arc<Store>,
    pub(super) destination: Arc<Store>,
}

/// The verdicts that exist, and the items without one, in order.
pub(super) fn open_items(items: Vec<Item>, records: &[Bytes]) -> (Vec<Verdict>, Vec<(u32, Item)>) {
    let verdicts: Vec<Verdict> =
        records.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
    let open = (0..).zip(items).filter(|(place, _)| verdicts.iter().all(|v| v.place != *place)).collect();
    (verdicts, open)
}

/// A verdict as it is kept and sent.
pub(super) fn record(verdict: &Verdict) -> Bytes {
    // Strings and numbers always have a JSON form.
    serde_json::to_vec(verdict).unwrap_or_default().into()
}

#[async_trait]
impl UnitWork for SurveyUnit {
    fn items(&self) -> usize {
        self.items.len()
    }

    async fn item(&self, index: usize, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Bytes, Stop> {
        let Some((place, item)) = self.items.get(index) else {
            return Err(Stop::worker("there is no such item"));
        };
        let found = match self.look_at(item, attempt, pipeline).await {
            Ok(entry) => {
                telemetry::item_done(u64::from(entry.width) * u64::from(entry.height));
                Ok(entry)
            }
            Err(Stop::Bad { reason }) => {
                telemetry::item_quarantined();
                Err((item.key.to_string(), reason))
            }
            Err(stop) => return Err(stop),
        };
        Ok(record(&Verdict { place: *place, found }))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let new = records.iter().filter_map(|bytes| serde_json::from_slice::<Verdict>(bytes).ok());
        let mut verdicts: Vec<Verdict> = self.earlier.iter().cloned().chain(new).collect();
        verdicts.sort_by_key(|verdict| verdict.place);
        verdicts.dedup_by_key(|verdict| verdict.place);
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        for verdict in verdicts {
            match verdict.found {
                Ok(entry) => entries.push(entry),
                Err(reason) => left_out.push(reason),
            }
        }
        let bytes = index::encode_part(&entries);
        let key = index::part_key(self.id);
        let held_out = entries.iter().filter(|entry| entry.held_out).count() as u64;
        let learned = entries.len() as u64 - held_out;
        let part = Part { key: key.clone(), sha256: Digest::of(&bytes), learned, held_out };
        let put = self.destination.put(&key, bytes, PutMode::Replace).await;
        put.map_err(|e| Failure::new(FailureKind::Transient, e))?;
        Ok(UnitResult {
            done: entries.len() as u64,
            quarantined: left_out.len() as u64,
            reasons: left_out.iter().take(REASONS).map(|(key, why)| format!("{key}: {why}")).collect(),
            payload: serde_json::to_vec(&Surveyed { part, left_out }).unwrap_or_default().into(),
        })
    }
}

impl SurveyUnit {
    async fn look_at(&self, item: &Item, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Entry, Stop> {
        let room = pipeline.encoded_room(item.bytes, attempt).await?;
        let most = pipeline.input_bytes_max();
        check_length(item.bytes, most)?;
        let bytes = read(&self.source, &item.key, item.etag.as_deref(), most, attempt, |_| ()).await?;
        let decoded = off_thread(move || {
            let decoded = image::decode(&bytes, &DecodeLimits::default());
            decoded.map(|decoded| (decoded.picture.width, decoded.picture.height)).map_err(|e| e.to_string())
        });
        let bad = |reason: String| Stop::Bad { reason };
        let decoded = decoded.await.map_err(|_| bad("internal error while it was decoded".into()))?;
        drop(room);
        let (width, height) = decoded.map_err(bad)?;
        let least = self.recipe.short_side_min;
        if (width.min(height) as u64) < least {
            return Err(bad(format!("it is {width}×{height}: sides of at least {least} are learned from")));
        }
        Ok(Entry {
            key: item.key.clone(),
            bytes: item.bytes,
            etag: item.etag.clone(),
            width: u32::try_from(width).unwrap_or(u32::MAX),
            height: u32::try_from(height).unwrap_or(u32::MAX),
            held_out: self.held_out || is_held_out(&item.key, self.recipe.validation_fraction),
        })
    }
}

/// Whether a picture is only validated with: a function of its name.
fn is_held_out(key: &Key, fraction: f64) -> bool {
    let digest = Digest::of(key.as_str().as_bytes());
    let drawn = u32::from_str_radix(&digest.as_str()[..8], 16).unwrap_or(0);
    f64::from(drawn) / 4_294_967_296.0 < fraction
}

/// What a unit of this kind is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UnitBytes {
    /// Pictures to be looked at, of the validation's source or not.
    Survey { held_out: bool, items: Vec<Item> },
    /// A place in the gang.
    Seat { index: Digest },
}

impl UnitBytes {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Failure> {
        let wrong = |e: serde_json::Error| {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("the unit of kind `train` cannot be read by this sr3 ({version}): {e}");
            Failure::new(FailureKind::Worker, text)
        };
        serde_json::from_slice(bytes).map_err(wrong)
    }
}
