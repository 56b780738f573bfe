//! Which pictures there are: made once, by the job's first stage, and never again.
//!
//! Each unit of that stage writes a *part*, a line for each picture that can be learned from or validated with, in the order
//! of the listing. The index names the parts with their digests. Its own digest is part of every checkpoint: a run goes on
//! with the very pictures that it began with, or not at all. An object that changes later is noticed when it is read.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{Digest, Key, Store, StoreError, UnitId, store::PutMode};

use crate::images::shard::Place;

/// Version of its form.
const VERSION: u32 = 1;
const INDEX: &str = "index/index.json";

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// Where in the object it lies; none of a picture that is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Place>,
    /// Its length.
    pub(super) bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Whether it is only validated with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) held_out: bool,
    /// What it shows, where that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
}

impl Entry {
    /// Its name, for people and for what depends on it.
    pub(super) fn name(&self) -> String {
        name(&self.key, self.place.as_ref())
    }
}

/// The name of a picture at a place.
pub(super) fn name(key: &Key, place: Option<&Place>) -> String {
    place.map_or_else(|| key.to_string(), |place| format!("{key}/{}", place.name))
}

/// What names a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) key: Key,
    pub(super) sha256: Digest,
    /// Pictures to learn from.
    pub(super) learned: u64,
    /// Pictures to validate with.
    pub(super) held_out: u64,
}

/// What lies at the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexFile {
    version: u32,
    /// Digest of the recipe that it was made for.
    pub(super) recipe: Digest,
    pub(super) parts: Vec<Part>,
    /// Pictures that were left out.
    pub(super) left_out: u64,
    /// The labels, in order: their places are the classes that the network is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) classes: Vec<String>,
}

/// All pictures, in order.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) learned: Vec<Entry>,
    pub(super) held_out: Vec<Entry>,
    pub(super) classes: Vec<String>,
}

/// What a checkpoint says of the pictures that it was made from.
#[derive(Clone, Debug)]
pub(super) struct Pictures {
    /// Digest of the index.
    pub(super) index: Digest,
    /// The labels, in order.
    pub(super) classes: Arc<[String]>,
}

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "`{key}` is damaged: {reason}; remove the folder `index` of the destination to have it made again"
    )]
    Damaged { key: String, reason: String },
}

/// The key of a unit's part.
pub(super) fn part_key(unit: UnitId) -> Key {
    key(&format!("index/part-{:08}.jsonl", unit.get()))
}

/// A key that is known to be one.
pub(super) fn key(text: &str) -> Key {
    Key::new(text).unwrap_or_else(|_| unreachable!("`{text}` is a key"))
}

/// A part's bytes.
pub(super) fn encode_part(entries: &[Entry]) -> Bytes {
    let mut text = String::new();
    for entry in entries {
        // Strings and numbers always have a JSON form.
        text += &serde_json::to_string(entry).unwrap_or_default();
        text.push('\n');
    }
    text.into()
}

/// And back.
pub(super) fn decode_part(key: &Key, bytes: &[u8]) -> Result<Vec<Entry>, IndexError> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| damaged(key, &e))).collect()
}

impl IndexFile {
    pub(super) fn new(recipe: Digest, parts: Vec<Part>, left_out: u64, classes: Vec<String>) -> Self {
        Self { version: VERSION, recipe, parts, left_out, classes }
    }

    pub(super) fn learned(&self) -> u64 {
        self.parts.iter().map(|part| part.learned).sum()
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }

    pub(super) async fn write(&self, store: &Store) -> Result<(), StoreError> {
        store.put(&key(INDEX), self.encode().into(), PutMode::Replace).await
    }

    /// The one at the destination, if there is one.
    pub(super) async fn find(store: &Store) -> Result<Option<Self>, IndexError> {
        let index = key(INDEX);
        let bytes = match store.get(&index).await {
            Ok((_, bytes)) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let file: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(&index, &e))?;
        match file.version {
            VERSION => Ok(Some(file)),
            other => Err(damaged(&index, &format!("it has version {other}, and version {VERSION} is read"))),
        }
    }

    /// Reads all parts.
    pub(super) async fn read(&self, store: &Store) -> Result<Index, IndexError> {
        let mut index = Index { learned: Vec::new(), held_out: Vec::new(), classes: self.classes.clone() };
        for part in &self.parts {
            let (_, bytes) = store.get(&part.key).await?;
            if Digest::of(&bytes) != part.sha256 {
                return Err(damaged(&part.key, &"it is not what the index names"));
            }
            for entry in decode_part(&part.key, &bytes)? {
                if entry.held_out { &mut index.held_out } else { &mut index.learned }.push(entry);
            }
        }
        Ok(index)
    }
}

fn damaged(key: &Key, reason: &dyn ToString) -> IndexError {
    IndexError::Damaged { key: key.to_string(), reason: reason.to_string() }
}
