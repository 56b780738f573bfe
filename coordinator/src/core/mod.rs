//! The coordinator as a running thing: one task that owns the scheduler and the jobs' state, fed by commands.
//!
//! ```text
//! services, sessions, job tasks ──commands──▶ driver ──batches and what to tell──▶ committer ──▶ ledger
//!                                                                                     │ durable
//!                                                  replies, grants, acknowledgements ◀┘
//! ```
//!
//! Promises: nothing is told to anybody before what it rests on is durable; the order of effects is the order in which
//! they reach the ledger; when the ledger says that another coordinator took over, this one says nothing more and
//! ends. A job's own reading and writing (its planning, its end) is done by a task per job that only sends commands.

mod checks;
mod command;
mod committer;
mod connected;
mod driver;
mod gangs;
mod handle;
mod job_task;
mod jobs;
mod recover;
mod sessions;
mod tidy;
pub mod tokens;
pub mod view;

use std::sync::Arc;

use sr3_proto::{Location, Store, StoreError};

pub use handle::{Coordinator, Running, start};

use crate::{clock::Clock, kind::Kinds, scheduler};

/// Opens the store at a location, or says that it is not allowed.
pub type OpenStore = Arc<dyn Fn(&Location) -> Result<Store, StoreError> + Send + Sync>;

/// Opens a place that is written to; a folder on this machine is made if it is not there.
///
/// # Errors
/// As `open_store`.
pub fn open_to_write(open_store: &OpenStore, location: &Location) -> Result<Store, StoreError> {
    match (open_store(location), location.path()) {
        (Err(StoreError::NotFound { .. }), Some(path)) if path.is_absolute() => {
            std::fs::create_dir_all(path).map_err(|e| StoreError::at(path, e))?;
            open_store(location)
        }
        (other, _) => other,
    }
}

/// What a coordinator is made of.
#[derive(Clone)]
pub struct Parts {
    /// What it can run.
    pub kinds: Kinds,
    /// Opens places.
    pub open_store: OpenStore,
    /// Where its own state lies, which no job writes to; none for one in memory.
    pub state: Option<Location>,
    /// The scheduler's numbers.
    pub scheduler: scheduler::Config,
    /// Its clocks.
    pub clock: Clock,
}
