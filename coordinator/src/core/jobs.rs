//! A job in the driver's memory, and how it goes to and from its rows.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sr3_proto::{
    Cancel, Digest, JobId, JobSpec, Lease, RunId, ShardId, UpscaleJob, UpscaleSpec, WorkerId,
    wire::ledger::{self, JobPhase, JobRow, PlanRow},
};
use tokio::sync::watch;

use super::view::{Counts, JobView, OnDevice, Phase};
use crate::ledger::LedgerError;

/// A job.
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) spec: UpscaleJob,
    pub(super) spec_text: String,
    pub(super) idempotency_key: String,
    pub(super) resolved: Arc<UpscaleSpec>,
    /// 0 before the destination was taken.
    pub(super) run: RunId,
    pub(super) phase: Phase,
    /// How the ending that is under way comes out.
    pub(super) ending: Phase,
    pub(super) paused: bool,
    pub(super) reason: String,
    pub(super) submitted_ms: u64,
    pub(super) ended_ms: u64,
    pub(super) plan: PlanRow,
    pub(super) counts: Counts,
    /// The last of the shards that were kept in memory without a gap; None if none was yet.
    pub(super) kept_to: Option<ShardId>,
    /// The last planned shard that has something to compute.
    pub(super) last_to_compute: ShardId,
    /// Whether more are being read.
    pub(super) keeping: bool,
    /// Grants that wait for those: worker, lease, verdicts so far, isolated.
    pub(super) parked: Vec<(WorkerId, Lease, Vec<Bytes>, bool)>,
    pub(super) last_event: u64,
    /// Whether its report lies at the destination.
    pub(super) reported: bool,
    /// Items on devices, by worker.
    pub(super) on_device: BTreeMap<WorkerId, OnDevice>,
    /// Items with a verdict that is not recorded, and their encoded bytes.
    pub(super) under_way: BTreeMap<(WorkerId, ShardId), (u64, u64)>,
    /// Stops the job's planning.
    pub(super) stop_planning: Cancel,
    /// Tells the job's task to write its report.
    pub(super) finish: watch::Sender<Option<Phase>>,
    pub(super) seen: watch::Sender<Arc<JobView>>,
}

impl Job {
    pub(super) fn new(
        id: JobId,
        spec: UpscaleJob,
        idempotency_key: String,
        resolved: UpscaleSpec,
        submitted_ms: u64,
    ) -> Self {
        let spec_text = JobSpec::Upscale(spec.clone()).to_yaml();
        let empty = JobView {
            id,
            run: RunId::new(0),
            spec: String::new(),
            phase: Phase::Queued,
            paused: false,
            reason: String::new(),
            counts: Counts::default(),
            planning_done: false,
            submitted_ms,
            ended_ms: 0,
            model: String::new(),
            model_sha256: None,
            reported: false,
            leases: 0,
            items_under_way: 0,
            work_under_way: 0,
            on_device: Vec::new(),
            last_event: 0,
        };
        let job = Self {
            id,
            spec,
            spec_text,
            idempotency_key,
            resolved: Arc::new(resolved),
            run: RunId::new(0),
            phase: Phase::Queued,
            ending: Phase::Succeeded,
            paused: false,
            reason: String::new(),
            submitted_ms,
            ended_ms: 0,
            plan: PlanRow::default(),
            counts: Counts::default(),
            kept_to: None,
            last_to_compute: ShardId::new(0),
            keeping: false,
            parked: Vec::new(),
            last_event: 0,
            reported: false,
            on_device: BTreeMap::new(),
            under_way: BTreeMap::new(),
            stop_planning: Cancel::new(),
            finish: watch::Sender::new(None),
            seen: watch::Sender::new(Arc::new(empty)),
        };
        job.seen.send_replace(Arc::new(job.view(0)));
        job
    }

    /// Planned numbers and those of recorded shards together.
    pub(super) fn all_counts(&self) -> Counts {
        Counts {
            planned: self.plan.planned,
            skipped: self.plan.skipped,
            quarantined: self.plan.quarantined + self.counts.quarantined,
            work_planned: self.plan.work,
            ..self.counts
        }
    }

    pub(super) fn view(&self, leases: usize) -> JobView {
        JobView {
            id: self.id,
            run: self.run,
            spec: self.spec_text.clone(),
            phase: self.phase,
            paused: self.paused,
            reason: self.reason.clone(),
            counts: self.all_counts(),
            planning_done: self.plan.done || self.phase.is_final(),
            submitted_ms: self.submitted_ms,
            ended_ms: self.ended_ms,
            model: self.resolved.recipe.model_name.clone(),
            model_sha256: Some(self.resolved.recipe.model.clone()),
            reported: self.reported,
            leases: u32::try_from(leases).unwrap_or(u32::MAX),
            items_under_way: self.under_way.values().map(|(items, _)| items).sum(),
            work_under_way: self.under_way.values().map(|(_, work)| work).sum(),
            on_device: self.on_device.values().cloned().collect(),
            last_event: self.last_event,
        }
    }

    /// What names the job wherever it works: no other job has it, of this cluster or another.
    pub(super) fn owner(&self) -> String {
        let Self { id, submitted_ms, spec_text, .. } = self;
        format!("job {id} {}", Digest::of(format!("{submitted_ms} {spec_text}").as_bytes()))
    }

    pub(super) fn row(&self) -> JobRow {
        let Counts {
            planned,
            done,
            skipped,
            quarantined,
            work_planned,
            work_done,
            shards_planned,
            shards_done,
            with_notes,
        } = self.all_counts();
        JobRow {
            version: 0,
            id: self.id.get(),
            spec: self.spec_text.clone(),
            // A spec always has a JSON form.
            resolved: serde_json::to_string(&*self.resolved).unwrap_or_default(),
            run: self.run.get(),
            phase: phase_row(self.phase).into(),
            reason: self.reason.clone(),
            submitted_ms: self.submitted_ms,
            ended_ms: self.ended_ms,
            idempotency_key: self.idempotency_key.clone(),
            counts: Some(ledger::Counts {
                planned,
                done,
                skipped,
                quarantined,
                work_planned,
                work_done,
                shards_planned,
                shards_done,
                with_notes,
            }),
            paused: self.paused,
            ending: phase_row(self.ending).into(),
            reported: self.reported,
        }
    }

    /// A job that ended, or one whose other rows are still to be read.
    pub(super) fn from_row(key: &str, row: JobRow) -> Result<Self, LedgerError> {
        let corrupt = |reason: String| LedgerError::Corrupt { location: format!("row `{key}`"), reason };
        let JobSpec::Upscale(spec) =
            JobSpec::parse(&row.spec).map_err(|e| corrupt(format!("its spec cannot be read: {e}")))?
        else {
            return Err(corrupt("its kind is none of this version".into()));
        };
        let resolved = serde_json::from_str(&row.resolved).map_err(|e| corrupt(e.to_string()))?;
        let (phase, ending) = (phase(row.phase()), phase(row.ending()));
        let counts = row.counts.unwrap_or_default();
        let mut job = Self::new(JobId::new(row.id), spec, row.idempotency_key, resolved, row.submitted_ms);
        job.run = RunId::new(row.run);
        job.phase = phase;
        job.ending = ending;
        job.paused = row.paused;
        job.reason = row.reason;
        job.ended_ms = row.ended_ms;
        job.reported = row.reported;
        if phase.is_final() {
            job.plan.done = true;
            job.plan.planned = counts.planned;
            job.plan.skipped = counts.skipped;
            job.plan.work = counts.work_planned;
            job.counts = Counts {
                done: counts.done,
                quarantined: counts.quarantined,
                work_done: counts.work_done,
                shards_planned: counts.shards_planned,
                shards_done: counts.shards_done,
                with_notes: counts.with_notes,
                ..Counts::default()
            };
        }
        job.seen.send_replace(Arc::new(job.view(0)));
        Ok(job)
    }
}

fn phase_row(phase: Phase) -> JobPhase {
    match phase {
        Phase::Queued => JobPhase::Queued,
        Phase::Running => JobPhase::Running,
        Phase::Finishing => JobPhase::Finishing,
        Phase::Succeeded => JobPhase::Succeeded,
        Phase::Failed => JobPhase::Failed,
        Phase::Cancelled => JobPhase::Cancelled,
    }
}

fn phase(row: JobPhase) -> Phase {
    match row {
        JobPhase::Unspecified | JobPhase::Queued => Phase::Queued,
        JobPhase::Running => Phase::Running,
        JobPhase::Finishing => Phase::Finishing,
        JobPhase::Succeeded => Phase::Succeeded,
        JobPhase::Failed => Phase::Failed,
        JobPhase::Cancelled => Phase::Cancelled,
    }
}
