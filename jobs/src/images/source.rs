//! From a listing to images: every entry that a selection takes comes out, as an image or with what else it is; only a
//! system's own folder comes out as one, whatever it holds.

use std::{collections::BTreeSet, ops::Bound};

use futures::{Stream, StreamExt, future, stream, stream::BoxStream};
use sr3_proto::{
    Key, Store, StoreError,
    store::{ListEntry, ObjectInfo, Oddity},
};

use super::{
    Filter, GlobError, naming,
    nothing::Seen,
    sniff,
    system_files::{self, Folders, Place},
};
use crate::Selection;

/// How many entries are looked at a time.
const LOOKS_AT_ONCE: usize = 16;

/// Where a job's inputs come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Every image in a store.
    All(Store),
    /// These objects, which are items whatever their names.
    These(Store, BTreeSet<Key>),
}

/// A [`Selection`], compiled.
#[derive(Clone, Debug)]
pub struct Selected {
    filter: Filter,
    bytes_min: Option<u64>,
    bytes_max: Option<u64>,
}

/// What an entry of the listing is.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// An image, by its name or its first bytes.
    Image(ObjectInfo),
    /// Many in one tar archive; only some kinds of job look into it.
    Shard(ObjectInfo),
    /// Nothing to work on, and why.
    Other {
        /// Its path.
        path: String,
        /// What it is.
        what: String,
    },
    /// Something that somebody may miss, and why it is not taken.
    Bad {
        /// Its path.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// Why a source has no images.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it holds instead.
    #[error("{looked_for}")]
    NoImages {
        /// In words.
        looked_for: String,
    },
}

impl Selected {
    /// Compiles a selection.
    ///
    /// # Errors
    /// A glob is none.
    pub fn new(selection: &Selection) -> Result<Self, GlobError> {
        let Selection { include, exclude, bytes_min, bytes_max } = selection;
        Ok(Self { filter: Filter::new(include, exclude)?, bytes_min: *bytes_min, bytes_max: *bytes_max })
    }

    fn takes(&self, entry: &ListEntry) -> bool {
        match entry {
            ListEntry::Object(info) => {
                self.bytes_min.is_none_or(|min| info.bytes >= min)
                    && self.bytes_max.is_none_or(|max| info.bytes <= max)
                    && self.filter.takes(info.key.as_str())
            }
            ListEntry::Odd { path, .. } => self.filter.takes(path),
        }
    }
}

impl Source {
    /// The store.
    pub fn store(&self) -> &Store {
        match self {
            Self::All(store) | Self::These(store, _) => store,
        }
    }

    fn entries(&self, after: Option<&Key>) -> BoxStream<'static, Result<ListEntry, StoreError>> {
        match self {
            Self::All(store) => match after {
                Some(after) => store.list_after(after),
                None => store.list(),
            },
            Self::These(store, keys) => {
                let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
                let keys: Vec<Key> = keys.range((begin, Bound::Unbounded)).cloned().collect();
                let store = store.clone();
                stream::iter(keys)
                    .then(move |key| {
                        let store = store.clone();
                        async move {
                            match store.head(&key).await? {
                                Some(info) => Ok(ListEntry::Object(info)),
                                None => Err(StoreError::NotFound { path: key.to_string() }),
                            }
                        }
                    })
                    .boxed()
            }
        }
    }

    /// Fails if no entry would come out as an image, and stops at the first that does. Changes nothing anywhere.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn require_images(&self, selected: &Selected) -> Result<(), SourceError> {
        let mut seen = Seen::default();
        let mut folders = Folders::after(None);
        let mut entries = self.entries(None);
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            let (path, is_odd) = path_of(&entry);
            if !selected.filter.takes(path) {
                seen.left_out += 1;
                continue;
            }
            match (self.place(&mut folders, path, is_odd), entry) {
                (Place::Own, ListEntry::Odd { what, .. }) => seen.add_odd(&what),
                (Place::Own, ListEntry::Object(info)) => match self.kind(&info).await? {
                    Kind::Image => return Ok(()),
                    Kind::Shard | Kind::Other => seen.others += 1,
                    Kind::System => seen.system += 1,
                },
                (Place::System(_), _) => seen.system += 1,
                (Place::Said, _) => {}
            }
        }
        Err(SourceError::NoImages { looked_for: seen.in_words() })
    }

    /// What the entries are that `selected` takes, in input order; with `after`, only those that the store lists behind it.
    pub fn find<'a>(
        &'a self,
        selected: &'a Selected,
        after: Option<&Key>,
    ) -> impl Stream<Item = Result<Found, StoreError>> + Send + use<'a> {
        let mut folders = Folders::after(after.map(Key::as_str));
        self.entries(after)
            .filter(move |entry| future::ready(entry.as_ref().map_or(true, |entry| selected.takes(entry))))
            .filter_map(move |entry| {
                let placed = entry.map(|entry| {
                    let (path, is_odd) = path_of(&entry);
                    (self.place(&mut folders, path, is_odd), entry)
                });
                future::ready(match placed {
                    Ok((Place::Said, _)) => None,
                    Ok((Place::Own, entry)) => Some(Ok(Ok(entry))),
                    Ok((Place::System(folder), _)) => Some(Ok(Err(folder))),
                    Err(error) => Some(Err(error)),
                })
            })
            .map(move |entry| async move {
                Ok(match entry? {
                    Ok(entry) => self.look_at(entry).await?,
                    Err(path) => Found::Other { path, what: system_files::FOLDER.into() },
                })
            })
            .buffered(LOOKS_AT_ONCE)
    }

    async fn look_at(&self, entry: ListEntry) -> Result<Found, StoreError> {
        let info = match entry {
            ListEntry::Object(info) => info,
            ListEntry::Odd { path, what } => return Ok(odd(path, &what)),
        };
        let other = |what: &str| Found::Other { path: info.key.to_string(), what: what.into() };
        Ok(match self.kind(&info).await? {
            Kind::Image => Found::Image(info),
            Kind::Shard => Found::Shard(info),
            Kind::System => other(system_files::FILE),
            Kind::Other => other("not an image by its name or its first bytes"),
        })
    }

    /// An object that was named is an item wherever it lies.
    fn place(&self, folders: &mut Folders, path: &str, is_odd: bool) -> Place {
        match self {
            Self::All(_) => folders.place(path, is_odd),
            Self::These(..) => Place::Own,
        }
    }

    async fn kind(&self, info: &ObjectInfo) -> Result<Kind, StoreError> {
        let name = info.key.name();
        if matches!(self, Self::These(..)) {
            return Ok(Kind::Image);
        }
        if system_files::is_file(name) {
            return Ok(Kind::System);
        }
        let is_named = info.key.extension().is_some_and(|e| naming::is_image_extension(&e));
        let may_be_double = system_files::may_be_apple_double(name);
        if is_named && !may_be_double {
            return Ok(Kind::Image);
        }
        match self.store().get_part(&info.key, 0..sniff::START_BYTES).await.map(|(_, start)| start) {
            Ok(start) if may_be_double && system_files::is_apple_double(&start) => Ok(Kind::System),
            Ok(start) if is_named || sniff::starts_like_an_image(&start) => Ok(Kind::Image),
            Ok(_) if info.key.extension().is_some_and(|e| e == "tar") => Ok(Kind::Shard),
            Ok(_) => Ok(Kind::Other),
            // Gone or locked: nothing is known against it, and reading it whole will say what is wrong.
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. } | StoreError::Name { .. }) => {
                Ok(Kind::Image)
            }
            Err(error) => Err(error),
        }
    }
}

/// What an object is, by its name and its first bytes.
enum Kind {
    Image,
    Shard,
    System,
    Other,
}

fn odd(path: String, what: &Oddity) -> Found {
    let (is_harmless, what) = (what.is_harmless(), what.to_string());
    if is_harmless { Found::Other { path, what } } else { Found::Bad { path, what } }
}

/// The path of an entry, and whether it is no object.
fn path_of(entry: &ListEntry) -> (&str, bool) {
    match entry {
        ListEntry::Object(info) => (info.key.as_str(), false),
        ListEntry::Odd { path, .. } => (path, true),
    }
}
