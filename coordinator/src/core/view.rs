//! What is seen of jobs and workers from outside.

use std::{collections::BTreeMap, sync::Arc};

use sr3_proto::{Digest, JobId, Offer, Order, RunId, WorkerId};

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Accepted.
    Queued,
    /// Planned or being planned, and worked on unless paused.
    Running,
    /// Everything is recorded; the report is being written.
    Finishing,
    /// Every item has its verdict.
    Succeeded,
    /// It could not go on.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Phase {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The state of a job, as people read it: one of [`STATES`].
    pub fn state(self, paused: bool) -> &'static str {
        match self {
            Self::Queued | Self::Running if paused => "paused",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finishing => "finishing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// All states of jobs.
pub const STATES: [&str; 7] =
    ["queued", "running", "paused", "finishing", "succeeded", "failed", "cancelled"];

/// Numbers of items, units and work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries that the job takes.
    pub planned: u64,
    /// With a result of this job.
    pub done: u64,
    /// With nothing to do.
    pub skipped: u64,
    /// Without a result.
    pub quarantined: u64,
    /// Work of what is to be done, in any unit that the kind chose.
    pub work_planned: u64,
    /// Of that, recorded.
    pub work_done: u64,
    /// Units with something to do.
    pub units_planned: u64,
    /// Of these, recorded.
    pub units_done: u64,
    /// Of the items with a result, those with something to know about them; counted when the job has ended.
    pub with_notes: u64,
}

/// An item on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct OnDevice {
    /// The worker's name.
    pub worker: String,
    /// The item.
    pub input: String,
    /// How much of it is done, from 0 to 1.
    pub share: f32,
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// What it is, resolved.
    pub order: Arc<Order>,
    /// The run that it is at the place that it writes to; 0 before it took that.
    pub run: RunId,
    /// Its spec in canonical form.
    pub spec: String,
    /// How it stands.
    pub phase: Phase,
    /// Whether nothing more of it is leased.
    pub paused: bool,
    /// Why it ended so.
    pub reason: String,
    /// Its numbers.
    pub counts: Counts,
    /// Whether the planned numbers are final.
    pub planning_done: bool,
    /// Milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    /// Milliseconds since the Unix epoch; 0 before the end.
    pub ended_ms: u64,
    /// Whether its end is written where it writes.
    pub reported: bool,
    /// What came of it as a whole, as JSON of its kind; empty before the end.
    pub summary: String,
    /// Units at workers.
    pub leases: u32,
    /// Items that have a verdict at their workers and are not recorded yet.
    pub items_under_way: u64,
    /// Work of these, and of those on devices as far as they are.
    pub work_under_way: u64,
    /// Items on devices.
    pub on_device: Vec<OnDevice>,
    /// Of a gang: how many work together, and in which generation.
    pub gang: Option<(u32, u64)>,
    /// Sequence number of the latest event.
    pub last_event: u64,
    /// Identity of whoever submitted it; empty where nobody is asked.
    pub submitted_by: String,
}

/// A worker's session.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerInfo {
    /// The session.
    pub id: WorkerId,
    /// For people.
    pub name: String,
    /// As whom it was let in; empty where nobody is asked.
    pub caller: String,
    /// What it computes on.
    pub device: String,
    /// What it has.
    pub offer: Offer,
    /// Version of its program.
    pub version: String,
    /// Whether it takes no more.
    pub draining: bool,
    /// Units at it.
    pub leases: u32,
    /// Units that it would take.
    pub credits: u32,
    /// Models that are loaded.
    pub models: Vec<Digest>,
    /// Units recorded since it joined.
    pub units_done: u64,
}

/// What there is to do, and who does it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The ledger's; 0 where no coordinator is active.
    pub epoch: u64,
    /// Jobs by state, as [`Phase::state`] calls it.
    pub jobs: BTreeMap<&'static str, usize>,
    /// Workers with a session.
    pub workers: usize,
    /// Units that wait for a worker, of jobs that are not paused.
    pub units_pending: usize,
    /// Leases in force.
    pub units_leased: usize,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller must change something.
    #[error("{0}")]
    Invalid(String),
    /// There is no such job or worker.
    #[error("{0}")]
    NotFound(String),
    /// It clashes with what there is.
    #[error("{0}")]
    Conflict(String),
    /// There is too much of it already.
    #[error("{0}")]
    TooMuch(String),
    /// Not by this coordinator, or not now: try another, or again.
    #[error("{0}")]
    Unavailable(String),
}
