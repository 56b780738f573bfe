//! A folder as a store.
//!
//! `object_store::LocalFileSystem` is not used for this: it stages an object beside its final name with a suffix
//! (`photo.png#1`), which breaks for names near 255 bytes, leaves litter among the user's files when the process is
//! killed, and makes its listing pass over every input whose name ends in `#` and digits without a word; it also
//! follows symbolic links out of its root. Here an object is written to `.sr3/tmp/`, synced, and then given its
//! name: by a hard link when it must not exist yet (one winner, decided by the file system), by a rename when it
//! may. A killed process leaves nothing under a final name.
//!
//! Links: the root itself may be one. Below it, a link is followed only to a file inside the root.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;

use super::{ListEntry, ObjectInfo, Oddity, PutMode, StoreError};
use crate::{Digest, Key, layout::STATE_FOLDER};

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
    /// Serialises "look, then rename" where the file system has no hard links.
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
        Ok(Self { root: canonical, staging, create: Mutex::new(()) })
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

    pub(super) fn get_start(&self, key: &Key, bytes: u64) -> Result<Bytes, StoreError> {
        let (path, file, _) = self.open_inside(key)?;
        let mut start = Vec::new();
        file.take(bytes).read_to_end(&mut start).map_err(|e| refusal(&path, e))?;
        Ok(start.into())
    }

    pub(super) fn head(&self, key: &Key) -> Result<ObjectInfo, StoreError> {
        let path = self.root.join(key.as_str());
        let real = path.canonicalize().map_err(|e| refusal(&path, e))?;
        if !real.starts_with(&self.root) {
            return Err(name(&path, "it is a link that leads out of its folder"));
        }
        let meta = fs::metadata(&real).map_err(|e| refusal(&path, e))?;
        if meta.is_file() {
            Ok(info(key.clone(), &meta))
        } else {
            Err(name(&path, "it is not a regular file"))
        }
    }

    pub(super) fn put(&self, key: &Key, bytes: &[u8], mode: PutMode) -> Result<(), StoreError> {
        let path = self.make_parents(key)?;
        if mode == PutMode::Create && fs::symlink_metadata(&path).is_ok() {
            return Err(StoreError::AlreadyExists { path: shown(&path) });
        }
        let (staged, mut file) = self.stage(key)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| refusal(&path, e))
            .and_then(|()| self.publish(&staged, &path, mode));
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&staged);
        drop(file);
        written?;
        sync_folder(path.parent().unwrap_or(&self.root)).map_err(|e| refusal(&path, e))
    }

    pub(super) fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let path = self.root.join(key.as_str());
        fs::remove_file(&path).map_err(|e| refusal(&path, e))
    }

    pub(super) fn lock(&self, key: &Key, holder: &str) -> Result<Lock, StoreError> {
        let path = self.make_parents(key)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| refusal(&path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(200).read_to_string(&mut text);
                return Err(StoreError::Busy { path: shown(&path), holder: text.trim().to_string() });
            }
            // Some network file systems have no locks; creating manifests once still keeps two runs apart.
            Err(fs::TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(fs::TryLockError::Error(e)) => return Err(refusal(&path, e)),
        }
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(|e| refusal(&path, e))?;
        Ok(Lock { _file: file })
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
            let walked = store.walk(&start, &after, |entry| sender.blocking_send(Ok(entry)).is_ok());
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
                        return Err(name(&path, "it is a link that leads out of its folder"));
                    }
                }
                Ok(_) => return Err(name(&path, "a file stands where a folder is needed")),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    match fs::create_dir(&path) {
                        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(refusal(&path, e)),
                        _ => {}
                    }
                    sync_folder(&above).map_err(|e| refusal(&above, e))?;
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
                let path = self.make_parents(&staged)?;
                let file = File::create(&path).map_err(|e| refusal(&path, e))?;
                Ok((path, file))
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

    fn publish(&self, staged: &Path, path: &Path, mode: PutMode) -> Result<(), StoreError> {
        if mode == PutMode::Replace {
            return fs::rename(staged, path).map_err(|e| refusal(path, e));
        }
        match fs::hard_link(staged, path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(StoreError::AlreadyExists { path: shown(path) })
            }
            // FAT and some network file systems have no hard links. Within this process the mutex decides; against
            // other processes it is the destination's lock that does.
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
                let _one = self.create.lock().unwrap_or_else(PoisonError::into_inner);
                if fs::symlink_metadata(path).is_ok() {
                    return Err(StoreError::AlreadyExists { path: shown(path) });
                }
                fs::rename(staged, path).map_err(|e| refusal(path, e))
            }
            Err(e) => Err(refusal(path, e)),
        }
    }

    /// Depth first, siblings in the byte order of their keys (a folder's ends in `/`), so that the whole listing is
    /// in the byte order of the keys. Begins after the key `after`, and stops early when `emit` returns false.
    fn walk(
        &self,
        start: &str,
        after: &str,
        mut emit: impl FnMut(ListEntry) -> bool,
    ) -> Result<(), StoreError> {
        let top = self.root.join(start);
        let first = match read_sorted(&top) {
            Err(e) if e.kind() == ErrorKind::NotFound && !start.is_empty() => return Ok(()),
            other => other.map_err(|e| refusal(&top, e))?,
        };
        let mut stack = vec![(start.to_string(), first.into_iter())];
        while let Some((prefix, siblings)) = stack.last_mut() {
            let Some(sibling) = siblings.next() else {
                stack.pop();
                continue;
            };
            if sibling.is_before(prefix, after.as_bytes()) {
                continue;
            }
            let join =
                |name: &str| if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            let Some(name) = sibling.name.to_str() else {
                let path = join(&sibling.name.to_string_lossy());
                if !emit(ListEntry::Odd { path, what: Oddity::NotUtf8 }) {
                    return Ok(());
                }
                continue;
            };
            let path = join(name);
            if sibling.is_folder {
                if name == STATE_FOLDER {
                    continue;
                }
                match read_sorted(&self.root.join(&path)) {
                    Ok(inside) => stack.push((path, inside.into_iter())),
                    Err(e) => {
                        let what = Oddity::Unreadable { error: e.to_string() };
                        if !emit(ListEntry::Odd { path, what }) {
                            return Ok(());
                        }
                    }
                }
            } else if !emit(self.look_at(path)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look_at(&self, path: String) -> ListEntry {
        let full = self.root.join(&path);
        let what = match full.canonicalize().and_then(|real| Ok((fs::metadata(&real)?, real))) {
            Err(e) if e.kind() == ErrorKind::NotFound => Oddity::LinkDangling,
            Err(e) => Oddity::Unreadable { error: e.to_string() },
            Ok((_, real)) if !real.starts_with(&self.root) => Oddity::LinkOut,
            Ok((meta, _)) if meta.is_dir() => Oddity::LinkToFolder,
            Ok((meta, _)) if !meta.is_file() => Oddity::Special,
            Ok((meta, _)) => match Key::new(path.clone()) {
                Ok(key) => return ListEntry::Object(info(key, &meta)),
                Err(e) => Oddity::Unreadable { error: e.to_string() },
            },
        };
        ListEntry::Odd { path, what }
    }
}

struct Sibling {
    name: std::ffi::OsString,
    is_folder: bool,
}

impl Sibling {
    /// Whether nothing of it, in the folder `prefix`, comes after the key `after`.
    fn is_before(&self, prefix: &str, after: &[u8]) -> bool {
        let mut key = prefix.as_bytes().to_vec();
        if !prefix.is_empty() {
            key.push(b'/');
        }
        key.extend(self.name.as_encoded_bytes());
        if self.is_folder {
            key.push(b'/');
        }
        !after.is_empty() && key.as_slice() <= after && !(self.is_folder && after.starts_with(&key))
    }
}

fn read_sorted(folder: &Path) -> io::Result<Vec<Sibling>> {
    let mut siblings = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        siblings.push(Sibling { is_folder: entry.file_type()?.is_dir(), name: entry.file_name() });
    }
    siblings.sort_by_cached_key(|s| {
        let mut bytes = s.name.as_encoded_bytes().to_vec();
        if s.is_folder {
            bytes.push(b'/');
        }
        bytes
    });
    Ok(siblings)
}

fn info(key: Key, meta: &Metadata) -> ObjectInfo {
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

/// Makes a new name durable. Not every system can open a folder; those that cannot need no such call.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn name(path: &Path, reason: &str) -> StoreError {
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
fn staged_name() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    format!("{process:016x}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}
