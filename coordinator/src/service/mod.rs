//! The coordinator on the network: handlers that decode, call and encode, and nothing else; before them the gate, which
//! asks who calls.
//!
//! A process that is on standby answers every call with `UNAVAILABLE`, so that clients and workers go on to the next
//! address; health says the same.

mod access;
mod audit;
mod gate;
mod jobs;
mod server;
mod sessions;

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::core::{Coordinator, view::Refusal};

pub use audit::Audit;
pub use gate::Access;
pub(crate) use gate::Gate;
pub use server::{Entrance, LIVE, ServerError, Standby, peer, peer_endpoint, serve};

/// The coordinator that is active in this process, or none on standby.
pub(crate) type Active = watch::Receiver<Option<Arc<Coordinator>>>;

fn active(active: &Active) -> Result<Arc<Coordinator>, Status> {
    let standby = || Status::unavailable("this coordinator is on standby: ask the active one");
    active.borrow().clone().ok_or_else(standby)
}

/// The one place that maps refusals to codes.
fn status(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Invalid(_) => Status::invalid_argument(text),
        Refusal::NotFound(_) => Status::not_found(text),
        Refusal::Conflict(_) => Status::already_exists(text),
        Refusal::TooMuch(_) => Status::resource_exhausted(text),
        Refusal::Unavailable(_) => Status::unavailable(text),
    }
}
