//! Who works together on one job, and since when.
//!
//! A gang is the workers of one training job. Each of them holds a *seat*: a unit of the job's stage, leased like every
//! other. Whoever comes or goes makes a new generation; what was said in an older one counts no more.

use crate::JobId;

/// Most members of a gang.
pub const MEMBERS_MAX: usize = 4096;

/// Which membership of a gang. Later ones are larger: a coordinator counts its own, and its epoch is the ledger's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation {
    /// Writer epoch of the coordinator that made it.
    pub epoch: u64,
    /// Counted from 1 within the epoch and job.
    pub number: u64,
}

/// A member, as others find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The process; see [`crate::Hello::instance`].
    pub instance: String,
    /// For people: host and process.
    pub name: String,
    /// Where it serves its peers.
    pub address: String,
}

/// Who takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Of which job.
    pub job: JobId,
    /// Since when.
    pub generation: Generation,
    /// In the order of their ranks.
    pub members: Vec<Peer>,
}

/// What a seat's holder is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GangState {
    /// Work with these.
    Together(Membership),
    /// Keep what you have, and wait.
    Waiting {
        /// For whom, in one line.
        reason: String,
    },
    /// Make your state durable, and give the seat back.
    Leave {
        /// Why, in one line.
        reason: String,
    },
}
