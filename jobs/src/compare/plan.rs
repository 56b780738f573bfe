//! What a set consists of, and which units it makes.
//!
//! A set is listed twice: once for its digest, by which features that are there already are found, and for how many pictures it
//! has; then for its units. Nothing of a listing is held in memory.

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sr3_coordinator::{JobError, kind::Planned};
use sr3_proto::{Key, Store, StoreError, words::printable};

use super::{
    CompareOrder,
    npz::{Npz, NpzError, Samples},
    place::Place,
    set::{Listing, SetFile},
    statistics::{ARRAYS, Given},
    unit::{AtEnd, FoundSet, Item, UnitBytes, What},
};
use crate::images::{Found, Selected, Source};

/// Pictures of a unit: some seconds. Of a small set there are fewer, so that workers end together.
const UNIT_IMAGES: u64 = 64;
const UNIT_IMAGES_LEAST: u64 = 8;
/// A set gets about so many units, if it has as many pictures.
const UNITS: u64 = 64;
/// So many entries that need no work close a unit, too.
const SETTLED_MAX: usize = 1024;

/// A set of an order, at its place.
#[derive(Debug)]
pub(super) struct PlannedSet {
    /// Which, in the order.
    number: u32,
    /// As the user named it.
    written: String,
    place: Place,
    source: Source,
}

/// An entry of a listing.
#[derive(Debug)]
enum Entry {
    Item(Item),
    /// It cannot be looked at: its name, and why.
    Bad(String, String),
    /// Nothing to look at.
    Other(String),
}

/// How far a set's units are planned.
pub(super) enum Progress {
    /// Nothing is.
    None,
    /// All that there are.
    All,
    /// Those up to the entry of this name, of so many pictures each.
    To(u64, String),
}

impl Progress {
    /// What stands in a cursor after the set's number.
    pub(super) fn read(text: &str) -> Self {
        match text.split_once(':') {
            Some((size, name)) => match size.parse() {
                Ok(size) => Self::To(size, name.to_string()),
                Err(_) => Self::All,
            },
            None => Self::All,
        }
    }
}

/// The sets of an order, with their stores.
pub(super) fn sets(order: &CompareOrder, stores: &[Store]) -> Result<Vec<PlannedSet>, String> {
    let sets = order.sets().into_iter().zip(stores).zip(0..).map(|((written, store), number)| {
        let place = Place::read(written)?;
        Ok(PlannedSet { number, written: written.into(), place, source: Source::All(store.clone()) })
    });
    sets.collect()
}

impl PlannedSet {
    /// The units that are still to be planned, after the one that says what the set is.
    pub(super) fn units<'a>(
        &'a self,
        order: &'a CompareOrder,
        selected: &'a Selected,
        features: &'a Store,
        progress: Progress,
    ) -> BoxStream<'a, Result<Planned, JobError>> {
        match progress {
            Progress::All => stream::empty().boxed(),
            Progress::To(size, after) => self.looks(selected, size, after),
            Progress::None => {
                let begin = async move {
                    let (found, size) = self.find(order, selected, features).await?;
                    let units = match found {
                        FoundSet::New => self.looks(selected, size, String::new()),
                        _ => stream::empty().boxed(),
                    };
                    let cursor = match found {
                        FoundSet::New => format!("{}:{size}:", self.number),
                        _ => format!("{}:", self.number),
                    };
                    let at_end = AtEnd { set: self.number, found: Some(found), left_out: Vec::new() };
                    let first = Planned { at_end: at_end.encode(), cursor, ..Planned::default() };
                    Ok::<_, JobError>(stream::iter([Ok(first)]).chain(units).boxed())
                };
                stream::once(begin).try_flatten().boxed()
            }
        }
    }

    /// What the set is, and how many pictures of it make a unit.
    async fn find(
        &self,
        order: &CompareOrder,
        selected: &Selected,
        features: &Store,
    ) -> Result<(FoundSet, u64), JobError> {
        if self.place.is_npz() && self.has_statistics(order).await? {
            return Ok((FoundSet::Statistics, 0));
        }
        let (mut listing, mut images) = (Listing::new(&order.looks()), 0);
        let mut entries = self.entries(selected, "");
        let mut others = 0u64;
        while let Some(entry) = entries.try_next().await? {
            match entry {
                Entry::Item(item) => {
                    images += u64::from(item.count());
                    listing.item(&item);
                }
                Entry::Bad(name, reason) => listing.bad(&name, &reason),
                Entry::Other(_) => others += 1,
            }
        }
        if images == 0 {
            let text = format!(
                "`{}` has no pictures: {others} other files are there; name a folder, a prefix, a .tar or an .npz",
                printable(&self.written)
            );
            return Err(JobError::Kind(text.into()));
        }
        if let Some(listing) = listing.digest()
            && SetFile::find(features, &listing).await?.is_some()
        {
            return Ok((FoundSet::Known { listing }, 0));
        }
        Ok((FoundSet::New, unit_images(images)))
    }

    /// Whether its file is one of statistics; then they can be compared with.
    async fn has_statistics(&self, order: &CompareOrder) -> Result<bool, JobError> {
        let Some(key) = &self.place.file else { return Ok(false) };
        let npz = Npz::open(self.source.store(), key, &self.written).await.map_err(of_npz)?;
        if !npz.has("mu") && !npz.has("sigma") {
            return Ok(false);
        }
        let arrays = npz.arrays(&ARRAYS).await.map_err(of_npz)?;
        Given::read(&arrays, &self.written, order).map_err(|e| JobError::Kind(e.into()))?;
        Ok(true)
    }

    /// What the set consists of, after an entry of this name.
    fn entries<'a>(&'a self, selected: &'a Selected, after: &str) -> BoxStream<'a, Result<Entry, JobError>> {
        if let Some(key) = &self.place.file {
            let after = after.to_string();
            return stream::once(async move { self.file(key, &after).await }).try_flatten().boxed();
        }
        let after = Key::new(after).ok();
        let entry = |found| match found {
            Found::Image(info) => Entry::Item(Item::new(info, What::Picture)),
            Found::Shard(info) => Entry::Item(Item::new(info, What::Shard)),
            Found::Other { path, .. } => Entry::Other(path),
            Found::Bad { path, what } => Entry::Bad(path, what),
        };
        self.source.find(selected, after.as_ref()).map_ok(entry).map_err(JobError::from).boxed()
    }

    /// What a file consists of, after an entry of this name.
    async fn file(
        &self,
        key: &Key,
        after: &str,
    ) -> Result<BoxStream<'static, Result<Entry, JobError>>, JobError> {
        if !self.place.is_npz() {
            let Some(info) = self.source.store().head(key).await? else {
                return Err(StoreError::NotFound { path: self.written.clone() }.into());
            };
            let item = (after != key.as_str()).then(|| Ok(Entry::Item(Item::new(info, What::Shard))));
            return Ok(stream::iter(item).boxed());
        }
        let npz = Npz::open(self.source.store(), key, &self.written).await.map_err(of_npz)?;
        let Samples { offset, count, height, width } = npz.samples().await.map_err(of_npz)?;
        let size = unit_images(count);
        // The name of a row's item ends with the row behind it.
        let planned = after.rsplit_once("..").and_then(|(_, end)| end.strip_suffix(']')?.parse().ok());
        let info = npz.info.clone();
        let rows = (planned.unwrap_or(0)..count).step_by(size as usize).map(move |first| {
            let count = (count - first).min(size) as u32;
            let what = What::Samples { offset, height, width, first, count };
            Ok(Entry::Item(Item::new(info.clone(), what)))
        });
        Ok(stream::iter(rows).boxed())
    }

    fn looks<'a>(
        &'a self,
        selected: &'a Selected,
        size: u64,
        after: String,
    ) -> BoxStream<'a, Result<Planned, JobError>> {
        let entries = self.entries(selected, &after);
        let planning = (entries, false);
        stream::try_unfold(planning, move |(mut entries, is_over)| async move {
            if is_over {
                return Ok(None);
            }
            let (mut unit, mut is_over) = (Unit::default(), false);
            while !unit.is_full(size) {
                match entries.try_next().await? {
                    Some(entry) => unit.push(entry),
                    None => {
                        is_over = true;
                        break;
                    }
                }
            }
            let planned = unit.planned(self.number, size);
            Ok(planned.map(|planned| (planned, (entries, is_over))))
        })
        .boxed()
    }
}

/// How many of so many pictures make a unit.
fn unit_images(all: u64) -> u64 {
    all.div_ceil(UNITS).clamp(UNIT_IMAGES_LEAST, UNIT_IMAGES)
}

fn of_npz(error: NpzError) -> JobError {
    match error {
        NpzError::Store(error) => error.into(),
        other => JobError::Kind(other.to_string().into()),
    }
}

/// A unit on its way.
#[derive(Default)]
struct Unit {
    items: Vec<Item>,
    images: u64,
    bad: Vec<(String, String)>,
    others: u64,
    /// The last entry's name.
    last: String,
}

impl Unit {
    fn is_full(&self, size: u64) -> bool {
        let shards = self.items.iter().filter(|item| item.what == What::Shard).count();
        self.images >= size || shards > 0 || self.bad.len() + self.others as usize >= SETTLED_MAX
    }

    fn push(&mut self, entry: Entry) {
        let name = match entry {
            Entry::Item(item) => {
                let name = item.name();
                self.images += u64::from(item.count());
                self.items.push(item);
                name
            }
            Entry::Bad(name, reason) => {
                self.bad.push((name.clone(), reason));
                name
            }
            Entry::Other(name) => {
                self.others += 1;
                name
            }
        };
        // A name that is not UTF-8 is shown with replacements: no listing can go on after that.
        if !name.contains(char::REPLACEMENT_CHARACTER) {
            self.last = name;
        }
    }

    fn planned(self, set: u32, size: u64) -> Option<Planned> {
        let Self { items, images, bad, others, last } = self;
        let quarantined = bad.len() as u64;
        if items.is_empty() && bad.is_empty() && others == 0 {
            return None;
        }
        let at_end = AtEnd { set, found: None, left_out: bad };
        Some(Planned {
            items: u32::try_from(images).unwrap_or(u32::MAX),
            work: items.iter().map(Item::work).sum(),
            planned: images + quarantined + others,
            skipped: others,
            quarantined,
            cursor: format!("{set}:{size}:{last}"),
            at_end: at_end.encode(),
            unit: UnitBytes::Look { set, items }.encode(),
            ..Planned::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use sr3_engine::model::tensors::{Dtype, HostTensor, TensorMap, write_npz};
    use sr3_proto::{Digest, store::PutMode};

    use super::*;
    use crate::{Selection, models::Known};

    fn order(source: &str) -> CompareOrder {
        let digest = Digest::of(b"weights");
        let network = Known {
            name: "inception".into(),
            network: digest.to_string(),
            sha256: digest,
            classifies: false,
            bytes: 0,
            file: None,
        };
        CompareOrder {
            source: source.into(),
            reference: None,
            held_out: None,
            destination: None,
            mode: Default::default(),
            metrics: Vec::new(),
            save_statistics: true,
            network,
            selection: Selection::default(),
            max_bad_items: None,
        }
    }

    async fn units(
        order: &CompareOrder,
        store: &Store,
        progress: Progress,
    ) -> Result<Vec<Planned>, JobError> {
        let sets = sets(order, std::slice::from_ref(store)).unwrap();
        let selected = Selected::new(&order.selection).unwrap();
        sets[0].units(order, &selected, &Store::in_memory(), progress).try_collect().await
    }

    async fn put(store: &Store, key: &str, bytes: Vec<u8>) {
        store.put(&Key::new(key).unwrap(), bytes.into(), PutMode::Create).await.unwrap();
    }

    async fn goes_on_anywhere(order: &CompareOrder, store: &Store, images: u32) {
        let all = units(order, store, Progress::None).await.unwrap();
        assert_eq!(all.iter().map(|unit| unit.items).sum::<u32>(), images);
        assert!(all[0].items == 0 && all.len() > 2, "the first says what the set is");
        for (at, unit) in all.iter().enumerate() {
            let (_, rest) = unit.cursor.split_once(':').unwrap();
            let rest = units(order, store, Progress::read(rest)).await.unwrap();
            assert_eq!(rest, all[at + 1..], "after {}", unit.cursor);
        }
    }

    #[tokio::test]
    async fn planning_goes_on_after_any_unit_with_those_that_are_left() {
        let store = Store::in_memory();
        for number in 0..30 {
            let name = if number % 7 == 0 { "notes" } else { "picture" };
            let extension = if number % 7 == 0 { "txt" } else { "png" };
            put(&store, &format!("{name} {number:02}: a.{extension}"), b"bytes".to_vec()).await;
        }
        goes_on_anywhere(&order("folder"), &store, 25).await;
        let store = Store::in_memory();
        let samples = HostTensor { dtype: Dtype::U8, shape: vec![21, 2, 2, 3], data: vec![0; 252] };
        let file = write_npz(&TensorMap::from([("arr_0".into(), samples)]));
        put(&store, "samples.npz", file.clone()).await;
        goes_on_anywhere(&order("folder/samples.npz"), &store, 21).await;
        put(&store, "cut.npz", file[..file.len() - 30].to_vec()).await;
        for name in ["cut.npz", "missing.npz", "missing.tar"] {
            let refused = units(&order(&format!("folder/{name}")), &store, Progress::None).await.unwrap_err();
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}
