//! A coordinator process: listens, is active or on standby, and changes between the two.
//!
//! Who has the ledger is active. A process with peers begins on standby and asks them: while one of them is active it
//! waits; when none has answered for [`Standby::silence`] it opens the ledger, which fences whoever had it, and is
//! active. One that is fenced goes back to standby. Two that open at the same moment settle it in the ledger: the later
//! one stays.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use futures::{
    Stream,
    stream::{FuturesUnordered, StreamExt},
};
use sr3_proto::{
    Cancel,
    net::{self, Address, Dialer},
    wire::{self, v1},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::Instant,
};
use tonic::transport::{Channel, Endpoint, server::Connected};
use tonic_health::{
    pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    server::HealthReporter,
};

use super::{Audit, Gate, access, gate::Access, jobs::Jobs, sessions::Sessions};
use crate::{
    core::{self, Coordinator, Parts},
    ledger::{Ledger, LedgerError},
};

/// Whom a process lets in, and where that is written down.
#[derive(Clone, Debug)]
pub struct Entrance {
    /// Whom.
    pub access: Access,
    /// Where.
    pub audit: Audit,
}

/// How a process shares a ledger with others.
#[derive(Clone, Debug)]
pub struct Standby {
    /// Channels to the other coordinators on the same ledger; see [`peer`].
    pub peers: Vec<Channel>,
    /// After so long without an answer from an active one, this one takes over.
    pub silence: Duration,
}

impl Default for Standby {
    fn default() -> Self {
        Self { peers: Vec::new(), silence: Duration::from_secs(2) }
    }
}

/// Why a coordinator process ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The listener broke.
    #[error("the listener broke: {0}")]
    Listener(#[from] tonic::transport::Error),
}

/// A peer that is there answers at once.
const PEERS_PATIENCE: Duration = Duration::from_secs(1);
/// For answers that are on their way when the process ends.
const LAST_ANSWERS: Duration = Duration::from_millis(100);

/// The names under which health tells whether this coordinator is active.
const SERVED: [&str; 3] = ["", "sr3.v1.JobService", "sr3.v1.WorkerSessionService"];
/// And the one under which it tells that the process runs.
pub const LIVE: &str = "live";

/// Serves those that come in until `stop` is set. `open` opens the ledger, every time this process becomes active; `told` is
/// called with the coordinator whenever it does, and with none when it goes to standby.
pub async fn serve<I, C, E, O, F>(
    incoming: I,
    parts: Parts,
    open: O,
    entrance: Entrance,
    standby: Standby,
    stop: Cancel,
    told: impl Fn(Option<&Coordinator>) + Send + Sync,
) -> Result<(), ServerError>
where
    I: Stream<Item = Result<C, E>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo: Clone + Send + Sync> + Unpin + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + Send + 'static,
    O: Fn() -> F + Send + Sync,
    F: Future<Output = Result<Arc<dyn Ledger>, LedgerError>> + Send,
{
    let peers = &standby.peers;
    let (active, seen) = watch::channel(None);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(LIVE, tonic_health::ServingStatus::Serving).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .ok();
    let Entrance { access, audit } = entrance;
    let gate = Gate { access, active: seen, audit, clock: parts.clock };
    let server_stop = stop.clone();
    let server = net::server()
        .layer(gate.clone())
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_service(
            v1::job_service_server::JobServiceServer::new(Jobs::new(gate.clone()))
                .max_decoding_message_size(net::REQUEST_BYTES_MAX),
        )
        .add_service(
            v1::access_service_server::AccessServiceServer::new(access::Access(gate.clone()))
                .max_decoding_message_size(net::REQUEST_BYTES_MAX),
        )
        .add_service(
            v1::worker_session_service_server::WorkerSessionServiceServer::new(Sessions(gate))
                .max_decoding_message_size(net::MESSAGE_BYTES_MAX),
        )
        .serve_with_incoming(incoming.take_until(Box::pin(async move { server_stop.cancelled().await })));
    let server = tokio::spawn(server);
    let ended = loop {
        set_served(&health, tonic_health::ServingStatus::NotServing).await;
        told(None);
        tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            () = all_silent(peers, standby.silence) => {}
        }
        let ledger = tokio::select! {
            biased;
            () = stop.cancelled() => break Ok(()),
            ledger = open() => ledger,
        };
        let term = Cancel::new();
        let started = match ledger {
            Ok(ledger) => core::start(parts.clone(), ledger, term.clone()).await,
            Err(error) => Err(error),
        };
        let (coordinator, running) = match started {
            Ok((coordinator, running)) => {
                let coordinator = Arc::new(coordinator);
                active.send_replace(Some(Arc::clone(&coordinator)));
                (coordinator, running)
            }
            Err(error) if error.is_fenced() && !peers.is_empty() => continue,
            Err(error) => break Err(error.into()),
        };
        set_served(&health, tonic_health::ServingStatus::Serving).await;
        told(Some(&coordinator));
        let mut running = std::pin::pin!(running.ended());
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => {
                term.cancel();
                running.await
            }
            result = &mut running => result,
        };
        active.send_replace(None);
        match result {
            Err(error) if error.is_fenced() && !peers.is_empty() && !stop.is_cancelled() => {
                tracing::warn!("another coordinator took over: on standby now");
            }
            Err(error) => break Err(error.into()),
            Ok(()) => break Ok(()),
        }
    };
    active.send_replace(None);
    set_served(&health, tonic_health::ServingStatus::NotServing).await;
    stop.cancel();
    // Connections are left to the end of the process: whoever asks is made to ask again, and the order in which a
    // graceful end would wake them is random, in simulations too.
    server.await.map_err(|_| LedgerError::Closed)??;
    tokio::time::sleep(LAST_ANSWERS).await;
    ended
}

async fn set_served(health: &HealthReporter, status: tonic_health::ServingStatus) {
    for name in SERVED {
        health.set_service_status(name, status).await;
    }
}

/// A coordinator, as its peers ask it. Nothing is connected yet.
pub fn peer(address: &Address, dialer: &Dialer) -> Channel {
    dialer.connect_lazy(address, PEERS_PATIENCE)
}

/// With the patience of peers.
pub fn peer_endpoint(address: &Address) -> Endpoint {
    address.endpoint(PEERS_PATIENCE).timeout(PEERS_PATIENCE)
}

/// Returns when no peer has said for so long that it is active.
async fn all_silent(peers: &[Channel], silence: Duration) {
    let every = silence / 8;
    let mut heard = Instant::now();
    while !peers.is_empty() && heard.elapsed() < silence {
        let asked: FuturesUnordered<_> = peers.iter().cloned().map(is_active).collect();
        if asked.any(|active| async move { active }).await {
            heard = Instant::now();
        }
        tokio::time::sleep(every).await;
    }
}

async fn is_active(peer: Channel) -> bool {
    let asked = HealthClient::new(peer).check(HealthCheckRequest { service: String::new() }).await;
    asked.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}
