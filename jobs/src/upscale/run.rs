//! A destination's `.sr3/`: the lock, the records of earlier runs, and what this run adds to them.
//!
//! ```text
//! .sr3/lock                      held by the run that works here
//! .sr3/jobs/JOB.json             what a run was asked to do; created once, first
//! .sr3/manifests/JOB/SHARD.json  the items of a finished shard; created once, before they count as done
//! .sr3/report.jsonl              a line per image of the latest run of every source; replaced whole
//! .sr3/_SUCCESS                  written last by a complete run, removed first by the next
//! .sr3/in-flight.json            what is on the device of a run in one process; see `in_flight`
//! .sr3/tmp/                      objects that have no name yet
//! ```

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sr3_proto::{
    Digest, Key, RunId, Store, StoreError, UnitId, layout,
    store::{ListEntry, Lock, PutMode},
};

use super::{
    ItemRecord, RunRecord, ShardManifest, Success, UpscaleOrder,
    history::History,
    manifest::ManifestCheck,
    record::{RecordError, VERSION, read_document, write_document},
    report,
};
use crate::images::{GlobError, SourceError};

/// How many records are read at a time.
const READS_AT_ONCE: usize = 16;

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document under `.sr3/` cannot be read.
    #[error("{source}; to compute its items again, remove that file")]
    Record {
        /// Which, and why.
        #[from]
        source: RecordError,
    },
    /// A manifest is not what the worker said that it wrote.
    #[error(
        "`{key}` at the destination was changed after it was recorded (sha256 {found}, recorded {recorded}): run the job \
         again; what still lies there whole is kept"
    )]
    ManifestChanged {
        /// Which.
        key: String,
        /// Its digest now.
        found: String,
        /// Its digest then.
        recorded: String,
    },
    /// A glob cannot be read.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// The destination holds results of another recipe.
    #[error(
        "`{destination}` holds results made otherwise ({differences}): choose another folder, or pass --overwrite to replace them"
    )]
    OtherRecipe {
        /// As the user named it.
        destination: String,
        /// What differs, field by field.
        differences: String,
    },
    /// There is nothing to do.
    #[error("no images found in `{location}`: {looked_for}")]
    NoImages {
        /// As the user named it.
        location: String,
        /// What would have counted.
        looked_for: String,
    },
    /// Another run created this run's record first.
    #[error("another run began on `{destination}` at the same moment: wait for it or stop it")]
    Race {
        /// As the user named it.
        destination: String,
    },
    /// What was kept of a unit cannot be read.
    #[error(transparent)]
    Unit(#[from] super::item::UnitError),
}

impl RunError {
    /// A source without images.
    pub fn of_source(error: SourceError, location: &str) -> Self {
        match error {
            SourceError::Store(error) => Self::Store(error),
            SourceError::NoImages { looked_for } => {
                Self::NoImages { location: location.to_string(), looked_for }
            }
        }
    }
}

/// The open state of a destination, for one run.
#[derive(Debug)]
pub struct Run {
    store: Store,
    history: History,
    run: RunId,
    order: UpscaleOrder,
    recipe_digest: Digest,
    lock: Option<Lock>,
}

impl Run {
    /// Takes the destination for this run: its lock, what earlier runs recorded in `state`, a record of its own.
    ///
    /// `state` is the destination itself, or a store in memory for a run that leaves no state. Fails without having
    /// changed any result if another run is at work, if `outputs` holds results of another recipe and the order does
    /// not allow to overwrite them, or if `.sr3/` cannot be written.
    ///
    /// `owner` is a name of this run alone: who begins under the name of the latest run goes on with that, because its
    /// answer may have got lost, or the coordinator that asked.
    ///
    /// A bucket has no lock, nor have some network file systems. Two runs that begin there at the same moment are told
    /// apart by their owners; two that overlap otherwise both go on, write the same bytes once, and the report is the
    /// last one's.
    pub async fn begin(
        state: Store,
        outputs: &Store,
        order: UpscaleOrder,
        owner: String,
    ) -> Result<Self, RunError> {
        let holder = format!("process {}", std::process::id());
        let lock = state.lock(&layout::lock_key(), &holder).await?;
        state.clean_staging().await?;
        let history = read_history(&state).await?;
        if !order.overwrite {
            refuse_other_recipes(&history, outputs, &order).await?;
        }
        if let Some(run) = history.latest_of(&owner) {
            return Self::begun(state, history.before(run), run, order, lock).await;
        }
        let run = history.next_run();
        let record = RunRecord {
            version: VERSION,
            run,
            recipe: order.recipe.clone(),
            source: order.source.clone(),
            enlarged: order.enlarged.as_ref().map(|enlarged| enlarged.place.clone()),
            owner,
            overwrite: order.overwrite,
        };
        let key = layout::job_key(run);
        let bytes = Bytes::from(write_document(key.as_str(), &record)?);
        match state.put(&key, bytes.clone(), PutMode::Create).await {
            // The answer to this very call got lost.
            Err(StoreError::AlreadyExists { .. }) if state.get(&key).await?.1 == bytes => {}
            Err(StoreError::AlreadyExists { .. }) => {
                return Err(RunError::Race { destination: order.destination });
            }
            other => other?,
        }
        Self::begun(state, history, run, order, lock).await
    }

    async fn begun(
        store: Store,
        history: History,
        run: RunId,
        order: UpscaleOrder,
        lock: Option<Lock>,
    ) -> Result<Self, RunError> {
        store.delete(&layout::success_key()).await?;
        let recipe_digest = order.recipe.digest();
        Ok(Self { store, history, run, order, recipe_digest, lock })
    }

    /// Goes on with a run that an earlier coordinator began. `planning`: whether what earlier runs recorded is needed.
    pub async fn resume(
        state: Store,
        order: UpscaleOrder,
        run: RunId,
        planning: bool,
    ) -> Result<Self, RunError> {
        let holder = format!("process {}", std::process::id());
        let lock = state.lock(&layout::lock_key(), &holder).await?;
        let history = if planning { read_history(&state).await?.before(run) } else { History::default() };
        let recipe_digest = order.recipe.digest();
        Ok(Self { store: state, history, run, order, recipe_digest, lock })
    }

    /// This run.
    pub fn id(&self) -> RunId {
        self.run
    }

    /// Whether it keeps other runs on this machine out. Not on a bucket, nor where a file system has no locks.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// What it does.
    pub fn order(&self) -> &UpscaleOrder {
        &self.order
    }

    /// Digest of its recipe.
    pub fn recipe_digest(&self) -> &Digest {
        &self.recipe_digest
    }

    /// What earlier runs recorded.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Makes the verdicts of a shard durable, and returns those that are: if its manifest lies there already, as after an
    /// answer that was lost, they are what it says.
    pub async fn record_shard(
        &self,
        unit: UnitId,
        items: Vec<ItemRecord>,
    ) -> Result<Vec<ItemRecord>, RunError> {
        let key = layout::manifest_key(self.run, unit);
        let manifest = ShardManifest::new(self.run, unit, &self.order.recipe, items);
        let bytes = Bytes::from(write_document(key.as_str(), &manifest)?);
        match self.store.put(&key, bytes, PutMode::Create).await {
            Err(StoreError::AlreadyExists { .. }) => Ok(self.read_manifest(unit).await?.0.items),
            other => Ok(other.map(|()| manifest.items)?),
        }
    }

    /// What looks at its workers' reports.
    pub(super) fn check(&self) -> ManifestCheck {
        ManifestCheck { store: self.store.clone(), run: self.run }
    }

    /// What lies at a shard's manifest.
    async fn read_manifest(&self, unit: UnitId) -> Result<(ShardManifest, Digest), RunError> {
        let key = layout::manifest_key(self.run, unit);
        let (_, bytes) = self.store.get(&key).await?;
        Ok((read_document(key.as_str(), &bytes)?, Digest::of(&bytes)))
    }

    /// What a shard's worker recorded: its manifest, whose sha256 must be `recorded`.
    pub async fn read_recorded(&self, unit: UnitId, recorded: &Digest) -> Result<ShardManifest, RunError> {
        match self.read_manifest(unit).await? {
            (manifest, found) if found == *recorded => Ok(manifest),
            (_, found) => Err(RunError::ManifestChanged {
                key: layout::manifest_key(self.run, unit).to_string(),
                found: found.to_string(),
                recorded: recorded.to_string(),
            }),
        }
    }

    /// Replaces the lines of this run's source in the report by `lines`, as [`report`] says.
    pub async fn write_report(&self, lines: Vec<u8>) -> Result<(), RunError> {
        let key = layout::report_key();
        let whole = match self.store.get(&key).await {
            Ok((_, before)) => report::replaced(&before, &self.order.source, &lines),
            Err(StoreError::NotFound { .. }) => lines,
            Err(error) => return Err(error.into()),
        };
        Ok(self.store.put(&key, whole.into(), PutMode::Replace).await?)
    }

    /// Says that the run is complete. The last thing that is written.
    pub async fn write_success(&self, done: u64, skipped: u64, quarantined: u64) -> Result<(), RunError> {
        let key = layout::success_key();
        let success = Success {
            version: VERSION,
            run: self.run,
            recipe_digest: self.recipe_digest.clone(),
            done,
            skipped,
            quarantined,
        };
        Ok(self.store.put(&key, write_document(key.as_str(), &success)?.into(), PutMode::Replace).await?)
    }
}

/// What the runs that `store` holds the state of have recorded. Changes nothing.
pub async fn read_history(store: &Store) -> Result<History, RunError> {
    let mut history = History::default();
    for job in read_all::<RunRecord>(store, &layout::jobs_prefix()).await? {
        history.add_run(job);
    }
    for manifest in read_all::<ShardManifest>(store, &layout::manifest_prefix()).await? {
        history.add_manifest(manifest);
    }
    Ok(history)
}

async fn read_all<T: serde::de::DeserializeOwned + Send>(
    store: &Store,
    prefix: &Key,
) -> Result<Vec<T>, RunError> {
    store
        .list_under(prefix)
        .map_err(RunError::from)
        .try_filter_map(|entry| async move {
            // Whatever else somebody put here is none of ours.
            Ok(match entry {
                ListEntry::Object(info) if info.key.extension().as_deref() == Some("json") => Some(info.key),
                _ => None,
            })
        })
        .map(|key| async move {
            let (info, bytes) = store.get(&key?).await.map_err(RunError::from)?;
            Ok::<_, RunError>((info.key, bytes))
        })
        .buffered(READS_AT_ONCE)
        .and_then(|(key, bytes)| async move { Ok(read_document(key.as_str(), &bytes)?) })
        .try_collect()
        .await
}

/// Only results that still lie there count: a folder whose images were removed by hand may be filled anew.
async fn refuse_other_recipes(
    history: &History,
    outputs: &Store,
    order: &UpscaleOrder,
) -> Result<(), RunError> {
    for (record, differences) in history.foreign(&order.recipe) {
        let Some(output) = &record.output else { continue };
        if outputs.head(output).await?.is_some() {
            return Err(RunError::OtherRecipe {
                destination: order.destination.clone(),
                differences: differences.join("; "),
            });
        }
    }
    Ok(())
}
