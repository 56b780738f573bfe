//! The bytes of units, and of what comes of their items.

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};
use sr3_engine::vision::{LOGITS, POOL, SPATIAL};
use sr3_proto::{Digest, FailureKind, Key, store::ObjectInfo};
use sr3_worker::Failure;

use super::{
    order::Keeps,
    part::{Part, Rows},
};

/// What a unit of this kind is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UnitBytes {
    /// Pictures of a set to be looked at.
    Look { set: u32, items: Vec<Item> },
    /// All sets are there: their numbers.
    Numbers { run: Digest },
}

/// An object to be looked at, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) key: Key,
    /// Of the object.
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    pub(super) what: What,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A picture.
    Picture,
    /// Many, in a tar archive.
    Shard,
    /// Rows of an array of pictures, (N, H, W, 3) bytes from `offset` in the object.
    Samples { offset: u64, height: u32, width: u32, first: u64, count: u32 },
}

impl Item {
    /// An object of a listing.
    pub(super) fn new(info: ObjectInfo, what: What) -> Self {
        Self { key: info.key, bytes: info.bytes, etag: info.etag, what }
    }

    /// Bytes of input.
    pub(super) fn work(&self) -> u64 {
        match self.what {
            What::Picture | What::Shard => self.bytes,
            What::Samples { height, width, count, .. } => {
                3 * u64::from(height) * u64::from(width) * u64::from(count)
            }
        }
    }

    /// As how many pictures it counts.
    pub(super) fn count(&self) -> u32 {
        match self.what {
            What::Picture | What::Shard => 1,
            What::Samples { count, .. } => count,
        }
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> String {
        match self.what {
            What::Picture | What::Shard => self.key.to_string(),
            What::Samples { first, count, .. } => {
                format!("{}[{first}..{}]", self.key, first + u64::from(count))
            }
        }
    }
}

impl UnitBytes {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Failure> {
        serde_json::from_slice(bytes).map_err(|e| {
            let version = env!("CARGO_PKG_VERSION");
            let text =
                format!("the unit of kind `{}` cannot be read by this sr3 ({version}): {e}", super::NAME);
            Failure::new(FailureKind::Worker, text)
        })
    }
}

/// What is kept of a unit for the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AtEnd {
    /// Which set it is of.
    pub(super) set: u32,
    /// What the set is, told by its first unit, which has no items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<FoundSet>,
    /// What planning left out, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left_out: Vec<(String, String)>,
}

impl AtEnd {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// What planning finds at a set's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FoundSet {
    /// Mean and covariance.
    Statistics,
    /// Pictures whose features are there, under this listing.
    Known { listing: Digest },
    /// Pictures to be looked at.
    New,
}

/// What came of some items: the record of a call.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Verdicts {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Verdict>,
}

/// Features, objects of features, and what was left out.
pub(super) type Found = (Rows, Vec<Part>, Vec<(String, String)>);

/// What came of one: features, objects of features, and what was left out.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Verdict {
    #[prost(uint32, tag = "1")]
    pub(super) place: u32,
    #[prost(message, optional, tag = "2")]
    rows: Option<RowsBytes>,
    /// (sha256, images)
    #[prost(message, repeated, tag = "3")]
    parts: Vec<PartBytes>,
    #[prost(message, repeated, tag = "4")]
    left_out: Vec<LeftOutBytes>,
}

#[derive(Clone, PartialEq, Message)]
struct RowsBytes {
    #[prost(bytes = "bytes", tag = "1")]
    pictures: Bytes,
    #[prost(float, repeated, tag = "2")]
    pool: Vec<f32>,
    #[prost(float, repeated, tag = "3")]
    spatial: Vec<f32>,
    #[prost(float, repeated, tag = "4")]
    logits: Vec<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct PartBytes {
    #[prost(string, tag = "1")]
    sha256: String,
    #[prost(uint64, tag = "2")]
    images: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LeftOutBytes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    reason: String,
}

impl Verdict {
    pub(super) fn new(place: u32, rows: Rows, parts: Vec<Part>, left_out: Vec<(String, String)>) -> Self {
        let rows = (!rows.pictures.is_empty()).then(|| RowsBytes {
            pictures: rows.pictures.as_flattened().to_vec().into(),
            pool: rows.pool,
            spatial: rows.spatial,
            logits: rows.logits,
        });
        let part = |part: Part| PartBytes { sha256: part.sha256.into(), images: part.images };
        let left_out = left_out.into_iter().map(|(name, reason)| LeftOutBytes { name, reason });
        Self { place, rows, parts: parts.into_iter().map(part).collect(), left_out: left_out.collect() }
    }

    pub(super) fn bad(place: u32, name: String, reason: String) -> Self {
        Self::new(place, Rows::default(), Vec::new(), vec![(name, reason)])
    }

    /// Features, objects of features, and what was left out. What a stranger sent is checked.
    pub(super) fn parts(self, keeps: Keeps) -> Result<Found, String> {
        let rows = match self.rows {
            None => Rows::default(),
            Some(RowsBytes { pictures, pool, spatial, logits }) => {
                let count = pictures.len() / 32;
                let fits = |values: &[f32], width: usize, is_kept: bool| {
                    values.len() == if is_kept { count * width } else { 0 }
                };
                if !pictures.len().is_multiple_of(32)
                    || !fits(&pool, POOL, true)
                    || !fits(&spatial, SPATIAL, keeps.spatial)
                    || !fits(&logits, LOGITS, keeps.logits)
                {
                    return Err("features of pictures are not those of the order".into());
                }
                Rows { pictures: pictures.as_chunks().0.to_vec(), pool, spatial, logits }
            }
        };
        let part = |part: PartBytes| {
            let sha256 = Digest::try_from(part.sha256).map_err(|e| e.to_string())?;
            Ok::<_, String>(Part { sha256, images: part.images })
        };
        let parts = self.parts.into_iter().map(part).collect::<Result<_, _>>()?;
        Ok((rows, parts, self.left_out.into_iter().map(|one| (one.name, one.reason)).collect()))
    }
}

/// A record of these verdicts.
pub(super) fn record(items: Vec<Verdict>) -> Bytes {
    Verdicts { items }.encode_to_vec().into()
}

/// The verdicts in some records, those that can be read.
pub(super) fn verdicts<'a>(records: impl IntoIterator<Item = &'a Bytes>) -> Vec<Verdict> {
    let read = records.into_iter().filter_map(|record| Verdicts::decode(record.clone()).ok());
    read.flat_map(|verdicts| verdicts.items).collect()
}

/// The items without a verdict, with their places in the unit.
pub(super) fn open_items(items: Vec<Item>, earlier: &[Verdict]) -> Vec<(u32, Item)> {
    let is_open = |place: u32| earlier.iter().all(|verdict| verdict.place != place);
    (0..).zip(items).filter(|(place, _)| is_open(*place)).collect()
}

/// What came of a unit: what its worker reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Looked {
    pub(super) parts: Vec<Part>,
    /// Pictures that were left out, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
}
