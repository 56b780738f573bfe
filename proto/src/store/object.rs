//! Stores that the `object_store` crate opens.
//!
//! Keys go over as they are: `Path::parse` keeps every character, where `Path::from` would escape `#`, `%`, `~` and
//! others into different names. Names that it cannot carry (control characters) are refused by name.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions, memory::InMemory, path::Path,
};

use super::{ListEntry, ObjectInfo, Oddity, PutMode, StoreError};
use crate::{Key, layout::STATE_FOLDER};

/// A store behind the `object_store` crate.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    inner: Arc<dyn ObjectStore>,
}

impl RemoteStore {
    /// Lives in this process and ends with it.
    pub fn in_memory() -> Self {
        Self { inner: Arc::new(InMemory::new()) }
    }

    pub(super) async fn get(&self, key: &Key) -> Result<(ObjectInfo, Bytes), StoreError> {
        let found = self.inner.get(&path(key)?).await.map_err(|e| refusal(key.as_str(), e))?;
        let info = ObjectInfo { key: key.clone(), bytes: found.meta.size, etag: found.meta.e_tag.clone() };
        Ok((info, found.bytes().await.map_err(|e| refusal(key.as_str(), e))?))
    }

    pub(super) async fn get_start(&self, key: &Key, bytes: u64) -> Result<Bytes, StoreError> {
        if self.head(key).await?.bytes == 0 {
            return Ok(Bytes::new());
        }
        let options = GetOptions { range: Some(GetRange::Bounded(0..bytes)), ..GetOptions::default() };
        let found = self.inner.get_opts(&path(key)?, options).await.map_err(|e| refusal(key.as_str(), e))?;
        found.bytes().await.map_err(|e| refusal(key.as_str(), e))
    }

    pub(super) async fn head(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        let meta = self.inner.head(&path(key)?).await.map_err(|e| refusal(key.as_str(), e))?;
        Ok(ObjectInfo { key: key.clone(), bytes: meta.size, etag: meta.e_tag })
    }

    pub(super) async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let mode = match mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Replace => object_store::PutMode::Overwrite,
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.inner.put_opts(&path(key)?, bytes.into(), options).await;
        put.map(|_| ()).map_err(|e| refusal(key.as_str(), e))
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(&path(key)?).await.map_err(|e| refusal(key.as_str(), e))
    }

    pub(super) fn list(&self, prefix: Option<Key>) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        let under = match prefix.as_ref().map(path).transpose() {
            Ok(under) => under,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let whole = under.is_none();
        self.inner
            .list(under.as_ref())
            .map_err(|e| refusal("listing", e))
            .try_filter_map(move |meta| async move {
                let text = meta.location.as_ref().to_string();
                if whole && text.split('/').any(|part| part == STATE_FOLDER) {
                    return Ok(None);
                }
                Ok(Some(match Key::new(text) {
                    Ok(key) => ListEntry::Object(ObjectInfo { key, bytes: meta.size, etag: meta.e_tag }),
                    Err(bad) => {
                        let what = Oddity::Unreadable { error: bad.to_string() };
                        ListEntry::Odd { path: bad.text, what }
                    }
                }))
            })
            .boxed()
    }
}

fn path(key: &Key) -> Result<Path, StoreError> {
    Path::parse(key.as_str())
        .map_err(|e| StoreError::Name { path: key.to_string(), reason: format!("{e}: rename it") })
}

fn refusal(path: &str, error: Error) -> StoreError {
    let path = path.to_string();
    match error {
        Error::NotFound { .. } => StoreError::NotFound { path },
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreError::AlreadyExists { path },
        Error::PermissionDenied { source, .. } | Error::Unauthenticated { source, .. } => {
            StoreError::Denied { path, source: std::io::Error::other(source) }
        }
        other => StoreError::Failed { path, source: other.into() },
    }
}
