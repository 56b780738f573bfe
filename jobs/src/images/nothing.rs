//! Why a source has nothing to upscale, in words. Pure.

use std::collections::BTreeMap;

use sr3_proto::store::Oddity;

/// What was seen of a source.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Entries that the globs leave out.
    pub(super) left_out: u64,
    /// Files that are no images.
    pub(super) others: u64,
    /// A system's own files and folders.
    pub(super) system: u64,
    odd: BTreeMap<Kind, u64>,
    /// What the system said of the first that cannot be read.
    unreadable: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    LinkOut,
    Unreadable,
    NotUtf8,
    LinkDangling,
    LinksTooMany,
    LinkToFolder,
    AmongResults,
    Special,
}

impl Seen {
    /// Adds something that is no object.
    pub(super) fn add_odd(&mut self, what: &Oddity) {
        let kind = match what {
            Oddity::NotUtf8 => Kind::NotUtf8,
            Oddity::LinkOut => Kind::LinkOut,
            Oddity::LinkDangling => Kind::LinkDangling,
            Oddity::LinkToFolder | Oddity::LinkBack => Kind::LinkToFolder,
            Oddity::LinksTooMany => Kind::LinksTooMany,
            Oddity::AmongResults => Kind::AmongResults,
            Oddity::Special => Kind::Special,
            Oddity::Unreadable { error } => {
                if self.unreadable.is_empty() {
                    self.unreadable.clone_from(error);
                }
                Kind::Unreadable
            }
        };
        *self.odd.entry(kind).or_default() += 1;
    }

    /// What the source holds instead of images, and what to do.
    pub(super) fn in_words(&self) -> String {
        let mut found = Vec::new();
        let kinds = "(png, jpg, webp, tif, gif, bmp, …)";
        match self.others {
            0 => {}
            1 => found.push(format!(
                "its only file is not named like an image {kinds} and does not begin like one"
            )),
            others => found.push(format!(
                "none of its {others} files is named like an image {kinds} or begins like one"
            )),
        }
        for (kind, count) in &self.odd {
            let (what, advice) = self.of_kind(*kind, *count);
            found.push(format!("it holds {count} {what}: {advice}"));
        }
        if self.system > 0 {
            let what = if self.system == 1 { "file or folder" } else { "files and folders" };
            found.push(format!("it holds {} {what} of the system's own, which are passed over", self.system));
        }
        if self.left_out > 0 {
            let (all, only) =
                if found.is_empty() { ("all of its", "its only") } else { ("the other", "the other") };
            let files = match self.left_out {
                1 => format!("{only} file"),
                files => format!("{all} {files} files"),
            };
            found.push(format!("--include and --exclude leave out {files}"));
        }
        if found.is_empty() { "it holds no files at all".into() } else { found.join("; ") }
    }

    fn of_kind(&self, kind: Kind, count: u64) -> (&'static str, String) {
        let one = count == 1;
        let (what, whats, advice) = match kind {
            Kind::LinkOut => (
                "link that leads out of it",
                "links that lead out of it",
                "copy the files in, or pass --follow-links",
            ),
            Kind::Unreadable => {
                let advice = format!("{}: change their permissions", self.unreadable);
                let what = if one { "entry that cannot be read" } else { "entries that cannot be read" };
                return (what, advice);
            }
            Kind::NotUtf8 => {
                ("name that is not valid UTF-8", "names that are not valid UTF-8", "use names in UTF-8")
            }
            Kind::LinkDangling => ("link to nothing", "links to nothing", "copy the files in"),
            Kind::LinksTooMany => (
                "link behind too many others",
                "links behind too many others",
                "name the folder that they lead to as source",
            ),
            Kind::LinkToFolder => {
                ("link to a folder in it", "links to folders in it", "there are no files in it")
            }
            Kind::AmongResults => {
                ("entry that lies in DST", "entries that lie in DST", "results are no inputs")
            }
            Kind::Special => ("pipe, socket or device", "pipes, sockets or devices", "put image files in"),
        };
        (if one { what } else { whats }, advice.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(odd: &[Oddity]) -> Seen {
        let mut seen = Seen::default();
        for what in odd {
            seen.add_odd(what);
        }
        seen
    }

    #[test]
    fn what_is_there_instead_is_counted_with_the_way_out() {
        assert_eq!(seen(&[]).in_words(), "it holds no files at all");
        assert_eq!(
            seen(&vec![Oddity::LinkOut; 12]).in_words(),
            "it holds 12 links that lead out of it: copy the files in, or pass --follow-links"
        );
        let denied = |error: &str| Oddity::Unreadable { error: error.into() };
        assert_eq!(
            seen(&[denied("Permission denied"), denied("another")]).in_words(),
            "it holds 2 entries that cannot be read: Permission denied: change their permissions"
        );
        assert_eq!(
            seen(&[Oddity::NotUtf8]).in_words(),
            "it holds 1 name that is not valid UTF-8: use names in UTF-8"
        );
    }

    #[test]
    fn several_reasons_stand_beside_each_other() {
        let mixed = Seen { others: 3, left_out: 2, ..seen(&[Oddity::LinkDangling]) };
        assert_eq!(
            mixed.in_words(),
            "none of its 3 files is named like an image (png, jpg, webp, tif, gif, bmp, …) or begins like one; it \
             holds 1 link to nothing: copy the files in; --include and --exclude leave out the other 2 files"
        );
        let left_out = Seen { left_out: 2, ..Seen::default() };
        assert_eq!(left_out.in_words(), "--include and --exclude leave out all of its 2 files");
        let system = Seen { system: 1, ..Seen::default() };
        assert_eq!(system.in_words(), "it holds 1 file or folder of the system's own, which are passed over");
    }
}
