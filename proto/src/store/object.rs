//! Stores that the `object_store` crate opens: buckets, and memory.
//!
//! Keys go over as they are: `Path::parse` keeps every character, where `Path::from` would escape `#`, `%`, `~` and
//! others into different names. Names that it cannot carry (control characters) are refused by name; an object with
//! such a name, or with an empty segment (`a//b`), stops a listing with an error that names it.
//!
//! An object of up to [`SINGLE_BYTES_MAX`] is created by a single conditional PUT: that is the one form of write of
//! which exactly one wins on every cloud. A replacement of more than [`MULTIPART_FROM`] goes up in parts, and is
//! never seen before the last; a failed one is aborted.
//!
//! A response to a [`PutMode::Create`] may get lost after the object was created. It is asked for again and then
//! answered by [`StoreError::AlreadyExists`]: whoever gets that compares the bytes, as after a crash.
//!
//! Consoles mark "folders" by empty objects whose names end in a slash. They are no objects here.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions,
    WriteMultipart, memory::InMemory, path::Path,
};

use super::{
    ListEntry, Location, ObjectInfo, Oddity, PutMode, Settings, StoreError,
    connect::{Connector, Patience},
    refusal::{self, Asked},
};
use crate::{Key, layout::STATE_FOLDER};

/// Replacements larger than this go up in parts.
pub const MULTIPART_FROM: usize = 16 << 20;
/// The largest object that a single PUT takes, by the rules of S3; larger ones cannot be created.
pub const SINGLE_BYTES_MAX: u64 = 5 << 30;
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;
/// Single uploads larger than this get more time.
const LARGE_BYTES: usize = 8 << 20;

/// A store behind the `object_store` crate.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    inner: Arc<dyn ObjectStore>,
    /// None for a store without a location.
    connector: Option<Connector>,
    /// The same store with more time for an upload; opened when it is needed.
    large: Arc<OnceLock<Arc<dyn ObjectStore>>>,
}

impl RemoteStore {
    /// Lives in this process and ends with it.
    pub fn in_memory() -> Self {
        Self::of(Arc::new(InMemory::new()))
    }

    /// Whatever this is, as it is.
    pub(super) fn of(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, connector: None, large: Arc::default() }
    }

    /// A bucket; nothing is asked of the server yet.
    pub(super) fn open(location: &Location, settings: &Settings) -> Result<Self, StoreError> {
        let connector = Connector { location: location.clone(), settings: Arc::new(settings.clone()) };
        let inner = connector.connect(Patience::Usual)?;
        Ok(Self { inner, connector: Some(connector), large: Arc::default() })
    }

    pub(super) fn location(&self) -> Option<&Location> {
        self.connector.as_ref().map(|connector| &connector.location)
    }

    /// Asks for one line of a listing, with little patience.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let Some(connector) = &self.connector else { return Ok(()) };
        let store = connector.connect(Patience::Short)?;
        let first = store.list(self.prefix()?.as_ref()).next().await;
        match first {
            // A name that cannot be used is the listing's to report.
            Some(Err(error)) if !matches!(error, Error::InvalidPath { .. }) => {
                Err(self.refusal(connector.location.to_string(), Asked::Listing, error))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn get(&self, key: &Key) -> Result<(ObjectInfo, Bytes), StoreError> {
        let found = self.inner.get(&self.path(key)?).await.map_err(|e| self.about(key, e))?;
        let info = ObjectInfo { key: key.clone(), bytes: found.meta.size, etag: found.meta.e_tag.clone() };
        Ok((info, found.bytes().await.map_err(|e| self.about(key, e))?))
    }

    pub(super) async fn get_part(
        &self,
        key: &Key,
        range: Range<u64>,
    ) -> Result<(ObjectInfo, Bytes), StoreError> {
        let start = range.start;
        // What an object of no bytes answers to a range is not the same everywhere.
        if start == 0 {
            let info = self.head(key).await?;
            if info.bytes == 0 {
                return Ok((info, Bytes::new()));
            }
        }
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let found = match self.inner.get_opts(&self.path(key)?, options).await {
            Ok(found) => found,
            // Not every store says so in a way that can be told from other refusals.
            Err(error) => match self.head(key).await {
                Ok(info) if info.bytes <= start => {
                    return Ok((info, Bytes::new()));
                }
                _ => return Err(self.about(key, error)),
            },
        };
        let info = ObjectInfo { key: key.clone(), bytes: found.meta.size, etag: found.meta.e_tag.clone() };
        Ok((info, found.bytes().await.map_err(|e| self.about(key, e))?))
    }

    pub(super) async fn head(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        let meta = self.inner.head(&self.path(key)?).await.map_err(|e| self.about(key, e))?;
        Ok(ObjectInfo { key: key.clone(), bytes: meta.size, etag: meta.e_tag })
    }

    pub(super) async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let mode = match mode {
            PutMode::Replace if bytes.len() > MULTIPART_FROM => {
                return self.put_parts(&path, bytes).await.map_err(|e| self.about(key, e));
            }
            PutMode::Replace => object_store::PutMode::Overwrite,
            PutMode::Create if bytes.len() as u64 > SINGLE_BYTES_MAX => {
                let reason = format!(
                    "its {} bytes are more than the {SINGLE_BYTES_MAX} that one upload takes: make it smaller",
                    bytes.len()
                );
                return Err(StoreError::Name { path: self.shown(key), reason });
            }
            PutMode::Create => object_store::PutMode::Create,
        };
        let store = if bytes.len() > LARGE_BYTES { self.large()? } else { &self.inner };
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = store.put_opts(&path, bytes.into(), options).await;
        put.map(|_| ()).map_err(|e| self.about(key, e))
    }

    /// Begins an upload of `bytes` and gives it up half-way, as a process that is killed does, only tidier.
    pub(super) async fn put_torn(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let torn = async {
            let mut upload =
                self.inner.put_multipart(&self.path(key)?).await.map_err(|e| self.about(key, e))?;
            let half = bytes.slice(..bytes.len() / 2);
            upload.put_part(half.into()).await.map_err(|e| self.about(key, e))?;
            upload.abort().await.map_err(|e| self.about(key, e))
        };
        torn.await
    }

    pub(super) async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.inner.delete(&self.path(key)?).await.map_err(|e| self.about(key, e))
    }

    /// What lies under `under` (the whole store without it) after the key `after`.
    pub(super) fn list(
        &self,
        under: Option<&Key>,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        match self.try_list(under, after) {
            Ok(listing) => listing,
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn try_list(
        &self,
        under: Option<&Key>,
        after: Option<&Key>,
    ) -> Result<BoxStream<'static, Result<ListEntry, StoreError>>, StoreError> {
        let prefix = match under {
            Some(under) => Some(self.path(under)?),
            None => self.prefix()?,
        };
        let metas = match after.map(|after| self.path(after)).transpose()? {
            Some(offset) => self.inner.list_with_offset(prefix.as_ref(), &offset),
            None => self.inner.list(prefix.as_ref()),
        };
        let (store, whole) = (self.clone(), under.is_none());
        let shown = match (self.location(), under) {
            (Some(location), Some(under)) => location.join(under).to_string(),
            (Some(location), None) => location.to_string(),
            (None, _) => "listing".to_string(),
        };
        let failed = self.clone();
        Ok(metas
            .map_err(move |e| failed.refusal(shown.clone(), Asked::Listing, e))
            .try_filter_map(move |meta| {
                let store = store.clone();
                async move { store.entry(meta, whole).await }
            })
            .boxed())
    }

    async fn entry(&self, meta: ObjectMeta, whole: bool) -> Result<Option<ListEntry>, StoreError> {
        // Whatever does not lie below the prefix is the prefix's own marker.
        let Some(text) = self.below(meta.location.as_ref()) else { return Ok(None) };
        if whole && text.split('/').any(|part| part == STATE_FOLDER) {
            return Ok(None);
        }
        match Key::new(text) {
            Ok(key) => {
                if meta.size == 0 && matches!(self.head(&key).await, Err(StoreError::NotFound { .. })) {
                    return Ok(None);
                }
                Ok(Some(ListEntry::Object(ObjectInfo { key, bytes: meta.size, etag: meta.e_tag })))
            }
            Err(bad) => {
                let what = Oddity::Unreadable { error: bad.to_string() };
                Ok(Some(ListEntry::Odd { path: bad.text, what }))
            }
        }
    }

    async fn put_parts(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let upload = self.inner.put_multipart(path).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            if let Err(error) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                // The server forgets it in the end, too.
                let _ = upload.abort().await;
                return Err(error);
            }
            upload.put(bytes.slice(start..bytes.len().min(start + PART_BYTES)));
        }
        // Aborts by itself when it fails.
        upload.finish().await.map(|_| ())
    }

    fn large(&self) -> Result<&Arc<dyn ObjectStore>, StoreError> {
        let Some(connector) = &self.connector else { return Ok(&self.inner) };
        if let Some(large) = self.large.get() {
            return Ok(large);
        }
        let opened = connector.connect(Patience::Large)?;
        Ok(self.large.get_or_init(|| opened))
    }

    fn prefix(&self) -> Result<Option<Path>, StoreError> {
        let prefix = self.location().map(Location::prefix).unwrap_or_default();
        if prefix.is_empty() { Ok(None) } else { self.parse(prefix).map(Some) }
    }

    fn path(&self, key: &Key) -> Result<Path, StoreError> {
        match self.location().map(Location::prefix) {
            None | Some("") => self.parse(key.as_str()),
            Some(prefix) => self.parse(&format!("{prefix}/{key}")),
        }
    }

    fn parse(&self, text: &str) -> Result<Path, StoreError> {
        Path::parse(text)
            .map_err(|e| StoreError::Name { path: text.to_string(), reason: format!("{e}: rename it") })
    }

    /// A name in the bucket as a name in this store.
    fn below<'a>(&self, text: &'a str) -> Option<&'a str> {
        match self.location().map(Location::prefix) {
            None | Some("") => Some(text),
            Some(prefix) => text.strip_prefix(prefix)?.strip_prefix('/'),
        }
    }

    fn shown(&self, key: &Key) -> String {
        self.location().map_or_else(|| key.to_string(), |location| location.join(key).to_string())
    }

    fn about(&self, key: &Key, error: Error) -> StoreError {
        self.refusal(self.shown(key), Asked::Key, error)
    }

    fn refusal(&self, path: String, asked: Asked, error: Error) -> StoreError {
        refusal::of(self.connector.as_ref(), path, asked, error)
    }
}
