//! Reading the ledger when a coordinator starts: every job as it stood, every open unit with whoever holds it.

use std::{collections::HashSet, sync::Arc};

use futures::TryStreamExt;
use sr3_proto::{Cancel, JobId, RunId, UnitId, WorkerId, wire::ledger::PlanRow};
use tokio::sync::mpsc;

use super::{
    Parts,
    command::Command,
    committer::Work,
    driver::{Driver, KEPT_UNITS, due},
    job_task::Places,
    jobs::{Job, Next},
    view::Phase,
};
use crate::{
    gang::{self, Gangs},
    ledger::{Ledger, LedgerError},
    rows,
    scheduler::{Event, RecoveredUnit, Scheduler},
};

impl Driver {
    /// The driver as the ledger has it. Jobs' tasks are not started yet.
    pub(super) async fn recover(
        parts: Parts,
        ledger: Arc<dyn Ledger>,
        commands: &mpsc::Sender<Command>,
        stop: Cancel,
    ) -> Result<Self, LedgerError> {
        let scheduler = Scheduler::new(parts.scheduler, ledger.epoch());
        let gangs = gang::Config { takeover: parts.scheduler.lease_ttl, ..gang::Config::default() };
        let mut driver = Self {
            parts,
            ledger: Arc::clone(&ledger),
            scheduler,
            gangs: Gangs::new(gangs, ledger.epoch()),
            jobs: std::collections::BTreeMap::new(),
            by_key: std::collections::HashMap::new(),
            tokens: Arc::default(),
            workers: std::collections::BTreeMap::new(),
            next_worker: WorkerId::new(1),
            kept: std::collections::HashMap::new(),
            granted: std::collections::HashMap::new(),
            work: Work::default(),
            endings: Vec::new(),
            commands: commands.downgrade(),
            stop,
        };
        let mut jobs = ledger.scan(rows::JOBS, None);
        while let Some((key, bytes)) = jobs.try_next().await? {
            let row = rows::read::<sr3_proto::wire::ledger::JobRow>(&key, &bytes)?;
            let mut job = Job::from_row(&key, row)?;
            if !job.phase.is_final() {
                // Their numbers have no gaps.
                let events = rows::events(job.id);
                let events = ledger.scan(&events, None);
                job.last_event = events.try_fold(0, |count, _| async move { Ok(count + 1) }).await?;
            }
            if !job.idempotency_key.is_empty() {
                driver.by_key.insert(job.idempotency_key.clone(), job.id);
            }
            driver.jobs.insert(job.id, job);
        }
        drop(jobs);
        let mut tokens = ledger.scan(rows::TOKENS, None);
        while let Some((key, bytes)) = tokens.try_next().await? {
            let id = key.strip_prefix(rows::TOKENS).unwrap_or_default().to_string();
            driver.tokens.put(id, rows::read(&key, &bytes)?);
        }
        drop(tokens);
        let active: Vec<_> =
            driver.jobs.iter().filter(|(_, job)| !job.phase.is_final()).map(|(id, _)| *id).collect();
        for id in active {
            driver.recover_job(id).await?;
        }
        Ok(driver)
    }

    async fn recover_job(&mut self, id: JobId) -> Result<(), LedgerError> {
        let ledger = Arc::clone(&self.ledger);
        let key = rows::plan(id);
        let plan = ledger.get(&key).await?.map(|bytes| rows::read(&key, &bytes)).transpose()?;
        let mut done = HashSet::new();
        let mut counts = super::view::Counts::default();
        let mut rows_done = ledger.scan(&rows::all_done(id), None);
        while let Some((key, bytes)) = rows_done.try_next().await? {
            let row = rows::read::<sr3_proto::wire::ledger::DoneRow>(&key, &bytes)?;
            // A damaged row must not end the coordinator.
            counts.done = counts.done.saturating_add(row.done);
            counts.quarantined = counts.quarantined.saturating_add(row.quarantined);
            counts.work_done = counts.work_done.saturating_add(row.work);
            counts.units_done += 1;
            done.insert(rows::last_number(&key)?);
        }
        drop(rows_done);
        let mut open = Vec::new();
        let mut seen = HashSet::new();
        let mut attempts = ledger.scan(&rows::all_attempts(id), None);
        while let Some((key, bytes)) = attempts.try_next().await? {
            let unit = rows::last_number(&key)?;
            seen.insert(unit);
            let state = rows::open_unit(rows::read(&key, &bytes)?);
            open.push(RecoveredUnit { unit: UnitId::new(unit), open: state });
        }
        drop(attempts);
        let mut pending = Vec::new();
        let (mut last, mut kept) = (UnitId::new(0), Vec::new());
        // Seats of stages before this one are over, whether they are recorded or not.
        let stage_from = plan.as_ref().map_or(0, |plan: &PlanRow| plan.stage_from);
        let (mut seat_min, mut gang_done) = (0, false);
        let mut units = ledger.scan(&rows::units(id), None);
        while let Some((key, bytes)) = units.try_next().await? {
            let row = rows::read::<sr3_proto::wire::ledger::UnitRow>(&key, &bytes)?;
            if row.items == 0 {
                continue;
            }
            counts.units_planned += 1;
            let unit = rows::last_number(&key)?;
            last = UnitId::new(unit);
            if unit < stage_from {
                continue;
            }
            seat_min = seat_min.max(row.seat_min);
            let after = row.after;
            gang_done |= row.seat_min > 0 && done.contains(&unit);
            if kept.len() < KEPT_UNITS && !done.contains(&unit) {
                kept.push((last, row));
            }
            if !done.contains(&unit) && !seen.contains(&unit) {
                pending.push(due(UnitId::new(unit), after));
            }
        }
        open.retain(|unit: &RecoveredUnit| {
            unit.unit.get() >= stage_from && !(gang_done && unit.open.holder.is_none())
        });
        let holders: Vec<String> =
            open.iter().filter_map(|unit| Some(unit.open.holder.as_ref()?.0.clone())).collect();
        drop(units);
        let Some(job) = self.jobs.get_mut(&id) else { return Ok(()) };
        job.plan = plan.unwrap_or_default();
        job.counts = counts;
        job.last_to_compute = last;
        let planning_done = job.plan.done;
        let stage_planned = planning_done || job.plan.stage_planned;
        job.next.send_replace(Next::Stage(job.plan.stage));
        match job.phase {
            Phase::Running => {
                let (paused, added) = (job.paused, job.added());
                self.event(added);
                if seat_min > 0 {
                    self.begin_gang(id, seat_min, gang_done, holders);
                }
                self.scheduler.recover(id, open, self.parts.clock.now());
                if paused {
                    self.event(Event::Paused { job: id });
                    self.gang_event(gang::Event::Paused { job: id, paused });
                }
                self.event(Event::Planned { job: id, units: pending });
                if stage_planned {
                    self.event(Event::PlanningDone { job: id });
                }
            }
            Phase::Finishing => {
                job.next.send_replace(Next::End(job.ending));
            }
            _ => {}
        }
        self.keep(id, kept);
        // Everything that it rests on is durable.
        if let Some(job) = self.jobs.get(&id) {
            job.seen.send_replace(Arc::new(job.view(self.scheduler.leases_of(id))));
        }
        Ok(())
    }

    /// Starts the tasks of jobs that have not ended, and goes on tidying those that have.
    pub(super) fn start_tasks(&mut self) {
        self.tidy();
        let active: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| !job.phase.is_final())
            .map(|(id, job)| (*id, job.run))
            .collect();
        for (id, run) in active {
            let places = if run > RunId::new(0) { Places::Recovered(run) } else { Places::Free };
            self.start_task(id, places);
        }
    }
}
