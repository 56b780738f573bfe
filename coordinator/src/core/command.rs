//! What the driver is asked, and told.

use std::sync::Arc;

use sr3_proto::{
    FromWorker, Hello, JobId, Lease, Order, RunId, ToWorker, UnitId, WorkerId,
    session::UnitResult,
    wire::ledger::{PlanRow, TokenRow, UnitRow},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::view::{JobView, Load, Phase, Refusal, WorkerInfo};
use crate::{
    kind::{Begun, Check, Doubt, Reported},
    ledger::LedgerKey,
};

pub(super) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// What the driver is asked, and told.
pub(super) enum Command {
    Submit {
        /// Canonical text.
        spec: String,
        order: Arc<Order>,
        key: String,
        /// Identity of whoever submits it.
        by: String,
        /// If whoever submits took its places already.
        begun: Option<Box<dyn Begun>>,
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
    Load {
        answer: oneshot::Sender<Load>,
    },
    DrainWorker {
        worker: WorkerId,
        answer: Answer<()>,
    },
    /// A token is to be known, or to be refused from now on.
    PutToken {
        id: String,
        row: TokenRow,
        answer: Answer<TokenRow>,
    },
    Attach {
        hello: Hello,
        /// As whom it was let in.
        identity: String,
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
    /// A job's task took its places.
    Began {
        job: JobId,
        run: RunId,
        check: Arc<dyn Check>,
        answer: oneshot::Sender<()>,
    },
    /// A worker's report was looked at.
    Checked {
        worker: WorkerId,
        lease: Lease,
        result: UnitResult,
        /// The unit's work, if it is so.
        found: Result<u64, Doubt>,
    },
    /// A job's task planned more; the answer comes once that is durable.
    Planned {
        job: JobId,
        units: Vec<(UnitId, UnitRow)>,
        plan: PlanRow,
        answer: oneshot::Sender<()>,
    },
    /// A job's task cannot go on.
    Failed {
        job: JobId,
        reason: String,
    },
    /// A job's task wrote its end.
    Finished {
        job: JobId,
        phase: Phase,
        reason: Option<String>,
        /// What that says, if it was written.
        reported: Option<Reported>,
    },
    /// Rows that nobody needs any more; the answer comes once they are gone.
    Remove {
        keys: Vec<LedgerKey>,
        answer: oneshot::Sender<()>,
    },
    /// The rows of an ended job are gone; with `whole` all but its own.
    Tidied {
        job: JobId,
        whole: bool,
    },
    /// The units after those that are kept.
    Kept {
        job: JobId,
        rows: Vec<(UnitId, UnitRow)>,
    },
    /// The item that comes next in an isolated unit took down too many workers.
    Quarantine {
        job: JobId,
        unit: UnitId,
        losses: u32,
        row: UnitRow,
    },
}
