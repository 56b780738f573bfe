//! Locations: where a store is, as people write it.
//!
//! | written | is |
//! |---|---|
//! | `photos`, `/data/photos`, `file:///data/photos` | a folder on this machine |
//! | `s3://bucket/prefix` | a prefix in a bucket of S3 or of a server that speaks it |
//! | `gs://bucket/prefix` | Google Cloud Storage |
//! | `az://container/prefix` | Azure Blob Storage; the account comes from the environment |
//! | `memory://name/prefix` | in this process, gone with it; one store per name |
//!
//! Reading one touches nothing and decides nothing by looks: no host name is ever taken for a cloud, and http(s) is
//! never opened. Characters of a bucket's prefix are taken as they are; only `file://` is a true URL, whose `%20` is
//! a blank. Comparisons go by whole segments: `s3://b/photos` does not contain `s3://b/photos-2`.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::{Key, words::without_secrets};

/// What to write instead, in refusals.
const KINDS: &str = "name a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

/// A kind of store that is not a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// S3 and whatever speaks it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// In this process.
    Memory,
}

impl Scheme {
    /// What stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Memory => "memory",
        }
    }
}

/// A checked location.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Location(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Folder(PathBuf),
    Bucket { scheme: Scheme, bucket: String, prefix: String },
}

impl Location {
    /// A folder on this machine.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Folder(path.into()))
    }

    /// Whether it is a folder on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.0, Kind::Folder(_))
    }

    /// The folder, if it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Folder(path) => Some(path),
            Kind::Bucket { .. } => None,
        }
    }

    /// The kind of store, if it is no folder.
    pub fn scheme(&self) -> Option<Scheme> {
        match &self.0 {
            Kind::Folder(_) => None,
            Kind::Bucket { scheme, .. } => Some(*scheme),
        }
    }

    /// Its bucket (container, name), if it is no folder.
    pub fn bucket(&self) -> Option<&str> {
        match &self.0 {
            Kind::Folder(_) => None,
            Kind::Bucket { bucket, .. } => Some(bucket),
        }
    }

    /// What stands after the bucket, without slashes at its ends; empty for a whole bucket or a folder.
    pub fn prefix(&self) -> &str {
        match &self.0 {
            Kind::Folder(_) => "",
            Kind::Bucket { prefix, .. } => prefix,
        }
    }

    /// Whether `other` is this location or lies in it, by whole segments. Links are not followed: give real paths
    /// where it matters.
    pub fn contains(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Folder(outer), Kind::Folder(inner)) => plain(inner).starts_with(plain(outer)),
            (
                Kind::Bucket { scheme, bucket, prefix },
                Kind::Bucket { scheme: other_scheme, bucket: other_bucket, prefix: other_prefix },
            ) => {
                let below = prefix.is_empty()
                    || other_prefix
                        .strip_prefix(prefix.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                scheme == other_scheme && bucket == other_bucket && below
            }
            _ => false,
        }
    }

    /// Whether one lies in the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// The location of what lies at `key` below this one.
    #[must_use]
    pub fn join(&self, key: &Key) -> Self {
        Self(match &self.0 {
            Kind::Folder(path) => Kind::Folder(path.join(key.as_str())),
            Kind::Bucket { scheme, bucket, prefix } => Kind::Bucket {
                scheme: *scheme,
                bucket: bucket.clone(),
                prefix: if prefix.is_empty() { key.to_string() } else { format!("{prefix}/{key}") },
            },
        })
    }
}

impl FromStr for Location {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let refuse = |reason: String| StoreError::Unsupported { location: without_secrets(text), reason };
        if text.is_empty() {
            return Err(refuse(format!("it is empty: {KINDS}")));
        }
        if text.contains('\0') {
            return Err(refuse("it holds a NUL character: correct it".into()));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self(Kind::Folder(without_end_slash(text).into())));
        };
        let scheme = match scheme {
            "file" => return Ok(Self(Kind::Folder(file_url(text).map_err(refuse)?))),
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "az" => Scheme::Az,
            "memory" => Scheme::Memory,
            "http" | "https" => {
                return Err(refuse(format!(
                    "stores are never opened over plain {scheme} addresses: {KINDS}"
                )));
            }
            _ => return Err(refuse(format!("stores of kind {scheme}:// are not known: {KINDS}"))),
        };
        if rest.split('/').next().is_some_and(|authority| authority.contains('@'))
            || rest.split_once('?').is_some_and(|(_, query)| query.contains('='))
        {
            let reason =
                "users, passwords and `?` have no place in it: credentials come from the environment";
            return Err(refuse(reason.into()));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(scheme, bucket).map_err(refuse)?;
        let prefix = without_end_slash(prefix);
        if !prefix.is_empty() && Key::new(prefix).is_err() {
            return Err(refuse("empty parts, `.` and `..` cannot stand in a prefix: correct it".into()));
        }
        Ok(Self(Kind::Bucket { scheme, bucket: bucket.to_string(), prefix: prefix.to_string() }))
    }
}

impl TryFrom<String> for Location {
    type Error = StoreError;

    fn try_from(text: String) -> Result<Self, StoreError> {
        text.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> Self {
        location.to_string()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Folder(path) => path.display().fmt(f),
            Kind::Bucket { scheme, bucket, prefix } => {
                write!(f, "{}://{bucket}", scheme.as_str())?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
        }
    }
}

/// The characters that clouds allow in names of buckets, and none that means something in an address.
fn check_bucket(scheme: Scheme, bucket: &str) -> Result<(), String> {
    let what = match scheme {
        Scheme::Az => "container",
        Scheme::Memory => "name",
        Scheme::S3 | Scheme::Gs => "bucket",
    };
    if bucket.is_empty() {
        return Err(format!("it names no {what}: write {}://{what}/prefix", scheme.as_str()));
    }
    let letters = bucket.bytes().enumerate().all(|(at, byte)| {
        byte.is_ascii_alphanumeric()
            || (at > 0 && matches!(byte, b'-' | b'_' | b'.'))
            || (at == 0 && byte == b'$' && scheme == Scheme::Az)
    });
    if !letters || bucket.contains("..") || bucket.len() > 222 {
        return Err(format!("`{bucket}` cannot be the name of a {what}: correct it"));
    }
    Ok(())
}

fn file_url(text: &str) -> Result<PathBuf, String> {
    let wrong = || "a file URL needs an absolute path on this machine: write file:///folder".to_string();
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("`?` and `#` are written %3F and %23 in a file URL: correct it".into());
    }
    let path = url.to_file_path().map_err(|()| wrong())?;
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err("it holds a NUL character: correct it".into());
    }
    Ok(path.to_str().map(|text| PathBuf::from(without_end_slash(text))).unwrap_or(path))
}

/// Without slashes at its end; a root stays one.
fn without_end_slash(text: &str) -> &str {
    let trimmed = text.trim_end_matches('/');
    if trimmed.is_empty() && text.starts_with('/') { "/" } else { trimmed }
}

/// `.` and `..` resolved as they are written.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.parent().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(text: &str) -> Location {
        text.parse().unwrap()
    }

    #[test]
    fn a_location_is_shown_as_it_was_written_without_a_slash_at_its_end() {
        for (text, shown) in [
            ("photos/", "photos"),
            ("/", "/"),
            ("./a b/../c#1", "./a b/../c#1"),
            ("file:///data/a%20b/", "/data/a b"),
            ("file://localhost/data", "/data"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a b/100%25#?/", "s3://my.bucket-1/a b/100%25#?"),
            ("gs://b/é", "gs://b/é"),
            ("az://$web/x", "az://$web/x"),
            ("memory://m", "memory://m"),
        ] {
            assert_eq!(location(text).to_string(), shown);
            assert_eq!(location(shown), location(text));
        }
        let parts = location("s3://b/x/y");
        assert_eq!((parts.scheme(), parts.bucket(), parts.prefix()), (Some(Scheme::S3), Some("b"), "x/y"));
        assert_eq!(location("a/b").path(), Some(Path::new("a/b")));
        assert_eq!(parts.join(&Key::new("k/l").unwrap()).to_string(), "s3://b/x/y/k/l");
        assert_eq!(location("s3://b").join(&Key::new("k").unwrap()).to_string(), "s3://b/k");
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in [
            "",
            "a\0b",
            "http://169.254.169.254/latest",
            "https://evilamazonaws.com/x",
            "https://bucket.s3.amazonaws.com",
            "ftp://x/y",
            "S3://bucket",
            "s3a://b/x",
            "s3://",
            "s3:///x",
            "s3://a/../b",
            "s3://a//b",
            "s3://a/./b",
            "s3://user@host/x",
            "s3://host:80/x",
            "s3://evil.com%2f/x",
            "s3://..",
            "s3://-a",
            "memory://",
            "file://host/x",
            "file:///x?y",
            "file:///a%00b",
        ] {
            assert!(matches!(text.parse::<Location>(), Err(StoreError::Unsupported { .. })), "{text:?}");
        }
    }

    #[test]
    fn locations_contain_each_other_by_whole_segments() {
        for (outer, inner, contains) in [
            ("s3://b", "s3://b/x", true),
            ("s3://b/x", "s3://b/x", true),
            ("s3://b/x", "s3://b/x/y", true),
            ("s3://b/x", "s3://b/xy", false),
            ("s3://b/x", "s3://b", false),
            ("s3://b/x", "s3://c/x", false),
            ("s3://b/x", "gs://b/x", false),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a/b/../c", false),
            ("/a", "/a/b/../c", true),
            ("/a", "s3://a", false),
        ] {
            assert_eq!(location(outer).contains(&location(inner)), contains, "{outer} {inner}");
            let overlaps = contains || location(inner).contains(&location(outer));
            assert_eq!(location(outer).overlaps(&location(inner)), overlaps, "{outer} {inner}");
            assert_eq!(location(inner).overlaps(&location(outer)), overlaps, "{outer} {inner}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_what_is_read_stays_what_it_is(text in "(s3://|gs://|file:///|memory://|)[ -~é/.]{0,20}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert!(location.contains(&location));
                if !location.is_local() {
                    prop_assert_eq!(location.to_string().parse::<Location>().unwrap(), location);
                }
            }
        }
    }
}
