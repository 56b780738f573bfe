//! One unit of a job, from its grant to its last report.
//!
//! Its verdicts become its result. Whatever stops it before that is reported, with what is worth keeping; whether
//! anybody still wants the report is for the holder of its lease to know.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::FutureExt;
use sr3_proto::{Cancel, FailureKind, Grant};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Seat, UnitWork,
    holdings::{Holding, Report},
    orders::Orders,
    pipeline::{Pipeline, Turn, verdicts},
    stores::Stores,
    telemetry::{self, UnitEnded},
    work::{Attempt, Failure, Stop, UnitProgress},
};

/// What all units share.
pub(crate) struct Workshop {
    pub(crate) orders: Orders,
    pub(crate) stores: Arc<Stores>,
    pub(crate) read_attempts: u32,
    pub(crate) pipeline: Arc<Pipeline>,
    /// What units have to report.
    pub(crate) reports: mpsc::UnboundedSender<(Holding, Report)>,
}

/// A unit at work.
pub(crate) struct Unit {
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) holding: Holding,
    pub(crate) cancel: Cancel,
    pub(crate) progress: Arc<UnitProgress>,
    pub(crate) seat: Seat,
}

/// How the items of a grant ended.
enum Ended {
    /// With a verdict each.
    All(Vec<Bytes>),
    /// Stopped before; these verdicts were not reported yet.
    Some(Vec<Bytes>),
    /// Stopped by a failure; these verdicts were not reported yet.
    Failed(Failure, Vec<Bytes>),
}

impl Unit {
    /// Works on the unit and reports how it ended.
    pub(crate) async fn run(self, grant: Grant) {
        let Self { workshop, holding, cancel, progress, seat } = self;
        let attempt = |last_try| Attempt::new(cancel, progress, last_try, seat);
        let at_work = AtWork { workshop: Arc::clone(&workshop), holding };
        let worked = AssertUnwindSafe(at_work.report(grant, attempt)).catch_unwind().await;
        let broken = |_| Err(Failure::new(FailureKind::Transient, "internal error of the worker"));
        let failed = |failure| Report::Failed(failure, Vec::new());
        let report = worked.unwrap_or_else(broken).unwrap_or_else(failed);
        telemetry::unit_ended(match &report {
            Report::Failed(..) => UnitEnded::Failed,
            Report::Returned(_) => UnitEnded::Returned,
            _ => UnitEnded::Done,
        });
        // Nobody listens: the worker leaves.
        let _ = workshop.reports.send((holding, report));
    }
}

/// A unit whose items run.
struct AtWork {
    workshop: Arc<Workshop>,
    holding: Holding,
}

impl AtWork {
    async fn report(&self, grant: Grant, attempt: impl FnOnce(bool) -> Attempt) -> Result<Report, Failure> {
        let open = self.workshop.orders.get(&grant.order, &self.workshop.stores).await?;
        let unit = open.unit(&grant)?;
        let ended = match unit.items() {
            0 => Ended::All(Vec::new()),
            _ => self.items(&grant, &unit, attempt).await?,
        };
        Ok(match ended {
            Ended::All(records) => Report::Done(unit.finish(records).await?),
            Ended::Some(records) => Report::Returned(records),
            Ended::Failed(failure, records) => Report::Failed(failure, records),
        })
    }

    async fn items(
        &self,
        grant: &Grant,
        unit: &Arc<dyn UnitWork>,
        attempt: impl FnOnce(bool) -> Attempt,
    ) -> Result<Ended, Failure> {
        unit.prepare().await?;
        let attempt = Arc::new(attempt(grant.lease.attempt > self.workshop.read_attempts));
        let Some(turn) = self.workshop.pipeline.turn(&attempt).await else {
            return Ok(Ended::Some(Vec::new()));
        };
        if grant.isolated || unit.runs_alone() {
            return self.one_by_one(&**unit, &attempt, turn).await;
        }
        let begun = self.workshop.pipeline.begin(unit, &attempt, &turn).await;
        drop(turn);
        let (records, failure) = verdicts(begun).await;
        match failure {
            Some(failure) => Ok(Ended::Failed(attempt.failure().cloned().unwrap_or(failure), records)),
            None if records.len() == unit.items() => Ok(Ended::All(records)),
            None => Ok(Ended::Some(records)),
        }
    }

    /// Each item alone in the whole worker, the next only when the verdict of the last is durable: if the process
    /// dies, it is known of what.
    async fn one_by_one(
        &self,
        unit: &dyn UnitWork,
        attempt: &Arc<Attempt>,
        turn: Turn,
    ) -> Result<Ended, Failure> {
        let pipeline = &self.workshop.pipeline;
        // What was reported by itself is not given back again.
        let given_back = || Ok(Ended::Some(Vec::new()));
        let Some(_alone) = pipeline.alone(attempt, &turn).await else { return given_back() };
        let mut records = Vec::with_capacity(unit.items());
        for index in 0..unit.items() {
            if attempt.cancel().is_cancelled() {
                return given_back();
            }
            let record = match pipeline.item(unit, index, attempt).await {
                Ok(record) => record,
                Err(Stop::Failed(failure)) => return Err(failure),
                Err(_) => return given_back(),
            };
            attempt.progress().verdict();
            records.push(record.clone());
            let (committed, answer) = oneshot::channel();
            let report = Report::Item { record, committed };
            let _ = self.workshop.reports.send((self.holding, report));
            tokio::select! {
                biased;
                answered = answer => if answered.is_err() { return given_back() },
                () = attempt.cancel().cancelled() => return given_back(),
            }
        }
        Ok(Ended::All(records))
    }
}
