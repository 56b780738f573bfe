//! The picture that belongs to another: what a tool has made of it, in a place of its own.
//!
//! It lies under the path of the other: under its very name, under that which `sr3 upscale` gives its result, or with the
//! extension of another format that is written.

use std::collections::BTreeSet;

use sr3_proto::{Key, Store, StoreError, store::ObjectInfo};

use super::{
    FormatChoice, OutputFormat,
    naming::{Naming, output_key},
};

/// Extensions of the formats that are written.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "tif", "tiff"];

/// Pictures that belong to others.
#[derive(Clone, Debug)]
pub struct Partners {
    /// Where they lie.
    pub store: Store,
    /// Under which names.
    pub naming: Naming,
}

impl Partners {
    /// Those in a store, under the names of what they belong to.
    pub fn mirrored(store: Store) -> Self {
        Self { store, naming: Naming::Mirror }
    }

    /// The one that belongs to the picture at `key`, if there is one.
    ///
    /// # Errors
    /// The store does not say.
    pub async fn find(&self, key: &Key) -> Result<Option<ObjectInfo>, StoreError> {
        let names = match &self.naming {
            Naming::Exact(name) => vec![name.clone()],
            Naming::Mirror => names(key),
        };
        for name in names {
            if let Some(found) = self.store.head(&name).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Where it may lie, the likeliest first.
fn names(of: &Key) -> Vec<Key> {
    let mut names = vec![of.clone()];
    for format in [FormatChoice::Auto, FormatChoice::Fixed(OutputFormat::Png)] {
        if let Ok((key, _)) = output_key(of, format) {
            names.push(key);
        }
    }
    let text = of.as_str();
    if let Some(extension) = of.extension() {
        let stem = &text[..text.len() - extension.len()];
        names.extend(EXTENSIONS.iter().filter_map(|other| Key::new(format!("{stem}{other}")).ok()));
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_found_under_the_names_that_upscaling_gives() {
        let names = |of: &str| {
            let names = names(&Key::new(of).unwrap());
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("a/cat.png")[..2], ["a/cat.png", "a/cat.jpg"]);
        assert_eq!(names("cat.gif")[..3], ["cat.gif", "cat.gif.png", "cat.png"]);
        assert_eq!(names("cat"), ["cat", "cat.sr3.png"]);
    }
}
