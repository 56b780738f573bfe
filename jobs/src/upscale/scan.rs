//! From images to planned items: fetches the facts that [`History`] asks for.

use futures::{Stream, StreamExt};
use sr3_proto::{Digest, Key, Store, StoreError, off_thread, store::ObjectInfo};

use super::{
    ItemRecord, ItemStatus, ItemTask, OnExisting, RunError, UpscaleOrder,
    history::{Decision, History},
};
use crate::images::{Found, Naming, Partners, Selected, Source, naming};

/// How many images are decided about at a time.
const LOOKS_AT_ONCE: usize = 16;

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

/// What is planned from.
#[derive(Clone, Copy)]
pub struct Scan<'a> {
    /// The inputs.
    pub source: &'a Source,
    /// What somebody else has made of the inputs, where no model enlarges.
    pub enlarged: Option<&'a Partners>,
    /// The outputs.
    pub outputs: &'a Store,
    /// What is to be done.
    pub order: &'a UpscaleOrder,
    /// Digest of its recipe.
    pub recipe: &'a Digest,
    /// What earlier runs recorded.
    pub history: &'a History,
}

impl<'a> Scan<'a> {
    /// The entries that `selected` takes, planned, in input order; with `after`, only those that the store lists behind it.
    pub fn plan(
        self,
        selected: &'a Selected,
        after: Option<&Key>,
    ) -> impl Stream<Item = Result<Planned, RunError>> + Send + use<'a> {
        self.source
            .find(selected, after)
            .map(move |found| async move { self.plan_one(found?).await })
            .buffered(LOOKS_AT_ONCE)
    }

    async fn plan_one(self, found: Found) -> Result<Planned, RunError> {
        let info = match found {
            Found::Image(info) => info,
            Found::Shard(info) => {
                let what = "a tar archive: unpack it to have its pictures upscaled".to_string();
                return Ok(self.settled(info.key.to_string(), None, ItemStatus::Skipped, what));
            }
            Found::Other { path, what } => return Ok(self.settled(path, None, ItemStatus::Skipped, what)),
            Found::Bad { path, what } => return Ok(self.settled(path, None, ItemStatus::Quarantined, what)),
        };
        let path = info.key.to_string();
        let named = match &self.order.naming {
            Naming::Exact(key) => Ok((key.clone(), naming::output_format(key, self.order.recipe.format))),
            Naming::Mirror => naming::output_key(&info.key, self.order.recipe.format),
        };
        let (output, format) = match named {
            Ok(named) => named,
            Err(e) => return Ok(self.settled(path, None, ItemStatus::Quarantined, e.to_string())),
        };
        let enlarged = match self.enlarged {
            None => None,
            Some(partners) => match partners.find(&info.key).await? {
                Some(found) => Some(found),
                None => {
                    let what = "no enlarged picture of this name was found".to_string();
                    return Ok(self.settled(path, Some(output), ItemStatus::Quarantined, what));
                }
            },
        };
        let decision = match self.decide(&info, enlarged.as_ref(), &output).await {
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
                enlarged,
                output,
                format,
                on_existing,
            }),
        })
    }

    async fn decide(
        self,
        input: &ObjectInfo,
        enlarged: Option<&ObjectInfo>,
        output: &Key,
    ) -> Result<Decision, StoreError> {
        if self.order.overwrite {
            return Ok(Decision::Compute(OnExisting::Replace));
        }
        // Most often nothing is known of an input, and then what lies there is the worker's to meet.
        if !self.history.knows(input.key.as_str()) {
            return Ok(Decision::Compute(OnExisting::Keep));
        }
        let there = self.outputs.head(output).await?;
        if let Some(decided) = self.history.decide(self.recipe, input, enlarged, output, there.as_ref()) {
            return Ok(decided);
        }
        // An input that cannot be read is the worker's to report; until then it explains nothing.
        let Some(digest) = digest_of(self.source.store(), &input.key).await else {
            return Ok(Decision::Compute(OnExisting::Keep));
        };
        let other = match (enlarged, self.enlarged) {
            (Some(info), Some(partners)) => match digest_of(&partners.store, &info.key).await {
                Some(digest) => Some((info, digest)),
                None => return Ok(Decision::Compute(OnExisting::Keep)),
            },
            _ => None,
        };
        let other = other.as_ref().map(|(info, digest)| (*info, digest));
        Ok(self.history.decide_by_digest(&self.order.source, input, &digest, other, there.as_ref()))
    }

    fn settled(self, path: String, output: Option<Key>, status: ItemStatus, reason: String) -> Planned {
        Planned::Settled(Box::new(ItemRecord::without_result(
            path,
            output,
            status,
            reason,
            &self.order.recipe,
        )))
    }
}

/// The digest of an object, unless it cannot be read.
async fn digest_of(store: &Store, key: &Key) -> Option<Digest> {
    let (_, bytes) = store.get(key).await.ok()?;
    off_thread(move || Digest::of(&bytes)).await.ok()
}
