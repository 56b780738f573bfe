//! Giving a staged file its name and making it durable, on file systems that lack one thing or another.
//!
//! | the file system has | what a file is created by |
//! |---|---|
//! | hard links | a link: one winner, decided by the file system |
//! | a rename that never replaces (FAT, exFAT, SMB, macOS) | that rename: likewise |
//! | neither | a look and a rename, one at a time in this process; other processes are kept out by the destination's lock |
//!
//! Whichever it is, a file that already stands there is never replaced by creating one. What a file system says it
//! lacks (`ENOSYS`, `EOPNOTSUPP`, `EINVAL` …) is done without; that a disk is full or broken (`ENOSPC`, `EIO`) never is.
//! A name that the file system cannot hold is an error about that name alone.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    PutMode, StoreError,
    local::{name, refusal, shown, staged_name},
};

/// A call that gives a file a name that must not exist yet.
type Give = fn(&Path, &Path) -> io::Result<()>;

/// The calls that do so in one step, best first.
pub(super) const ONE_STEP: &[Give] = &[link, rename_new];

/// Gives `staged` the name `path` by the first of `one_step` that the file system has. `one` is held while none has.
pub(super) fn give_name(
    one_step: &[Give],
    one: &Mutex<()>,
    staged: &Path,
    path: &Path,
    mode: PutMode,
) -> Result<(), StoreError> {
    if mode == PutMode::Replace {
        return fs::rename(staged, path).map_err(|e| unnameable(path, e));
    }
    for give in one_step {
        match give(staged, path) {
            Ok(()) => return Ok(()),
            Err(e) if is_lacking(&e) => {}
            Err(e) => return Err(unnameable(path, e)),
        }
    }
    let _one = one.lock().unwrap_or_else(PoisonError::into_inner);
    match fs::symlink_metadata(path) {
        Ok(_) => Err(StoreError::AlreadyExists { path: shown(path) }),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs::rename(staged, path).map_err(|e| unnameable(path, e))
        }
        Err(e) => Err(unnameable(path, e)),
    }
}

fn link(staged: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(staged, path)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_new(staged: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, staged, CWD, path, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// Whether another way may do what this call refused: the kinds of `ENOSYS`, `EOPNOTSUPP`, `EINVAL`, `EPERM`, `EACCES`,
/// `EXDEV` (a file system in layers) and `EMLINK`. Where the refusal is meant, the other way meets it as well.
fn is_lacking(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported
            | ErrorKind::InvalidInput
            | ErrorKind::PermissionDenied
            | ErrorKind::CrossesDevices
            | ErrorKind::TooManyLinks
    )
}

/// What it means that nothing could be made at `path`. File systems say in several ways that they cannot hold a name
/// (FAT `a:b.png`: `EINVAL`, through FUSE `EPERM`, through SMB `ENOENT`); where its folder takes another name, it is that.
pub(super) fn unnameable(path: &Path, error: io::Error) -> StoreError {
    let is_refused = match error.kind() {
        ErrorKind::InvalidInput => true,
        ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::Unsupported => {
            takes_names(path.parent())
        }
        _ => is_errno(&error, errno::ILLEGAL_SEQUENCE),
    };
    if is_refused {
        let reason = format!(
            "the system refuses this name there ({error}): rename the input, or choose another destination"
        );
        return name(path, &reason);
    }
    refusal(path, error)
}

fn takes_names(folder: Option<&Path>) -> bool {
    let Some(probe) = folder.map(|folder| folder.join(format!(".sr3-{}.tmp", staged_name()))) else {
        return false;
    };
    let takes = File::create_new(&probe).is_ok();
    // What was not made cannot be removed.
    let _ = fs::remove_file(&probe);
    takes
}

/// Makes a file's bytes durable.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    done_without(file.sync_all())
}

/// Makes a new name in `folder` durable. Not every system can open a folder, nor every user, nor can every file system
/// do this for folders (SMB, shared folders of virtual machines, some of FUSE): those keep names in their own way.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder) {
        Ok(folder) => done_without(folder.sync_all()),
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::IsADirectory) => Ok(()),
        Err(e) => done_without(Err(e)),
    }
}

fn done_without(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => Ok(()),
        Err(e) if is_errno(&e, errno::BAD_FILE) => Ok(()),
        other => other,
    }
}

/// Whether a file system has no locks, by what it said when asked for one.
pub(super) fn has_no_locks(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput)
        || is_errno(error, errno::NO_LOCKS)
}

fn is_errno(error: &io::Error, number: Option<i32>) -> bool {
    number.is_some() && error.raw_os_error() == number
}

/// Errors without an [`ErrorKind`].
#[cfg(unix)]
mod errno {
    use rustix::io::Errno;

    pub(super) const BAD_FILE: Option<i32> = Some(Errno::BADF.raw_os_error());
    pub(super) const ILLEGAL_SEQUENCE: Option<i32> = Some(Errno::ILSEQ.raw_os_error());
    pub(super) const NO_LOCKS: Option<i32> = Some(Errno::NOLCK.raw_os_error());
}

#[cfg(not(unix))]
mod errno {
    pub(super) const BAD_FILE: Option<i32> = None;
    pub(super) const ILLEGAL_SEQUENCE: Option<i32> = None;
    pub(super) const NO_LOCKS: Option<i32> = None;
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use rustix::io::Errno;
    use tempfile::TempDir;

    use super::*;

    fn error(number: Errno) -> io::Error {
        io::Error::from_raw_os_error(number.raw_os_error())
    }

    fn give_new(ways: &[Give], dir: &TempDir, bytes: &str) -> Result<(), StoreError> {
        let (staged, path) = (dir.path().join("staged"), dir.path().join("name"));
        fs::write(&staged, bytes).unwrap();
        give_name(ways, &Mutex::new(()), &staged, &path, PutMode::Create)
    }

    fn stands(dir: &TempDir) -> String {
        fs::read_to_string(dir.path().join("name")).unwrap()
    }

    /// No call takes an error as a value: each of these is one of its own.
    const REFUSALS: [Give; 8] = [
        |_, _| Err(error(Errno::MLINK)),
        |_, _| Err(error(Errno::INVAL)),
        |_, _| Err(error(Errno::XDEV)),
        |_, _| Err(error(Errno::NOSYS)),
        |_, _| Err(error(Errno::OPNOTSUPP)),
        |_, _| Err(error(Errno::NOTSUP)),
        |_, _| Err(error(Errno::PERM)),
        |_, _| Err(error(Errno::ACCESS)),
    ];

    #[test]
    fn without_links_or_a_careful_rename_a_file_is_still_created_once_and_never_replaced() {
        for refusal in REFUSALS {
            for ways in [&[refusal, rename_new][..], &[refusal, refusal], &[]] {
                let dir = TempDir::new().unwrap();
                give_new(ways, &dir, "first").unwrap();
                assert_eq!(stands(&dir), "first");
                let again = give_new(ways, &dir, "second");
                assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
                assert_eq!(stands(&dir), "first");
            }
        }
    }

    #[test]
    fn a_full_or_broken_disk_is_never_worked_around() {
        let dir = TempDir::new().unwrap();
        let full: Give = |_, _| Err(error(Errno::NOSPC));
        assert!(matches!(give_new(&[full, rename_new], &dir, "x"), Err(StoreError::Full { .. })));
        let broken: Give = |_, _| Err(error(Errno::IO));
        assert!(matches!(give_new(&[broken, rename_new], &dir, "x"), Err(StoreError::Failed { .. })));
        assert!(!dir.path().join("name").exists());
        for number in [Errno::NOSPC, Errno::IO, Errno::DQUOT] {
            assert!(done_without(Err(error(number))).is_err(), "{number}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_left_to_its_file_system() {
        for number in [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::BADF] {
            done_without(Err(error(number))).unwrap();
        }
        let dir = TempDir::new().unwrap();
        sync_folder(dir.path()).unwrap();
        assert_eq!(sync_folder(&dir.path().join("gone")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_name_that_cannot_be_held_is_about_that_name_alone() {
        for number in [Errno::INVAL, Errno::ILSEQ, Errno::NAMETOOLONG] {
            let found = unnameable(Path::new("a:b.png"), error(number));
            assert!(matches!(&found, StoreError::Name { .. }), "{found}");
            assert!(found.is_about_one_key() && !found.to_string().contains('\n'), "{found}");
        }
        assert!(matches!(unnameable(Path::new("x"), error(Errno::ROFS)), StoreError::Denied { .. }));
        // What else a name may be refused by counts if the folder takes others.
        let dir = TempDir::new().unwrap();
        for number in [Errno::PERM, Errno::ACCESS, Errno::NOENT] {
            let found = unnameable(&dir.path().join("a:b.png"), error(number));
            assert!(matches!(&found, StoreError::Name { .. }), "{found}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = dir.path().join("gone/a.png");
        assert!(matches!(unnameable(&nowhere, error(Errno::NOENT)), StoreError::NotFound { .. }));
        assert!(matches!(unnameable(&nowhere, error(Errno::PERM)), StoreError::Denied { .. }));
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_fails() {
        for number in [Errno::NOLCK, Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL] {
            assert!(has_no_locks(&error(number)), "{number}");
        }
        assert!(!has_no_locks(&error(Errno::IO)) && !has_no_locks(&error(Errno::WOULDBLOCK)));
    }
}
