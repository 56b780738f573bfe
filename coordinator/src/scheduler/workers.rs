//! Workers: joining, living, leaving.

use std::collections::BTreeSet;

use sr3_proto::{Digest, JobId, Lease, Offer, UnitId, WorkerId};

use super::{Effect, Scheduler, Time, WorkerView};

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) instance: String,
    pub(super) credits: u32,
    pub(super) leases: BTreeSet<(JobId, UnitId)>,
    pub(super) models: Vec<Digest>,
    pub(super) offer: Offer,
    /// Jobs that it cannot run.
    pub(super) cannot: BTreeSet<JobId>,
    pub(super) draining: bool,
    /// Whether it serves other members of a gang.
    pub(super) serves_peers: bool,
    /// The job whose seat it holds: it gets nothing else.
    pub(super) seat: Option<JobId>,
    /// The job whose seat it gets once it holds nothing.
    pub(super) reserved: Option<JobId>,
    connected: bool,
    seen: Time,
    pub(super) units_done: u64,
}

impl Worker {
    pub(super) fn view(&self) -> WorkerView<'_> {
        WorkerView {
            leases: self.leases.len(),
            credits: self.credits,
            draining: self.draining,
            models: &self.models,
            units_done: self.units_done,
        }
    }

    pub(super) fn takes_more(&self) -> bool {
        self.connected && !self.draining && self.credits > 0 && self.seat.is_none()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Its session is over and its leases too.
    pub(super) fn is_forgotten(&self, now: Time, ttl: Time) -> bool {
        !self.connected && self.leases.is_empty() && self.seen + ttl <= now
    }
}

impl Scheduler {
    #[expect(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn join(
        &mut self,
        worker: WorkerId,
        instance: String,
        held: Vec<Lease>,
        credits: u32,
        models: Vec<Digest>,
        (offer, serves_peers): (Offer, bool),
        now: Time,
    ) {
        // A process has one session: an older one is a connection that has not noticed its end.
        let older: Vec<_> =
            self.workers.iter().filter(|(_, w)| w.instance == instance).map(|(&id, _)| id).collect();
        let mut joined = Worker {
            instance: instance.clone(),
            credits,
            leases: BTreeSet::new(),
            models,
            offer,
            cannot: BTreeSet::new(),
            draining: false,
            serves_peers,
            seat: None,
            reserved: None,
            connected: true,
            seen: now,
            units_done: 0,
        };
        for id in &older {
            if let Some(worker) = self.workers.get(id) {
                joined.cannot.extend(&worker.cannot);
                joined.units_done += worker.units_done;
            }
        }
        let mut renewed = Vec::new();
        for old in held {
            if let Some(new) = self.renew_held(worker, &instance, old, now) {
                joined.leases.insert((new.job, new.unit));
                joined.seat = joined.seat.or(Some(new.job).filter(|job| self.is_gang(*job)));
                renewed.push((old, new));
            }
        }
        self.workers.insert(worker, joined);
        // What an older session still held and this one does not name never reached the process.
        for id in older {
            for (job, unit) in self.workers.get(&id).map(|w| w.leases.clone()).unwrap_or_default() {
                if let Some(token) = self.token_of(id, job, unit) {
                    self.leave_behind(job, unit, token, now);
                }
            }
            self.workers.remove(&id);
            self.free.remove(&id);
        }
        self.take_losses_back(&instance);
        self.effects.insert(0, Effect::Renewed { worker, leases: renewed });
        self.update_free(worker);
    }

    pub(super) fn heartbeat(
        &mut self,
        worker: WorkerId,
        credits: u32,
        leases: &[Lease],
        models: Vec<Digest>,
        draining: bool,
        now: Time,
    ) {
        let Some(found) = self.workers.get_mut(&worker) else { return };
        found.seen = now;
        // Grants that it has not seen yet count too.
        let named: BTreeSet<_> = leases.iter().map(|lease| (lease.job, lease.unit)).collect();
        let on_the_way = found.leases.difference(&named).count();
        found.credits = credits.saturating_sub(u32::try_from(on_the_way).unwrap_or(u32::MAX));
        found.models = models;
        found.draining |= draining;
        let instance = found.instance.clone();
        let deadline = now + self.config.lease_ttl;
        for &lease in leases {
            match self.held_mut(worker, lease) {
                Some(held) => held.deadline = deadline,
                None => {
                    self.take_losses_back(&instance);
                    self.revoke(worker, lease, "it is no longer held");
                }
            }
        }
        self.update_free(worker);
    }

    pub(super) fn leave(&mut self, worker: WorkerId, goodbye: bool, now: Time) {
        let Some(found) = self.workers.get_mut(&worker) else { return };
        found.connected = false;
        found.seen = now;
        let leases = if goodbye { found.leases.clone() } else { BTreeSet::new() };
        for (job, unit) in leases {
            if let Some(token) = self.token_of(worker, job, unit) {
                self.leave_behind(job, unit, token, now);
            }
        }
        if goodbye {
            self.workers.remove(&worker);
        }
        self.free.remove(&worker);
    }

    pub(super) fn drain(&mut self, worker: WorkerId) {
        if let Some(found) = self.workers.get_mut(&worker) {
            found.draining = true;
            self.effects.push(Effect::Drain { worker });
            self.update_free(worker);
        }
    }

    /// A worker that missed two heartbeats gets nothing more until it reports again: it would lose that too.
    pub(super) fn silence(&mut self, now: Time) {
        let late = self.config.heartbeat_every.mul_f64(2.5);
        let silent: Vec<_> = self
            .free
            .iter()
            .copied()
            .filter(|id| self.workers.get(id).is_some_and(|worker| worker.seen + late <= now))
            .collect();
        for worker in silent {
            if let Some(found) = self.workers.get_mut(&worker) {
                found.credits = 0;
            }
            self.free.remove(&worker);
        }
    }

    pub(super) fn update_free(&mut self, worker: WorkerId) {
        if self.workers.get(&worker).is_some_and(Worker::takes_more) {
            self.free.insert(worker);
        } else {
            self.free.remove(&worker);
        }
    }
}
