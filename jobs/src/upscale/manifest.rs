//! A unit's manifest: made of its verdicts, created once at the destination, never replaced.
//!
//! Somebody else may have created it first: an attempt of the same unit that lost its lease, or this worker in a put
//! whose answer was lost. If it speaks of the very same inputs it is the unit's manifest, and this one is forgotten.

use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, Store, StoreError, layout, session::UnitResult, store::PutMode};
use sr3_worker::Failure;

use super::{
    ItemRecord, ItemStatus, ShardManifest,
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

/// The sha256 that a recorded result names.
///
/// # Errors
/// It is none: somebody else's bytes.
pub(super) fn recorded(payload: &Bytes) -> Result<Digest, super::item::UnitError> {
    let text = String::from_utf8_lossy(payload).into_owned();
    Digest::try_from(text).map_err(|e| super::item::UnitError { reason: e.to_string() })
}
