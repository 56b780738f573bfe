//! The allow-list: which stores a served cluster opens.
//!
//! Whoever submits a job names its places; whoever runs the cluster says which places may be named at all. A list
//! has entries such as `s3://bucket/prefix` or `file:///data`; a location is allowed if it is one of them or lies in
//! one, by whole segments. An empty list allows nothing. Folders are compared by their real paths, with every link
//! resolved, so that neither `..` nor a link leads out of an allowed root; a folder that does not exist is judged by
//! the part of its path that does. http(s) is never allowed, because it is no [`Location`].

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use super::{Location, StoreError};

/// The list.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    places: Vec<Location>,
}

impl Allowed {
    /// Reads the entries. An allowed folder must exist; it is taken by its real path, now.
    pub fn new<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, StoreError> {
        let mut places = Vec::new();
        for entry in entries {
            let location: Location = entry.as_ref().parse()?;
            places.push(match location.path() {
                Some(path) => Location::folder(path.canonicalize().map_err(|e| StoreError::at(path, e))?),
                None => location,
            });
        }
        Ok(Self { places })
    }

    /// The entries, folders by their real paths.
    pub fn places(&self) -> &[Location] {
        &self.places
    }

    /// Fails unless `location` is allowed.
    pub fn check(&self, location: &Location) -> Result<(), StoreError> {
        let refuse = |reason: &str| {
            Err(StoreError::NotAllowed { location: location.to_string(), reason: reason.to_string() })
        };
        if self.places.is_empty() {
            return refuse("no store is");
        }
        let real = match location.path() {
            None => location.clone(),
            Some(path) if !path.is_absolute() => return refuse("a folder needs an absolute path"),
            Some(path) => match real_path(path) {
                Ok(real) => Location::folder(real),
                // What the error says would tell a stranger what exists.
                Err(_) => return refuse("it lies in none of the allowed places"),
            },
        };
        if self.places.iter().any(|place| place.contains(&real)) {
            Ok(())
        } else {
            refuse("it lies in none of the allowed places")
        }
    }
}

/// The path with every link resolved, of something that may not exist yet: the part that exists is asked of the
/// system, the rest is taken as written. A link to something that does not exist is an error: creating it would
/// write wherever it points.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut rest = Vec::new();
    let absolute = std::path::absolute(path)?;
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(mut real) => {
                for part in rest.into_iter().rev() {
                    match part {
                        Component::ParentDir => {
                            real.pop();
                        }
                        part => real.push(part),
                    }
                }
                return Ok(real);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if existing.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
                    return Err(io::Error::other("it is a link to something that does not exist"));
                }
                let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back())
                else {
                    return Err(e);
                };
                rest.push(last);
                existing = parent;
            }
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &Allowed, location: &str) -> bool {
        match allowed.check(&location.parse().unwrap()) {
            Ok(()) => true,
            Err(StoreError::NotAllowed { .. }) => false,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        let allowed = Allowed::default();
        for location in ["s3://b", "/", "/tmp", "memory://m"] {
            assert!(!allows(&allowed, location), "{location}");
        }
    }

    #[test]
    fn buckets_are_allowed_by_whole_segments() {
        let allowed = Allowed::new(["s3://b/photos", "gs://all"]).unwrap();
        for (location, yes) in [
            ("s3://b/photos", true),
            ("s3://b/photos/x", true),
            ("s3://b/photos-2", false),
            ("s3://b", false),
            ("s3://bb/photos", false),
            ("gs://all", true),
            ("gs://all/x", true),
            ("az://all/x", false),
            ("/b/photos", false),
        ] {
            assert_eq!(allows(&allowed, location), yes, "{location}");
        }
        assert!(Allowed::new(["https://b.s3.amazonaws.com"]).is_err());
        assert!(matches!(Allowed::new(["/nonexistent-root"]), Err(StoreError::NotFound { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn no_link_and_no_dots_lead_out_of_an_allowed_folder() {
        use std::{fs, os::unix::fs::symlink};
        let (dir, outside) = (tempfile::TempDir::new().unwrap(), tempfile::TempDir::new().unwrap());
        let (root, other) = (dir.path().join("root"), outside.path());
        fs::create_dir_all(root.join("in")).unwrap();
        symlink(other, root.join("out")).unwrap();
        symlink("in", root.join("alias")).unwrap();
        symlink("gone", root.join("dangling")).unwrap();
        symlink(&root, dir.path().join("entry")).unwrap();
        let allowed = Allowed::new([format!("file://{}", dir.path().join("entry").display())]).unwrap();
        let below = |name: &str| format!("{}/{name}", root.display());
        for (location, yes) in [
            (below(""), true),
            (below("in"), true),
            (below("new/deep"), true),
            (below("alias/new"), true),
            (format!("file://{}", below("in")), true),
            (below("out"), false),
            (below("out/x"), false),
            (below("in/../../elsewhere"), false),
            (below("new/../../elsewhere"), false),
            (below("dangling/x"), false),
            (dir.path().display().to_string(), false),
            (format!("{}-2", root.display()), false),
            ("/etc".to_string(), false),
            ("in".to_string(), false),
        ] {
            assert_eq!(allows(&allowed, &location), yes, "{location}");
        }
    }
}
