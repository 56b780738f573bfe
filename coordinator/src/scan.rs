//! From a listing to planned items: fetches the facts that the pure parts ask for.

use std::{collections::BTreeSet, ops::Bound};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use sr3_proto::{
    Digest, ItemRecord, ItemStatus, ItemTask, Key, Naming, OnExisting, Store, StoreError, UpscaleSpec,
    layout, off_thread,
    store::{ListEntry, ObjectInfo},
};

use crate::{
    JobError,
    filter::Filter,
    history::{Decision, History},
    sniff,
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
        let (mut files, mut taken) = (0u64, 0u64);
        let mut entries = self.entries(None);
        while let Some(entry) = entries.next().await {
            let ListEntry::Object(info) = entry? else { continue };
            files += 1;
            if filter.takes(info.key.as_str()) {
                taken += 1;
                if self.is_item(&info).await? {
                    return Ok(());
                }
            }
        }
        let looked_for = match (files, taken) {
            (0, _) => "it holds no files at all".to_string(),
            (_, 0) => format!("--include and --exclude leave out all of its {files} files"),
            _ => format!(
                "none of its {taken} files is named like an image (png, jpg, webp, tif, gif, bmp, …) or begins like one"
            ),
        };
        Err(JobError::NoImages { location: spec.source.clone(), looked_for })
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
            .map(move |entry| async move { scan.plan_one(entry?).await })
            .buffered(LOOKS_AT_ONCE)
    }

    async fn is_item(&self, info: &ObjectInfo) -> Result<bool, StoreError> {
        if matches!(self, Self::These(..)) {
            return Ok(true);
        }
        if info.key.extension().is_some_and(|e| sniff::is_image_extension(&e)) {
            return Ok(true);
        }
        match self.store().get_start(&info.key, sniff::START_BYTES).await {
            Ok(start) => Ok(sniff::starts_like_an_image(&start)),
            // Gone or locked: nothing is known against it, and reading it whole will say what is wrong.
            Err(StoreError::NotFound { .. } | StoreError::Denied { .. } | StoreError::Name { .. }) => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
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
    async fn plan_one(self, entry: ListEntry) -> Result<Planned, JobError> {
        let info = match entry {
            ListEntry::Object(info) => info,
            ListEntry::Odd { path, what } => {
                let status = if what.is_harmless() { ItemStatus::Skipped } else { ItemStatus::Quarantined };
                return Ok(self.settled(path, None, status, what.to_string()));
            }
        };
        let path = info.key.to_string();
        if !self.source.is_item(&info).await? {
            let reason = "not an image by its name or its first bytes".to_string();
            return Ok(self.settled(path, None, ItemStatus::Skipped, reason));
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
