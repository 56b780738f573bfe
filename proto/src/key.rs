//! Keys: the name of an object relative to the root of its store, and the name of an item relative to its source.
//!
//! A key is UTF-8, separated by `/`, and taken as it is: no character is escaped, no form of Unicode is composed or
//! decomposed. What it never holds is a segment that would walk out of the root: empty, `.` or `..`, or a NUL.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A checked relative path. Ordered by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that cannot be a key.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` cannot be a name inside a store: empty parts, `.`, `..` and NUL are not allowed")]
pub struct KeyError {
    /// What was given.
    pub text: String,
}

impl Key {
    /// Checks `text` and makes it a key.
    pub fn new(text: impl Into<String>) -> Result<Self, KeyError> {
        let text = text.into();
        let good = text.split('/').all(|part| !matches!(part, "" | "." | "..")) && !text.contains('\0');
        if good { Ok(Self(text)) } else { Err(KeyError { text }) }
    }

    /// A key that is known to be well formed; for names that this crate makes itself.
    /// A key that a program itself spells out.
    ///
    /// # Panics
    /// It is none, wherever the program runs.
    pub fn literal(text: &'static str) -> Self {
        match Self::new(text) {
            Ok(key) => key,
            Err(error) => panic!("a key in the program: {error}"),
        }
    }

    /// The key with `end` after its last name; `end` has neither a slash nor a NUL.
    #[must_use]
    pub fn followed_by(&self, end: &str) -> Self {
        debug_assert!(!end.contains(['/', '\0']), "{end}");
        Self(format!("{}{end}", self.0))
    }

    pub(crate) fn trusted(text: String) -> Self {
        debug_assert!(Self::new(text.clone()).is_ok(), "{text}");
        Self(text)
    }

    /// The whole key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What stands after the last dot of the name, lower case; none if the name has no dot or only a leading one.
    pub fn extension(&self) -> Option<String> {
        extension_of(self.name())
    }

    /// Its segments.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

/// The extension of a file name in lower case, by the rule of [`Key::extension`].
pub fn extension_of(name: &str) -> Option<String> {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && !extension.is_empty() => {
            Some(extension.to_ascii_lowercase())
        }
        _ => None,
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_leaves_its_root() {
        for text in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0b"] {
            assert!(Key::new(text).is_err(), "{text:?}");
        }
        for text in ["a", "a/b.png", "..two-dots..png", "...", "#1", " ", "100%25 %2e%2e%2f", "a\\b", "café"]
        {
            assert_eq!(Key::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn the_extension_is_what_follows_the_last_dot() {
        let of = |text: &str| Key::new(text).unwrap().extension();
        assert_eq!(of("a/PHOTO.JPeG").as_deref(), Some("jpeg"));
        assert_eq!(of("photo.png.jpg").as_deref(), Some("jpg"));
        assert_eq!(of("dir.png/none"), None);
        assert_eq!(of(".png"), None);
        assert_eq!(of("dot."), None);
    }
}
