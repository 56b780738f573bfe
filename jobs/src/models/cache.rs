//! Weights on disk, by digest: fetched once a machine.
//!
//! Any number of processes share a folder: a file appears whole, under the digest of what it holds, or not at all. A process
//! that is ended amid a download leaves a part that nobody takes for the whole, and that is removed a day later. What was
//! used last is kept: when the files take more than they may, the one that was not used for longest goes.
//!
//! It never fails anybody: what cannot be read or written here is fetched again.

#![allow(
    clippy::disallowed_methods,
    reason = "when a file was used last decides what is kept, and no result"
)]

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Bytes that the files may take, unless said otherwise.
const BYTES_MAX: u64 = 20 << 30;
/// Nothing takes so long to be written.
const PART_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const WHOLE: &str = "safetensors";
const PART: &str = "part";

/// Where this process keeps what it can do without: `SR3_CACHE` (empty for nowhere), or `sr3` where caches go.
pub fn cache_folder() -> Option<PathBuf> {
    match std::env::var_os("SR3_CACHE") {
        Some(folder) if folder.is_empty() => None,
        Some(folder) => Some(PathBuf::from(folder)),
        None => match (set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(caches), _) => Some(Path::new(&caches).join("sr3")),
            (None, Some(home)) => Some(Path::new(&home).join(".cache/sr3")),
            (None, None) => None,
        },
    }
}

/// Bytes that a folder of it may take: `SR3_CACHE_BYTES`, or 20 GiB.
pub fn cache_bytes_max() -> u64 {
    set("SR3_CACHE_BYTES").and_then(|bytes| bytes.to_str()?.parse().ok()).unwrap_or(BYTES_MAX)
}

fn set(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// A folder of weights.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
}

impl Cache {
    /// The files in `folder`, which is made when the first comes, of at most so many bytes together.
    pub fn new(folder: impl Into<PathBuf>, bytes_max: u64) -> Self {
        Self { folder: folder.into(), bytes_max }
    }

    /// As the process's environment has it: `SR3_CACHE` (empty for none), or `sr3` where caches go; `SR3_CACHE_BYTES`.
    pub fn of_process() -> Option<Self> {
        Some(Self::new(cache_folder()?.join("models"), cache_bytes_max()))
    }

    /// What lies under a digest. Whoever gets it checks it.
    pub fn get(&self, sha256: &str) -> Option<Vec<u8>> {
        let path = self.path(sha256);
        let bytes = fs::read(&path).ok()?;
        // So that it is known to be used; a folder that cannot be written is read all the same.
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    /// Keeps what has this digest.
    pub fn put(&self, sha256: &str, bytes: &[u8]) {
        if let Err(error) = self.write(sha256, bytes) {
            tracing::warn!(%error, folder = %self.folder.display(), "weights cannot be kept on disk");
        }
        self.make_room_but(Some(&self.path(sha256)));
    }

    /// Forgets what has this digest: it was not what it should be.
    pub fn remove(&self, sha256: &str) {
        let _ = fs::remove_file(self.path(sha256));
    }

    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.{WHOLE}"))
    }

    pub(super) fn write(&self, sha256: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut part = tempfile::Builder::new()
            .prefix(&format!(".{}.", sha256.get(..12).unwrap_or_default()))
            .suffix(&format!(".{PART}"))
            .tempfile_in(&self.folder)?;
        part.write_all(bytes)?;
        part.as_file().sync_all()?;
        part.persist(self.path(sha256)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes what was not used for longest where there is more than there may be, and what nobody writes any more.
    pub fn make_room(&self) {
        self.make_room_but(None);
    }

    fn make_room_but(&self, newest: Option<&Path>) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let (mut files, mut bytes) = (Vec::new(), 0);
        for entry in entries.flatten() {
            let (path, Ok(about)) = (entry.path(), entry.metadata()) else { continue };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(WHOLE) => {
                    bytes += about.len();
                    files.push((used, about.len(), path));
                }
                Some(PART) if used.elapsed().is_ok_and(|age| age > PART_AGE_MAX) => {
                    let _ = fs::remove_file(path);
                }
                _ => {}
            }
        }
        files.sort();
        for (_, length, path) in files {
            if bytes <= self.bytes_max {
                break;
            }
            if newest != Some(&*path) && fs::remove_file(&path).is_ok() {
                bytes -= length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn what_was_used_last_stays_and_the_newest_always_does() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("models"), 25);
        assert_eq!(cache.get(&digest('a')), None);
        for (age, digit) in [(30, 'a'), (20, 'b')] {
            cache.put(&digest(digit), &[7; 10]);
            let old = SystemTime::now() - Duration::from_secs(age);
            File::options().append(true).open(cache.path(&digest(digit))).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(cache.get(&digest('a')), Some(vec![7; 10]));
        cache.put(&digest('c'), &[8; 10]);
        let there = |digit| cache.path(&digest(digit)).exists();
        assert!(there('a') && !there('b') && there('c'), "b was not used for longest");
        cache.put(&digest('d'), &[9; 100]);
        assert!(
            !there('a') && !there('c') && there('d'),
            "what is larger than all that is allowed is kept alone"
        );
        cache.remove(&digest('d'));
        assert_eq!(cache.get(&digest('d')), None);
    }

    #[test]
    fn a_part_that_a_killed_process_left_is_never_taken_for_the_whole_and_goes_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path(), 1000);
        let (old, new) = (folder.path().join(".aaaaaaaaaaaa.x.part"), folder.path().join(".bb.y.part"));
        fs::write(&old, "half").unwrap();
        fs::write(&new, "half").unwrap();
        let yesterday = SystemTime::now() - 2 * PART_AGE_MAX;
        File::options().append(true).open(&old).unwrap().set_modified(yesterday).unwrap();
        assert_eq!(cache.get(&digest('a')), None);
        cache.put(&digest('a'), b"whole");
        assert_eq!(cache.get(&digest('a')).unwrap(), b"whole");
        assert!(!old.exists() && new.exists());
    }
}
