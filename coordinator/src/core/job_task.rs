//! The task of one job: takes its places, plans its units stage by stage, waits until the driver says that the work is
//! over, writes the end. It reads and writes through the job's kind and only ever sends commands, so the driver never waits
//! for a store.
//!
//! After a restart it goes on: planning after the last unit that is in the ledger, the rest from what is recorded.

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use sr3_proto::{
    Cancel, JobId, Order, RunId, UnitId,
    wire::ledger::{DoneRow, PlanRow, UnitRow},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Parts, command::Command, jobs::Next};
use crate::{
    JobError,
    kind::{Begin, Begun, EndedUnit, Outcome, Planned, SoFar},
    ledger::{Ledger, LedgerError, LedgerKey},
    rows,
};

/// So many planned units are taken at once, if they are there.
const UNITS_AT_ONCE: usize = 256;
/// So many rows are read at a time for the end.
const READS_AT_ONCE: usize = 32;

pub(super) struct JobTask {
    pub(super) id: JobId,
    /// Names the job wherever it works.
    pub(super) owner: String,
    pub(super) order: Arc<Order>,
    pub(super) places: Places,
    pub(super) plan: PlanRow,
    pub(super) parts: Parts,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) stop_planning: Cancel,
    pub(super) next: watch::Receiver<Next>,
    pub(super) stop: Cancel,
}

/// How the job's places are.
pub(super) enum Places {
    /// To be taken.
    Free,
    /// Taken by this run of an earlier coordinator.
    Recovered(RunId),
    /// Taken by whoever submitted the job.
    Taken(Box<dyn Begun>),
}

impl JobTask {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            // Whatever it was at, another coordinator goes on with it.
            () = stop.cancelled() => {}
            () = self.drive() => {}
        }
    }

    async fn drive(&mut self) {
        let begun = match self.begin().await {
            Ok(begun) => Some(begun),
            Err(error) => {
                self.fail(&error).await;
                None
            }
        };
        let mut phase = loop {
            let next = *self.next.borrow_and_update();
            match (next, &begun) {
                (Next::End(phase), _) => break phase,
                (Next::Stage(stage), Some(begun)) if !self.is_planned(stage) => {
                    if let Err(error) = self.make_plan(&**begun, stage).await {
                        self.fail(&error).await;
                    }
                }
                (Next::Stage(_), _) => {}
            }
            if self.next.changed().await.is_err() {
                return;
            }
        };
        let (mut reason, mut reported) = (None, None);
        if let Some(begun) = &begun {
            match begun.end(phase, units(&*self.ledger, self.id)).await {
                Ok(written) => reported = Some(written),
                // A full disk fails the report as well; the first reason is the one to tell.
                Err(_) if phase == super::view::Phase::Failed => {}
                Err(error) => {
                    phase = super::view::Phase::Failed;
                    reason = Some(format!("its report cannot be written: {error}"));
                }
            }
        }
        // Its places are free again when the job is seen to have ended.
        drop(begun);
        // The driver is gone only if the process ends.
        drop(self.commands.send(Command::Finished { job: self.id, phase, reason, reported }).await);
    }

    async fn fail(&self, error: &JobError) {
        drop(self.commands.send(Command::Failed { job: self.id, reason: error.to_string() }).await);
    }

    async fn begin(&mut self) -> Result<Box<dyn Begun>, JobError> {
        let begun = match std::mem::replace(&mut self.places, Places::Free) {
            Places::Taken(begun) => begun,
            Places::Free => self.take(None).await?,
            Places::Recovered(run) => self.take(Some(run)).await?,
        };
        let (answer, durable) = oneshot::channel();
        let command = Command::Began { job: self.id, run: begun.run(), check: begun.check(), answer };
        drop(self.commands.send(command).await);
        drop(durable.await);
        Ok(begun)
    }

    async fn take(&self, run: Option<RunId>) -> Result<Box<dyn Begun>, JobError> {
        let kind = &self.order.kind;
        let unknown = || JobError::UnknownKind { kind: kind.clone() };
        let begin = Begin {
            open_store: Arc::clone(&self.parts.open_store),
            owner: self.owner.clone(),
            run,
            planning: !self.plan.done,
        };
        self.parts.kinds.find(kind).ok_or_else(unknown)?.begin(Arc::clone(&self.order), begin).await
    }

    /// Whether nothing is to be planned of a stage.
    fn is_planned(&self, stage: u32) -> bool {
        self.plan.done || self.plan.stage > stage || (self.plan.stage == stage && self.plan.stage_planned)
    }

    async fn make_plan(&mut self, begun: &dyn Begun, stage: u32) -> Result<(), JobError> {
        if self.plan.stage < stage {
            (self.plan.stage, self.plan.stage_planned) = (stage, false);
            self.plan.stage_from = self.plan.units;
            self.plan.cursor.clear();
        }
        let mut plan = self.plan.clone();
        let ledger = Arc::clone(&self.ledger);
        let so_far = SoFar { cursor: plan.cursor.clone(), units: units(&*ledger, self.id) };
        let mut planned = pin!(begun.plan(stage, so_far).ready_chunks(UNITS_AT_ONCE));
        loop {
            let chunk = tokio::select! {
                biased;
                () = self.stop_planning.cancelled() => return Ok(()),
                chunk = planned.next() => chunk,
            };
            plan.stage_planned = chunk.is_none();
            plan.done = plan.stage_planned && stage + 1 >= begun.stages();
            let mut rows = Vec::new();
            for planned in chunk.unwrap_or_default() {
                rows.push((UnitId::new(plan.units), add(&mut plan, planned?)));
            }
            let (answer, durable) = oneshot::channel();
            let command = Command::Planned { job: self.id, units: rows, plan: plan.clone(), answer };
            // Without an answer the job is over, or the process is.
            if self.commands.send(command).await.is_err() || durable.await.is_err() {
                return Ok(());
            }
            if plan.stage_planned {
                break;
            }
        }
        self.plan = plan;
        Ok(())
    }
}

/// All units that are planned, in order, and what came of them.
fn units(ledger: &dyn Ledger, job: JobId) -> BoxStream<'_, Result<EndedUnit, JobError>> {
    let ended = move |row: Result<(LedgerKey, Bytes), LedgerError>| async move {
        let (key, bytes) = row?;
        let UnitRow { payload: unit, items, at_end, .. } = rows::read(&key, &bytes)?;
        let id = UnitId::new(rows::last_number(&key)?);
        let outcome = match items {
            0 => Outcome::Open(Vec::new()),
            _ => outcome(ledger, job, id).await?,
        };
        Ok(EndedUnit { id, unit, at_end, items, outcome })
    };
    ledger.scan(&rows::units(job), None).map(ended).buffered(READS_AT_ONCE).boxed()
}

async fn outcome(ledger: &dyn Ledger, job: JobId, unit: UnitId) -> Result<Outcome, JobError> {
    let key = rows::done(job, unit);
    if let Some(bytes) = ledger.get(&key).await? {
        return Ok(Outcome::Recorded(rows::read::<DoneRow>(&key, &bytes)?.payload));
    }
    let key = rows::attempts(job, unit);
    let Some(bytes) = ledger.get(&key).await? else { return Ok(Outcome::Open(Vec::new())) };
    Ok(Outcome::Open(rows::open_unit(rows::read(&key, &bytes)?).records))
}

/// The row of a unit; its numbers are added to the plan's.
fn add(plan: &mut PlanRow, planned: Planned) -> UnitRow {
    let Planned { unit, at_end, items, work, planned, skipped, quarantined, cursor, after, seat } = planned;
    let seat_min = seat.map_or(0, |seat| seat.min.max(1));
    plan.units += 1;
    plan.planned += planned;
    plan.skipped += skipped;
    plan.quarantined += quarantined;
    plan.work += work;
    plan.cursor = cursor;
    UnitRow { payload: unit, at_end, items, work, seat_min, after, ..UnitRow::default() }
}
