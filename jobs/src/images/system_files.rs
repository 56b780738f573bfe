//! What operating systems, desktops and storage boxes leave among people's files: passed over, with a plain reason.
//! Pure.
//!
//! A folder of that kind counts wherever it lies below the source, with everything in it, and is said once. The source
//! itself may be one: names are looked at below it only. A file counts by its name, if no picture has such a name; a
//! `._NAME`, which macOS writes beside NAME on foreign disks, counts by its first bytes, because a picture may be called
//! so: what begins as AppleDouble does is no picture, anything else is what its name and bytes say.

/// Why such a file is skipped.
pub(super) const FILE: &str = "a system's own file";
/// Why such a folder is skipped.
pub(super) const FOLDER: &str = "a system's own folder";

/// Folders: thumbnails and indexes, wastebaskets, lost fragments. In any case, for Windows writes them in several.
const FOLDERS: [&str; 20] = [
    // macOS
    ".AppleDouble",
    ".AppleDB",
    ".AppleDesktop",
    ".DocumentRevisions-V100",
    ".fseventsd",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".Trash",
    ".Trashes",
    "__MACOSX",
    // Windows
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    // Linux and its desktops
    ".thumbnails",
    "lost+found",
    // Storage boxes
    "#recycle",
    "@eaDir",
    "@Recycle",
    "@tmp",
    ".@__thumb",
];

/// The freedesktop wastebasket of a user: this and the user's number.
const TRASH_OF: &str = ".trash-";

const FILES: [&str; 9] = [
    ".DS_Store",
    ".localized",
    ".apdisk",
    "Icon\r",
    "Thumbs.db",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "desktop.ini",
    ".directory",
];

/// Whether a folder of this name is a system's own.
fn is_folder(name: &str) -> bool {
    FOLDERS.iter().any(|own| own.eq_ignore_ascii_case(name))
        || name.get(..TRASH_OF.len()).is_some_and(|start| start.eq_ignore_ascii_case(TRASH_OF))
}

/// Whether a file of this name is a system's own, whatever it holds.
pub(super) fn is_file(name: &str) -> bool {
    FILES.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Whether a file of this name is a system's own if [`is_apple_double`] says so.
pub(super) fn may_be_apple_double(name: &str) -> bool {
    name.starts_with("._")
}

/// Whether bytes begin as AppleDouble does (RFC 1740).
pub(super) fn is_apple_double(start: &[u8]) -> bool {
    start.starts_with(b"\0\x05\x16\x07")
}

/// The topmost of the folders `path` names, its last part included if `whole`, that is a system's own.
fn folder_of(path: &str, whole: bool) -> Option<&str> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain(whole.then_some(path.len()));
    let mut start = 0;
    for end in ends {
        if path.get(start..end).is_some_and(is_folder) {
            return path.get(..end);
        }
        start = end + 1;
    }
    None
}

/// Makes one of all entries of a system's own folder, as a listing gives them one after the other.
#[derive(Debug)]
pub(super) struct Folders {
    /// The folder that was said last.
    said: Option<String>,
}

/// Where an entry lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Among people's own files.
    Own,
    /// In this folder, of which nothing was said yet.
    System(String),
    /// In a folder that was said already.
    Said,
}

impl Folders {
    /// For a listing that goes on after `last`, which may be such a folder itself.
    pub(super) fn after(last: Option<&str>) -> Self {
        Self { said: last.and_then(|last| folder_of(last, true)).map(String::from) }
    }

    /// Where the entry at `path` lies; `is_odd`: it is no object, and may be a folder that cannot be looked into.
    pub(super) fn place(&mut self, path: &str, is_odd: bool) -> Place {
        let Some(folder) = folder_of(path, is_odd) else { return Place::Own };
        if self.said.as_deref() == Some(folder) {
            return Place::Said;
        }
        self.said = Some(folder.to_string());
        Place::System(folder.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_counts_at_any_depth_with_all_that_is_in_it_and_is_said_once() {
        let mut folders = Folders::after(None);
        let mut place = |path: &str| folders.place(path, false);
        assert_eq!(place("a.png"), Place::Own);
        assert_eq!(place("a/@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg"), Place::System("a/@eaDir".into()));
        assert_eq!(place("a/@eaDir/c.png"), Place::Said);
        assert_eq!(place("a/b.png"), Place::Own);
        assert_eq!(place("b/@eaDir/c.png"), Place::System("b/@eaDir".into()));
        for folder in [
            ".thumbnails",
            ".Trash-1000",
            ".Trashes",
            "$Recycle.Bin",
            "SYSTEM VOLUME INFORMATION",
            "__MACOSX",
            "lost+found",
        ] {
            assert_eq!(place(&format!("{folder}/x/y.png")), Place::System(folder.into()));
        }
        for own in
            ["@eaDir", "lost+found", "lost+found.png/a.png", "trash/a.png", "MACOSX/a.png", ".png/a.png"]
        {
            assert_eq!(place(own), Place::Own, "{own}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_counts_by_its_name() {
        assert_eq!(Folders::after(None).place("lost+found", true), Place::System("lost+found".into()));
        assert_eq!(Folders::after(None).place("mine", true), Place::Own);
    }

    #[test]
    fn a_listing_that_goes_on_after_a_folder_does_not_say_it_again() {
        for last in ["@eaDir", "@eaDir/x"] {
            assert_eq!(Folders::after(Some(last)).place("@eaDir/y", false), Place::Said);
        }
        assert_eq!(
            Folders::after(Some("a.png")).place("b/@eaDir/y", false),
            Place::System("b/@eaDir".into())
        );
    }

    #[test]
    fn a_file_counts_by_its_name_and_a_double_by_its_first_bytes() {
        assert!(
            is_file("THUMBS.DB") && is_file(".DS_Store") && !is_file("thumbs.png") && !is_file("._a.png")
        );
        assert!(may_be_apple_double("._a.png") && !may_be_apple_double("_.a.png"));
        assert!(is_apple_double(b"\0\x05\x16\x07\0\x02\0\0Mac OS X"));
        assert!(!is_apple_double(b"\x89PNG\r\n\x1a\n") && !is_apple_double(b"\0\x05\x16"));
    }
}
