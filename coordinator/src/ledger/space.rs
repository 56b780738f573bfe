//! Tells a full disk from a store that cannot be reached.
//!
//! Waiting makes no room, so an operation that found none is not retried: the decorator marks its error as such for
//! SlateDB, and remembers it, since SlateDB's own errors do not keep the chain of causes. It changes nothing else.

use std::{
    error::Error as StdError,
    fmt, io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, path::Path,
};
use slatedb_common::retry::NonRetryable;

/// What the last write that failed for want of space, and not for another reason since, said.
#[derive(Clone, Debug, Default)]
pub(super) struct NoSpace(Arc<Mutex<Option<String>>>);

impl NoSpace {
    pub(super) fn said(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look_at(&self, error: Error) -> Error {
        // The answers of a store that works: that something is there or not.
        if matches!(error, Error::AlreadyExists { .. } | Error::NotFound { .. } | Error::Precondition { .. })
        {
            return error;
        }
        let said = no_space(&error).map(ToString::to_string);
        let full = said.is_some();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = said;
        if full {
            Error::Generic { store: "ledger", source: Box::new(NonRetryable(error.into())) }
        } else {
            error
        }
    }
}

/// The cause, if an error comes from a full disk or a used-up quota.
fn no_space(error: &Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// A store whose writes are watched for a full disk.
#[derive(Debug)]
pub(super) struct WatchedStore {
    pub(super) inner: Arc<dyn ObjectStore>,
    pub(super) no_space: NoSpace,
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await.map_err(|e| self.no_space.look_at(e))
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await.map_err(|e| self.no_space.look_at(e))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
