//! What a place of a spec holds. A name that ends in `.tar` or `.npz` is one file, every other a folder or a prefix.

use sr3_proto::{Key, Location, key::extension_of};

/// A place: a folder, or a file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The folder.
    pub(super) location: Location,
    /// The file in it; none where all of it is meant.
    pub(super) file: Option<Key>,
}

impl Place {
    /// Reads what a person wrote.
    pub(super) fn read(written: &str) -> Result<Self, String> {
        let folder = |written: &str| written.parse::<Location>().map_err(|e| e.to_string());
        let name = written.rsplit('/').next().unwrap_or(written);
        if !extension_of(name).is_some_and(|extension| extension == "tar" || extension == "npz") {
            return Ok(Self { location: folder(written)?, file: None });
        }
        let parent = match written.rsplit_once('/') {
            None => ".",
            Some(("", _)) => "/",
            Some((parent, _)) => parent,
        };
        let file = Key::new(name).map_err(|e| e.to_string())?;
        Ok(Self { location: folder(parent)?, file: Some(file) })
    }

    /// Whether it is a file of arrays.
    pub(super) fn is_npz(&self) -> bool {
        self.file.as_ref().and_then(Key::extension).is_some_and(|extension| extension == "npz")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_lie_in_their_folders() {
        let read = |written: &str| Place::read(written).unwrap();
        let file = |written: &str| read(written).file.map(|key| key.to_string());
        assert_eq!(read("a/b"), Place { location: Location::folder("a/b"), file: None });
        assert_eq!(read("s3://bucket/a/x.npz").location, "s3://bucket/a".parse().unwrap());
        assert_eq!(read("s3://bucket/x.tar").location, "s3://bucket".parse().unwrap());
        assert_eq!((file("x.NPZ"), file("/x.tar")), (Some("x.NPZ".into()), Some("x.tar".into())));
        assert_eq!((file("x.npz/y"), file("npz")), (None, None));
        assert!(read("x.npz").is_npz() && !read("x.tar").is_npz());
    }
}
