//! What passes between a coordinator and a worker during a session.
//!
//! In one process the two ends are joined by channels that carry these very values; over a network `wire::convert`
//! turns them into the messages of `sr3/v1/session.proto` and back. Every report carries the lease that it speaks for,
//! and a report under a lease that is no longer held is refused.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{Digest, ItemRecord, ItemTask, JobId, RunId, ShardId, UpscaleSpec, WorkerId};

/// Which attempt at which shard: the fencing token of everything that is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// Writer epoch of the coordinator that granted it.
    pub epoch: u64,
    /// The job.
    pub job: JobId,
    /// The shard.
    pub shard: ShardId,
    /// Counted from 1 within the shard.
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
    /// What it computes on.
    pub device: String,
    /// Random, and the same for every session of a process.
    pub instance: String,
    /// Shards that it holds from an earlier session.
    pub held: Vec<Lease>,
    /// Shards that it would take now.
    pub credits: u32,
    /// Models that are loaded.
    pub models: Vec<Digest>,
}

/// How far a held shard is.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseProgress {
    /// The shard.
    pub lease: Lease,
    /// Its items with a verdict, those that came with the grant not counted.
    pub items_done: u32,
    /// The item on the device.
    pub current: Option<String>,
    /// How much of it is done, from 0 to 1.
    pub share: f32,
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
        /// Shards that it would take now.
        credits: u32,
        /// Every shard that it holds.
        leases: Vec<LeaseProgress>,
        /// Models that are loaded.
        models: Vec<Digest>,
        /// Whether it was asked to stop.
        draining: bool,
    },
    /// A verdict within an isolated shard. The next item begins when it is [`ToWorker::Committed`].
    ItemDone {
        /// The shard.
        lease: Lease,
        /// The verdict.
        record: Box<ItemRecord>,
    },
    /// The shard's manifest lies at the destination. Counts once it is [`ToWorker::Committed`].
    ShardDone {
        /// The shard.
        lease: Lease,
        /// Items with a result, those that came with the grant included.
        done: u64,
        /// Items without.
        quarantined: u64,
        /// Digest of the manifest.
        manifest: Digest,
        /// The first few reasons of quarantined items, each with its item.
        reasons: Vec<String>,
    },
    /// The shard could not be done.
    ShardFailed {
        /// The shard.
        lease: Lease,
        /// One line.
        reason: String,
        /// Who could do better.
        kind: FailureKind,
        /// Verdicts of this attempt, which are worth keeping.
        records: Vec<ItemRecord>,
    },
    /// Given back unfinished.
    ShardReturned {
        /// The shard.
        lease: Lease,
        /// Verdicts of this attempt, in input order.
        records: Vec<ItemRecord>,
    },
    /// Nothing is held any more; the session ends.
    Goodbye,
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
        /// The shard.
        lease: Lease,
    },
    /// The lease is void: give the shard up and report nothing.
    Revoke {
        /// The shard.
        lease: Lease,
        /// Why, for the worker's log.
        reason: String,
    },
    /// Take no more; finish or give back, then say [`FromWorker::Goodbye`].
    Drain,
}

/// A shard to work on.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// What to report under.
    pub lease: Lease,
    /// The job.
    pub spec: Arc<UpscaleSpec>,
    /// Names the manifest.
    pub run: RunId,
    /// Items without a verdict, in input order.
    pub items: Vec<ItemTask>,
    /// Verdicts of earlier attempts: they go into the manifest as they are.
    pub records: Vec<ItemRecord>,
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
