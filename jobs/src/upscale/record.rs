//! What is written about finished work: a record per item, a manifest per shard, a record per run, `_SUCCESS`.
//!
//! Manifests are the truth about a destination: a file is recognised as a result because a manifest says so, never
//! because it exists. Every document carries a version, and one from the future is refused rather than guessed at.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use bytes::Bytes;
use sr3_proto::{Digest, Key, RunId, UnitId};

use super::RecipeSpec;
use crate::Dtype;

/// The version of every document that this crate writes.
pub const VERSION: u32 = 1;

/// How an item ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemStatus {
    /// The output is written.
    Ok,
    /// Nothing was to do; the reason says why.
    Skipped,
    /// No output can be made; the reason says why. Tried again by the next run.
    Quarantined,
}

/// One line of the report, and one entry of a manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// Path relative to the source. Not a [`Key`]: a name that is no valid UTF-8 is reported too, as well as it can be.
    pub input: String,
    /// Path relative to the destination; none where no output is due.
    pub output: Option<Key>,
    /// How it ended.
    pub status: ItemStatus,
    /// Why it was skipped or quarantined.
    pub reason: Option<String>,
    /// What a user should know about a result: first frame only, profile dropped, …
    #[serde(default)]
    pub notes: Vec<String>,
    /// Digest of the input's bytes.
    pub input_sha256: Option<Digest>,
    /// Digest of the output's bytes.
    pub output_sha256: Option<Digest>,
    /// Length of the input.
    pub input_bytes: Option<u64>,
    /// Length of the output.
    pub output_bytes: Option<u64>,
    /// Width and height of the input as seen, after its orientation is applied.
    pub input_size: Option<[u32; 2]>,
    /// Width and height of the output.
    pub output_size: Option<[u32; 2]>,
    /// Seed of the noise.
    pub seed: u64,
    /// Digest of the checkpoint; none where somebody else has enlarged.
    pub model: Option<Digest>,
    /// Digest of the recipe.
    pub recipe: Digest,
    /// What convolutions were computed in.
    #[serde(default)]
    pub dtype: Dtype,
    /// Mean squared difference of the reduced output and the input, both in 0..1.
    pub consistency_error: Option<f64>,
    /// Mean of red, green and blue of the reduced output above that of the input, in steps of 255, where somebody else has
    /// enlarged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_shift: Option<[f64; 3]>,
    /// What somebody else has made of the input, and how far that was from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enlarged: Option<EnlargedRecord>,
    /// What the network was told that the input shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_class: Option<u32>,
    /// Time spent on the device for this item, in seconds.
    pub seconds: Option<f64>,
    /// The store's tag of the input's state when it was read.
    pub input_etag: Option<String>,
}

/// What somebody else has made of an input, as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnlargedRecord {
    /// Path relative to where the enlarged pictures lie.
    pub path: Key,
    /// Digest of its bytes.
    pub sha256: Option<Digest>,
    /// Length.
    pub bytes: Option<u64>,
    /// The store's tag of its state when it was read.
    pub etag: Option<String>,
    /// As the record's own number of this name, before anything was done.
    pub consistency_error: Option<f64>,
    /// As the record's own number of this name, before anything was done.
    pub mean_shift: Option<[f64; 3]>,
}

impl ItemRecord {
    /// The record as it is kept in the ledger and sent: compact JSON.
    pub fn to_bytes(&self) -> Bytes {
        // Its maps have text keys and its floats are finite or null: it always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// And back.
    ///
    /// # Errors
    /// It is no record.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// A record without a result, for `recipe`.
    pub fn without_result(
        input: impl Into<String>,
        output: Option<Key>,
        status: ItemStatus,
        reason: impl Into<String>,
        recipe: &RecipeSpec,
    ) -> Self {
        Self {
            input: input.into(),
            output,
            status,
            reason: Some(reason.into()),
            notes: Vec::new(),
            input_sha256: None,
            output_sha256: None,
            input_bytes: None,
            output_bytes: None,
            input_size: None,
            output_size: None,
            seed: recipe.seed,
            model: recipe.model.clone(),
            recipe: recipe.digest(),
            dtype: recipe.dtype,
            consistency_error: None,
            mean_shift: None,
            enlarged: None,
            image_class: None,
            seconds: None,
            input_etag: None,
        }
    }
}

/// The finished items of a shard; created once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardManifest {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    #[serde(rename = "job")]
    pub run: RunId,
    /// The shard.
    #[serde(rename = "shard")]
    pub unit: UnitId,
    /// The recipe that every item here was made by.
    pub recipe: RecipeSpec,
    /// Its digest.
    pub recipe_digest: Digest,
    /// In input order. Shorter than the shard if the run was interrupted.
    pub items: Vec<ItemRecord>,
}

impl ShardManifest {
    /// The manifest of a shard with these verdicts: sorted by input in byte order, one verdict an input.
    pub fn new(run: RunId, unit: UnitId, recipe: &RecipeSpec, mut items: Vec<ItemRecord>) -> Self {
        // Stable: of two verdicts on one input, as a report that was sent twice leaves them, the first stays.
        items.sort_by(|a, b| a.input.as_bytes().cmp(b.input.as_bytes()));
        items.dedup_by(|later, first| later.input == first.input);
        let recipe_digest = recipe.digest();
        Self { version: VERSION, run, unit, recipe: recipe.clone(), recipe_digest, items }
    }
}

/// What a run was asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    #[serde(rename = "job")]
    pub run: RunId,
    /// Its recipe.
    pub recipe: RecipeSpec,
    /// Its source, as the user named it.
    pub source: String,
    /// Where lies what somebody else has enlarged, as the user named it; none where a model enlarges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enlarged: Option<String>,
    /// Who began it: a name that no other run has. Whoever finds its own name began the run, whatever became of the
    /// answer. Empty in records of versions before there were names.
    #[serde(default)]
    pub owner: String,
    /// Whether it was allowed to replace what others wrote. A later run of the same recipe that goes on with it is
    /// allowed the same for what was recorded before it.
    pub overwrite: bool,
}

/// The last thing that a complete run writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    #[serde(rename = "job")]
    pub run: RunId,
    /// Digest of its recipe.
    pub recipe_digest: Digest,
    /// Items with a result, of this run.
    pub done: u64,
    /// Items that needed nothing.
    pub skipped: u64,
    /// Items without a result.
    pub quarantined: u64,
}

/// A document that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not of the expected shape.
    #[error("`{what}` cannot be read: {source}")]
    Malformed {
        /// Which document.
        what: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Written by another version.
    #[error(
        "`{what}` has version {found}, and this program reads version {VERSION}: use the newer sr3 that wrote it"
    )]
    Version {
        /// Which document.
        what: String,
        /// Its version.
        found: u32,
    },
}

/// Reads a document named `what`, its version first.
pub fn read_document<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed = |source| RecordError::Malformed { what: what.to_string(), source };
    let Versioned { version: found } = serde_json::from_slice(bytes).map_err(malformed)?;
    if found != VERSION {
        return Err(RecordError::Version { what: what.to_string(), found });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Writes a document: indented JSON with a newline at the end, for people who look into `.sr3/`.
pub fn write_document<T: Serialize>(what: &str, document: &T) -> Result<Vec<u8>, RecordError> {
    let mut bytes = serde_json::to_vec_pretty(document)
        .map_err(|source| RecordError::Malformed { what: what.to_string(), source })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success() -> Success {
        Success {
            version: VERSION,
            run: RunId::new(3),
            recipe_digest: Digest::of(b"r"),
            done: 1,
            skipped: 2,
            quarantined: 3,
        }
    }

    #[test]
    fn a_document_reads_back() {
        let bytes = write_document("x", &success()).unwrap();
        assert_eq!(read_document::<Success>("x", &bytes).unwrap(), success());
    }

    #[test]
    fn a_document_from_the_future_is_refused_by_its_version_even_if_its_shape_changed() {
        let error = read_document::<Success>("x", br#"{"version": 2, "all": "new"}"#).unwrap_err();
        assert!(matches!(error, RecordError::Version { found: 2, .. }));
    }

    #[test]
    fn damage_is_an_error() {
        let bytes = write_document("x", &success()).unwrap();
        for end in 0..bytes.len() - 2 {
            assert!(read_document::<Success>("x", &bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
