//! A folder as a store.
//!
//! `object_store::LocalFileSystem` is not used for this: it stages an object beside its final name with a suffix
//! (`photo.png#1`), which breaks for names near 255 bytes, leaves litter among the user's files when the process is
//! killed, and makes its listing pass over every input whose name ends in `#` and digits without a word; it also
//! follows symbolic links out of its root. Here an object is written to `.sr3/tmp/`, synced, and then given its
//! name (`publish` says how). A killed process leaves nothing under a final name.
//!
//! A store has objects, not folders: those that one needs are made with it, and go with the last object in them. So a
//! run that keeps its newest checkpoints only leaves no empty folders to be listed for ever after. Whoever puts an
//! object meanwhile makes them anew.
//!
//! Links: the root itself may be one. Below it, a link is read only to a file inside the root, unless the store was
//! asked to follow links ([`Store::following_links`](super::Store::following_links)); `walk` says what is listed.
//! Nothing is ever written through a link that leads out.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;

use super::{
    ListEntry, ObjectInfo, Oddity, PutMode, StoreError, publish,
    walk::{Links, Walk},
};
use crate::{Digest, Key, layout::STATE_FOLDER};

/// So often a folder is made anew that goes before it is used: far more often than anybody deletes in that moment.
const FOLDER_TRIES: usize = 64;

/// What is said of a link that is not followed, where one is met in a path.
const LEADS_OUT: &str = "it is a link that leads out of its folder";

/// Where objects are staged before they get their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staging {
    /// In `.sr3/tmp/` under the root.
    StateFolder,
    /// Beside the object, under a name made from its own, for a folder that is to be left without `.sr3/`. The next
    /// run for the same object takes a left-over's place; two at once exclude each other.
    Beside,
}

/// A folder on this machine.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    staging: Staging,
    links: Links,
    /// Serialises "look, then rename" where the file system has nothing better.
    create: Mutex<()>,
}

/// Holds a lock file; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl LocalStore {
    /// Opens an existing folder.
    pub fn open(root: &Path, staging: Staging) -> Result<Self, StoreError> {
        let canonical = root.canonicalize().map_err(|e| refusal(root, e))?;
        if !canonical.is_dir() {
            return Err(name(root, "it is not a folder"));
        }
        Ok(Self { root: canonical, staging, links: Links::Inside, create: Mutex::new(()) })
    }

    /// The same folder, whose links are followed wherever they lead, but not into `but_into`.
    pub(super) fn following_links(&self, but_into: Option<PathBuf>) -> Self {
        let links = Links::Everywhere { but_into };
        Self { root: self.root.clone(), staging: self.staging, links, create: Mutex::new(()) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn get(&self, key: &Key) -> Result<(ObjectInfo, Bytes), StoreError> {
        let (path, mut file, meta) = self.open_inside(key)?;
        let mut bytes = Vec::new();
        // The length is only a hint: a file may grow while it is read.
        let _ = bytes.try_reserve_exact(usize::try_from(meta.len()).unwrap_or(0));
        file.read_to_end(&mut bytes).map_err(|e| refusal(&path, e))?;
        Ok((info(key.clone(), &meta), bytes.into()))
    }

    pub(super) fn get_part(&self, key: &Key, range: Range<u64>) -> Result<(ObjectInfo, Bytes), StoreError> {
        let (path, mut file, meta) = self.open_inside(key)?;
        let mut part = Vec::new();
        let read = file
            .seek(SeekFrom::Start(range.start))
            .and_then(|_| file.take(range.end.saturating_sub(range.start)).read_to_end(&mut part));
        read.map_err(|e| refusal(&path, e))?;
        Ok((info(key.clone(), &meta), part.into()))
    }

    pub(super) fn head(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        let path = self.root.join(key.as_str());
        let real = path.canonicalize().map_err(|e| refusal(&path, e))?;
        match self.links.refuse(&self.root, &real) {
            None => {}
            Some(Oddity::LinkOut) => return Err(name(&path, LEADS_OUT)),
            Some(refused) => return Err(name(&path, &refused.to_string())),
        }
        let meta = fs::metadata(&real).map_err(|e| refusal(&path, e))?;
        if meta.is_file() {
            Ok(info(key.clone(), &meta))
        } else {
            Err(name(&path, "it is not a regular file"))
        }
    }

    pub(super) fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let path = self.in_its_folder(key, |path| Ok(path.to_path_buf()))?;
        if mode == PutMode::Create && fs::symlink_metadata(&path).is_ok() {
            return Err(StoreError::AlreadyExists { path: shown(&path) });
        }
        let (staged, mut file) = self.stage(key)?;
        let written = file.write_all(bytes).and_then(|()| publish::sync_file(&file));
        let named = written.map_err(|e| refusal(&path, e)).and_then(|()| {
            self.in_its_folder(key, |path| {
                publish::give_name(publish::ONE_STEP, &self.create, &staged, path, mode)
            })
        });
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&staged);
        drop(file);
        named?;
        match publish::sync_folder(path.parent().unwrap_or(&self.root)) {
            // It was put, and deleted since.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|e| refusal(&path, e)),
        }
    }

    /// Removes the object, and the folders that are empty without it.
    pub(super) fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.root.join(key.as_str());
        fs::remove_file(&path).map_err(|e| refusal(&path, e))?;
        // A folder that holds something is not removed, nor a link to one.
        let above = path.ancestors().skip(1).take_while(|folder| *folder != self.root);
        above.map(fs::remove_dir).take_while(Result::is_ok).for_each(drop);
        Ok(())
    }

    /// None where the file system has no locks.
    pub(super) fn lock(&self, key: &Key, holder: &str) -> Result<Option<Lock>, StoreError> {
        let (path, mut file) = self.in_its_folder(key, |path| {
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            Ok((path.to_path_buf(), opened.map_err(|e| refusal(path, e))?))
        })?;
        let locked = match file.try_lock() {
            Ok(()) => true,
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(200).read_to_string(&mut text);
                return Err(StoreError::Busy { path: shown(&path), holder: text.trim().to_string() });
            }
            Err(fs::TryLockError::Error(e)) if publish::has_no_locks(&e) => false,
            Err(fs::TryLockError::Error(e)) => return Err(refusal(&path, e)),
        };
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(|e| refusal(&path, e))?;
        Ok(locked.then_some(Lock { _file: file }))
    }

    /// Whether `a` and `A` are one name here: whether `key`, which exists, is found in capitals, too.
    pub(super) fn folds_case(&self, key: &Key) -> bool {
        let path = self.root.join(key.as_str());
        path.with_file_name(key.name().to_uppercase()).symlink_metadata().is_ok()
    }

    pub(super) fn clean_staging(&self) -> Result<(), StoreError> {
        let folder = self.root.join(STATE_FOLDER).join("tmp");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(refusal(&folder, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| refusal(&folder, e))?.path();
            fs::remove_file(&path).map_err(|e| refusal(&path, e))?;
        }
        Ok(())
    }

    /// Walks the folder on a thread of its own and hands the entries over through a bounded channel.
    pub(super) fn list(
        store: Arc<Self>,
        prefix: Option<Key>,
        after: Option<Key>,
    ) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        let (sender, receiver) = mpsc::channel(256);
        tokio::task::spawn_blocking(move || {
            let start = prefix.map(String::from).unwrap_or_default();
            let after = after.map(String::from).unwrap_or_default();
            let walk = Walk { root: &store.root, links: &store.links };
            let walked = walk.run(&start, &after, |entry| sender.blocking_send(Ok(entry)).is_ok());
            if let Err(error) = walked {
                // Nobody listens any more: nobody needs the error.
                let _ = sender.blocking_send(Err(error));
            }
        });
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|e| (e, receiver)) })
            .boxed()
    }

    fn open_inside(&self, key: &Key) -> Result<(PathBuf, File, Metadata), StoreError> {
        let path = self.root.join(key.as_str());
        self.head(key)?;
        let file = File::open(&path).map_err(|e| refusal(&path, e))?;
        let meta = file.metadata().map_err(|e| refusal(&path, e))?;
        Ok((path, file, meta))
    }

    /// Makes the folders above `key` and takes a step there, with its path: both anew if a folder goes in between.
    fn in_its_folder<T>(
        &self,
        key: &Key,
        step: impl Fn(&Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            match self.make_parents(key).and_then(|path| step(&path)) {
                // A folder that went and came back looks like one that does not take the name.
                Err(StoreError::NotFound { .. } | StoreError::Name { .. }) if tries < FOLDER_TRIES => {
                    tries += 1;
                }
                taken => return taken,
            }
        }
    }

    /// Makes the folders above `key`, none of them outside the root, and returns the path of `key`.
    fn make_parents(&self, key: &Key) -> Result<PathBuf, StoreError> {
        let mut path = self.root.clone();
        let mut segments: Vec<&str> = key.segments().collect();
        let last = segments.pop().unwrap_or_default();
        for segment in segments {
            let above = path.clone();
            path.push(segment);
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(meta) if meta.is_symlink() => {
                    let real = path.canonicalize().map_err(|e| refusal(&path, e))?;
                    if !real.starts_with(&self.root) || !real.is_dir() {
                        return Err(name(&path, LEADS_OUT));
                    }
                }
                Ok(_) => return Err(name(&path, "a file stands where a folder is needed")),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    match fs::create_dir(&path) {
                        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                            return Err(publish::unnameable(&path, e));
                        }
                        _ => {}
                    }
                    publish::sync_folder(&above).map_err(|e| refusal(&above, e))?;
                }
                Err(e) => return Err(refusal(&path, e)),
            }
        }
        path.push(last);
        Ok(path)
    }

    fn stage(&self, key: &Key) -> Result<(PathBuf, File), StoreError> {
        match self.staging {
            Staging::StateFolder => {
                let staged = Key::trusted(format!("{STATE_FOLDER}/tmp/{}", staged_name()));
                self.in_its_folder(&staged, |path| {
                    let file = File::create(path).map_err(|e| refusal(path, e))?;
                    Ok((path.to_path_buf(), file))
                })
            }
            Staging::Beside => {
                let path =
                    self.root.join(format!(".sr3-{}.tmp", Digest::of(key.as_str().as_bytes()).short()));
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
                    .map_err(|e| refusal(&path, e))?;
                if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
                    let path = shown(&self.root.join(key.as_str()));
                    return Err(StoreError::Busy { path, holder: "it is being written".into() });
                }
                file.set_len(0).map_err(|e| refusal(&path, e))?;
                Ok((path, file))
            }
        }
    }
}

pub(super) fn info(key: Key, meta: &Metadata) -> ObjectInfo {
    ObjectInfo { key, bytes: meta.len(), etag: etag(meta) }
}

/// File number, time of change and length. Copying a folder gives new tags; the content's digest then decides.
fn etag(meta: &Metadata) -> Option<String> {
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(meta);
    #[cfg(not(unix))]
    let number = 0u64;
    let changed = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{number:x}-{:x}-{:x}", changed.as_nanos(), meta.len()))
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn name(path: &Path, reason: &str) -> StoreError {
    StoreError::Name { path: shown(path), reason: reason.to_string() }
}

pub(super) fn refusal(path: &Path, source: io::Error) -> StoreError {
    let path = shown(path);
    match source.kind() {
        ErrorKind::NotFound => StoreError::NotFound { path },
        ErrorKind::AlreadyExists => StoreError::AlreadyExists { path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Denied { path, source },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path, source },
        ErrorKind::InvalidFilename => {
            StoreError::Name { path, reason: "the name is too long: shorten it".into() }
        }
        ErrorKind::NotADirectory => {
            StoreError::Name { path, reason: "a file stands where a folder is needed".into() }
        }
        ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => {
            StoreError::Name { path, reason: "a folder of this name is in the way".into() }
        }
        _ => StoreError::Failed { path, source: source.into() },
    }
}

/// A name that nobody else stages under: not another handle on the folder in this process, nor a process of the same
/// number on another machine.
pub(super) fn staged_name() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    format!("{process:016x}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
