//! Gangs in the driver: what the scheduler says of seats goes to the gang machine, and what that says to workers.

use sr3_proto::{
    JobId, Lease, ToWorker, WorkerId,
    gang::{Generation, Peer},
};

use super::driver::Driver;
use crate::{
    gang::{Effect, Event},
    rows, scheduler,
};

impl Driver {
    /// Asks the gang machine, and takes its effects.
    pub(super) fn gang_event(&mut self, event: Event) {
        let now = self.parts.clock.now();
        for effect in self.gangs.apply(event, now) {
            match effect {
                Effect::Tell { worker, lease, state } => self.tell(worker, ToWorker::Gang { lease, state }),
                Effect::Evict { worker, lease, instance, reason, bar } => {
                    if let Some(bar) = bar {
                        self.scheduler.bar(lease.job, &instance, now + bar);
                    }
                    let effects = self.scheduler.evict(worker, lease, &reason, now);
                    self.take_effects(effects);
                }
                Effect::Log { job, text } => self.log(job, text),
                Effect::Changed { job, members, generation } => {
                    if let Some(found) = self.jobs.get_mut(&job) {
                        found.gang = Some((members, generation));
                        // A coordinator that another one replaced cannot write, and so makes no generation either.
                        self.work.batch.put(rows::job(job), rows::write(found.row()));
                    }
                    self.publish(job);
                }
            }
        }
    }

    /// The units of a job's stage are seats. `done` if one of them is recorded; `holders` are the processes that held some
    /// under an earlier coordinator.
    pub(super) fn begin_gang(&mut self, job: JobId, min: u32, done: bool, holders: Vec<String>) {
        self.event(scheduler::Event::Gang { job, min, done });
        self.gang_event(Event::Began { job, min, holders });
        if done {
            self.gang_event(Event::Done { job });
        }
    }

    /// A worker holds a seat.
    pub(super) fn seated(&mut self, worker: WorkerId, instance: String, lease: Lease) {
        let Some(found) = self.workers.get(&worker) else { return };
        let peer = Peer {
            instance: found.process.clone(),
            name: found.hello.name.clone(),
            address: found.hello.peer_address.clone(),
        };
        self.gang_event(Event::Seated { worker, instance, lease, peer });
    }

    /// A worker says that it cannot reach another.
    pub(super) fn accused(&mut self, worker: WorkerId, lease: Lease, generation: Generation, of: String) {
        if self.scheduler.holds(worker, lease) {
            self.gang_event(Event::Accused { lease, worker, generation, of });
        }
    }
}
