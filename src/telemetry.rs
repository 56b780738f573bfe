//! `--telemetry`: the numbers of this process for Prometheus, and whether it lives and is ready, over HTTP.
//!
//! `GET /metrics` are the numbers, `/healthz` says that the process runs, `/readyz` whether it does its work: a coordinator that is
//! active, a worker that has a session. Nothing else is served, and nothing can be changed here.
//!
//! On loopback it is plain and asks nobody. Beyond it is behind TLS: probes have no names and may ask for health, the numbers
//! want a certificate that may read. A connection has little time, whoever it is of; how many there may be is for
//! [`net::listen`].

use std::{convert::Infallible, fs, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sr3_coordinator::core::Coordinator;
use sr3_proto::{
    access::Role,
    net::{self, Arrival, Peer, Tally, Tls},
};
use sr3_worker::telemetry::Sessions;
use tokio::{net::TcpListener, sync::watch, time};
use tonic::transport::server::Connected;

use crate::exit::CommandError;

const BUILD_INFO: &str = "sr3_build_info";
const RESIDENT_MEMORY_BYTES: &str = "sr3_resident_memory_bytes";
const CERTIFICATE_EXPIRES: &str = "sr3_certificate_expires_seconds";

/// So long a request's headers may take.
const HEADERS_TIME: Duration = Duration::from_secs(5);
/// And a connection in all; whoever asks every quarter of a minute connects anew each time.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Nobody has to send more than a request without a body, and few of them.
const WINDOW_BYTES: u32 = 64 << 10;
const STREAMS_MAX: u32 = 16;
/// For an answer that is on its way then.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// So often the samples of histograms are summed up: they gather in memory until then.
const SUM_EVERY: Duration = Duration::from_secs(5);

/// What a process is.
pub(crate) enum Part {
    /// A coordinator: the one that is active in this process, and who comes to its port.
    Coordinator(watch::Receiver<Option<Coordinator>>, Tally),
    /// A worker.
    Worker(Sessions),
}

impl Part {
    fn describe(&self) {
        describe_gauge!(BUILD_INFO, "1, by the version of the program.");
        describe_gauge!(RESIDENT_MEMORY_BYTES, "Bytes of memory that this process has in use.");
        match self {
            Self::Coordinator(..) => sr3_coordinator::telemetry::describe(),
            Self::Worker(_) => sr3_worker::telemetry::describe(),
        }
    }

    async fn refresh(&self) {
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        gauge!(RESIDENT_MEMORY_BYTES).set(resident_bytes().unwrap_or(0) as f64);
        match self {
            Self::Coordinator(active, port) => {
                let active = active.borrow().clone();
                sr3_coordinator::telemetry::refresh(active.as_ref(), port).await;
            }
            Self::Worker(sessions) => sr3_worker::telemetry::refresh(sessions),
        }
    }

    /// Or why not.
    fn ready(&self) -> Result<(), &'static str> {
        match self {
            Self::Coordinator(active, _) if active.borrow().is_none() => Err("on standby"),
            Self::Worker(sessions) if !sessions.any() => Err("no coordinator answers"),
            _ => Ok(()),
        }
    }
}

/// An address that is to be served, and how.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    address: SocketAddr,
    tls: Option<Tls>,
    /// As whom this process acts elsewhere.
    acts_as: Option<Tls>,
}

impl Served {
    /// The address of `--telemetry`, if it may be served so.
    ///
    /// # Errors
    /// Others would reach it in plain text, and nobody said that they may.
    pub(crate) fn new(
        address: Option<SocketAddr>,
        tls: Option<&Tls>,
        insecure: bool,
    ) -> Result<Option<Self>, CommandError> {
        let Some(address) = address else { return Ok(None) };
        let acts_as = tls.cloned();
        let tls = acts_as.clone().filter(|_| !address.ip().is_loopback());
        match &tls {
            Some(tls) => drop(tls.server().map_err(|e| CommandError::usage(e.to_string()))?),
            None if address.ip().is_loopback() || insecure => {}
            None => {
                return Err(CommandError::usage(format!(
                    "--telemetry `{address}` can be reached from other machines: name a folder of certificates with --tls, or \
                     listen on 127.0.0.1 (--insecure would show it to anybody)"
                )));
            }
        }
        Ok(Some(Self { address, tls, acts_as }))
    }

    /// Serves it for as long as the process runs, and prints where.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub(crate) async fn start(self, part: Part) -> Result<(), CommandError> {
        let asked = self.address;
        let listener = TcpListener::bind(asked).await.map_err(|e| {
            CommandError::failed(format!("cannot listen on {asked}: {e}: choose another --telemetry"))
        })?;
        let address = listener.local_addr().map_err(|e| CommandError::failed(e.to_string()))?;
        let internal = |e: &dyn std::error::Error| CommandError::failed(format!("cannot count: {e}"));
        let (name, bounds) = sr3_coordinator::telemetry::BUCKETS;
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(name.into()), &bounds)
            .map_err(|e| internal(&e))?
            .build_recorder();
        let numbers = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|e| internal(&e))?;
        part.describe();
        if self.acts_as.is_some() {
            let text = "When this process's certificate ends, in seconds since 1970.";
            describe_gauge!(CERTIFICATE_EXPIRES, text);
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        say!("sr3: telemetry on {scheme}://{address}");
        let desk =
            Arc::new(Desk { part, numbers, acts_as: self.acts_as, asks_for_names: self.tls.is_some() });
        tokio::spawn(sum_up(desk.numbers.clone()));
        tokio::spawn(serve(listener, self.tls, desk));
        Ok(())
    }
}

async fn sum_up(numbers: PrometheusHandle) {
    let mut ticks = time::interval(SUM_EVERY);
    loop {
        ticks.tick().await;
        numbers.run_upkeep();
    }
}

async fn serve(listener: TcpListener, tls: Option<Tls>, desk: Arc<Desk>) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIME)
        .max_buf_size(net::HEADER_BYTES_MAX as usize)
        .keep_alive(false);
    server
        .http2()
        .timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(net::HEADER_BYTES_MAX);
    let mut incoming = pin!(net::listen(listener, tls, Tally::default()));
    while let Some(arrival) = incoming.next().await {
        let Ok(arrival) = arrival else { continue };
        tokio::spawn(attend(server.clone(), arrival, Arc::clone(&desk)));
    }
}

async fn attend(server: auto::Builder<TokioExecutor>, arrival: Arrival, desk: Arc<Desk>) {
    let peer = arrival.connect_info();
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, peer) = (Arc::clone(&desk), peer.clone());
        async move { Ok::<_, Infallible>(desk.answer(&request, &peer).await) }
    });
    let mut connection = pin!(server.serve_connection(TokioIo::new(arrival), service));
    let ended = match time::timeout(CONNECTION_TIME, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection to the telemetry broke");
    }
}

/// Who answers.
struct Desk {
    part: Part,
    numbers: PrometheusHandle,
    acts_as: Option<Tls>,
    asks_for_names: bool,
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>, peer: &Peer) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match (request.uri().path(), self.part.ready()) {
            ("/healthz", _) | ("/readyz", Ok(())) => response(StatusCode::OK, "ok\n"),
            ("/readyz", Err(why)) => response(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            ("/metrics", _) if !self.may_read(peer) => {
                response(StatusCode::FORBIDDEN, "the numbers want a certificate of the role read\n")
            }
            ("/metrics", _) => {
                self.part.refresh().await;
                if let Some(own) = self.acts_as.as_ref().and_then(Tls::own) {
                    gauge!(CERTIFICATE_EXPIRES).set(own.not_after as f64);
                }
                response(StatusCode::OK, as_counters(self.numbers.render()))
            }
            _ => response(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        }
    }

    fn may_read(&self, peer: &Peer) -> bool {
        let role = peer.certificate.as_ref().and_then(|shown| shown.role);
        !self.asks_for_names || role.is_some_and(|role| role.allows(Role::Read))
    }
}

/// Says of what is counted in fractions that it is counted.
fn as_counters(mut text: String) -> String {
    for (name, _) in sr3_worker::telemetry::FRACTIONS {
        text = text.replacen(&format!("# TYPE {name} gauge\n"), &format!("# TYPE {name} counter\n"), 1);
    }
    text
}

fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// None where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
