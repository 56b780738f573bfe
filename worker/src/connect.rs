//! How a worker gets a session with a coordinator: over a network, or by channels inside one process.

use sr3_proto::{Hello, ToWorker, WorkerEnd};

/// Makes sessions, one after the other.
pub trait Connect: Send + 'static {
    /// A new session: says hello, and returns once [`ToWorker::Welcome`] has come. One try; whoever calls waits between
    /// tries.
    fn connect(
        &mut self,
        hello: Hello,
    ) -> impl Future<Output = Result<(ToWorker, WorkerEnd), ConnectError>> + Send;
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The coordinator does not want this worker, and will not later: another protocol, no permission.
    #[error("the coordinator refused this worker: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Nobody answered as they should. Later they may.
    #[error("no coordinator answers: {reason}")]
    Unreachable {
        /// One line.
        reason: String,
    },
}
