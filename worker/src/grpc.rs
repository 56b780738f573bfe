//! Sessions over gRPC.
//!
//! One bidirectional stream a session, dialled as [`net`] says.

use std::{error::Error, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream};
use sr3_proto::{
    FromWorker, Hello, ToWorker, WorkerEnd,
    net::{self, Address, Dialer},
    wire::v1::{self, worker_session_service_client::WorkerSessionServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{Connect, ConnectError};

/// Messages that wait before their sender does.
const WAITING: usize = 64;

/// How an endpoint becomes a channel, where that is not the dialer's: on a simulated network.
pub type OpenChannel =
    Arc<dyn Fn(Endpoint) -> BoxFuture<'static, Result<Channel, tonic::transport::Error>> + Send + Sync>;

/// Sessions with the first of some addresses that has a coordinator.
#[derive(Clone)]
pub struct GrpcConnect {
    addresses: Vec<Address>,
    timeout: Duration,
    dialer: Dialer,
    open: Option<OpenChannel>,
}

impl GrpcConnect {
    /// With the first of these that answers, as whom the dialer says.
    pub fn new(addresses: Vec<Address>, dialer: Dialer) -> Self {
        Self { addresses, timeout: Duration::from_secs(5), dialer, open: None }
    }

    /// How long an address has until its welcome: shorter comes to the next address sooner, longer forgives a busy
    /// coordinator. 5 s unless told.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Opens channels by `open`, which gets the endpoint with all its settings.
    #[must_use]
    pub fn with_channels(self, open: OpenChannel) -> Self {
        Self { open: Some(open), ..self }
    }

    async fn session(&self, address: &Address, hello: Hello) -> Result<(ToWorker, WorkerEnd), ConnectError> {
        let channel = match &self.open {
            Some(open) => open(address.endpoint(self.timeout)).await,
            None => self.dialer.connect(address, self.timeout).await,
        };
        let channel = channel.map_err(|e| unreachable(address.text(), &cause(&e)))?;
        let line = self.dialer.line(channel, address);
        let address = address.text();
        let (send, outgoing) = mpsc::channel::<FromWorker>(WAITING);
        let first = v1::SessionRequest { message: Some(v1::session_request::Message::Hello(hello.into())) };
        let requests = stream::once(async move { first })
            .chain(ReceiverStream::new(outgoing).map(v1::SessionRequest::from));
        let mut client =
            WorkerSessionServiceClient::new(line).max_decoding_message_size(net::MESSAGE_BYTES_MAX);
        let refused = |status: Status| refused(address, &status);
        let mut responses = client.session(requests).await.map_err(refused)?.into_inner();
        let welcome = match responses.message().await.map_err(refused)? {
            Some(response) => {
                ToWorker::try_from(response).map_err(|e| ConnectError::Refused { reason: e.to_string() })?
            }
            None => return Err(unreachable(address, "it ended the session without a welcome")),
        };
        let (incoming, receive) = mpsc::channel(WAITING);
        tokio::spawn(pump(responses, incoming));
        Ok((welcome, WorkerEnd { receive, send }))
    }
}

impl Connect for GrpcConnect {
    async fn connect(&mut self, hello: Hello) -> Result<(ToWorker, WorkerEnd), ConnectError> {
        let mut last = ConnectError::Refused { reason: "no address of a coordinator was given".into() };
        for address in &self.addresses {
            last = match tokio::time::timeout(self.timeout, self.session(address, hello.clone())).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(refused @ ConnectError::Refused { .. })) => return Err(refused),
                Ok(Err(error)) => error,
                Err(_) => unreachable(
                    address.text(),
                    &format!("no welcome within {} seconds", self.timeout.as_secs()),
                ),
            };
        }
        Err(last)
    }
}

/// Hands over what comes, until the session ends on either side.
async fn pump(mut responses: Streaming<v1::SessionResponse>, incoming: mpsc::Sender<ToWorker>) {
    loop {
        let response = tokio::select! {
            biased;
            () = incoming.closed() => return,
            response = responses.message() => response,
        };
        let message = match response {
            Ok(Some(response)) => ToWorker::try_from(response),
            Ok(None) => return,
            Err(status) => return tracing::info!(%status, "the session broke"),
        };
        match message {
            Ok(message) => {
                if incoming.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => return tracing::error!(%error, "the coordinator broke the protocol: session ended"),
        }
    }
}

fn refused(address: &str, status: &Status) -> ConnectError {
    match status.code() {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented => {
            ConnectError::Refused { reason: format!("{} ({address})", status.message()) }
        }
        _ => ConnectError::Unreachable { reason: format!("{address}: {}", status.message()) },
    }
}

fn unreachable(address: &str, reason: &str) -> ConnectError {
    ConnectError::Unreachable { reason: format!("{address}: {reason}") }
}

/// The innermost cause: what lies above it says no more than that the transport failed.
fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
