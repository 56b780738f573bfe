//! How a worker gets a session with a coordinator: over a network, or by channels inside one process.

use sr3_proto::{FromWorker, Hello, ToWorker, WorkerEnd};
use tokio::sync::mpsc;

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

/// A worker that comes to a coordinator in the same process: what the coordinator gets.
#[derive(Debug)]
pub struct Joining {
    /// Who comes.
    pub hello: Hello,
    /// To the worker; [`ToWorker::Welcome`] first.
    pub send: mpsc::Sender<ToWorker>,
    /// From the worker; closed when the session is over.
    pub receive: mpsc::Receiver<FromWorker>,
}

/// Sessions by channels.
#[derive(Clone, Debug)]
pub struct ChannelConnect {
    coordinator: mpsc::Sender<Joining>,
}

/// Messages that wait in a channel before their sender does.
const WAITING: usize = 64;

impl ChannelConnect {
    /// Sessions with whoever receives at the other end.
    pub fn new(coordinator: mpsc::Sender<Joining>) -> Self {
        Self { coordinator }
    }
}

impl Connect for ChannelConnect {
    async fn connect(&mut self, hello: Hello) -> Result<(ToWorker, WorkerEnd), ConnectError> {
        let gone = || ConnectError::Unreachable { reason: "the coordinator is gone".into() };
        let (to_worker, mut receive) = mpsc::channel(WAITING);
        let (send, from_worker) = mpsc::channel(WAITING);
        let joining = Joining { hello, send: to_worker, receive: from_worker };
        self.coordinator.send(joining).await.map_err(|_| gone())?;
        let welcome = receive.recv().await.ok_or_else(gone)?;
        Ok((welcome, WorkerEnd { receive, send }))
    }
}
