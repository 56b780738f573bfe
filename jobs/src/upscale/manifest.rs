//! A unit's manifest: made of its verdicts, created once at the destination, never replaced.
//!
//! Somebody else may have created it first: an attempt of the same unit that lost its lease, or this worker in a put
//! whose answer was lost. If it speaks of the very same inputs it is the unit's manifest, and this one is forgotten.

use async_trait::async_trait;
use bytes::Bytes;
use sr3_coordinator::kind::{Check, Doubt};
use sr3_proto::{
    Digest, FailureKind, RunId, Store, StoreError, UnitId, layout, session::UnitResult, store::PutMode,
};
use sr3_worker::Failure;

use super::{
    ItemRecord, ItemStatus, Items, ShardManifest,
    record::{read_document, write_document},
};

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;

/// Creates the manifest, or takes the one that is there. The result's bytes are its sha256.
///
/// # Errors
/// The destination does not take it, or holds that of another run.
pub(super) async fn create(store: &Store, manifest: &ShardManifest) -> Result<UnitResult, Failure> {
    let key = layout::manifest_key(manifest.run, manifest.unit);
    let transient = |error: StoreError| Failure::new(FailureKind::Transient, error);
    let bytes = write_document(key.as_str(), manifest).map_err(|e| Failure::new(FailureKind::Job, e))?;
    let digest = Digest::of(&bytes);
    match store.put(&key, bytes.into(), PutMode::Create).await {
        Ok(()) => return Ok(result(manifest, &digest)),
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(error) => return Err(transient(error)),
    }
    let (_, bytes) = store.get(&key).await.map_err(transient)?;
    match read_document::<ShardManifest>(key.as_str(), &bytes) {
        Ok(there) if is_of_the_same(&there, manifest) => Ok(result(&there, &Digest::of(&bytes))),
        Ok(_) => Err(Failure::new(FailureKind::Job, "another run began on the destination")),
        Err(error) => Err(Failure::new(FailureKind::Job, error)),
    }
}

fn is_of_the_same(there: &ShardManifest, ours: &ShardManifest) -> bool {
    let inputs = |of: &ShardManifest| of.items.iter().map(|item| item.input.clone()).collect::<Vec<_>>();
    there.run == ours.run
        && there.unit == ours.unit
        && there.recipe_digest == ours.recipe_digest
        && inputs(there) == inputs(ours)
}

fn result(manifest: &ShardManifest, digest: &Digest) -> UnitResult {
    let of = |status| manifest.items.iter().filter(move |item| item.status == status);
    let reason =
        |item: &ItemRecord| format!("{}: {}", item.input, item.reason.as_deref().unwrap_or_default());
    UnitResult {
        done: of(ItemStatus::Ok).count() as u64,
        quarantined: of(ItemStatus::Quarantined).count() as u64,
        reasons: of(ItemStatus::Quarantined).take(REASONS).map(reason).collect(),
        payload: Bytes::copy_from_slice(digest.as_str().as_bytes()),
    }
}

/// Looks whether a worker's result is one: of the manifest that lies there, which speaks of the unit's very inputs.
#[derive(Debug)]
pub(super) struct ManifestCheck {
    /// Where it lies.
    pub(super) store: Store,
    /// The run that it must be of.
    pub(super) run: RunId,
}

#[async_trait]
impl Check for ManifestCheck {
    async fn check(&self, id: UnitId, unit: &Bytes, said: &UnitResult) -> Result<(), Doubt> {
        let key = layout::manifest_key(self.run, id);
        let bytes = match self.store.get(&key).await {
            Ok((_, bytes)) => bytes,
            Err(error @ StoreError::NotFound { .. }) => return Err(Doubt::False(error.to_string())),
            Err(error) => return Err(Doubt::Unknown(error.to_string())),
        };
        let there: ShardManifest =
            read_document(key.as_str(), &bytes).map_err(|e| Doubt::False(e.to_string()))?;
        let is = result(&there, &Digest::of(&bytes));
        if is.payload != said.payload {
            return Err(Doubt::False(format!("`{key}` has another sha256")));
        }
        let items = Items::from_bytes(unit).map_err(|e| Doubt::Unknown(e.to_string()))?.0;
        let mut asked: Vec<_> = items.iter().map(|(_, item)| item.input.as_str()).collect();
        let mut answered: Vec<_> = there.items.iter().map(|item| item.input.as_str()).collect();
        asked.sort_unstable();
        answered.sort_unstable();
        if there.run != self.run || there.unit != id || asked != answered {
            return Err(Doubt::False(format!("`{key}` is not of this unit")));
        }
        if (is.done, is.quarantined) != (said.done, said.quarantined) {
            return Err(Doubt::False(format!("`{key}` has other numbers")));
        }
        Ok(())
    }
}

/// The sha256 that a recorded result names.
///
/// # Errors
/// It is none: somebody else's bytes.
pub(super) fn recorded(payload: &Bytes) -> Result<Digest, super::item::UnitError> {
    let text = String::from_utf8_lossy(payload).into_owned();
    Digest::try_from(text).map_err(|e| super::item::UnitError { reason: e.to_string() })
}
