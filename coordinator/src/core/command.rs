//! What the driver is asked, and told.

use std::sync::Arc;

use sr3_proto::{
    FromWorker, Hello, JobId, RunId, ShardId, ToWorker, UpscaleJob, UpscaleSpec, WorkerId,
    wire::ledger::{PlanRow, ShardRow},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    place::{Place, Reported},
    view::{JobView, Phase, Refusal, WorkerInfo},
};

pub(super) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the driver is asked, and told.
pub(super) enum Command {
    Submit {
        spec: Box<UpscaleJob>,
        resolved: Box<UpscaleSpec>,
        key: String,
        /// If whoever submits took the destination already.
        place: Option<Box<Place>>,
        answer: Answer<(JobView, bool)>,
    },
    Job {
        job: JobId,
        answer: Answer<watch::Receiver<Arc<JobView>>>,
    },
    Jobs {
        before: Option<JobId>,
        most: usize,
        answer: oneshot::Sender<Vec<JobView>>,
    },
    Pause {
        job: JobId,
        paused: bool,
        answer: Answer<JobView>,
    },
    Cancel {
        job: JobId,
        answer: Answer<JobView>,
    },
    Workers {
        answer: oneshot::Sender<Vec<WorkerInfo>>,
    },
    DrainWorker {
        worker: WorkerId,
        answer: Answer<()>,
    },
    Attach {
        hello: Hello,
        send: mpsc::Sender<ToWorker>,
        answer: oneshot::Sender<WorkerId>,
    },
    Report {
        worker: WorkerId,
        report: FromWorker,
    },
    Detached {
        worker: WorkerId,
    },
    /// A job's task took the destination.
    Began {
        job: JobId,
        run: RunId,
        answer: oneshot::Sender<()>,
    },
    /// A job's task planned more; the answer comes once that is durable.
    Planned {
        job: JobId,
        shards: Vec<(ShardId, ShardRow)>,
        plan: PlanRow,
        answer: oneshot::Sender<()>,
    },
    /// A job's task cannot go on.
    Failed {
        job: JobId,
        reason: String,
    },
    /// A job's task wrote the report, and `_SUCCESS` if it succeeded.
    Finished {
        job: JobId,
        phase: Phase,
        reason: Option<String>,
        /// What the report says, if it was written.
        reported: Option<Reported>,
    },
    /// The shards after those that are kept.
    Kept {
        job: JobId,
        rows: Vec<(ShardId, ShardRow)>,
    },
    /// The item that comes next in an isolated shard took down too many workers.
    Quarantine {
        job: JobId,
        shard: ShardId,
        losses: u32,
        row: ShardRow,
    },
}
