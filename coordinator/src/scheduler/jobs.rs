//! Jobs and their units: what is pending, open and recorded, and what every report means.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, JobId, Lease, Needs, UnitId, WorkerId};

use super::{Due, Effect, OpenUnit, Scheduler, Time, seats::Seats, workers::Worker};

/// So many recent durations give a job's median.
const DURATIONS: usize = 64;

/// What a job asks of workers.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) kind: String,
    pub(super) priority: u32,
    pub(super) models: Vec<Digest>,
    pub(super) needs: Needs,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) demand: Demand,
    pub(super) paused: bool,
    /// Never leased.
    pub(super) pending: BTreeSet<UnitId>,
    /// Never leased, and not to be before another is recorded.
    pub(super) held_back: BTreeSet<UnitId>,
    /// By what they wait for.
    followers: BTreeMap<UnitId, Vec<UnitId>>,
    /// Leased before and not recorded.
    pub(super) open: BTreeMap<UnitId, Open>,
    /// Of the open ones, those that wait for a worker, and until when.
    pub(super) waiting: BTreeSet<(Time, UnitId)>,
    pub(super) planning_done: bool,
    /// Units granted, over the priority: who has the least comes next.
    pub(super) served: f64,
    pub(super) durations: VecDeque<Duration>,
    pub(super) done_told: bool,
    /// If the units of its stage are seats of a gang.
    pub(super) seats: Option<Seats>,
}

/// A unit that was leased.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) state: OpenUnit,
    pub(super) held: Vec<Held>,
}

/// A lease in force.
#[derive(Debug)]
pub(super) struct Held {
    /// None after a restart, until the process that holds it joins.
    pub(super) worker: Option<WorkerId>,
    /// The process.
    pub(super) instance: String,
    pub(super) token: u64,
    pub(super) attempt: u32,
    pub(super) since: Time,
    pub(super) deadline: Time,
}

impl Job {
    pub(super) fn new(demand: Demand, served: f64) -> Self {
        let demand = Demand { priority: demand.priority.max(1), ..demand };
        Self {
            demand,
            paused: false,
            pending: BTreeSet::new(),
            held_back: BTreeSet::new(),
            followers: BTreeMap::new(),
            open: BTreeMap::new(),
            waiting: BTreeSet::new(),
            planning_done: false,
            served,
            durations: VecDeque::new(),
            done_told: false,
            seats: None,
        }
    }

    /// Takes a planned unit.
    pub(super) fn add(&mut self, Due { unit, after }: Due) {
        let is_open = |unit: &UnitId| {
            self.pending.contains(unit) || self.held_back.contains(unit) || self.open.contains_key(unit)
        };
        match after.filter(is_open) {
            Some(first) => {
                self.held_back.insert(unit);
                self.followers.entry(first).or_default().push(unit);
            }
            None => {
                self.pending.insert(unit);
            }
        }
    }

    /// A unit is recorded: what waited for it may begin.
    fn release(&mut self, unit: UnitId) {
        for follower in self.followers.remove(&unit).unwrap_or_default() {
            self.held_back.remove(&follower);
            self.pending.insert(follower);
        }
    }

    /// Whether the worker has what the job needs, and did not fail at it.
    pub(super) fn can_go_to(&self, id: JobId, worker: &Worker) -> bool {
        !worker.cannot.contains(&id)
            && worker.offer.lacks(&self.demand.kind, &self.demand.needs).is_none()
            && (self.seats.is_none() || worker.serves_peers)
    }

    /// Whether it can go there, and nothing is against it now.
    pub(super) fn may_go_to(&self, id: JobId, worker: &Worker) -> bool {
        self.can_go_to(id, worker)
            && self.seats.as_ref().is_none_or(|seats| !seats.keeps_out(&worker.instance))
    }

    /// Whether the worker has all of the job's models loaded.
    pub(super) fn is_loaded_at(&self, worker: &Worker) -> bool {
        self.demand.models.iter().all(|model| worker.models.contains(model))
    }

    pub(super) fn lease_count(&self) -> usize {
        self.open.values().map(|open| open.held.len()).sum()
    }

    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.durations.iter().copied().collect();
        sorted.sort_unstable();
        if sorted.len() < 5 { None } else { sorted.get(sorted.len() / 2).copied() }
    }
}

impl Scheduler {
    pub(super) fn add_job(&mut self, job: JobId, demand: Demand) {
        // A new job begins level with the least served, so that it cannot claim what it was not there for.
        let level = self.jobs.values().map(|job| job.served).fold(f64::INFINITY, f64::min);
        let level = if level.is_finite() { level } else { 0.0 };
        self.jobs.entry(job).or_insert_with(|| Job::new(demand, level));
    }

    pub(super) fn set_paused(&mut self, job: JobId, paused: bool) {
        if let Some(job) = self.jobs.get_mut(&job) {
            job.paused = paused;
        }
    }

    pub(super) fn end_job(&mut self, id: JobId, reason: &str) {
        let Some(job) = self.jobs.remove(&id) else { return };
        for (unit, open) in job.open {
            for held in open.held {
                let Some(worker) = held.worker else { continue };
                let lease = self.lease(id, unit, held.attempt, held.token);
                self.forget_lease(worker, id, unit);
                self.revoke(worker, lease, reason);
            }
        }
        for worker in self.workers.values_mut() {
            worker.cannot.remove(&id);
            worker.reserved = worker.reserved.filter(|job| *job != id);
        }
    }

    pub(super) fn unit_done(&mut self, worker: WorkerId, lease: Lease, now: Time) {
        let Some(since) = self.held_mut(worker, lease).map(|held| held.since) else {
            return self.revoke(worker, lease, "it was recorded, or given to another worker");
        };
        let Some(job) = self.jobs.get_mut(&lease.job) else { return };
        let Some(open) = job.open.remove(&lease.unit) else { return };
        job.waiting.retain(|(_, unit)| *unit != lease.unit);
        job.release(lease.unit);
        job.durations.push_back(now.saturating_sub(since));
        if job.durations.len() > DURATIONS {
            job.durations.pop_front();
        }
        if let Some(found) = self.workers.get_mut(&worker) {
            found.units_done += 1;
        }
        self.effects.push(Effect::Record { worker, lease });
        self.gang_is_done(lease.job);
        for held in open.held {
            self.unseated(lease.job, &held.instance);
            let Some(holder) = held.worker else { continue };
            self.forget_lease(holder, lease.job, lease.unit);
            if held.token != lease.token {
                let other = self.lease(lease.job, lease.unit, held.attempt, held.token);
                self.revoke(holder, other, "another attempt was quicker");
            }
        }
        self.check_done(lease.job);
    }

    pub(super) fn item_done(&mut self, worker: WorkerId, lease: Lease, record: Bytes) {
        if self.held_mut(worker, lease).is_none() {
            return self.revoke(worker, lease, "it is no longer held");
        }
        if let Some(open) = self.open_mut(lease.job, lease.unit) {
            // Said again after a session broke, it is the same record.
            if !open.state.records.contains(&record) {
                open.state.records.push(record);
            }
            open.state.item_lost.clear();
            let state = open.state.clone();
            self.effects.push(Effect::Save { job: lease.job, unit: lease.unit, open: state });
            self.effects.push(Effect::Committed { worker, lease });
        }
    }

    pub(super) fn unit_failed(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        (kind, reason): (FailureKind, &str),
        records: Vec<Bytes>,
        now: Time,
    ) {
        let Some(since) = self.held_mut(worker, lease).map(|held| held.since) else {
            return self.revoke(worker, lease, "it is no longer held");
        };
        let (job, unit) = (lease.job, lease.unit);
        self.give_up(job, unit, lease.token);
        self.keep(job, unit, records);
        self.forgive_seat(job, unit, since, now);
        self.save(job, unit);
        self.effects.push(Effect::Log { job, text: format!("unit {unit} failed: {reason}") });
        self.effects.push(Effect::Committed { worker, lease });
        if self.is_gang_done(job) {
            return self.retry(job, unit, now);
        }
        match kind {
            FailureKind::Job => self.fail_job(job, reason.to_string()),
            FailureKind::Worker => {
                if let Some(found) = self.workers.get_mut(&worker) {
                    found.cannot.insert(job);
                }
                let mut connected = self.workers.values().filter(|w| w.is_connected());
                if self.jobs.get(&job).is_some_and(|j| connected.all(|w| !j.can_go_to(job, w))) {
                    let reason = format!("no worker can run it: {reason}");
                    return self.fail_job(job, reason);
                }
                self.retry(job, unit, now);
            }
            FailureKind::Transient => self.try_later(job, unit, reason, now),
        }
    }

    /// The unit failed in a way that may pass.
    fn try_later(&mut self, job: JobId, unit: UnitId, reason: &str, now: Time) {
        let Some(open) = self.open_mut(job, unit) else { return };
        open.state.failures += 1;
        let failures = open.state.failures;
        if failures > self.config.failures_max {
            return self.fail_job(
                job,
                match failures {
                    1 => reason.to_string(),
                    _ => format!("unit {unit} failed {failures} times, last: {reason}"),
                },
            );
        }
        let doubled = self.config.backoff_first.saturating_mul(1 << (failures - 1).min(16));
        self.save(job, unit);
        self.retry(job, unit, now + doubled.min(self.config.backoff_max));
    }

    /// What the worker reported was not so, or, with `later`, nobody could see. One that reports what is not so gets nothing
    /// more of the job; for others the job goes on.
    pub(super) fn refuse_report(
        &mut self,
        worker: WorkerId,
        lease: Lease,
        reason: &str,
        later: bool,
        now: Time,
    ) {
        if self.held_mut(worker, lease).is_none() {
            return self.revoke(worker, lease, "it is no longer held");
        }
        let (job, unit) = (lease.job, lease.unit);
        self.give_up(job, unit, lease.token);
        self.save(job, unit);
        self.effects.push(Effect::Log { job, text: format!("unit {unit} of worker {worker}: {reason}") });
        self.revoke(worker, lease, reason);
        if later {
            return self.try_later(job, unit, reason, now);
        }
        if let Some(found) = self.workers.get_mut(&worker) {
            found.cannot.insert(job);
        }
        self.retry(job, unit, now);
    }

    pub(super) fn unit_returned(&mut self, worker: WorkerId, lease: Lease, records: Vec<Bytes>, now: Time) {
        if self.held_mut(worker, lease).is_none() {
            return self.revoke(worker, lease, "it is no longer held");
        }
        self.give_up(lease.job, lease.unit, lease.token);
        self.keep(lease.job, lease.unit, records);
        self.save(lease.job, lease.unit);
        self.effects.push(Effect::Committed { worker, lease });
        self.retry(lease.job, lease.unit, now);
    }

    /// A lease ends with a goodbye: nothing is known against the unit.
    pub(super) fn leave_behind(&mut self, job: JobId, unit: UnitId, token: u64, now: Time) {
        self.give_up(job, unit, token);
        self.save(job, unit);
        self.retry(job, unit, now);
    }

    /// A lease ends without a word from its holder.
    pub(super) fn lose(&mut self, job: JobId, unit: UnitId, token: u64, now: Time) {
        let Some((worker, instance)) = self.give_up(job, unit, token) else { return };
        if self.is_gang(job) {
            return self.lose_seat(job, unit, worker, now);
        }
        let config = self.config;
        let Some(open) = self.open_mut(job, unit) else { return };
        let was_isolated = open.state.is_isolated(&config);
        if was_isolated {
            open.state.item_lost.push(instance.clone());
        }
        open.state.lost.push(instance);
        let who = worker.map(|worker| format!(" {worker}")).unwrap_or_default();
        let mut text = format!("unit {unit} lost its worker{who}, which makes {}", open.state.lost.len());
        if open.state.is_isolated(&config) && !was_isolated {
            text += "; its items run one by one from now on";
        }
        let alone = u32::try_from(open.state.item_lost.len()).unwrap_or(u32::MAX);
        self.effects.push(Effect::Log { job, text });
        self.save(job, unit);
        if alone >= config.losses_before_quarantine {
            self.effects.push(Effect::QuarantineNext { job, unit, losses: alone });
        } else {
            self.retry(job, unit, now);
        }
    }

    /// A process is back: it did not end, so nothing that it was lost with ended it.
    pub(super) fn take_losses_back(&mut self, instance: &str) {
        for (&job, found) in &mut self.jobs {
            for (&unit, open) in &mut found.open {
                let before = open.state.lost.len();
                open.state.lost.retain(|lost| lost != instance);
                if open.state.lost.len() == before {
                    continue;
                }
                open.state.item_lost.retain(|lost| lost != instance);
                let text = format!(
                    "the worker that unit {unit} had lost is back, which leaves {}",
                    open.state.lost.len()
                );
                self.effects.push(Effect::Log { job, text });
                self.effects.push(Effect::Save { job, unit, open: open.state.clone() });
            }
        }
    }

    /// Puts an open unit that nobody holds among those that wait.
    pub(super) fn retry(&mut self, job: JobId, unit: UnitId, not_before: Time) {
        let Some(found) = self.jobs.get_mut(&job) else { return };
        if found.open.get(&unit).is_none_or(|open| !open.held.is_empty()) {
            return;
        }
        if found.seats.as_ref().is_some_and(|seats| seats.done) {
            found.open.remove(&unit);
            return self.check_done(job);
        }
        if !found.waiting.iter().any(|(_, waiting)| *waiting == unit) {
            found.waiting.insert((not_before, unit));
        }
    }

    fn fail_job(&mut self, job: JobId, reason: String) {
        // From here on nothing of it is leased.
        self.end_job(job, &reason);
        self.effects.push(Effect::JobFailed { job, reason });
    }

    pub(super) fn check_done(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id)
            && job.planning_done
            && job.pending.is_empty()
            && job.held_back.is_empty()
            && job.open.is_empty()
            && !job.done_told
        {
            job.done_told = true;
            // What comes next is another stage.
            job.seats = None;
            self.effects.push(Effect::AllRecorded { job: id });
        }
    }

    /// Ends a lease; returns who held it.
    fn give_up(&mut self, job: JobId, unit: UnitId, token: u64) -> Option<(Option<WorkerId>, String)> {
        let open = self.open_mut(job, unit)?;
        let at = open.held.iter().position(|held| held.token == token)?;
        let held = open.held.swap_remove(at);
        if open.state.holder.as_ref().is_some_and(|(_, _, holder)| *holder == token) {
            open.state.holder = None;
        }
        self.unseated(job, &held.instance);
        if let Some(worker) = held.worker {
            self.forget_lease(worker, job, unit);
        }
        Some((held.worker, held.instance))
    }

    /// Keeps the verdicts of an attempt that ended, unless another one goes on, which would bring its own.
    fn keep(&mut self, job: JobId, unit: UnitId, records: Vec<Bytes>) {
        if let Some(open) = self.open_mut(job, unit).filter(|open| open.held.is_empty()) {
            open.state.records.extend(records);
        }
    }

    pub(super) fn save(&mut self, job: JobId, unit: UnitId) {
        if let Some(open) = self.open_mut(job, unit) {
            let state = open.state.clone();
            self.effects.push(Effect::Save { job, unit, open: state });
        }
    }

    pub(super) fn revoke(&mut self, worker: WorkerId, lease: Lease, reason: &str) {
        self.effects.push(Effect::Revoke { worker, lease, reason: reason.to_string() });
    }

    fn forget_lease(&mut self, worker: WorkerId, job: JobId, unit: UnitId) {
        if let Some(found) = self.workers.get_mut(&worker) {
            found.leases.remove(&(job, unit));
            if found.seat == Some(job) {
                found.seat = None;
                self.update_free(worker);
            }
        }
    }

    pub(super) fn lease(&self, job: JobId, unit: UnitId, attempt: u32, token: u64) -> Lease {
        Lease { epoch: self.epoch, job, unit, attempt, token }
    }

    pub(super) fn open_mut(&mut self, job: JobId, unit: UnitId) -> Option<&mut Open> {
        self.jobs.get_mut(&job)?.open.get_mut(&unit)
    }

    /// The lease in force that `lease` is, if this worker holds it in this epoch.
    pub(super) fn held_mut(&mut self, worker: WorkerId, lease: Lease) -> Option<&mut Held> {
        if lease.epoch != self.epoch {
            return None;
        }
        let open = self.open_mut(lease.job, lease.unit)?;
        open.held.iter_mut().find(|held| held.token == lease.token && held.worker == Some(worker))
    }

    pub(super) fn token_of(&self, worker: WorkerId, job: JobId, unit: UnitId) -> Option<u64> {
        let open = self.jobs.get(&job)?.open.get(&unit)?;
        open.held.iter().find(|held| held.worker == Some(worker)).map(|held| held.token)
    }
}
