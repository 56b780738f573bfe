//! Who works on what: leases of units to workers, as a pure state machine.
//!
//! `apply(event, now)` changes the state and returns effects, in the order in which they must take place: what is to be
//! made durable, and what is to be told once it is. Time is an argument, there is no randomness, and nothing is read
//! or written here, so tests drive it through any history.
//!
//! Promises:
//! - A unit is recorded once: the first report under a lease that is held wins, every other is refused.
//! - A lease is held until it is reported, given back, revoked, or not renewed for its time. One loss path: whatever
//!   took a worker away, its leases are lost when their time is over, or at once when it says goodbye.
//! - Losing a worker does not spend a unit's attempts. A unit that lost [`Config::losses_before_isolation`] workers
//!   is isolated: its items run one after the other, so that the next loss has a name; the item that takes down
//!   [`Config::losses_before_quarantine`] workers alone is quarantined. A process that comes back after its lease was
//!   lost was cut off, or stood still, and did not end: that loss is taken back.
//! - A failure spends an attempt; the unit waits longer each time, and after [`Config::failures_max`] the job fails.
//! - Jobs share the workers by their priorities; a worker that has the model loaded is preferred.
//! - Near the end of a job a unit that takes much longer than others gets one backup attempt.
//! - A unit that needs another's result is leased when that is recorded, before units that were planned later.
//! - Seats of gangs are units with rules of their own: `seats` has them.
//!
//! It never decides about items, or about who of a gang works together: the first is the planner's and the worker's, the
//! second [`crate::gang`]'s.

mod assign;
mod jobs;
mod recovery;
#[cfg(test)]
mod seat_tests;
mod seats;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use sr3_proto::{Digest, FailureKind, JobId, Lease, Needs, Offer, UnitId, WorkerId};

use jobs::Job;
pub use recovery::RecoveredUnit;
use seats::Seats;
use workers::Worker;

/// Time since an origin that the driver chose; only differences count.
pub type Time = Duration;

/// The numbers that decide. Each default is a trade-off that its doc names.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A lease that is not renewed for so long is lost: shorter notices a dead worker sooner, longer forgives a stall.
    pub lease_ttl: Duration,
    /// How often workers report; several must fit into the time of a lease.
    pub heartbeat_every: Duration,
    /// Failures of a unit, after which its job fails.
    pub failures_max: u32,
    /// Wait after the first failure; doubled by each further one.
    pub backoff_first: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Workers that a unit loses before its items run one by one.
    pub losses_before_isolation: u32,
    /// Workers that an isolated item takes down before it is quarantined.
    pub losses_before_quarantine: u32,
    /// A unit gets a backup attempt when it takes so many times the median of its job.
    pub straggler_factor: f64,
    /// And at least so long.
    pub straggler_least: Duration,
    /// How many units of unfairness between jobs a loaded model is worth.
    pub affinity_units: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(20),
            heartbeat_every: Duration::from_secs(4),
            failures_max: 8,
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            losses_before_isolation: 2,
            losses_before_quarantine: 3,
            straggler_factor: 3.0,
            straggler_least: Duration::from_secs(30),
            affinity_units: 8.0,
        }
    }
}

/// A unit that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which.
    pub unit: UnitId,
    /// It begins when this one, which was planned before, is recorded.
    pub after: Option<UnitId>,
}

impl From<UnitId> for Due {
    /// A unit that may begin at once.
    fn from(unit: UnitId) -> Self {
        Self { unit, after: None }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker's session began. `held` are the leases that it still works on.
    Joined {
        /// Of this session; never used before.
        worker: WorkerId,
        /// Of the process.
        instance: String,
        /// From earlier sessions.
        held: Vec<Lease>,
        /// Units that it would take.
        credits: u32,
        /// Models that are loaded.
        models: Vec<Digest>,
        /// What it has.
        offer: Offer,
        /// Whether it serves other members of a gang.
        serves_peers: bool,
    },
    /// A worker lives, and works on these.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// Units that it would take.
        credits: u32,
        /// What it works on.
        leases: Vec<Lease>,
        /// Models that are loaded.
        models: Vec<Digest>,
        /// Whether it leaves.
        draining: bool,
    },
    /// A session ended. After a goodbye nothing is held any more; otherwise leases run until their time is over.
    Left {
        /// Who.
        worker: WorkerId,
        /// Whether it said goodbye.
        goodbye: bool,
    },
    /// A worker is to take no more.
    DrainAsked {
        /// Who.
        worker: WorkerId,
    },
    /// A unit's manifest lies at the destination.
    UnitDone {
        /// Who.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
    },
    /// An item of an isolated unit has its verdict.
    ItemDone {
        /// Who.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
        /// The verdict, which is kept for the next attempt.
        record: Bytes,
    },
    /// A unit could not be done.
    UnitFailed {
        /// Who.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
        /// Who could do better.
        kind: FailureKind,
        /// Why.
        reason: String,
        /// Verdicts, which are kept for the next attempt.
        records: Vec<Bytes>,
    },
    /// A report that a unit is finished was looked at, and not believed.
    ReportRefused {
        /// Whose.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
        /// Why.
        reason: String,
        /// Whether it may be looked at later, instead of being false.
        later: bool,
    },
    /// A unit is given back.
    UnitReturned {
        /// Who.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
        /// Verdicts, which are kept for the next attempt.
        records: Vec<Bytes>,
    },
    /// A job exists.
    JobAdded {
        /// The job.
        job: JobId,
        /// Its kind.
        kind: String,
        /// Weight of its share, at least 1.
        priority: u32,
        /// Its models.
        models: Vec<Digest>,
        /// What its units need of a worker.
        needs: Needs,
    },
    /// What a job's stage plans from now on are seats of a gang.
    Gang {
        /// The job.
        job: JobId,
        /// Fewest members with which it works.
        min: u32,
        /// Whether a seat of the stage is recorded already.
        done: bool,
    },
    /// Units of a job are planned, in order, and durable.
    Planned {
        /// The job.
        job: JobId,
        /// Those that have something to compute.
        units: Vec<Due>,
    },
    /// No more units will be planned before all of these are recorded.
    PlanningDone {
        /// The job.
        job: JobId,
    },
    /// Lease nothing more of a job.
    Paused {
        /// The job.
        job: JobId,
    },
    /// Go on with it.
    Resumed {
        /// The job.
        job: JobId,
    },
    /// The job is over, whatever is open.
    Ended {
        /// The job.
        job: JobId,
        /// Told to workers.
        reason: String,
    },
    /// Time went on.
    Tick,
}

/// What is to take place.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make the unit's open state durable.
    Save {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitId,
        /// What is to be read back after a restart.
        open: OpenUnit,
    },
    /// Then hand the unit to the worker.
    Grant {
        /// To whom.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
        /// Verdicts that exist.
        records: Vec<Bytes>,
        /// Whether its items run one by one.
        isolated: bool,
    },
    /// Record the unit: once in its life. Then tell the worker, if it is still there.
    Record {
        /// Who did it.
        worker: WorkerId,
        /// Under what.
        lease: Lease,
    },
    /// Tell the worker that what it reported is durable.
    Committed {
        /// Whom.
        worker: WorkerId,
        /// Which.
        lease: Lease,
    },
    /// Tell the worker that the lease is void.
    Revoke {
        /// Whom.
        worker: WorkerId,
        /// Which.
        lease: Lease,
        /// Why.
        reason: String,
    },
    /// Tell the worker which of the leases that it held go on, and as what. First thing of a session.
    Renewed {
        /// Whom.
        worker: WorkerId,
        /// Old and new.
        leases: Vec<(Lease, Lease)>,
    },
    /// Tell the worker to drain.
    Drain {
        /// Whom.
        worker: WorkerId,
    },
    /// A worker holds a seat of a gang, under this lease from now on.
    Seated {
        /// Who.
        worker: WorkerId,
        /// Its process.
        instance: String,
        /// The seat.
        lease: Lease,
    },
    /// A process holds a seat no more.
    Unseated {
        /// The job.
        job: JobId,
        /// Its process.
        instance: String,
    },
    /// A seat is recorded: what the gang was for is done.
    GangDone {
        /// The job.
        job: JobId,
    },
    /// The item of this isolated unit that comes next took down too many workers: answer with its record as
    /// [`Scheduler::quarantined`].
    QuarantineNext {
        /// The job.
        job: JobId,
        /// The unit.
        unit: UnitId,
        /// How many.
        losses: u32,
    },
    /// For the job's log.
    Log {
        /// The job.
        job: JobId,
        /// One line.
        text: String,
    },
    /// Every planned unit is recorded.
    AllRecorded {
        /// The job.
        job: JobId,
    },
    /// The job cannot go on, and nothing more of it is leased.
    JobFailed {
        /// The job.
        job: JobId,
        /// Why.
        reason: String,
    },
}

/// The part of an open unit's state that outlives a coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenUnit {
    /// Leases granted so far.
    pub attempts: u32,
    /// Failures so far.
    pub failures: u32,
    /// Processes that were lost with it and did not come back.
    pub lost: Vec<String>,
    /// Of these, those that were lost while the next item of the isolated unit ran alone.
    pub item_lost: Vec<String>,
    /// Verdicts so far.
    pub records: Vec<Bytes>,
    /// Who holds it: the process, and under which epoch and token. Of several, the latest.
    pub holder: Option<(String, u64, u64)>,
}

impl OpenUnit {
    fn is_isolated(&self, config: &Config) -> bool {
        self.lost.len() >= config.losses_before_isolation as usize
    }
}

/// The state.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    epoch: u64,
    next_token: u64,
    workers: BTreeMap<WorkerId, Worker>,
    jobs: BTreeMap<JobId, Job>,
    /// Workers with credits, connected and not draining.
    free: BTreeSet<WorkerId>,
    effects: Vec<Effect>,
    expiries: u64,
}

impl Scheduler {
    /// Nothing is known yet. `epoch` is the ledger's.
    pub fn new(config: Config, epoch: u64) -> Self {
        Self {
            config,
            epoch,
            next_token: 1,
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            free: BTreeSet::new(),
            effects: Vec::new(),
            expiries: 0,
        }
    }

    /// The numbers in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Units of the job at workers now.
    pub fn leases_of(&self, job: JobId) -> usize {
        self.jobs.get(&job).map_or(0, Job::lease_count)
    }

    /// Units that wait for a worker, of jobs that are not paused, and leases in force.
    pub fn load(&self) -> (usize, usize) {
        let going = self.jobs.values().filter(|job| !job.paused);
        let pending = going.map(|job| job.pending.len() + job.held_back.len() + job.waiting.len()).sum();
        (pending, self.jobs.values().map(Job::lease_count).sum())
    }

    /// Leases that ran out so far.
    pub fn expiries(&self) -> u64 {
        self.expiries
    }

    /// Whether the worker holds this very lease.
    pub fn holds(&self, worker: WorkerId, lease: Lease) -> bool {
        let open = self.jobs.get(&lease.job).and_then(|job| job.open.get(&lease.unit));
        let held = |held: &jobs::Held| held.token == lease.token && held.worker == Some(worker);
        lease.epoch == self.epoch && open.is_some_and(|open| open.held.iter().any(held))
    }

    /// Leases of a worker, its credits, whether it drains, its loaded models and the units that it finished.
    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView<'_>> {
        self.workers.get(&worker).map(Worker::view)
    }

    /// Verdicts that an open unit has so far.
    pub fn records_of(&self, job: JobId, unit: UnitId) -> Option<&[Bytes]> {
        Some(&self.jobs.get(&job)?.open.get(&unit)?.state.records)
    }

    /// What happens when `event` does, at `now`. Times must not run backwards.
    pub fn apply(&mut self, event: Event, now: Time) -> Vec<Effect> {
        match event {
            Event::Joined { worker, instance, held, credits, models, offer, serves_peers } => {
                self.join(worker, instance, held, credits, models, (offer, serves_peers), now);
            }
            Event::Heartbeat { worker, credits, leases, models, draining } => {
                self.heartbeat(worker, credits, &leases, models, draining, now);
            }
            Event::Left { worker, goodbye } => self.leave(worker, goodbye, now),
            Event::DrainAsked { worker } => self.drain(worker),
            Event::UnitDone { worker, lease } => self.unit_done(worker, lease, now),
            Event::ItemDone { worker, lease, record } => self.item_done(worker, lease, record),
            Event::UnitFailed { worker, lease, kind, reason, records } => {
                self.unit_failed(worker, lease, (kind, &reason), records, now);
            }
            Event::ReportRefused { worker, lease, reason, later } => {
                self.refuse_report(worker, lease, &reason, later, now);
            }
            Event::UnitReturned { worker, lease, records } => {
                self.unit_returned(worker, lease, records, now);
            }
            Event::JobAdded { job, kind, priority, models, needs } => {
                self.add_job(job, jobs::Demand { kind, priority, models, needs });
            }
            Event::Gang { job, min, done } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.seats.get_or_insert_with(|| Seats::new(min, done));
                }
            }
            Event::Planned { job, units } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    let needed = job.seats.as_ref().is_none_or(|seats| !seats.done);
                    units.into_iter().filter(|_| needed).for_each(|due| job.add(due));
                    // What comes after everything was recorded is the next stage.
                    job.planning_done = false;
                    job.done_told = false;
                }
            }
            Event::PlanningDone { job } => {
                if let Some(found) = self.jobs.get_mut(&job) {
                    found.planning_done = true;
                }
                self.check_done(job);
            }
            Event::Paused { job } => self.set_paused(job, true),
            Event::Resumed { job } => self.set_paused(job, false),
            Event::Ended { job, reason } => self.end_job(job, &reason),
            Event::Tick => self.tick(now),
        }
        self.assign(now);
        std::mem::take(&mut self.effects)
    }

    /// The answer to [`Effect::QuarantineNext`]: the item's verdict.
    pub fn quarantined(&mut self, job: JobId, unit: UnitId, record: Bytes, now: Time) -> Vec<Effect> {
        if let Some(open) = self.jobs.get_mut(&job).and_then(|job| job.open.get_mut(&unit)) {
            open.state.records.push(record);
            open.state.item_lost.clear();
            let state = open.state.clone();
            self.effects.push(Effect::Save { job, unit, open: state });
            self.retry(job, unit, now);
        }
        self.assign(now);
        std::mem::take(&mut self.effects)
    }

    fn tick(&mut self, now: Time) {
        let mut lost = Vec::new();
        for (&job, state) in &self.jobs {
            for (&unit, open) in &state.open {
                let over = open.held.iter().filter(|held| held.deadline <= now);
                lost.extend(over.map(|held| (job, unit, held.token)));
            }
        }
        self.expiries += lost.len() as u64;
        for (job, unit, token) in lost {
            self.lose(job, unit, token, now);
        }
        self.silence(now);
        let gone: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.is_forgotten(now, self.config.lease_ttl))
            .map(|(&id, _)| id)
            .collect();
        for worker in gone {
            self.workers.remove(&worker);
            self.free.remove(&worker);
        }
    }
}

/// What people see of a worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerView<'a> {
    /// Units at it.
    pub leases: usize,
    /// Units that it would take.
    pub credits: u32,
    /// Whether it takes no more.
    pub draining: bool,
    /// Models that are loaded.
    pub models: &'a [Digest],
    /// Units recorded since it joined.
    pub units_done: u64,
}
