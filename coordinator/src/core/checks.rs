//! Reports of finished units are looked at before they are believed.
//!
//! Whoever holds a lease may say anything of its unit: that more was done than there was, or that a result lies where none
//! does. Looking at it is one read beside everything else, so that no report waits for another's.

use std::sync::Arc;

use bytes::Bytes;
use sr3_proto::{
    FailureKind, JobId, Lease, UnitId, WorkerId,
    session::UnitResult,
    wire::ledger::{DoneRow, UnitRow},
};

use super::{command::Command, driver::Driver};
use crate::{
    kind::{Check, Doubt},
    ledger::{Ledger, LedgerError},
    rows,
    scheduler::Event,
    telemetry::{self, Refused},
};

impl Driver {
    /// Begins to look at a report; [`Command::Checked`] says what was found.
    pub(super) fn check(&mut self, worker: WorkerId, lease: Lease, result: UnitResult) {
        if !self.scheduler.holds(worker, lease) {
            // It is told so.
            return self.event(Event::UnitDone { worker, lease });
        }
        let (Some(job), Some(commands)) = (self.jobs.get_mut(&lease.job), self.commands.upgrade()) else {
            return;
        };
        let Some(check) = job.check.clone() else {
            return job.unchecked.push((worker, lease, result));
        };
        let known = self.granted.get(&(lease.job, lease.unit)).cloned();
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move {
            let unit = match known {
                Some(unit) => Ok(unit),
                // An earlier coordinator granted it.
                None => read_unit(&*ledger, lease.job, lease.unit).await.map(Arc::new),
            };
            let found = match unit {
                Ok(unit) => look(&*check, lease.unit, &unit, &result).await.map(|()| unit.work),
                Err(error) => Err(Doubt::Unknown(error.to_string())),
            };
            drop(commands.send(Command::Checked { worker, lease, result, found }).await);
        });
    }

    /// Takes a report that was looked at.
    pub(super) fn checked(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        result: UnitResult,
        found: Result<u64, Doubt>,
    ) {
        let work = match found {
            Ok(work) => work,
            Err(doubt) => return self.disbelieve(worker, lease, &doubt),
        };
        let UnitResult { done, quarantined, reasons, payload } = result;
        let recorded = self.jobs.get(&lease.job).map_or(0, |job| job.counts.units_done);
        self.unit_done(worker, lease, DoneRow { done, quarantined, payload, work, ..DoneRow::default() });
        let now = self.jobs.get(&lease.job).map_or(0, |job| job.counts.units_done);
        // Only what was recorded is told.
        if now > recorded {
            for reason in reasons {
                self.log(lease.job, format!("set aside: {reason}"));
            }
        } else {
            telemetry::stale_report();
        }
    }

    fn disbelieve(&mut self, worker: WorkerId, lease: Lease, doubt: &Doubt) {
        if matches!(doubt, Doubt::False(_)) {
            telemetry::refused(Refused::Report);
        }
        match self.scheduler.holds(worker, lease) {
            true => telemetry::unit_failed(match doubt {
                Doubt::False(_) => FailureKind::Worker,
                Doubt::Unknown(_) => FailureKind::Transient,
            }),
            false => telemetry::stale_report(),
        }
        let who = self.workers.get(&worker).map(|w| (w.hello.name.as_str(), w.identity.as_str()));
        let (name, identity) = who.unwrap_or_default();
        let (job, unit) = (lease.job, lease.unit);
        tracing::warn!(worker = name, identity, %job, %unit, "a report was not believed: {doubt}");
        let (reason, later) = (doubt.to_string(), matches!(doubt, Doubt::Unknown(_)));
        self.event(Event::ReportRefused { worker, lease, reason, later });
    }
}

async fn read_unit(ledger: &dyn Ledger, job: JobId, unit: UnitId) -> Result<UnitRow, LedgerError> {
    let key = rows::unit(job, unit);
    let bytes = ledger.get(&key).await?;
    rows::read(&key, &bytes.unwrap_or_else(Bytes::new))
}

/// Whether `result` is one of this unit: its numbers are the unit's, and the rest is as the job's kind says.
async fn look(check: &dyn Check, id: UnitId, unit: &UnitRow, result: &UnitResult) -> Result<(), Doubt> {
    let said = result.done.saturating_add(result.quarantined);
    if said != u64::from(unit.items) {
        return Err(Doubt::False(format!("{said} items of a unit of {}", unit.items)));
    }
    check.check(id, &unit.payload, result).await
}
