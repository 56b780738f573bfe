//! Putting a finished output at its key, by the rule that its task carries.

use bytes::Bytes;
use sr3_proto::{Digest, Key, Store, StoreError, off_thread, store::PutMode};

use super::OnExisting;

/// Why an output is not at its key.
pub(crate) enum NotPublished {
    /// Only this item is concerned.
    Item(String),
    /// The store takes no more writes.
    Store(StoreError),
}

impl From<StoreError> for NotPublished {
    fn from(error: StoreError) -> Self {
        // A vanished folder is not one item's matter, a name that cannot be used is.
        if matches!(error, StoreError::Name { .. }) {
            Self::Item(error.to_string())
        } else {
            Self::Store(error)
        }
    }
}

/// Puts `bytes`, whose digest is `digest`, at `key`.
pub(crate) async fn publish(
    store: &Store,
    key: &Key,
    bytes: Bytes,
    digest: &Digest,
    on_existing: &OnExisting,
) -> Result<(), NotPublished> {
    if *on_existing == OnExisting::Replace {
        return Ok(store.put(key, bytes, PutMode::Replace).await?);
    }
    match store.put(key, bytes.clone(), PutMode::Create).await {
        Err(StoreError::AlreadyExists { .. }) => {}
        other => return Ok(other?),
    }
    let (_, there) = store.get(key).await?;
    let there = off_thread(move || Digest::of(&there)).await;
    match (there, on_existing) {
        (Ok(there), _) if there == *digest => Ok(()),
        (Ok(there), OnExisting::ReplaceOwn(own)) if there == *own => {
            Ok(store.put(key, bytes, PutMode::Replace).await?)
        }
        _ => Err(NotPublished::Item(format!(
            "`{key}` exists and was not written by this job; --overwrite replaces it"
        ))),
    }
}
