//! Stores: where inputs are read and outputs written, behind one small interface.
//!
//! A store is a flat set of objects named by [`Key`]. It promises that an object appears whole or not at all, that
//! of several who [`PutMode::Create`] the same key exactly one wins, and that a listing comes in the byte order of
//! the keys and leaves nothing out silently: what cannot be an object is listed as [`ListEntry::Odd`]. It never
//! reads or writes outside its root.
//!
//! Folders are served by [`LocalStore`]; everything that the `object_store` crate can open by [`RemoteStore`] (today its
//! in-memory store, which holds the state of runs that leave none behind). A new kind of location is one more arm
//! in [`Store::open`].

mod local;
mod object;

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use futures::stream::BoxStream;

pub use local::{LocalStore, Lock, Staging};
pub use object::RemoteStore;

use crate::Key;

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
        matches!(self, Self::LinkToFolder | Self::Special)
    }
}

impl std::fmt::Display for Oddity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("its name is not valid UTF-8: rename it"),
            Self::LinkOut => f.write_str(
                "a link that leads out of the source folder: copy the file in, or name its folder as source",
            ),
            Self::LinkDangling => f.write_str("a link to something that does not exist"),
            Self::LinkToFolder => {
                f.write_str("a link to a folder: its files are listed under their own names")
            }
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

/// Why a store refused. The variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing at this key.
    #[error("`{path}` does not exist")]
    NotFound {
        /// Where.
        path: String,
    },
    /// Somebody else created it first.
    #[error("`{path}` exists already")]
    AlreadyExists {
        /// Where.
        path: String,
    },
    /// This one name cannot be used here; others can.
    #[error("`{path}` cannot be used: {reason}")]
    Name {
        /// Where.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The store does not let us.
    #[error("no permission for `{path}` ({source}): change its permissions or choose another folder")]
    Denied {
        /// Where.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// No room left.
    #[error("no space left for `{path}` ({source}): make room and run the same command again")]
    Full {
        /// Where.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another process works here.
    #[error("`{path}` is in use by another run ({holder}): wait for it or stop it")]
    Busy {
        /// The lock.
        path: String,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// Anything else.
    #[error("`{path}`: {source}")]
    Failed {
        /// Where.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A location of a kind that this build does not open.
    #[error(
        "`{location}` is a URL, and this version reads and writes folders only: copy the images to a folder"
    )]
    Unsupported {
        /// What was given.
        location: String,
    },
}

impl StoreError {
    /// What a failed operation on a path means.
    pub fn at(path: &Path, source: io::Error) -> Self {
        local::refusal(path, source)
    }

    /// Whether the error is about this one key only, so that work on others can go on.
    pub fn is_about_one_key(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::Name { .. })
    }
}

/// An open store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(Arc<LocalStore>),
    Remote(RemoteStore),
}

impl Store {
    /// Opens the store at `location`: a path to an existing folder.
    pub fn open(location: &str) -> Result<Self, StoreError> {
        match location.split_once("://") {
            None => Self::folder(Path::new(location), Staging::StateFolder),
            Some(_) => Err(StoreError::Unsupported { location: location.to_string() }),
        }
    }

    /// Opens an existing folder.
    pub fn folder(root: &Path, staging: Staging) -> Result<Self, StoreError> {
        Ok(Self { backend: Backend::Local(Arc::new(LocalStore::open(root, staging)?)) })
    }

    /// A store that lives as long as its last clone.
    pub fn in_memory() -> Self {
        Self { backend: Backend::Remote(RemoteStore::in_memory()) }
    }

    /// Reads a whole object.
    pub async fn get(&self, key: &Key) -> Result<(ObjectInfo, Bytes), StoreError> {
        match &self.backend {
            Backend::Local(local) => on_folder(local, key, |local, key| local.get(key)).await,
            Backend::Remote(remote) => remote.get(key).await,
        }
    }

    /// Reads at most the first `bytes` of an object.
    pub async fn get_start(&self, key: &Key, bytes: u64) -> Result<Bytes, StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                on_folder(local, key, move |local, key| local.get_start(key, bytes)).await
            }
            Backend::Remote(remote) => remote.get_start(key, bytes).await,
        }
    }

    /// What is at a key, or none.
    pub async fn head(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let found = match &self.backend {
            Backend::Local(local) => on_folder(local, key, |local, key| local.head(key)).await,
            Backend::Remote(remote) => remote.head(key).await,
        };
        match found {
            Ok(info) => Ok(Some(info)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a whole object: durable when this returns, and never seen in part.
    pub async fn put(&self, key: &Key, bytes: Bytes, mode: PutMode) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                on_folder(local, key, move |local, key| local.put(key, &bytes, mode)).await
            }
            Backend::Remote(remote) => remote.put(key, bytes, mode).await,
        }
    }

    /// Removes an object; fine if there is none.
    pub async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let done = match &self.backend {
            Backend::Local(local) => on_folder(local, key, |local, key| local.delete(key)).await,
            Backend::Remote(remote) => remote.delete(key).await,
        };
        match done {
            Err(StoreError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// Everything under the root but `.sr3/` folders, in the byte order of the keys.
    pub fn list(&self) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        match &self.backend {
            Backend::Local(local) => LocalStore::list(Arc::clone(local), None),
            Backend::Remote(remote) => remote.list(None),
        }
    }

    /// Everything under the folder `prefix`, which may lie in `.sr3/`, in the byte order of the keys.
    pub fn list_under(&self, prefix: &Key) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        match &self.backend {
            Backend::Local(local) => LocalStore::list(Arc::clone(local), Some(prefix.clone())),
            Backend::Remote(remote) => remote.list(Some(prefix.clone())),
        }
    }

    /// Takes the lock at `key` for as long as the returned guard lives, and writes `holder` into it for others to
    /// read. The system lets go of it when the process ends, however it ends, so no lock is ever stale. A store
    /// that no other process can see needs none.
    pub async fn lock(&self, key: &Key, holder: &str) -> Result<Option<Lock>, StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                let holder = holder.to_string();
                on_folder(local, key, move |local, key| local.lock(key, &holder)).await.map(Some)
            }
            Backend::Remote(_) => Ok(None),
        }
    }

    /// Removes what earlier processes left half-written. Only for the holder of the destination's lock.
    pub async fn clean_staging(&self) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Local(local) => {
                let local = Arc::clone(local);
                blocking(move || local.clean_staging()).await
            }
            Backend::Remote(_) => Ok(()),
        }
    }
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
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(source) => Err(StoreError::Failed { path: "file access".into(), source: source.into() }),
    }
}
