//! `sr3 coordinator`: a coordinator process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use sr3_coordinator::{
    clock::Clock,
    core::{Coordinator, Parts},
    ledger::open_ledger,
    scheduler,
    service::{self, Access, Audit, Entrance, Standby},
};
use sr3_jobs::{models::Library, upscale::EngineModels};
use sr3_proto::{
    Cancel, Location, Store,
    net::{self, Address, Bearer, Dialer, Tally, Tls},
};
use tokio::sync::watch;

use super::{allowed::open_allowed, credentials::CredentialArgs};
use crate::{
    exit::{CommandError, Ending},
    signals,
    telemetry::{Part, Served},
};

/// Arguments of `sr3 coordinator`.
#[derive(Clone, Debug, Args)]
pub struct CoordinatorArgs {
    /// Address to listen on. Port 0 takes a free one and prints it.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Where the cluster's state lies: a folder, or a URL such as s3://bucket/prefix. Coordinators on the same state
    /// stand in for each other.
    #[arg(long, value_name = "URL")]
    pub state: String,
    /// Another coordinator on the same state. While it is active this one is on standby. May be repeated.
    #[arg(long, value_name = "URL")]
    pub peer: Vec<String>,
    /// Place that jobs may read and write, such as s3://bucket/prefix or a folder; all others are refused. May be repeated
    /// [default on loopback: every place that this process can open; beyond it one has to be named].
    #[arg(long, value_name = "URL")]
    pub allow_store: Vec<String>,
    /// Folder of certificates (tls.crt, tls.key, ca.crt, ca.crl; `sr3 certs` makes them): serves TLS, and lets in who has a
    /// certificate of a role, or a token. They may be replaced at any time [env: SR3_TLS]
    #[arg(long, value_name = "FOLDER")]
    pub tls: Option<PathBuf>,
    /// Listen beyond loopback without TLS, and let anybody who reaches it do anything.
    #[arg(long)]
    pub insecure: bool,
    /// Address that numbers for Prometheus (/metrics) and health (/healthz, /readyz) are served on. Beyond loopback it wants --tls,
    /// and for numbers a certificate of the role read. Port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub telemetry: Option<SocketAddr>,
    /// File that a line of JSON is added to for everything that somebody did or was refused.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Seconds after which a worker that says nothing loses its units.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_ttl: u32,
}

/// Runs it until a signal comes.
pub fn run(arguments: &CoordinatorArgs) -> Result<Ending, CommandError> {
    let credentials = CredentialArgs { tls: arguments.tls.clone(), token_file: None };
    let tls = credentials.tls()?;
    let reachable = !arguments.listen.ip().is_loopback();
    if reachable && tls.is_none() && !arguments.insecure {
        return Err(CommandError::usage(format!(
            "`{}` can be reached from other machines: make certificates (`sr3 certs init`) and name their folder with \
             --tls, or listen on 127.0.0.1 (--insecure would let anybody do anything)",
            arguments.listen
        )));
    }
    if reachable && arguments.allow_store.is_empty() {
        return Err(CommandError::usage(format!(
            "`{}` can be reached from other machines: say which places its jobs may open with --allow-store",
            arguments.listen
        )));
    }
    if let Some(tls) = &tls {
        if arguments.insecure {
            return Err(CommandError::usage("--insecure and --tls contradict each other: leave one out"));
        }
        tls.server().map_err(|e| CommandError::usage(e.to_string()))?;
    }
    many_descriptors();
    let telemetry = Served::new(arguments.telemetry, tls.as_ref(), arguments.insecure)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    runtime.block_on(serve(arguments, tls, telemetry))
}

/// A thousand, as systems begin with, are fewer than the connections that are let in.
fn many_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let limits = getrlimit(Resource::Nofile);
        // Where that is not allowed, accepting waits for a connection that ends.
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limits.maximum, ..limits });
    }
}

async fn serve(
    arguments: &CoordinatorArgs,
    tls: Option<Tls>,
    telemetry: Option<Served>,
) -> Result<Ending, CommandError> {
    let listener = tokio::net::TcpListener::bind(arguments.listen).await.map_err(|e| {
        CommandError::failed(format!("cannot listen on {}: {e}: choose another --listen", arguments.listen))
    })?;
    let address = listener.local_addr().map_err(|e| CommandError::failed(e.to_string()))?;
    let state_place: Location = arguments.state.parse()?;
    if !state_place.is_local() {
        Store::open(&arguments.state)?.probe_conditional_put().await?;
    }
    let lease_ttl = std::time::Duration::from_secs(arguments.lease_ttl.into());
    let open_store = open_allowed(&arguments.allow_store)?;
    // It resolves models and runs none: their weights never come here.
    let models = EngineModels::new(Arc::new(Library::new(Arc::clone(&open_store), None)));
    let parts = Parts {
        kinds: sr3_jobs::kinds(&Arc::new(models)),
        open_store,
        state: Some(state_place),
        scheduler: scheduler::Config {
            lease_ttl,
            heartbeat_every: (lease_ttl / 5).max(std::time::Duration::from_millis(200)),
            ..scheduler::Config::default()
        },
        clock: Clock::default(),
    };
    let stop = Cancel::new();
    tokio::spawn(signals::watch(stop.clone(), Some("stopping; once more to stop at once")));
    let dialer = Dialer::new(tls.clone(), Bearer::None);
    let peer = |written: &String| {
        let address = Address::parse(written).map_err(|e| CommandError::usage(e.to_string()))?;
        Ok::<_, CommandError>(service::peer(&address, &dialer))
    };
    let peers = arguments.peer.iter().map(peer).collect::<Result<_, _>>()?;
    let standby = Standby { peers, ..Standby::default() };
    let access = match &tls {
        Some(tls) => Access::Known(tls.clone()),
        None => Access::Anybody { insecure: arguments.insecure },
    };
    let audit = Audit::open(arguments.audit.as_deref(), parts.clock).map_err(|e| {
        let path = arguments.audit.as_deref().unwrap_or(Path::new("")).display();
        CommandError::failed(format!("the audit log `{path}` cannot be written: {e}"))
    })?;
    let entrance = Entrance { access, audit };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let open_to_all = if arguments.insecure { " --insecure: whoever reaches it may do anything" } else { "" };
    let state = arguments.state.clone();
    let open = || open_ledger(&state);
    let (active, seen) = watch::channel(None);
    let told = |coordinator: Option<&Coordinator>| {
        active.send_replace(coordinator.cloned());
        let what = if coordinator.is_some() { "active" } else { "on standby" };
        say!("sr3: coordinator on {scheme}://{address} is {what}");
    };
    say!("sr3: coordinator listens on {scheme}://{address}{open_to_all}");
    let port = Tally::default();
    if let Some(telemetry) = telemetry {
        telemetry.start(Part::Coordinator(seen, port.clone())).await?;
    }
    service::serve(net::listen(listener, tls, port), parts, open, entrance, standby, stop, told)
        .await
        .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(Ending::Done)
}
