//! What earlier runs recorded about a destination, and what that means for an item now. Pure.
//!
//! | recorded ok under this recipe | input | output | then |
//! |---|---|---|---|
//! | yes | same tag, or same digest | there, of the recorded length | finished |
//! | yes | changed, same source | any | computed again, the earlier result replaced |
//! | yes | changed, of another source | any | computed, nothing replaced |
//! | yes | same | gone or of another length | computed again; only the earlier result itself is replaced |
//! | no, or quarantined | | any | computed, nothing replaced |
//!
//! "Nothing replaced": an object that already holds the very bytes of the result is fine, any other quarantines the
//! item. With `--overwrite` everything is computed and replaced. Results of another recipe stop the run before it
//! begins, unless an earlier run of this recipe was allowed to replace them and did not get to the end.

use std::collections::{BTreeMap, HashMap};

use sr3_proto::{
    Digest, ItemRecord, ItemStatus, JobId, JobRecord, OnExisting, RecipeSpec, ShardManifest,
    store::ObjectInfo,
};

/// The latest result of every input, and what every run was asked to do.
#[derive(Debug, Default)]
pub struct History {
    results: HashMap<String, Past>,
    jobs: BTreeMap<JobId, JobRecord>,
    recipes: HashMap<Digest, RecipeSpec>,
}

#[derive(Debug)]
struct Past {
    job: JobId,
    record: ItemRecord,
}

/// What is to be done with an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing: this is its record.
    Finished(Box<ItemRecord>),
    /// Compute it.
    Compute(OnExisting),
}

impl History {
    /// Adds what a run was asked to do.
    pub fn add_job(&mut self, job: JobRecord) {
        self.jobs.insert(job.job, job);
    }

    /// Adds a manifest. The order of calls does not matter.
    pub fn add_manifest(&mut self, manifest: ShardManifest) {
        let job = manifest.job;
        self.recipes.insert(manifest.recipe_digest.clone(), manifest.recipe);
        for record in manifest.items {
            if record.status != ItemStatus::Ok {
                continue;
            }
            let known = self.results.get(&record.input).map(|past| past.job);
            if known.is_none_or(|known| known <= job) {
                self.results.insert(record.input.clone(), Past { job, record });
            }
        }
    }

    /// The id of the next run.
    pub fn next_job(&self) -> JobId {
        let latest = self.jobs.keys().copied().chain(self.results.values().map(|past| past.job)).max();
        latest.map_or(JobId::new(1), JobId::next)
    }

    /// Results of other recipes than `recipe` that nobody allowed it to replace: the record, and in which fields
    /// its recipe differs.
    pub fn foreign<'a>(
        &'a self,
        recipe: &'a RecipeSpec,
    ) -> impl Iterator<Item = (&'a ItemRecord, Vec<String>)> {
        let digest = recipe.digest();
        // The latest run of this recipe that could replace: what was recorded before it is its to replace.
        let allowed_before = self
            .jobs
            .values()
            .filter(|job| job.overwrite && job.recipe.digest() == digest)
            .map(|job| job.job)
            .max();
        self.results
            .values()
            .filter(move |past| past.record.recipe != digest && Some(past.job) >= allowed_before)
            .map(|past| {
                let theirs = self.recipes.get(&past.record.recipe);
                (&past.record, theirs.map(|theirs| recipe.differences(theirs)).unwrap_or_default())
            })
    }

    /// What to do with `input`, now that `output` is what lies at `output_key`. None if its tag does not decide:
    /// then read the input and ask [`History::decide_by_digest`].
    pub fn decide(
        &self,
        recipe: &Digest,
        input: &ObjectInfo,
        output_key: &sr3_proto::Key,
        output: Option<&ObjectInfo>,
    ) -> Option<Decision> {
        let Some(past) = self.results.get(input.key.as_str()) else {
            return Some(Decision::Compute(OnExisting::Keep));
        };
        let record = &past.record;
        let ours = || match &record.output_sha256 {
            Some(digest) => OnExisting::ReplaceOwn(digest.clone()),
            None => OnExisting::Keep,
        };
        if record.output.as_ref() != Some(output_key) {
            return Some(Decision::Compute(OnExisting::Keep));
        }
        if record.recipe != *recipe {
            return Some(Decision::Compute(ours()));
        }
        let whole = output.is_some_and(|o| Some(o.bytes) == record.output_bytes);
        if whole && input.etag.is_some() && input.etag == record.input_etag {
            Some(Decision::Finished(Box::new(record.clone())))
        } else {
            None
        }
    }

    /// The second half of [`History::decide`]: `input_sha256` is the digest of the input as it is now.
    pub fn decide_by_digest(
        &self,
        source: &str,
        input: &ObjectInfo,
        input_sha256: &Digest,
        output: Option<&ObjectInfo>,
    ) -> Decision {
        let Some(past) = self.results.get(input.key.as_str()) else {
            return Decision::Compute(OnExisting::Keep);
        };
        let record = &past.record;
        let same_input = record.input_sha256.as_ref() == Some(input_sha256);
        let whole = output.is_some_and(|o| Some(o.bytes) == record.output_bytes);
        let same_source = self.jobs.get(&past.job).is_some_and(|job| job.source == source);
        match &record.output_sha256 {
            _ if same_input && whole => {
                Decision::Finished(Box::new(ItemRecord { input_etag: input.etag.clone(), ..record.clone() }))
            }
            Some(digest) if same_input || same_source => {
                Decision::Compute(OnExisting::ReplaceOwn(digest.clone()))
            }
            _ => Decision::Compute(OnExisting::Keep),
        }
    }
}
