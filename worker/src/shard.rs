//! One shard of a cluster's job, from its grant to its last report.
//!
//! Its verdicts become its manifest. Whatever stops it before that is reported, with what is worth keeping; whether
//! anybody still wants the report is for the holder of its lease to know.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use sr3_proto::{Cancel, FailureKind, Grant, ItemRecord, ItemTask, Lease, ShardManifest, Store, UpscaleSpec};
use tokio::sync::{mpsc, oneshot};

use crate::{
    OpenProcessor,
    holdings::{Holding, Report},
    manifest::create,
    models::Models,
    pipeline::{Pipeline, Turn, verdicts},
    stores::Stores,
    work::{Failure, ShardProgress, Stop, Work},
};

/// What all shards share.
pub(crate) struct Workshop<O: OpenProcessor> {
    pub(crate) models: Models<O>,
    pub(crate) stores: Arc<Stores>,
    /// Where manifests go, if not to the destination.
    pub(crate) state: Option<Store>,
    pub(crate) read_attempts: u32,
    pub(crate) pipeline: Arc<Pipeline<O::Processor>>,
    /// What shards have to report.
    pub(crate) reports: mpsc::UnboundedSender<(Holding, Report)>,
}

/// A shard at work.
pub(crate) struct Shard<O: OpenProcessor> {
    pub(crate) workshop: Arc<Workshop<O>>,
    pub(crate) holding: Holding,
    pub(crate) cancel: Cancel,
    pub(crate) progress: Arc<ShardProgress>,
}

/// How the items of a grant ended.
enum Ended {
    /// With a verdict each.
    All(Vec<ItemRecord>),
    /// Stopped before; these verdicts were not reported yet.
    Some(Vec<ItemRecord>),
    /// Stopped by a failure; these verdicts were not reported yet.
    Failed(Failure, Vec<ItemRecord>),
}

type ProcessorOf<O> = <O as OpenProcessor>::Processor;

impl<O: OpenProcessor> Shard<O> {
    /// Works on the shard and reports how it ended.
    pub(crate) async fn run(self, grant: Grant) {
        let worked = AssertUnwindSafe(self.report(grant)).catch_unwind().await;
        let broken = |_| Err(Failure::new(FailureKind::Transient, "internal error of the worker"));
        let failed = |failure| Report::Failed(failure, Vec::new());
        let report = worked.unwrap_or_else(broken).unwrap_or_else(failed);
        // Nobody listens: the worker leaves.
        let _ = self.workshop.reports.send((self.holding, report));
    }

    async fn report(&self, grant: Grant) -> Result<Report, Failure> {
        let Grant { lease, spec, run, items, records: earlier, isolated } = grant;
        let destination = self.workshop.stores.get(&spec.destination).await?;
        let ended = match items.is_empty() {
            true => Ended::All(Vec::new()),
            false => self.items(lease, &spec, &destination, items, isolated).await?,
        };
        let mut records = match ended {
            Ended::All(records) => records,
            Ended::Some(records) => return Ok(Report::Returned(records)),
            Ended::Failed(failure, records) => return Ok(Report::Failed(failure, records)),
        };
        records.splice(0..0, earlier);
        let state = self.workshop.state.as_ref().unwrap_or(&destination);
        create(state, &ShardManifest::new(run, lease.shard, &spec.recipe, records)).await.map(Report::Done)
    }

    async fn items(
        &self,
        lease: Lease,
        spec: &Arc<UpscaleSpec>,
        destination: &Store,
        items: Vec<ItemTask>,
        isolated: bool,
    ) -> Result<Ended, Failure> {
        // Held until the last item is done with it.
        let source = self.workshop.stores.get(&spec.source).await?;
        let processor = self.workshop.models.get(spec).await;
        let processor = processor.map_err(|reason| Failure::new(FailureKind::Worker, reason))?;
        let work = Arc::new(Work::new(
            processor,
            [Store::clone(&source), destination.clone()],
            spec.recipe.clone(),
            self.cancel.clone(),
            Arc::clone(&self.progress),
            lease.attempt > self.workshop.read_attempts,
        ));
        let Some(turn) = self.workshop.pipeline.turn(&work).await else { return Ok(Ended::Some(Vec::new())) };
        let journal = self.workshop.pipeline.journal();
        if isolated || journal.is_some_and(|journal| items.iter().any(|item| journal.is_suspect(item))) {
            return self.one_by_one(&work, items, turn).await;
        }
        let due = items.len();
        let begun = self.workshop.pipeline.begin(&work, items, &turn).await;
        drop(turn);
        let (records, failure) = verdicts(begun).await;
        match failure {
            Some(failure) => Ok(Ended::Failed(work.failure().cloned().unwrap_or(failure), records)),
            None if records.len() == due => Ok(Ended::All(records)),
            None => Ok(Ended::Some(records)),
        }
    }

    /// Each item alone in the whole worker, the next only when the verdict of the last is durable: if the process
    /// dies, it is known of what.
    async fn one_by_one(
        &self,
        work: &Arc<Work<ProcessorOf<O>>>,
        items: Vec<ItemTask>,
        turn: Turn,
    ) -> Result<Ended, Failure> {
        let pipeline = &self.workshop.pipeline;
        // What was reported by itself is not given back again.
        let given_back = || Ok(Ended::Some(Vec::new()));
        let Some(_alone) = pipeline.alone(work, &turn).await else { return given_back() };
        let mut records = Vec::with_capacity(items.len());
        for item in items {
            if work.cancel.is_cancelled() {
                return given_back();
            }
            let record = match pipeline.item(work, item).await {
                Ok(record) => record,
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(_) => return given_back(),
            };
            work.progress.verdict();
            records.push(record.clone());
            let (committed, answer) = oneshot::channel();
            let report = Report::Item { record: Box::new(record), committed };
            let _ = self.workshop.reports.send((self.holding, report));
            tokio::select! {
                biased;
                answered = answer => if answered.is_err() { return given_back() },
                () = work.cancel.cancelled() => return given_back(),
            }
        }
        Ok(Ended::All(records))
    }
}
