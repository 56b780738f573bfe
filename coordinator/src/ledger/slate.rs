//! The ledger on SlateDB: an LSM tree on an object store, with a write-ahead log of one object a flush.
//!
//! - The writer epoch is SlateDB's. Opening raises it in the manifest and puts a fence into the log where the old
//!   writer would write next, so the old writer's next flush fails; its writes before that only reached its memory.
//! - Every commit waits for a flush, and commits that wait together share one ([`committer`]). There is no ticker.
//! - Reads take only what is durable, so they never see a commit that may still fail.
//! - Opening replays the log since its rows last went to a table, about [`committer::LOG_OBJECTS`] objects at most.
//!
//! Fences are never collected: an old writer that slept for days must still run into its own.

mod committer;

use std::{
    ops::Bound,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use object_store::{ObjectStore, local::LocalFileSystem};
use slatedb::{
    CloseReason, Db, ErrorKind, Settings,
    config::{
        DurabilityLevel, GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ReadOptions, ScanOptions,
    },
};

use self::committer::Committer;
use super::{
    Batch, Cause, Ledger, LedgerError, LedgerKey, after_prefix,
    batch::check_key,
    space::{NoSpace, WatchedStore},
};

/// An operation of the store that fails is tried again so often (0.1 s, doubling to 1 s), in which commits wait; then the
/// handle fails: on a folder after half a minute, on a bucket, whose client tries by itself before it says so, after
/// three to four. A full disk is not waited for.
const RETRIES: u32 = 30;

/// The folder inside a location, so that nothing of it lies at the root of a store.
pub(super) const FOLDER: &str = "ledger";

/// A handle on a ledger in SlateDB. Dropping it closes it in the background, on the runtime that it was opened on.
pub struct SlateLedger {
    db: Arc<Db>,
    committer: Committer,
    failures: Failures,
}

impl SlateLedger {
    /// Takes over the ledger under `path`, of plain letters and slashes, of a store that replaces conditionally (S3, GCS, Azure, in memory), making
    /// an empty one if there is none.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] if another opener overtook this one, [`LedgerError::Store`] and [`LedgerError::Full`]
    /// as the store says, [`LedgerError::Corrupt`] if what lies there is no ledger of this version.
    pub async fn open(store: Arc<dyn ObjectStore>, path: &str) -> Result<Self, LedgerError> {
        let location = format!("{store}/{path}");
        Self::open_with(store, path, location, garbage(true)).await
    }

    /// Takes over the ledger in a folder, which is made if it is not there. Every commit is on the disk (fsync).
    ///
    /// # Errors
    /// As [`SlateLedger::open`].
    pub async fn open_folder(folder: &FilePath) -> Result<Self, LedgerError> {
        let location = folder.display().to_string();
        let root = folder.to_path_buf();
        let made = tokio::task::spawn_blocking(move || make_folder(&root)).await;
        let made = made.map_err(std::io::Error::other).and_then(|made| made);
        let root = made.map_err(|error| from_io(&location, error))?;
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|error| LedgerError::Store { location: location.clone(), source: Cause::new(error) })?;
        Self::open_with(Arc::new(store.with_fsync(true)), FOLDER, location, garbage(false)).await
    }

    async fn open_with(
        store: Arc<dyn ObjectStore>,
        path: &str,
        location: String,
        garbage: GarbageCollectorOptions,
    ) -> Result<Self, LedgerError> {
        let no_space = NoSpace::default();
        let store = Arc::new(WatchedStore { inner: store, no_space: no_space.clone() });
        let settings = Settings {
            flush_interval: None,
            object_store_max_retries: Some(RETRIES),
            garbage_collector_options: Some(garbage),
            ..Settings::default()
        };
        let mut failures = Failures { epoch: 0, location, no_space };
        let db = Db::builder(path, store).with_settings(settings).build().await;
        let db = Arc::new(db.map_err(|error| failures.explain(error))?);
        failures.epoch = db.manifest().writer_epoch();
        let committer = Committer::start(Arc::clone(&db), failures.clone());
        Ok(Self { db, committer, failures })
    }

    async fn pairs(
        &self,
        start: Bound<Vec<u8>>,
        end: Bound<Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<(LedgerKey, Bytes), LedgerError>>, LedgerError> {
        let options = ScanOptions::new()
            .with_durability_filter(DurabilityLevel::Remote)
            .with_read_ahead_bytes(1 << 20)
            .with_max_fetch_tasks(4);
        let pairs = self.db.scan_with_options((start, end), &options).await;
        let pairs = pairs.map_err(|error| self.failures.explain(error))?;
        let failures = self.failures.clone();
        let pairs = stream::try_unfold((pairs, failures), |(mut pairs, failures)| async move {
            match pairs.next().await {
                Ok(Some(pair)) => {
                    let key =
                        String::from_utf8(pair.key.to_vec()).map_err(|_| failures.not_ours(&pair.key))?;
                    Ok(Some(((key, pair.value), (pairs, failures))))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(failures.explain(error)),
            }
        });
        Ok(pairs.boxed())
    }
}

#[async_trait]
impl Ledger for SlateLedger {
    fn epoch(&self) -> u64 {
        self.failures.epoch
    }

    async fn commit(&self, batch: Batch) -> Result<(), LedgerError> {
        batch.check()?;
        self.committer.commit(batch).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, LedgerError> {
        check_key(key)?;
        let options = ReadOptions::new().with_durability_filter(DurabilityLevel::Remote);
        self.db.get_with_options(key, &options).await.map_err(|error| self.failures.explain(error))
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> BoxStream<'_, Result<(LedgerKey, Bytes), LedgerError>> {
        let end = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let start = match after {
            Some(after) if after >= prefix => {
                if matches!(&end, Bound::Excluded(end) if after.as_bytes() >= end.as_slice()) {
                    return stream::empty().boxed();
                }
                Bound::Excluded(after.as_bytes().to_vec())
            }
            _ if prefix.is_empty() => Bound::Unbounded,
            _ => Bound::Included(prefix.as_bytes().to_vec()),
        };
        stream::once(self.pairs(start, end)).try_flatten().boxed()
    }

    async fn close(&self) -> Result<(), LedgerError> {
        self.committer.close().await
    }
}

/// Turns SlateDB's errors into the ledger's.
#[derive(Clone, Debug)]
struct Failures {
    epoch: u64,
    location: String,
    no_space: NoSpace,
}

impl Failures {
    fn explain(&self, error: slatedb::Error) -> LedgerError {
        let location = self.location.clone();
        match (error.kind(), self.no_space.said()) {
            (ErrorKind::Closed(CloseReason::Fenced), _) => LedgerError::Fenced { epoch: self.epoch },
            (ErrorKind::Closed(CloseReason::Clean), _) => LedgerError::Closed,
            (_, Some(detail)) => LedgerError::Full { location, detail },
            (ErrorKind::Data, None) => LedgerError::Corrupt { location, reason: error.to_string() },
            _ => LedgerError::Store { location, source: Cause::new(error) },
        }
    }

    fn not_ours(&self, key: &[u8]) -> LedgerError {
        let reason = format!("the key `{}` is not valid UTF-8", key.escape_ascii());
        LedgerError::Corrupt { location: self.location.clone(), reason }
    }
}

/// What is deleted when. Waits are longer than anything that still reads the old object could take; metadata is kept
/// longer where it cannot be protected by a conditional replace (`replaces`), which a local folder does not offer.
fn garbage(replaces: bool) -> GarbageCollectorOptions {
    let every = |seconds| {
        Some(GarbageCollectorDirectoryOptions {
            interval: Some(Duration::from_secs(60)),
            min_age: Duration::from_secs(seconds),
            dry_run: false,
        })
    };
    let metadata = every(if replaces { 300 } else { 3600 });
    GarbageCollectorOptions {
        manifest_options: metadata,
        compactions_options: metadata,
        wal_options: every(60),
        wal_fence_options: None,
        compacted_options: every(300),
        boundary_files_enabled: replaces,
        ..GarbageCollectorOptions::default()
    }
}

/// Makes the folder and those above it, and has their names on the disk too.
fn make_folder(folder: &FilePath) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(folder)?;
    let known = absolute.ancestors().take_while(|above| !above.exists()).count();
    std::fs::create_dir_all(&absolute)?;
    for above in absolute.ancestors().skip(1).take(known) {
        std::fs::File::open(above)?.sync_all()?;
    }
    Ok(absolute)
}

fn from_io(location: &str, error: std::io::Error) -> LedgerError {
    let location = location.to_string();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            LedgerError::Full { location, detail: error.to_string() }
        }
        _ => LedgerError::Store { location, source: Cause::new(error) },
    }
}
