//! What is known of a set: the objects that its features lie in, and what was left out of it.
//!
//! A set is found again by its *listing*: the names, lengths and tags of its objects, in the order in which its store lists
//! them, and what decides their features. Tags change with their objects: under the listing's digest lies what was found in
//! these very objects. Where a store gives no tags nothing is found again.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sr3_proto::{Digest, Key, Store, StoreError, store::PutMode};

use super::{
    part::{Part, part_key},
    unit::{Item, What},
};

/// Version of these forms.
const VERSION: u32 = 1;

/// A listing on its way to its digest.
pub(super) struct Listing {
    digest: Sha256,
    /// Of what cannot be looked at: apart, since units keep it apart.
    bad: Sha256,
    has_tags: bool,
}

impl Listing {
    /// Of a set that is looked at in this way.
    pub(super) fn new(looks: &str) -> Self {
        let mut digest = Sha256::new();
        text(&mut digest, looks);
        Self { digest, bad: Sha256::new(), has_tags: true }
    }

    /// An object, or a part of one.
    pub(super) fn item(&mut self, item: &Item) {
        let Item { key, bytes, etag, what } = item;
        self.has_tags &= etag.is_some();
        let what = match what {
            What::Picture => "picture".to_string(),
            What::Shard => "shard".to_string(),
            What::Samples { first, count, .. } => format!("samples {first} {count}"),
        };
        for part in [key.as_str(), etag.as_deref().unwrap_or_default(), &what] {
            text(&mut self.digest, part);
        }
        self.digest.update(bytes.to_le_bytes());
    }

    /// Something that cannot be looked at.
    pub(super) fn bad(&mut self, name: &str, reason: &str) {
        text(&mut self.bad, name);
        text(&mut self.bad, reason);
    }

    /// Its digest; none where it says too little.
    pub(super) fn digest(mut self) -> Option<Digest> {
        self.digest.update(self.bad.finalize());
        self.has_tags.then(|| Digest::of(&self.digest.finalize()))
    }
}

/// So that no two lists of texts are one.
fn text(digest: &mut Sha256, text: &str) {
    digest.update((text.len() as u64).to_le_bytes());
    digest.update(text);
}

/// The features of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetFile {
    version: u32,
    pub(super) parts: Vec<Part>,
    /// Pictures that were left out, each with the reason.
    pub(super) left_out: Vec<(String, String)>,
}

impl SetFile {
    pub(super) fn new(parts: Vec<Part>, left_out: Vec<(String, String)>) -> Self {
        Self { version: VERSION, parts, left_out }
    }

    /// The one of a listing, if all that it names is there.
    pub(super) async fn find(store: &Store, listing: &Digest) -> Result<Option<Self>, StoreError> {
        let bytes = match store.get(&set_key(listing)).await {
            Ok((_, bytes)) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(file) = serde_json::from_slice::<Self>(&bytes) else { return Ok(None) };
        if file.version != VERSION {
            return Ok(None);
        }
        for part in &file.parts {
            if store.head(&part_key(&part.sha256)).await?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(file))
    }

    pub(super) async fn write(&self, store: &Store, listing: &Digest) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        store.put(&set_key(listing), bytes.into(), PutMode::Replace).await
    }

    pub(super) fn images(&self) -> u64 {
        self.parts.iter().map(|part| part.images).sum()
    }
}

fn set_key(listing: &Digest) -> Key {
    key(&format!("sets/{listing}.json"))
}

/// What the second stage begins with: each set, in the order's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunFile(pub(super) Vec<RunSet>);

/// A set of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RunSet {
    /// Mean and covariance lie where the order says.
    Statistics,
    /// Its features.
    Features(SetFile),
}

impl RunFile {
    /// Writes it; returns what names it.
    pub(super) async fn write(&self, store: &Store) -> Result<Digest, StoreError> {
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let digest = Digest::of(&bytes);
        store.put(&run_key(&digest), bytes.into(), PutMode::Replace).await?;
        Ok(digest)
    }

    pub(super) async fn read(store: &Store, digest: &Digest) -> Result<Self, String> {
        let key = run_key(digest);
        let (_, bytes) = store.get(&key).await.map_err(|e| e.to_string())?;
        if Digest::of(&bytes) != *digest {
            return Err(format!("`{key}` is damaged: run the job again"));
        }
        serde_json::from_slice(&bytes).map_err(|e| format!("`{key}` cannot be read: {e}"))
    }
}

fn run_key(digest: &Digest) -> Key {
    key(&format!("sets/run-{digest}.json"))
}

/// A key that is known to be one.
pub(super) fn key(text: &str) -> Key {
    Key::new(text).unwrap_or_else(|_| unreachable!("`{text}` is a key"))
}
