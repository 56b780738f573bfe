//! Walking a folder: everything below it, in the byte order of its keys, from any key on.
//!
//! Siblings come in the byte order of their keys, where a folder's ends in `/`, so that the whole listing does. What
//! a link is, folder or not, is known before its siblings are sorted: the order is the same with and without links.
//!
//! | a link to | as it is | where links are followed |
//! |---|---|---|
//! | a file inside the root | listed under both names, and computed as both | likewise |
//! | a folder inside the root | named, not entered: its files are listed under their own names | likewise |
//! | a file outside | named, not read | listed under the link's path |
//! | a folder outside | named, not entered | entered: what is in it is listed under the link's path |
//!
//! Followed links never lead in circles (no folder is entered from within itself, by device and file number), never
//! among the results (whatever lies there is named, not read, on whichever way it is reached), and no path leads
//! through more than [`LINKS_MAX`] of them. Two links to one outer folder list it twice.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{
    ListEntry, Oddity, StoreError,
    local::{info, refusal},
};
use crate::{Key, layout::STATE_FOLDER};

/// So many followed links lie on a path at most: enough for any shelf of links, and a bound for a maze of them.
pub(super) const LINKS_MAX: usize = 8;

/// Which links are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// Those to files inside the root.
    Inside,
    /// All but those that lead into this folder, given by its real path.
    Everywhere { but_into: Option<PathBuf> },
}

impl Links {
    /// Why what lies at `real`, by its real path, is not for this root; none if it is.
    pub(super) fn refuse(&self, root: &Path, real: &Path) -> Option<Oddity> {
        match self {
            Self::Inside if !real.starts_with(root) => Some(Oddity::LinkOut),
            Self::Everywhere { but_into: Some(results) } if real.starts_with(results) => {
                Some(Oddity::AmongResults)
            }
            _ => None,
        }
    }
}

/// A folder to be walked.
pub(super) struct Walk<'a> {
    pub(super) root: &'a Path,
    pub(super) links: &'a Links,
}

/// A folder that is being walked.
struct Frame {
    /// Its key; empty for the root.
    prefix: String,
    /// Where it really lies.
    real: PathBuf,
    identity: Option<Identity>,
    /// Links on the way to it.
    links: usize,
    siblings: std::vec::IntoIter<Sibling>,
}

struct Sibling {
    name: OsString,
    /// Where it really lies, if it is a folder to be entered.
    folder: Option<PathBuf>,
    is_link: bool,
}

/// What tells one folder from another, whatever it is called.
#[derive(PartialEq, Eq)]
#[cfg(unix)]
struct Identity(u64, u64);
#[derive(PartialEq, Eq)]
#[cfg(not(unix))]
struct Identity(PathBuf);

impl Walk<'_> {
    /// Gives what lies below the folder `start` (the root if empty) and comes after the key `after` to `emit`, until
    /// that returns false.
    pub(super) fn run(
        &self,
        start: &str,
        after: &str,
        mut emit: impl FnMut(ListEntry) -> bool,
    ) -> Result<(), StoreError> {
        let top = self.root.join(start);
        let mut stack = Vec::new();
        match self.enter(&stack, start.to_string(), top.clone(), 0) {
            Ok(frame) => stack.push(frame),
            Err(e) if e.kind() == ErrorKind::NotFound && !start.is_empty() => return Ok(()),
            Err(e) => return Err(refusal(&top, e)),
        }
        while let Some(frame) = stack.last_mut() {
            let Some(sibling) = frame.siblings.next() else {
                stack.pop();
                continue;
            };
            if sibling.is_before(&frame.prefix, after.as_bytes()) {
                continue;
            }
            let Some(name) = sibling.name.to_str() else {
                let path = join(&frame.prefix, &sibling.name.to_string_lossy());
                if !emit(ListEntry::Odd { path, what: Oddity::NotUtf8 }) {
                    return Ok(());
                }
                continue;
            };
            let path = join(&frame.prefix, name);
            let links = frame.links + usize::from(sibling.is_link);
            let Some(real) = sibling.folder else {
                let full = frame.real.join(name);
                let found = self.look_at(&stack, &full, path, sibling.is_link);
                if found.is_some_and(|entry| !emit(entry)) {
                    return Ok(());
                }
                continue;
            };
            if name == STATE_FOLDER {
                continue;
            }
            match self.enter(&stack, path.clone(), real, links) {
                Ok(frame) => stack.push(frame),
                // It went with the last object in it.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => {
                    let what = Oddity::Unreadable { error: e.to_string() };
                    if !emit(ListEntry::Odd { path, what }) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn follows(&self) -> bool {
        matches!(self.links, Links::Everywhere { .. })
    }

    fn enter(&self, above: &[Frame], prefix: String, real: PathBuf, links: usize) -> io::Result<Frame> {
        let identity = match self.follows() {
            true => Some(identity(&fs::metadata(&real)?, &real)),
            false => None,
        };
        let mut frame = Frame { prefix, real, identity, links, siblings: Vec::new().into_iter() };
        frame.siblings = self.read_sorted(above, &frame)?.into_iter();
        Ok(frame)
    }

    fn read_sorted(&self, above: &[Frame], frame: &Frame) -> io::Result<Vec<Sibling>> {
        let mut siblings = Vec::new();
        for entry in fs::read_dir(&frame.real)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let is_link = kind.is_symlink();
            let folder = if self.follows() && (kind.is_dir() || is_link) {
                let real = if is_link { path.canonicalize().ok() } else { Some(path) };
                real.filter(|real| self.is_to_be_entered(above, frame, real, is_link))
            } else {
                kind.is_dir().then_some(path)
            };
            siblings.push(Sibling { name: entry.file_name(), folder, is_link });
        }
        siblings.sort_by_cached_key(|sibling| sibling.key(""));
        Ok(siblings)
    }

    /// Whether what lies at `real`, met in `frame`, is a folder whose files are not listed elsewhere.
    fn is_to_be_entered(&self, above: &[Frame], frame: &Frame, real: &Path, is_link: bool) -> bool {
        let Ok(meta) = fs::metadata(real) else { return !is_link };
        let identity = Some(identity(&meta, real));
        meta.is_dir()
            && self.links.refuse(self.root, real).is_none()
            && !(is_link && real.starts_with(self.root))
            && !(is_link && frame.links >= LINKS_MAX)
            && above.iter().chain([frame]).all(|frame| frame.identity != identity)
    }

    /// What is listed at `path` for something that is not entered; none if it was deleted since its name was read.
    fn look_at(&self, stack: &[Frame], full: &Path, path: String, is_link: bool) -> Option<ListEntry> {
        let what = match full.canonicalize().and_then(|real| Ok((fs::metadata(&real)?, real))) {
            Err(e) if e.kind() == ErrorKind::NotFound && !is_link => return None,
            Err(e) if e.kind() == ErrorKind::NotFound => Oddity::LinkDangling,
            Err(e) => Oddity::Unreadable { error: e.to_string() },
            Ok((meta, real)) => match self.links.refuse(self.root, &real) {
                Some(refused) => refused,
                None if meta.is_dir() => self.not_entered(stack, &meta, &real),
                None if !meta.is_file() => Oddity::Special,
                None => match Key::new(path.clone()) {
                    Ok(key) => return Some(ListEntry::Object(info(key, &meta))),
                    Err(e) => Oddity::Unreadable { error: e.to_string() },
                },
            },
        };
        Some(ListEntry::Odd { path, what })
    }

    fn not_entered(&self, stack: &[Frame], meta: &Metadata, real: &Path) -> Oddity {
        let identity = Some(identity(meta, real));
        if real.starts_with(self.root) {
            Oddity::LinkToFolder
        } else if stack.iter().any(|frame| frame.identity == identity) {
            Oddity::LinkBack
        } else {
            Oddity::LinksTooMany
        }
    }
}

impl Sibling {
    /// Its key in the folder `prefix`; a folder's ends in `/`.
    fn key(&self, prefix: &str) -> Vec<u8> {
        let mut key = prefix.as_bytes().to_vec();
        if !prefix.is_empty() {
            key.push(b'/');
        }
        key.extend(self.name.as_encoded_bytes());
        if self.folder.is_some() {
            key.push(b'/');
        }
        key
    }

    /// Whether nothing of it, in the folder `prefix`, comes after the key `after`.
    fn is_before(&self, prefix: &str, after: &[u8]) -> bool {
        let key = self.key(prefix);
        !after.is_empty() && key.as_slice() <= after && !(self.folder.is_some() && after.starts_with(&key))
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") }
}

#[cfg(unix)]
fn identity(meta: &Metadata, _: &Path) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Identity(meta.dev(), meta.ino())
}

#[cfg(not(unix))]
fn identity(_: &Metadata, real: &Path) -> Identity {
    Identity(real.to_path_buf())
}
