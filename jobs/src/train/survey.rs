//! The first stage: every picture is read and decoded once, so that what cannot be is left out everywhere alike.
//!
//! Reading the headers alone would be quicker; but a file that is cut short would then be found by one worker amid a step,
//! when all others count on it.

use std::{collections::BTreeSet, sync::Arc};

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
    labels::Labels,
    order::Recipe,
};
use crate::images::{
    check_length, read,
    shard::{self, Place},
};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;
/// Memory that a shard takes while it is read: a piece, and pictures on their way.
const SHARD_ROOM: u64 = 64 << 20;
const BROKEN: &str = "internal error while it was decoded";

/// A picture to be looked at, or a shard of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) key: Key,
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_shard: bool,
}

impl Item {
    /// An object of a listing.
    pub(super) fn new(info: ObjectInfo, is_shard: bool) -> Self {
        Self { key: info.key, bytes: info.bytes, etag: info.etag, is_shard }
    }
}

/// What came of one: its place in the unit, and lines of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) place: u32,
    pub(super) found: Vec<Entry>,
    /// Pictures that were left out, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
}

/// What came of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surveyed {
    pub(super) part: Part,
    /// Pictures that were left out, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
    /// What its pictures show.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) labels: BTreeSet<String>,
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
    /// What its pictures show; none where nobody asks.
    pub(super) labels: Option<Arc<Labels>>,
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
        let looked = match item.is_shard {
            true => self.look_into(item, attempt, pipeline).await,
            false => self.look_at(item, attempt, pipeline).await.map(|entry| (vec![entry], Vec::new())),
        };
        let (found, left_out) = match looked {
            Err(Stop::Bad { reason }) => (Vec::new(), vec![(item.key.to_string(), reason)]),
            other => other?,
        };
        found.iter().for_each(|entry| telemetry::item_done(u64::from(entry.width) * u64::from(entry.height)));
        left_out.iter().for_each(|_| telemetry::item_quarantined());
        Ok(record(&Verdict { place: *place, found, left_out }))
    }

    async fn finish(&self, records: Vec<Bytes>) -> Result<UnitResult, Failure> {
        let new = records.iter().filter_map(|bytes| serde_json::from_slice::<Verdict>(bytes).ok());
        let mut verdicts: Vec<Verdict> = self.earlier.iter().cloned().chain(new).collect();
        verdicts.sort_by_key(|verdict| verdict.place);
        verdicts.dedup_by_key(|verdict| verdict.place);
        let (mut entries, mut left_out) = (Vec::new(), Vec::new());
        let (mut done, mut quarantined) = (0, 0);
        for mut verdict in verdicts {
            *if verdict.found.is_empty() { &mut quarantined } else { &mut done } += 1;
            entries.append(&mut verdict.found);
            left_out.append(&mut verdict.left_out);
        }
        let bytes = index::encode_part(&entries);
        let key = index::part_key(self.id);
        let held_out = entries.iter().filter(|entry| entry.held_out).count() as u64;
        let learned = entries.len() as u64 - held_out;
        let labels = entries.iter().filter_map(|entry| entry.label.clone()).collect();
        let part = Part { key: key.clone(), sha256: Digest::of(&bytes), learned, held_out };
        let put = self.destination.put(&key, bytes, PutMode::Replace).await;
        put.map_err(|e| Failure::new(FailureKind::Transient, e))?;
        Ok(UnitResult {
            done,
            quarantined,
            reasons: left_out.iter().take(REASONS).map(|(key, why)| format!("{key}: {why}")).collect(),
            payload: serde_json::to_vec(&Surveyed { part, left_out, labels }).unwrap_or_default().into(),
        })
    }
}

impl SurveyUnit {
    async fn look_at(&self, item: &Item, attempt: &Arc<Attempt>, pipeline: &Pipeline) -> Result<Entry, Stop> {
        let room = pipeline.encoded_room(item.bytes, attempt).await?;
        let most = pipeline.input_bytes_max();
        check_length(item.bytes, most)?;
        let bytes = read(&self.source, &item.key, item.etag.as_deref(), most, attempt, |_| ()).await?;
        let least = self.recipe.short_side_min;
        let looked = off_thread(move || size(&bytes, least)).await;
        drop(room);
        let looked = looked.map_err(|_| Stop::Bad { reason: BROKEN.into() })?;
        let size = looked.map_err(|reason| Stop::Bad { reason })?;
        self.entry(item, None, item.bytes, size, None, attempt).await
    }

    /// The pictures of a shard that can be learned from, and those that cannot.
    async fn look_into(
        &self,
        item: &Item,
        attempt: &Arc<Attempt>,
        pipeline: &Pipeline,
    ) -> Result<(Vec<Entry>, Vec<(String, String)>), Stop> {
        let room = pipeline.encoded_room(item.bytes.min(SHARD_ROOM), attempt).await?;
        let (least, most) = (self.recipe.short_side_min, pipeline.input_bytes_max());
        let look = move |read: Result<Vec<u8>, u64>| match read {
            Ok(bytes) => size(&bytes, least),
            Err(bytes) => Err(format!("it is {bytes} bytes long, and {most} are allowed")),
        };
        let etag = item.etag.as_deref();
        let contents = shard::walk(&self.source, &item.key, etag, item.bytes, most, attempt, look).await?;
        drop(room);
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (place, bytes, looked) in contents.pictures {
            let name = index::name(&item.key, Some(&place));
            let beside = contents.labels.get(shard::sample_name(&place.name));
            let entry = match looked {
                Ok(size) => self.entry(item, Some(place), bytes, size, Some(beside), attempt).await,
                Err(reason) => Err(Stop::Bad { reason }),
            };
            match entry {
                Ok(entry) => found.push(entry),
                Err(Stop::Bad { reason }) => left_out.push((name, reason)),
                Err(stop) => return Err(stop),
            }
        }
        left_out.extend(contents.damage.map(|damage| (item.key.to_string(), damage)));
        if found.is_empty() && left_out.is_empty() {
            left_out.push((item.key.to_string(), "it holds no pictures".to_string()));
        }
        Ok((found, left_out))
    }

    /// A line of the index. `beside` is what a shard says of its picture.
    async fn entry(
        &self,
        item: &Item,
        place: Option<Place>,
        bytes: u64,
        [width, height]: [usize; 2],
        beside: Option<Option<&String>>,
        attempt: &Attempt,
    ) -> Result<Entry, Stop> {
        let (key, etag) = (item.key.clone(), item.etag.clone());
        let name = index::name(&key, place.as_ref());
        let held_out = self.held_out || is_held_out(&name, self.recipe.validation_fraction);
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let label = match &self.labels {
            None => None,
            Some(labels) => Some(labels.of(&name, beside, attempt).await?),
        };
        Ok(Entry { key, place, bytes, etag, width: side(width), height: side(height), held_out, label })
    }
}

/// Width and height of a picture that is whole, and whose sides are not below `least`.
fn size(bytes: &[u8], least: u64) -> Result<[usize; 2], String> {
    let picture = image::decode(bytes, &DecodeLimits::default()).map_err(|e| e.to_string())?.picture;
    let size = [picture.width, picture.height];
    match (size[0].min(size[1]) as u64) < least {
        true => Err(format!("it is {}×{}: sides of at least {least} are learned from", size[0], size[1])),
        false => Ok(size),
    }
}

/// Whether a picture is only validated with: a function of its name.
fn is_held_out(name: &str, fraction: f64) -> bool {
    let digest = Digest::of(name.as_bytes());
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
