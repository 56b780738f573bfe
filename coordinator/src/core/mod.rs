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
//! ends. A job's own reading and writing (its listing, its report) is done by a task per job that only sends commands.

mod command;
mod committer;
mod connected;
mod driver;
mod handle;
mod job_task;
mod jobs;
mod place;
mod recover;
mod sessions;
pub mod view;

use std::sync::Arc;

use sr3_proto::{RecipeSpec, Store, StoreError, UpscaleJob};

pub use handle::{Coordinator, Running, start};
pub use place::Place;

use crate::{clock::Clock, planner::ShardLimits, scheduler};

/// Makes a recipe of what a person asked for: opens the model's configuration, and says what is wrong with the request.
pub trait Recipes: Send + Sync + 'static {
    /// # Errors
    /// One line for the person.
    fn resolve(&self, job: &UpscaleJob) -> Result<RecipeSpec, String>;
}

/// Opens the store at a location, or says that it is not allowed.
pub type OpenStore = Arc<dyn Fn(&str) -> Result<Store, StoreError> + Send + Sync>;

/// Opens a destination; a folder on this machine is made if it is not there.
pub(crate) fn open_destination(parts: &Parts, location: &str) -> Result<Store, StoreError> {
    match (parts.open_store)(location) {
        Err(StoreError::NotFound { .. }) if std::path::Path::new(location).is_absolute() => {
            let path = std::path::Path::new(location);
            std::fs::create_dir_all(path).map_err(|e| StoreError::at(path, e))?;
            (parts.open_store)(location)
        }
        other => other,
    }
}

/// What a coordinator is made of.
#[derive(Clone)]
pub struct Parts {
    /// Makes recipes.
    pub recipes: Arc<dyn Recipes>,
    /// Opens sources and destinations.
    pub open_store: OpenStore,
    /// The scheduler's numbers.
    pub scheduler: scheduler::Config,
    /// How large shards get.
    pub shard_limits: ShardLimits,
    /// Its clocks.
    pub clock: Clock,
}
