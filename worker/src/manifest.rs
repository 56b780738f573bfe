//! A shard's manifest: made of its verdicts, created once at the destination, never replaced.
//!
//! Somebody else may have created it first: an attempt of the same shard that lost its lease, or this worker in a put
//! whose answer was lost. If it speaks of the very same inputs it is the shard's manifest, and this one is forgotten.

use sr3_proto::{
    Digest, FailureKind, ItemRecord, ItemStatus, ShardManifest, Store, StoreError, layout,
    record::{read_document, write_document},
    store::PutMode,
};

use crate::work::Failure;

/// Reasons that are told beside the numbers.
const REASONS: usize = 5;

/// What is told about a manifest that lies at its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) done: u64,
    pub(crate) quarantined: u64,
    pub(crate) digest: Digest,
    pub(crate) reasons: Vec<String>,
}

/// Creates the manifest, or takes the one that is there.
pub(crate) async fn create(store: &Store, manifest: &ShardManifest) -> Result<Recorded, Failure> {
    let key = layout::manifest_key(manifest.job, manifest.shard);
    let transient = |error: StoreError| Failure::new(FailureKind::Transient, error);
    let bytes = write_document(key.as_str(), manifest).map_err(|e| Failure::new(FailureKind::Job, e))?;
    let digest = Digest::of(&bytes);
    match store.put(&key, bytes.into(), PutMode::Create).await {
        Ok(()) => return Ok(recorded(manifest, digest)),
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(error) => return Err(transient(error)),
    }
    let (_, bytes) = store.get(&key).await.map_err(transient)?;
    match read_document::<ShardManifest>(key.as_str(), &bytes) {
        Ok(there) if is_of_the_same(&there, manifest) => Ok(recorded(&there, Digest::of(&bytes))),
        Ok(_) => Err(Failure::new(FailureKind::Job, "another run began on the destination")),
        Err(error) => Err(Failure::new(FailureKind::Job, error)),
    }
}

fn is_of_the_same(there: &ShardManifest, ours: &ShardManifest) -> bool {
    let inputs = |of: &ShardManifest| of.items.iter().map(|item| item.input.clone()).collect::<Vec<_>>();
    there.job == ours.job
        && there.shard == ours.shard
        && there.recipe_digest == ours.recipe_digest
        && inputs(there) == inputs(ours)
}

fn recorded(manifest: &ShardManifest, digest: Digest) -> Recorded {
    let of = |status| manifest.items.iter().filter(move |item| item.status == status);
    let reason =
        |item: &ItemRecord| format!("{}: {}", item.input, item.reason.as_deref().unwrap_or_default());
    Recorded {
        done: of(ItemStatus::Ok).count() as u64,
        quarantined: of(ItemStatus::Quarantined).count() as u64,
        reasons: of(ItemStatus::Quarantined).take(REASONS).map(reason).collect(),
        digest,
    }
}
