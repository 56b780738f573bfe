//! A worker that is connected.

use sr3_proto::{Hello, ToWorker, WorkerId};
use tokio::sync::mpsc;

use super::view::WorkerInfo;
use crate::scheduler::WorkerView;

/// A worker that is connected.
pub(super) struct Connected {
    pub(super) hello: Hello,
    /// The process, as it names itself: what its peers know it by.
    pub(super) process: String,
    /// As whom it was let in.
    pub(super) identity: String,
    pub(super) send: mpsc::Sender<ToWorker>,
    /// Whether it has said that it leaves.
    pub(super) goodbye: bool,
}

impl Connected {
    pub(super) fn info(&self, id: WorkerId, view: WorkerView<'_>) -> WorkerInfo {
        WorkerInfo {
            id,
            name: self.hello.name.clone(),
            caller: self.identity.clone(),
            device: self.hello.device.clone(),
            offer: self.hello.offer.clone(),
            version: self.hello.version.clone(),
            draining: view.draining,
            leases: u32::try_from(view.leases).unwrap_or(u32::MAX),
            credits: view.credits,
            models: view.models.to_vec(),
            units_done: view.units_done,
        }
    }
}
