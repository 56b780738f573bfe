//! Seats: the units of a gang's stage. Leased, fenced, recovered and drained like every unit, but for these promises.
//!
//! - A seat takes a whole worker: it is leased to one that holds nothing and serves peers, and which then gets nothing
//!   else. Where all are busy, one of them gets nothing more until it is empty, and then the seat.
//! - A gang begins only when there are workers for its least number of members, beside what other gangs still lack that
//!   have begun: so two gangs never wait for each other's workers. Beyond its least it takes no more than its job's share
//!   of the workers while other jobs have work.
//! - A seat gets no backup attempt and is never isolated: its holder works with others, so its end says nothing about the
//!   seat. A failure counts; after a long time at work counting begins anew.
//! - Once a seat is recorded the gang is done. Seats that nobody holds then, or that come back later, are not needed.

use std::{collections::BTreeMap, time::Duration};

use sr3_proto::{JobId, Lease, UnitId, WorkerId};

use super::{Effect, Scheduler, Time, jobs::Job, workers::Worker};

/// A seat that was held so long has not failed at once.
const LONG_HELD: Duration = Duration::from_secs(60);

/// What a job's seats have in common.
#[derive(Debug)]
pub(super) struct Seats {
    /// Fewest members with which the gang works.
    min: u64,
    /// Whether one is recorded.
    pub(super) done: bool,
    /// Processes that get none, and until when.
    barred: BTreeMap<String, Time>,
}

impl Seats {
    pub(super) fn new(min: u32, done: bool) -> Self {
        Self { min: u64::from(min.max(1)), done, barred: BTreeMap::new() }
    }

    pub(super) fn keeps_out(&self, instance: &str) -> bool {
        self.barred.contains_key(instance)
    }
}

impl Scheduler {
    /// Keeps a process from a job's seats until `until`.
    pub fn bar(&mut self, job: JobId, instance: &str, until: Time) {
        if let Some(seats) = self.jobs.get_mut(&job).and_then(|job| job.seats.as_mut()) {
            seats.barred.insert(instance.to_string(), until);
        }
    }

    /// Takes a seat away from its holder and tells it why. Before the holder is heard of again it gets nothing.
    pub fn evict(&mut self, worker: WorkerId, lease: Lease, reason: &str, now: Time) -> Vec<Effect> {
        if self.held_mut(worker, lease).is_some() {
            if let Some(found) = self.workers.get_mut(&worker) {
                found.credits = 0;
            }
            self.leave_behind(lease.job, lease.unit, lease.token, now);
            self.revoke(worker, lease, reason);
        }
        self.assign(now);
        std::mem::take(&mut self.effects)
    }

    /// Whether the job's units are seats.
    pub fn is_gang(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.seats.is_some())
    }

    pub(super) fn is_gang_done(&self, job: JobId) -> bool {
        self.jobs.get(&job).and_then(|job| job.seats.as_ref()).is_some_and(|seats| seats.done)
    }

    /// A unit is recorded: if it is a seat, nobody needs those that nobody holds.
    pub(super) fn gang_is_done(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(seats) = &mut job.seats else { return };
        if !std::mem::replace(&mut seats.done, true) {
            self.effects.push(Effect::GangDone { job: id });
        }
        job.pending.clear();
        job.waiting.clear();
        job.open.retain(|_, open| !open.held.is_empty());
    }

    pub(super) fn unseated(&mut self, job: JobId, instance: &str) {
        if self.is_gang(job) {
            self.effects.push(Effect::Unseated { job, instance: instance.to_string() });
        }
    }

    pub(super) fn lose_seat(&mut self, job: JobId, unit: UnitId, worker: Option<WorkerId>, now: Time) {
        let who = worker.map(|worker| format!(" {worker}")).unwrap_or_default();
        self.effects.push(Effect::Log { job, text: format!("seat {unit} lost its worker{who}") });
        self.save(job, unit);
        self.retry(job, unit, now);
    }

    /// A seat failed that was held since then: after a long time what was before does not count.
    pub(super) fn forgive_seat(&mut self, job: JobId, unit: UnitId, since: Time, now: Time) {
        if self.is_gang(job)
            && since + LONG_HELD <= now
            && let Some(open) = self.open_mut(job, unit)
        {
            open.state.failures = 0;
        }
    }

    /// Keeps a busy worker free for each gang that has a seat to give and nobody to give it to.
    pub(super) fn reserve(&mut self, now: Time) {
        let gangs: Vec<JobId> =
            self.jobs.iter().filter(|(_, j)| j.seats.is_some()).map(|(&id, _)| id).collect();
        for id in gangs {
            if let Some(seats) = self.jobs.get_mut(&id).and_then(|job| job.seats.as_mut()) {
                seats.barred.retain(|_, until| *until > now);
            }
            let Some(job) = self.jobs.get(&id) else { continue };
            let wants = job.has_next(now) && self.may_grow(id);
            let fits = |worker: &Worker| worker.may_be_seated() && job.may_go_to(id, worker);
            let (mut kept, mut empty, mut busy) = (false, false, Vec::new());
            for (&worker, found) in self.workers.iter().filter(|(_, worker)| fits(worker)) {
                match found.reserved {
                    Some(of) => kept |= of == id,
                    None if found.leases.is_empty() => empty = true,
                    None => busy.push((found.leases.len(), worker)),
                }
            }
            if wants && (kept || empty) {
                continue;
            }
            for worker in self.workers.values_mut() {
                worker.reserved = worker.reserved.filter(|of| *of != id);
            }
            let least = busy.into_iter().min().filter(|_| wants);
            if let Some(found) = least.and_then(|(_, worker)| self.workers.get_mut(&worker)) {
                found.reserved = Some(id);
            }
        }
    }

    /// Whether a gang may take one more worker.
    pub(super) fn may_grow(&self, id: JobId) -> bool {
        let Some((gang, seats)) = self.jobs.get(&id).and_then(|job| Some((job, job.seats.as_ref()?))) else {
            return false;
        };
        let holds = gang.lease_count() as u64;
        if holds == 0 {
            return self.may_begin(id, gang, seats.min);
        }
        if holds < seats.min {
            return true;
        }
        let works = |job: &Job| !(job.paused || job.pending.is_empty() && job.open.is_empty());
        let others = self.jobs.iter().filter(|(other, job)| **other != id && works(job));
        let others: u64 = others.map(|(_, job)| u64::from(job.demand.priority)).sum();
        let mine = u64::from(gang.demand.priority);
        let workers = self.workers.values().filter(|w| w.is_connected() && !w.draining).count() as u64;
        others == 0 || (holds + 1) * (mine + others) <= workers * mine
    }

    /// Whether there are workers enough for a gang that has none.
    fn may_begin(&self, id: JobId, gang: &Job, min: u64) -> bool {
        let lacks = |job: &Job| {
            let holds = job.lease_count() as u64;
            let min = job.seats.as_ref().filter(|seats| !seats.done).map_or(0, |seats| seats.min);
            if holds == 0 || job.paused { 0 } else { min.saturating_sub(holds) }
        };
        let promised: u64 = self.jobs.values().map(lacks).sum();
        let there =
            self.workers.values().filter(|worker| worker.may_be_seated() && gang.may_go_to(id, worker));
        there.count() as u64 >= min + promised
    }
}

impl Worker {
    /// Whether it can get a seat, now or when it is empty.
    fn may_be_seated(&self) -> bool {
        let alive = self.takes_more() || !self.leases.is_empty();
        self.is_connected() && !self.draining && self.seat.is_none() && alive
    }
}
