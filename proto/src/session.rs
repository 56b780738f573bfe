//! What passes between a coordinator and a worker during a session.
//!
//! In one process the two ends are joined by channels that carry these very values; over a network `wire::convert`
//! turns them into the messages of `sr3/v1/session.proto` and back. Every report carries the lease that it speaks for,
//! and a report under a lease that is no longer held is refused.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    Digest, JobId, Offer, Order, RunId, UnitId, WorkerId,
    gang::{GangState, Generation},
};

/// Which attempt at which unit: the fencing token of everything that is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// Writer epoch of the coordinator that granted it.
    pub epoch: u64,
    /// The job.
    pub job: JobId,
    /// The unit.
    pub unit: UnitId,
    /// Counted from 1 within the unit.
    pub attempt: u32,
    /// Grows with every grant of an epoch.
    pub token: u64,
}

/// A worker introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// For people: host and process.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// What it computes on, for people.
    pub device: String,
    /// What it has.
    pub offer: Offer,
    /// Random, and the same for every session of a process.
    pub instance: String,
    /// Units that it holds from an earlier session.
    pub held: Vec<Lease>,
    /// Units that it would take now.
    pub credits: u32,
    /// Models that are loaded.
    pub models: Vec<Digest>,
    /// Where it serves other members of a gang; empty where it takes part in none.
    pub peer_address: String,
}

/// How far a held unit is.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseProgress {
    /// The unit.
    pub lease: Lease,
    /// Its items with a verdict, those that came with the grant not counted.
    pub items_done: u32,
    /// The item on the device.
    pub current: Option<String>,
    /// How much of it is done, from 0 to 1.
    pub share: f32,
    /// Of a seat: the generation that it works in.
    pub generation: Option<Generation>,
}

/// What came of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitResult {
    /// Items with a result, those that came with the grant included.
    pub done: u64,
    /// Items without.
    pub quarantined: u64,
    /// The first few reasons of quarantined items, each with its item.
    pub reasons: Vec<String>,
    /// The result as its kind writes it, or what names it in a store.
    pub payload: Bytes,
}

/// Who could do better than the worker that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// Anybody, later.
    Transient,
    /// Another worker: this one cannot run the job at all.
    Worker,
    /// Nobody: the job itself cannot be done.
    Job,
}

/// From worker to coordinator, after its [`Hello`].
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    /// It lives; renews the leases that it lists.
    Heartbeat {
        /// Units that it would take now.
        credits: u32,
        /// Every unit that it holds.
        leases: Vec<LeaseProgress>,
        /// Models that are loaded.
        models: Vec<Digest>,
        /// Whether it was asked to stop.
        draining: bool,
    },
    /// A verdict within an isolated unit. The next item begins when it is [`ToWorker::Committed`].
    ItemDone {
        /// The unit.
        lease: Lease,
        /// The verdict, as its kind writes it.
        record: Bytes,
    },
    /// The unit is finished. Counts once it is [`ToWorker::Committed`].
    UnitDone {
        /// The unit.
        lease: Lease,
        /// What came of it.
        result: UnitResult,
    },
    /// The unit could not be done.
    UnitFailed {
        /// The unit.
        lease: Lease,
        /// One line.
        reason: String,
        /// Who could do better.
        kind: FailureKind,
        /// Verdicts of this attempt, which are worth keeping.
        records: Vec<Bytes>,
    },
    /// Given back unfinished.
    UnitReturned {
        /// The unit.
        lease: Lease,
        /// Verdicts of this attempt, in input order.
        records: Vec<Bytes>,
    },
    /// A seat's holder cannot reach another member.
    Accuse {
        /// The seat.
        lease: Lease,
        /// The generation in which it cannot.
        generation: Generation,
        /// The other's instance.
        of: String,
    },
    /// Nothing is held any more; the session ends.
    Goodbye,
}

impl FromWorker {
    /// The lease that it speaks for, if it speaks for one.
    pub fn lease(&self) -> Option<Lease> {
        match self {
            Self::ItemDone { lease, .. }
            | Self::UnitDone { lease, .. }
            | Self::UnitFailed { lease, .. }
            | Self::UnitReturned { lease, .. }
            | Self::Accuse { lease, .. } => Some(*lease),
            Self::Heartbeat { .. } | Self::Goodbye => None,
        }
    }
}

/// From coordinator to worker.
#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    /// First, and once.
    Welcome {
        /// The session.
        worker: WorkerId,
        /// Writer epoch of the coordinator.
        epoch: u64,
        /// A lease that is not renewed for so long is lost.
        lease_ttl: Duration,
        /// How often a heartbeat is due.
        heartbeat_every: Duration,
        /// Of the leases held, those that go on: the old one and what it is now. All others are void.
        renewed: Vec<(Lease, Lease)>,
    },
    /// Work.
    Grant(Box<Grant>),
    /// What was reported last under this lease is durable.
    Committed {
        /// The unit.
        lease: Lease,
    },
    /// The lease is void: give the unit up and report nothing.
    Revoke {
        /// The unit.
        lease: Lease,
        /// Why, for the worker's log.
        reason: String,
    },
    /// Take no more; finish or give back, then say [`FromWorker::Goodbye`].
    Drain,
    /// What a seat's holder is to do.
    Gang {
        /// The seat.
        lease: Lease,
        /// From now on.
        state: GangState,
    },
}

/// A unit to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What to report under.
    pub lease: Lease,
    /// The job.
    pub order: Arc<Order>,
    /// Names the job's run at the place that it writes to.
    pub run: RunId,
    /// What is to be done, as the kind writes it.
    pub unit: Bytes,
    /// Verdicts of earlier attempts, as the kind writes them: their items are done.
    pub records: Vec<Bytes>,
    /// One item after the other, each reported by [`FromWorker::ItemDone`]: earlier attempts took their workers down.
    pub isolated: bool,
}

/// The worker's end of a session.
#[derive(Debug)]
pub struct WorkerEnd {
    /// From the coordinator; closed when the session is over.
    pub receive: mpsc::Receiver<ToWorker>,
    /// To the coordinator.
    pub send: mpsc::Sender<FromWorker>,
}
