//! A job in the driver's memory, and how it goes to and from its rows.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use sr3_proto::{
    Cancel, Digest, Head, JobId, Lease, Order, RunId, UnitId, WorkerId,
    session::UnitResult,
    wire::{
        ledger::{self, JobPhase, JobRow, PlanRow},
        v1,
    },
};
use tokio::sync::watch;

use super::view::{Counts, JobView, OnDevice, Phase};
use crate::{kind::Check, ledger::LedgerError, scheduler::Event};

/// A job.
pub(super) struct Job {
    pub(super) id: JobId,
    /// Canonical text.
    pub(super) spec: String,
    pub(super) order: Arc<Order>,
    pub(super) idempotency_key: String,
    /// Identity of whoever submitted it.
    pub(super) submitted_by: String,
    /// 0 before its places were taken.
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
    /// The last of the units that were kept in memory without a gap; None if none was yet.
    pub(super) kept_to: Option<UnitId>,
    /// The last planned unit that has something to do.
    pub(super) last_to_compute: UnitId,
    /// Whether more are being read.
    pub(super) keeping: bool,
    /// Grants that wait for those: worker, lease, verdicts so far, isolated.
    pub(super) parked: Vec<(WorkerId, Lease, Vec<Bytes>, bool)>,
    /// Whether the rows of its units are gone.
    pub(super) rows_gone: bool,
    /// Whether they, or all of it, are going.
    pub(super) tidying: bool,
    /// Looks at reports; none before its places were taken.
    pub(super) check: Option<Arc<dyn Check>>,
    /// Reports that wait for that.
    pub(super) unchecked: Vec<(WorkerId, Lease, UnitResult)>,
    pub(super) last_event: u64,
    /// Whether its end is written.
    pub(super) reported: bool,
    pub(super) summary: String,
    /// Items on devices, by worker.
    pub(super) on_device: BTreeMap<WorkerId, OnDevice>,
    /// Of a gang: how many work together, and in which generation.
    pub(super) gang: Option<(u32, u64)>,
    /// Items with a verdict that is not recorded, and their work.
    pub(super) under_way: BTreeMap<(WorkerId, UnitId), (u64, u64)>,
    /// Stops the job's planning.
    pub(super) stop_planning: Cancel,
    /// Tells the job's task how to go on.
    pub(super) next: watch::Sender<Next>,
    pub(super) seen: watch::Sender<Arc<JobView>>,
}

/// What a job's task is to do when it has planned a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Plan this stage, if it has not.
    Stage(u32),
    /// Write the end of a job that came out like this.
    End(Phase),
}

impl Job {
    pub(super) fn new(
        id: JobId,
        spec: String,
        idempotency_key: String,
        order: Arc<Order>,
        submitted_by: String,
        submitted_ms: u64,
    ) -> Self {
        let empty = JobView {
            id,
            order: Arc::clone(&order),
            run: RunId::new(0),
            spec: String::new(),
            phase: Phase::Queued,
            paused: false,
            reason: String::new(),
            counts: Counts::default(),
            planning_done: false,
            submitted_ms,
            ended_ms: 0,
            reported: false,
            summary: String::new(),
            leases: 0,
            items_under_way: 0,
            work_under_way: 0,
            on_device: Vec::new(),
            gang: None,
            last_event: 0,
            submitted_by: submitted_by.clone(),
        };
        let job = Self {
            id,
            spec,
            order,
            idempotency_key,
            submitted_by,
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
            last_to_compute: UnitId::new(0),
            keeping: false,
            parked: Vec::new(),
            rows_gone: false,
            tidying: false,
            check: None,
            unchecked: Vec::new(),
            last_event: 0,
            reported: false,
            summary: String::new(),
            on_device: BTreeMap::new(),
            gang: None,
            under_way: BTreeMap::new(),
            stop_planning: Cancel::new(),
            next: watch::Sender::new(Next::Stage(0)),
            seen: watch::Sender::new(Arc::new(empty)),
        };
        job.seen.send_replace(Arc::new(job.view(0)));
        job
    }

    /// That it exists, for the scheduler.
    pub(super) fn added(&self) -> Event {
        let Head { priority, models, needs, .. } = self.order.head.clone();
        let models = models.into_iter().map(|model| model.sha256).collect();
        Event::JobAdded { job: self.id, kind: self.order.kind.clone(), priority, models, needs }
    }

    /// Planned numbers and those of recorded units together.
    pub(super) fn all_counts(&self) -> Counts {
        Counts {
            planned: self.plan.planned,
            skipped: self.plan.skipped,
            quarantined: self.plan.quarantined.saturating_add(self.counts.quarantined),
            work_planned: self.plan.work,
            ..self.counts
        }
    }

    pub(super) fn view(&self, leases: usize) -> JobView {
        JobView {
            id: self.id,
            order: Arc::clone(&self.order),
            run: self.run,
            spec: self.spec.clone(),
            phase: self.phase,
            paused: self.paused,
            reason: self.reason.clone(),
            counts: self.all_counts(),
            planning_done: self.plan.done || self.phase.is_final(),
            submitted_ms: self.submitted_ms,
            ended_ms: self.ended_ms,
            reported: self.reported,
            summary: self.summary.clone(),
            leases: u32::try_from(leases).unwrap_or(u32::MAX),
            items_under_way: self.under_way.values().map(|(items, _)| items).sum(),
            work_under_way: self.under_way.values().map(|(_, work)| work).sum(),
            on_device: self.on_device.values().cloned().collect(),
            gang: self.gang,
            last_event: self.last_event,
            submitted_by: self.submitted_by.clone(),
        }
    }

    /// What names the job wherever it works: no other job has it, of this cluster or another.
    pub(super) fn owner(&self) -> String {
        let Self { id, submitted_ms, spec, .. } = self;
        format!("job {id} {}", Digest::of(format!("{submitted_ms} {spec}").as_bytes()))
    }

    pub(super) fn row(&self) -> JobRow {
        let Counts {
            planned,
            done,
            skipped,
            quarantined,
            work_planned,
            work_done,
            units_planned,
            units_done,
            with_notes,
        } = self.all_counts();
        JobRow {
            version: 0,
            id: self.id.get(),
            spec: self.spec.clone(),
            order: Some(v1::Order::from(&*self.order)),
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
                units_planned,
                units_done,
                with_notes,
            }),
            paused: self.paused,
            ending: phase_row(self.ending).into(),
            reported: self.reported,
            summary: self.summary.clone(),
            submitted_by: self.submitted_by.clone(),
            rows_gone: self.rows_gone,
            events: if self.phase.is_final() { self.last_event } else { 0 },
        }
    }

    /// A job that ended, or one whose other rows are still to be read.
    pub(super) fn from_row(key: &str, mut row: JobRow) -> Result<Self, LedgerError> {
        let corrupt = |reason: String| LedgerError::Corrupt { location: format!("row `{key}`"), reason };
        let (phase, ending) = (phase(row.phase()), phase(row.ending()));
        let order = row.order.take().ok_or_else(|| corrupt("it has no order".into()))?;
        let order = Arc::new(Order::try_from(order).map_err(|e| corrupt(e.to_string()))?);
        let counts = row.counts.unwrap_or_default();
        let JobRow { id, spec, idempotency_key, submitted_by, submitted_ms, .. } = row;
        let mut job = Self::new(JobId::new(id), spec, idempotency_key, order, submitted_by, submitted_ms);
        job.run = RunId::new(row.run);
        job.phase = phase;
        job.ending = ending;
        job.paused = row.paused;
        job.reason = row.reason;
        job.ended_ms = row.ended_ms;
        job.reported = row.reported;
        job.summary = row.summary;
        job.rows_gone = row.rows_gone;
        job.last_event = row.events;
        if phase.is_final() {
            job.plan.done = true;
            job.plan.planned = counts.planned;
            job.plan.skipped = counts.skipped;
            job.plan.work = counts.work_planned;
            job.counts = Counts {
                done: counts.done,
                quarantined: counts.quarantined,
                work_done: counts.work_done,
                units_planned: counts.units_planned,
                units_done: counts.units_done,
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
