//! From a listing to planned items: fetches the facts that the pure parts ask for.
//!
//! Every entry that the globs and bounds take comes out, as an item or with a verdict; only a system's own folder comes
//! out as one, whatever it holds.

use std::{collections::BTreeSet, ops::Bound};

use futures::{Stream, StreamExt, future, stream, stream::BoxStream};
use sr3_proto::{
    Digest, ItemRecord, ItemStatus, ItemTask, Key, Naming, OnExisting, Store, StoreError, UpscaleSpec,
    layout, off_thread,
    store::{ListEntry, ObjectInfo},
};

use crate::{
    JobError,
    filter::Filter,
    history::{Decision, History},
    nothing::Seen,
    sniff,
    system_files::{self, Folders, Place},
};

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

/// What became of one entry of the listing.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// It has its verdict already.
    Settled(Box<ItemRecord>),
    /// It has its verdict already and its output lies where the record says.
    Finished(Box<ItemRecord>),
    /// It is to be computed.
    Compute(ItemTask),
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

    /// Fails if no entry would become an item, and stops at the first that does. Changes nothing anywhere.
    pub async fn require_images(&self, spec: &UpscaleSpec) -> Result<(), JobError> {
        let filter = Filter::new(&spec.include, &spec.exclude)?;
        let mut seen = Seen::default();
        let mut folders = Folders::after(None);
        let mut entries = self.entries(None);
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            let (path, is_odd) = path_of(&entry);
            if !filter.takes(path) {
                seen.left_out += 1;
                continue;
            }
            match (self.place(&mut folders, path, is_odd), entry) {
                (Place::Own, ListEntry::Odd { what, .. }) => seen.add_odd(&what),
                (Place::Own, ListEntry::Object(info)) => match self.kind(&info).await? {
                    Kind::Image => return Ok(()),
                    Kind::Other => seen.others += 1,
                    Kind::System => seen.system += 1,
                },
                (Place::System(_), _) => seen.system += 1,
                (Place::Said, _) => {}
            }
        }
        Err(JobError::NoImages { location: spec.source.clone(), looked_for: seen.in_words() })
    }

    /// The entries that `filter` and the spec's bounds take, planned, in input order; with `after`, only those
    /// that the store lists behind it.
    pub fn plan<'a>(
        &'a self,
        outputs: &'a Store,
        spec: &'a UpscaleSpec,
        recipe: &'a Digest,
        history: &'a History,
        filter: &'a Filter,
        after: Option<&'a Key>,
    ) -> impl Stream<Item = Result<Planned, JobError>> + Send + 'a {
        let scan = Scan { source: self, outputs, spec, recipe, history };
        let mut folders = Folders::after(after.map(Key::as_str));
        self.entries(after)
            .filter(move |entry| {
                let taken = match entry {
                    Ok(ListEntry::Object(info)) => {
                        spec.bytes_min.is_none_or(|min| info.bytes >= min)
                            && spec.bytes_max.is_none_or(|max| info.bytes <= max)
                            && filter.takes(info.key.as_str())
                    }
                    Ok(ListEntry::Odd { path, .. }) => filter.takes(path),
                    Err(_) => true,
                };
                async move { taken }
            })
            .filter_map(move |entry| {
                let placed = entry.map(|entry| {
                    let (path, is_odd) = path_of(&entry);
                    (self.place(&mut folders, path, is_odd), entry)
                });
                future::ready(match placed {
                    Ok((Place::Said, _)) => None,
                    Ok((Place::Own, entry)) => Some(Ok(Found::Entry(entry))),
                    Ok((Place::System(folder), _)) => Some(Ok(Found::SystemFolder(folder))),
                    Err(error) => Some(Err(error)),
                })
            })
            .map(move |found| async move { scan.plan_one(found?).await })
            .buffered(LOOKS_AT_ONCE)
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
        let is_named = info.key.extension().is_some_and(|e| layout::is_image_extension(&e));
        let may_be_double = system_files::may_be_apple_double(name);
        if is_named && !may_be_double {
            return Ok(Kind::Image);
        }
        match self.store().get_start(&info.key, sniff::START_BYTES).await {
            Ok(start) if may_be_double && system_files::is_apple_double(&start) => Ok(Kind::System),
            Ok(start) if is_named || sniff::starts_like_an_image(&start) => Ok(Kind::Image),
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
    System,
    Other,
}

/// An entry to be planned.
enum Found {
    Entry(ListEntry),
    /// All entries of a folder that is passed over.
    SystemFolder(String),
}

/// The path of an entry, and whether it is no object.
fn path_of(entry: &ListEntry) -> (&str, bool) {
    match entry {
        ListEntry::Object(info) => (info.key.as_str(), false),
        ListEntry::Odd { path, .. } => (path, true),
    }
}

#[derive(Clone, Copy)]
struct Scan<'a> {
    source: &'a Source,
    outputs: &'a Store,
    spec: &'a UpscaleSpec,
    recipe: &'a Digest,
    history: &'a History,
}

impl Scan<'_> {
    async fn plan_one(self, found: Found) -> Result<Planned, JobError> {
        let skipped = |path, reason: &str| self.settled(path, None, ItemStatus::Skipped, reason.to_string());
        let info = match found {
            Found::Entry(ListEntry::Object(info)) => info,
            Found::SystemFolder(path) => return Ok(skipped(path, system_files::FOLDER)),
            Found::Entry(ListEntry::Odd { path, what }) => {
                let status = if what.is_harmless() { ItemStatus::Skipped } else { ItemStatus::Quarantined };
                return Ok(self.settled(path, None, status, what.to_string()));
            }
        };
        let path = info.key.to_string();
        match self.source.kind(&info).await? {
            Kind::Image => {}
            Kind::System => return Ok(skipped(path, system_files::FILE)),
            Kind::Other => return Ok(skipped(path, "not an image by its name or its first bytes")),
        }
        let named = match &self.spec.naming {
            Naming::Exact(key) => Ok((key.clone(), layout::output_format(key, self.spec.recipe.format))),
            Naming::Mirror => layout::output_key(&info.key, self.spec.recipe.format),
        };
        let (output, format) = match named {
            Ok(named) => named,
            Err(e) => return Ok(self.settled(path, None, ItemStatus::Quarantined, e.to_string())),
        };
        let decision = match self.decide(&info, &output).await {
            Ok(decision) => decision,
            Err(e) if e.is_about_one_key() => {
                return Ok(self.settled(path, Some(output), ItemStatus::Quarantined, e.to_string()));
            }
            Err(other) => return Err(other.into()),
        };
        Ok(match decision {
            Decision::Finished(record) => Planned::Finished(Box::new(ItemRecord {
                status: ItemStatus::Skipped,
                reason: Some("finished by an earlier run".into()),
                ..*record
            })),
            Decision::Compute(on_existing) => Planned::Compute(ItemTask {
                input: info.key,
                input_bytes: info.bytes,
                input_etag: info.etag,
                output,
                format,
                on_existing,
            }),
        })
    }

    async fn decide(self, input: &ObjectInfo, output: &Key) -> Result<Decision, StoreError> {
        if self.spec.overwrite {
            return Ok(Decision::Compute(OnExisting::Replace));
        }
        // Most often nothing is known of an input, and then what lies there is the worker's to meet.
        if !self.history.knows(input.key.as_str()) {
            return Ok(Decision::Compute(OnExisting::Keep));
        }
        let there = self.outputs.head(output).await?;
        if let Some(decided) = self.history.decide(self.recipe, input, output, there.as_ref()) {
            return Ok(decided);
        }
        // An input that cannot be read is the worker's to report; until then it explains nothing.
        let Ok((_, bytes)) = self.source.store().get(&input.key).await else {
            return Ok(Decision::Compute(OnExisting::Keep));
        };
        let digest = off_thread(move || Digest::of(&bytes)).await;
        Ok(match digest {
            Ok(digest) => self.history.decide_by_digest(&self.spec.source, input, &digest, there.as_ref()),
            Err(_) => Decision::Compute(OnExisting::Keep),
        })
    }

    fn settled(self, path: String, output: Option<Key>, status: ItemStatus, reason: String) -> Planned {
        Planned::Settled(Box::new(ItemRecord::without_result(
            path,
            output,
            status,
            reason,
            &self.spec.recipe,
        )))
    }
}
