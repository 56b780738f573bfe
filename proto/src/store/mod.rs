//! Stores: where inputs are read and outputs written, behind one small interface.
//!
//! A store is a flat set of objects named by [`Key`]. It promises that an object appears whole or not at all, that
//! of several who [`PutMode::Create`] the same key exactly one wins, and that a listing comes in one order in which
//! it can be gone on with, and leaves nothing out silently: what cannot be an object is listed as
//! [`ListEntry::Odd`]. It never reads or writes outside its root, nor opens anything over http(s) because somebody
//! wrote an address.
//!
//! The order of a listing is the byte order of the keys in folders, in memory, on AWS, GCS and Azure. Servers that
//! keep a tree may list it folder by folder (SeaweedFS: `b/x` before `b-1/x` and `b.png`). Whatever it is, it is
//! always the same, and [`Store::list_after`] gives exactly what comes after a key in it.
//!
//! Folders are served by [`LocalStore`], buckets and memory by [`RemoteStore`]. Whether a server keeps these promises
//! is what [`Store::probe_conditional_put`] asks it. What may pass (a 5xx, a time-out) is tried again for about two
//! minutes before a caller hears of it.
//!
//! | file | concept |
//! |---|---|
//! | `location` | where a store is, as people write it |
//! | `allow` | which stores a served cluster opens |
//! | `connect` | settings and credentials of clouds |
//! | `local`, `object` | the two kinds of store |
//! | `walk` | what lies below a folder, in order, and which links are followed |
//! | `publish` | giving a file its name, and making it durable |
//! | `error`, `refusal` | why a store refused, and how servers say so |
//! | `retry` | when to try again, and for how long |
//! | `probe` | does a store keep its word |
//! | `faults` | a store that fails, for tests |

mod allow;
mod connect;
mod error;
mod faults;
mod listing;
mod local;
mod location;
mod object;
mod probe;
mod publish;
mod refusal;
mod retry;
mod walk;

use std::{ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;

pub use allow::{Allowed, real_path};
pub use connect::{Settings, open_bucket};
pub use error::StoreError;
pub use faults::{FAULTS_VARIABLE, Faults, FaultsError};
pub use local::{LocalStore, Lock, Staging};
pub use location::{Location, Scheme};
pub use object::{MULTIPART_FROM, RemoteStore, SINGLE_BYTES_MAX};
pub use retry::{LARGE_REQUEST_TIME, REQUEST_TIME, RETRY_TIME};

use crate::{Key, off_thread};
use faults::{Fault, Injected, Injector};
use retry::Backoff;

/// Whether a put may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with [`StoreError::AlreadyExists`] if there is something at the key.
    Create,
    /// Replaces what is there, atomically.
    Replace,
}

/// What a store knows about an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its length.
    pub bytes: u64,
    /// Changes whenever the object does; equal tags mean equal content, different tags mean nothing.
    pub etag: Option<String>,
}

/// Something in a listing that is no readable object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The name is not valid UTF-8.
    NotUtf8,
    /// A symbolic link that leads out of the root.
    LinkOut,
    /// A symbolic link to nothing.
    LinkDangling,
    /// A symbolic link to a folder inside the root; what is in it is listed under its own name.
    LinkToFolder,
    /// A link, followed, back to a folder that it lies in.
    LinkBack,
    /// A link behind so many others that it is not followed.
    LinksTooMany,
    /// It lies in the folder of the results, reached by a followed link.
    AmongResults,
    /// A pipe, a socket, a device.
    Special,
    /// A folder or file that cannot be looked into.
    Unreadable {
        /// What the system says.
        error: String,
    },
}

impl Oddity {
    /// Whether leaving it out loses no image.
    pub fn is_harmless(&self) -> bool {
        matches!(self, Self::LinkToFolder | Self::LinkBack | Self::AmongResults | Self::Special)
    }
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("its name is not valid UTF-8: rename it"),
            Self::LinkOut => f.write_str(
                "a link that leads out of the source folder: copy the file in, or pass --follow-links to sr3 upscale",
            ),
            Self::LinkDangling => f.write_str("a link to something that does not exist"),
            Self::LinkToFolder => {
                f.write_str("a link to a folder: its files are listed under their own names")
            }
            Self::LinkBack => f.write_str("a link back to a folder that it lies in, which is listed already"),
            Self::LinksTooMany => write!(
                f,
                "a link behind {} others, which is not followed: name its folder as source",
                walk::LINKS_MAX
            ),
            Self::AmongResults => f.write_str("it lies in DST, and results are no inputs"),
            Self::Special => f.write_str("not a regular file"),
            Self::Unreadable { error } => write!(f, "cannot be read: {error}"),
        }
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListEntry {
    /// An object.
    Object(ObjectInfo),
    /// Something else, with its path as well as it can be written.
    Odd {
        /// Path relative to the root; parts that are not UTF-8 are shown with replacement characters.
        path: String,
        /// What it is.
        what: Oddity,
    },
}

/// An open store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    faults: Option<Arc<Injector>>,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<LocalStore>),
    Remote(RemoteStore),
}

impl Store {
    /// Opens the store at `location`, with the settings of this process: an existing folder, or a bucket, of which
    /// nothing is asked yet ([`check`](Self::check) does).
    pub fn open(location: &str) -> Result<Self, StoreError> {
        Self::at(&location.parse()?)
    }

    /// The same, for a location that was read already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn at(location: &Location) -> Result<Self, StoreError> {
        Self::open_with(location, &Settings::of_process())
    }

    /// Opens the store at `location` with these settings.
    pub fn open_with(location: &Location, settings: &Settings) -> Result<Self, StoreError> {
        let store = match location.path() {
            Some(folder) => Self::folder(folder, Staging::StateFolder)?,
            None => Self::from(Backend::Remote(RemoteStore::open(location, settings)?)),
        };
        match settings.get(FAULTS_VARIABLE).map(str::parse).transpose() {
            Ok(None) => Ok(store),
            Ok(Some(faults)) => Ok(store.with_faults(faults)),
            Err(error) => {
                let reason = format!("{FAULTS_VARIABLE}: {error}");
                Err(StoreError::Settings { path: location.to_string(), reason })
            }
        }
    }

    /// Opens an existing folder.
    pub fn folder(root: &Path, staging: Staging) -> Result<Self, StoreError> {
        Ok(Self::from(Backend::Local(Arc::new(LocalStore::open(root, staging)?))))
    }

    /// A store that lives as long as its last clone.
    pub fn in_memory() -> Self {
        Self::from(Backend::Remote(RemoteStore::in_memory()))
    }

    /// A store that is open already, as it is: without a location, and not retried by itself.
    pub fn over(inner: Arc<dyn object_store::ObjectStore>) -> Self {
        Self::from(Backend::Remote(RemoteStore::of(inner)))
    }

    /// The same store, of whose operations some fail: see [`Faults`]. For tests.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults: Some(Arc::new(Injector::new(faults))), ..self }
    }

    /// The same store, whose links are followed wherever they lead, but not into the folder `but_into`: what lies
    /// there by its real path is listed as [`Oddity::AmongResults`] and never read. Only folders have links.
    #[must_use]
    pub fn following_links(self, but_into: Option<&Path>) -> Self {
        let backend = match self.backend {
            Backend::Local(local) => {
                Backend::Local(Arc::new(local.following_links(but_into.map(Path::to_path_buf))))
            }
            remote @ Backend::Remote(_) => remote,
        };
        Self { backend, ..self }
    }

    /// Where it is, to be shown.
    pub fn location(&self) -> String {
        match &self.backend {
            Backend::Local(local) => local.root().display().to_string(),
            Backend::Remote(remote) => {
                remote.location().map_or_else(|| "memory".to_string(), ToString::to_string)
            }
        }
    }

    /// Whether it is a folder on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.backend, Backend::Local(_))
    }

    /// Whether it answers and lets us in; takes seconds, not minutes, to say that it does not.
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(_) => Ok(()),
            Backend::Remote(remote) => remote.check().await,
        }
    }

    /// Whether [`PutMode::Create`] holds here and listings can be gone on with, found out by racing: about 40 small writes
    /// below `.sr3/probe/`, which are removed again. Fails with [`StoreError::NotConditional`] if not.
    pub async fn probe_conditional_put(&self) -> Result<(), StoreError> {
        probe::run(self).await
    }

    /// Reads a whole object.
    pub async fn get(&self, key: &Key) -> Result<(ObjectInfo, Bytes), StoreError> {
        self.tried(key, || async {
            match &self.backend {
                Backend::Local(local) => on_folder(local, key, |local, key| local.get(key)).await,
                Backend::Remote(remote) => remote.get(key).await,
            }
        })
        .await
    }

    /// Reads a range of an object's bytes: fewer, or none, where the object ends before it does.
    pub async fn get_part(&self, key: &Key, range: Range<u64>) -> Result<(ObjectInfo, Bytes), StoreError> {
        self.tried(key, || async {
            let range = range.clone();
            match &self.backend {
                Backend::Local(local) => {
                    on_folder(local, key, move |local, key| local.get_part(key, range)).await
                }
                Backend::Remote(remote) => remote.get_part(key, range).await,
            }
        })
        .await
    }

    /// What is at a key, or none.
    pub async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let found = self
            .tried(key, || async {
                match &self.backend {
                    Backend::Local(local) => on_folder(local, key, |local, key| local.head(key)).await,
                    Backend::Remote(remote) => remote.head(key).await,
                }
            })
            .await;
        match found {
            Ok(info) => Ok(Some(info)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole object: durable when this returns, and never seen in part.
    ///
    /// A [`PutMode::Create`] whose answer got lost is asked for again, and then fails with
    /// [`StoreError::AlreadyExists`] because of itself: who gets that reads the object and compares the bytes.
    pub async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        let once = || async {
            let bytes = bytes.clone();
            match &self.backend {
                Backend::Local(local) => {
                    on_folder(local, key, move |local, key| local.put(key, &bytes, mode)).await
                }
                Backend::Remote(remote) => remote.put(key, bytes, mode).await,
            }
        };
        let torn = || async {
            match &self.backend {
                Backend::Remote(remote) if mode == PutMode::Replace => {
                    remote.put_torn(key, bytes.clone()).await
                }
                _ => Ok(()),
            }
        };
        self.tried_or_torn(key, once, torn).await
    }

    /// Removes an object; fine if there is none.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let done = self
            .tried(key, || async {
                match &self.backend {
                    Backend::Local(local) => on_folder(local, key, |local, key| local.delete(key)).await,
                    Backend::Remote(remote) => remote.delete(key).await,
                }
            })
            .await;
        match done {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Everything under the root but `.sr3/` folders, in the store's order (the module says which).
    pub fn list(&self) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        listing::start(self.clone(), None, None)
    }

    /// What [`list`](Self::list) gives after `after`, so that a plan can go on where it stopped.
    pub fn list_after(&self, after: &Key) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        listing::start(self.clone(), None, Some(after.clone()))
    }

    /// What [`list_under`](Self::list_under) gives after `after`.
    pub fn list_under_after(
        &self,
        prefix: &Key,
        after: &Key,
    ) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        listing::start(self.clone(), Some(prefix.clone()), Some(after.clone()))
    }

    /// Everything under the folder `prefix`, which may lie in `.sr3/`, in the store's order.
    pub fn list_under(&self, prefix: &Key) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        listing::start(self.clone(), Some(prefix.clone()), None)
    }

    /// Takes the lock at `key` for as long as the returned guard lives, and writes `holder` into it for others to
    /// read. The system lets go of it when the process ends, however it ends, so no lock is ever stale. None where
    /// there are no such locks: a store in memory needs none, and on a bucket or a file system without locks nothing keeps
    /// two runs apart but conditional writes (what both compute, they write once; what they report, the last one wins).
    pub async fn lock(&self, key: &Key, holder: &str) -> Result<Option<Lock>, StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                let holder = holder.to_string();
                on_folder(local, key, move |local, key| local.lock(key, &holder)).await
            }
            Backend::Remote(_) => Ok(None),
        }
    }

    /// Whether names that differ only in capitals are one name here, as on FAT, exFAT, NTFS and most Macs. `key` names
    /// an object that exists, with small letters in its name.
    pub async fn folds_case(&self, key: &Key) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Local(local) => on_folder(local, key, |local, key| Ok(local.folds_case(key))).await,
            Backend::Remote(_) => Ok(false),
        }
    }

    /// Removes what earlier processes left half-written. Only for the holder of the destination's lock. (A bucket
    /// forgets unfinished uploads by its own lifecycle rules.)
    pub async fn clean_staging(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                let local = Arc::clone(local);
                blocking(move || local.clean_staging()).await
            }
            Backend::Remote(_) => Ok(()),
        }
    }

    async fn tried<T, F>(&self, key: &Key, once: impl Fn() -> F + Send + Sync) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        self.tried_or_torn(key, once, || async { Ok(()) }).await
    }

    /// Does `once` until it succeeds, fails for good, or has been tried for long enough; injected faults come below
    /// that, as a server's would.
    async fn tried_or_torn<T, F, G>(
        &self,
        key: &Key,
        once: impl Fn() -> F + Send + Sync,
        torn: impl Fn() -> G + Send + Sync,
    ) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, StoreError>> + Send,
        G: Future<Output = Result<(), StoreError>> + Send,
    {
        let mut backoff = Backoff::new();
        loop {
            let fault = self.faults.as_ref().and_then(|faults| faults.next());
            let ended = match fault {
                None => once().await,
                Some((fault, _)) => {
                    let first = match fault {
                        Fault::Before => Ok(()),
                        Fault::After => once().await.map(|_| ()),
                        Fault::Torn => torn().await,
                    };
                    first.and_then(|()| Err(injected(key.to_string(), fault)))
                }
            };
            match ended {
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "a store's operation failed for now");
                    if !backoff.wait().await {
                        return Err(error);
                    }
                }
                other => return other,
            }
        }
    }
}

impl From<Backend> for Store {
    fn from(backend: Backend) -> Self {
        Self { backend, faults: None }
    }
}

fn injected(path: String, fault: Fault) -> StoreError {
    StoreError::Transient { path, source: Injected(fault).into() }
}

async fn on_folder<T: Send + 'static>(
    local: &Arc<LocalStore>,
    key: &Key,
    work: impl FnOnce(&LocalStore, &Key) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (local, key) = (Arc::clone(local), key.clone());
    blocking(move || work(&local, &key)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match off_thread(work).await {
        Ok(result) => result,
        Err(source) => Err(StoreError::Failed { path: "file access".into(), source: source.into() }),
    }
}
