//! Where a job works, and what came of it there.

use sr3_proto::{RunId, Store, in_flight::InFlight};

use crate::{JobState, Source};

/// A job's stores, and its state at the destination, which it has taken.
#[derive(Debug)]
pub struct Place {
    /// The inputs.
    pub source: Source,
    /// The outputs.
    pub outputs: Store,
    /// The state.
    pub state: JobState,
    /// What took an earlier process down here, for a job in one process.
    pub suspects: InFlight,
}

/// How the job's destination is.
pub(super) enum Destination {
    /// To be taken.
    Free,
    /// Taken by this run of an earlier coordinator.
    Recovered(RunId),
    /// Taken by whoever submitted the job.
    Taken(Box<Place>),
}

/// What a report says.
pub(super) struct Reported {
    pub(super) done: u64,
    /// Of these, those with notes.
    pub(super) with_notes: u64,
    pub(super) quarantined: u64,
}
