//! Who of a gang works together: generations of members, as a pure state machine beside the bag of units.
//!
//! The scheduler leases seats; this machine makes memberships of their holders. `apply(event, now)` changes the state and
//! returns effects. Time is an argument, and nothing is read or written here.
//!
//! Promises:
//! - A membership has its own number; later ones are larger, and those of a later coordinator too, because the ledger gives
//!   it a larger epoch. Members are holders of seats, in the order in which they were seated.
//! - Whoever joins waits a little for others ([`Config::settle`]), so that many at once make one generation. Whoever is
//!   lost makes one at once. Nothing else does: without a change of members there is no new generation.
//! - Below its least number of members a gang waits, and each is told for how many.
//! - A member without a session is still one: members work without the coordinator. It is out when its seat is, or when
//!   another member cannot reach it.
//! - Of two that cannot reach each other one leaves: the one that more cannot reach, of equals the newer. If it was alive (it
//!   accused somebody itself), or was silent before, it is kept out for a while, longer each time: so generations end.
//! - After a takeover nothing is said before all who held seats are back, or their time is over. If all are, and say that
//!   they work in one and the same generation, they go on in it, and nobody is told anything. Whoever is missed in it by
//!   another member and holds no seat ends it.
//! - Whoever has not heard what is to be done, because a session broke, is told again with its next heartbeat.
//! - Once a seat is recorded there are no more generations: who still needs another member may leave.

mod event;
mod members;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sr3_proto::{JobId, Lease, WorkerId, gang::Generation};

pub use event::{Config, Effect, Event};

use crate::scheduler::Time;
use members::{Gang, Takeover};

/// The state.
#[derive(Debug)]
pub struct Gangs {
    config: Config,
    epoch: u64,
    gangs: BTreeMap<JobId, Gang>,
    effects: Vec<Effect>,
}

impl Gangs {
    /// Nothing is known yet. `epoch` is the ledger's.
    pub fn new(config: Config, epoch: u64) -> Self {
        Self { config, epoch, gangs: BTreeMap::new(), effects: Vec::new() }
    }

    /// What happens when `event` does, at `now`. Times must not run backwards.
    pub fn apply(&mut self, event: Event, now: Time) -> Vec<Effect> {
        let job = match &event {
            Event::Began { job, .. }
            | Event::Unseated { job, .. }
            | Event::Paused { job, .. }
            | Event::Done { job }
            | Event::Ended { job } => Some(*job),
            Event::Seated { lease, .. } | Event::Heard { lease, .. } | Event::Accused { lease, .. } => {
                Some(lease.job)
            }
            Event::Gone { .. } | Event::Tick => None,
        };
        self.change(event, now);
        for (_, gang) in self.gangs.iter_mut().filter(|(id, _)| job.is_none_or(|job| job == **id)) {
            gang.judge(&self.config, now, &mut self.effects);
            gang.make_due(self.epoch, now, &mut self.effects);
        }
        std::mem::take(&mut self.effects)
    }

    fn change(&mut self, event: Event, now: Time) {
        match event {
            Event::Began { job, min, holders } => {
                let gang = self.gangs.entry(job).or_insert_with(|| Gang::new(job));
                let until = now + self.config.takeover;
                gang.begin(min, Takeover::new(holders, until));
            }
            Event::Seated { worker, instance, lease, peer } => {
                let due = now + self.config.settle;
                self.of(lease.job, |gang, effects| gang.seat(worker, instance, lease, peer, due, effects));
            }
            Event::Unseated { job, instance } => self.of(job, |gang, _| gang.unseat(&instance, now)),
            Event::Heard { lease, worker, generation } => self.hear(lease, worker, generation, now),
            Event::Gone { worker } => self.gangs.values_mut().for_each(|gang| gang.gone(worker, now)),
            Event::Accused { lease, worker, generation, of } => {
                let (epoch, window) = (self.epoch, self.config.window);
                self.of(lease.job, |gang, effects| {
                    let Some(by) = gang.speaker(worker, lease) else { return };
                    gang.accuse(by, generation, &of, (epoch, window, now), effects);
                });
            }
            Event::Paused { job, paused } => self.of(job, |gang, effects| gang.pause(paused, now, effects)),
            Event::Done { job } => self.of(job, |gang, _| gang.finish()),
            Event::Ended { job } => drop(self.gangs.remove(&job)),
            Event::Tick => {}
        }
    }

    fn hear(&mut self, lease: Lease, worker: WorkerId, generation: Option<Generation>, now: Time) {
        let epoch = self.epoch;
        self.of(lease.job, |gang, effects| {
            let Some(by) = gang.speaker(worker, lease) else { return };
            gang.hear(by, generation, (epoch, now), effects);
        });
    }

    fn of(&mut self, job: JobId, what: impl FnOnce(&mut Gang, &mut Vec<Effect>)) {
        if let Some(gang) = self.gangs.get_mut(&job) {
            what(gang, &mut self.effects);
        }
    }
}
