//! What passes between coordinator and worker.
//!
//! In one process the link is a pair of bounded channels; over a network it will be one stream each way with the
//! same messages. A worker's credits are the room in the task channel: a shard is handed over only when there is
//! room for it.

use tokio::sync::mpsc;

use crate::{Digest, ItemRecord, Key, OutputFormat, RunId, ShardId};

/// What to do when something already lies at an output's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// Never replace it. If it holds the very bytes of the new result the item is fine, otherwise it is quarantined.
    Keep,
    /// Replace it if it is the earlier result with this digest, otherwise as [`OnExisting::Keep`].
    ReplaceOwn(Digest),
    /// Replace it, whatever it is.
    Replace,
}

/// One item of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTask {
    /// Key relative to the source; also what the item's noise is keyed by.
    pub input: Key,
    /// Encoded length as listed.
    pub input_bytes: u64,
    /// The store's tag of the input as listed.
    pub input_etag: Option<String>,
    /// Key of the output.
    pub output: Key,
    /// Format of the output.
    pub format: OutputFormat,
    /// What to do if the output exists.
    pub on_existing: OnExisting,
}

/// A shard: items that are handed out, and recorded, together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardTask {
    /// The run.
    pub job: RunId,
    /// The shard.
    pub shard: ShardId,
    /// Its items, in input order.
    pub items: Vec<ItemTask>,
}

/// What a worker tells the coordinator.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// How far the item on the device is, from 0 to 1. May be dropped when the link is busy.
    Progress {
        /// The item.
        input: Key,
        /// Share of its work that is done.
        share: f32,
    },
    /// An item has its verdict. Not durable before its shard is.
    ItemDone {
        /// The shard.
        shard: ShardId,
        /// The verdict.
        record: Box<ItemRecord>,
    },
    /// Every item of the shard that will get a verdict has one: all of them, or those finished before a stop.
    ShardDone {
        /// The shard.
        shard: ShardId,
        /// Verdicts in input order.
        records: Vec<ItemRecord>,
    },
    /// The worker cannot go on: the destination refuses writes, a device is gone. One line that says why. Shards
    /// that were begun are still reported before this.
    Failed {
        /// Why, for the user.
        reason: String,
    },
}

/// The coordinator's end of a link.
#[derive(Debug)]
pub struct CoordinatorLink {
    /// Shards go out here; its room is the worker's credit.
    pub tasks: mpsc::Sender<ShardTask>,
    /// Events come in here; closed when the worker is gone.
    pub events: mpsc::Receiver<WorkerEvent>,
}

/// The worker's end of a link.
#[derive(Debug)]
pub struct WorkerLink {
    /// Shards come in here; closed when there are no more.
    pub tasks: mpsc::Receiver<ShardTask>,
    /// Events go out here.
    pub events: mpsc::Sender<WorkerEvent>,
}

/// A link inside one process. `credits` is how many shards may wait at the worker, beside those it works on.
pub fn link(credits: usize) -> (CoordinatorLink, WorkerLink) {
    let (task_sender, task_receiver) = mpsc::channel(credits.max(1));
    let (event_sender, event_receiver) = mpsc::channel(64);
    (
        CoordinatorLink { tasks: task_sender, events: event_receiver },
        WorkerLink { tasks: task_receiver, events: event_sender },
    )
}
