//! Sessions by channels, with whoever plays the coordinator.

use sr3_proto::{FromWorker, Hello, ToWorker, WorkerEnd};
use sr3_worker::{Connect, ConnectError};
use tokio::sync::mpsc;

/// A worker that comes to a coordinator in the same process: what the coordinator gets.
#[derive(Debug)]
pub(crate) struct Joining {
    /// Who comes.
    pub(crate) hello: Hello,
    /// To the worker; [`ToWorker::Welcome`] first.
    pub(crate) send: mpsc::Sender<ToWorker>,
    /// From the worker; closed when the session is over.
    pub(crate) receive: mpsc::Receiver<FromWorker>,
}

/// Sessions by channels.
#[derive(Clone, Debug)]
pub(crate) struct ChannelConnect {
    coordinator: mpsc::Sender<Joining>,
}

/// Messages that wait in a channel before their sender does.
const WAITING: usize = 64;

impl ChannelConnect {
    /// Sessions with whoever receives at the other end.
    pub(crate) fn new(coordinator: mpsc::Sender<Joining>) -> Self {
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
