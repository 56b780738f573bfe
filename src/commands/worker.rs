//! `sr3 worker`: a worker process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::{Args, value_parser};
use sr3_engine::{
    device::{About, Device},
    ops::{Isa, Precision},
};
use sr3_jobs::{
    models::{Cache, Library},
    upscale::EngineModels,
};
use sr3_proto::{
    Cancel, Offer,
    net::{Address, Dialer, Tls},
};
use sr3_worker::{
    ClusterWorkerConfig, GrpcConnect, WorkerFailure,
    gang::{GrpcPeers, LocalPeers, Peers},
    memory, serve,
    telemetry::Sessions,
};
use tokio::task::JoinSet;

use super::{allowed::open_allowed, credentials::CredentialArgs, model_args::start_threads};
use crate::{
    client,
    exit::{CommandError, Ending},
    signals,
    telemetry::{Part, Served},
};

/// Arguments of `sr3 worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Coordinators of the cluster: the one that serves is found [env: SR3_COORDINATOR]
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// What computes: cpu, cuda:0 for the first NVIDIA GPU, cuda for all of them, or candle-cpu; see `sr3 devices`. May be
    /// repeated: each is a worker of its own in this process.
    #[arg(long, default_value = "cpu")]
    pub device: Vec<String>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Shared options.
    #[command(flatten)]
    pub credentials: CredentialArgs,
    /// Place that this worker may open, such as s3://bucket/prefix or a folder; a job elsewhere fails here. May be repeated
    /// [default: every place that this process can open].
    #[arg(long, value_name = "URL")]
    pub allow_store: Vec<String>,
    /// Address that numbers for Prometheus (/metrics) and health (/healthz, /readyz) are served on. Beyond loopback it wants --tls,
    /// and for numbers a certificate of the role read. Port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub telemetry: Option<SocketAddr>,
    /// Serve --telemetry and --peers beyond loopback without TLS, to anybody.
    #[arg(long)]
    pub insecure: bool,
    /// Address that other workers reach this one on, to train together. Beyond loopback it wants --tls. Port 0 takes a free one
    /// [default: a free one on loopback if all coordinators are there; none otherwise, and then it does not train].
    #[arg(long, value_name = "HOST:PORT")]
    pub peers: Option<SocketAddr>,
    /// Name under which others find that address: one that its certificate holds [default: the address].
    #[arg(long, value_name = "HOST", requires = "peers")]
    pub peer_host: Option<String>,
    /// Name for people [default: host and process].
    #[arg(long)]
    pub name: Option<String>,
    /// Seconds that a signal leaves for finishing what is begun; what is not finished then is given back.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_timeout: u64,
}

/// Runs it until a signal comes.
pub fn run(arguments: &WorkerArgs) -> Result<Ending, CommandError> {
    let tls = arguments.credentials.tls()?;
    let telemetry = Served::new(arguments.telemetry, tls.as_ref(), arguments.insecure)?;
    start_threads(arguments.threads);
    let unusable = |e: sr3_engine::device::DeviceError| CommandError::usage(e.to_string());
    let mut devices = Vec::new();
    for name in &arguments.device {
        devices.extend(Device::named(name).map_err(unusable)?);
    }
    devices.sort_unstable();
    devices.dedup();
    let configs: Vec<_> =
        devices.iter().map(|device| config(arguments, *device, devices.len())).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let stop = Cancel::new();
        tokio::spawn(signals::watch(
            stop.clone(),
            Some("finishing what is begun; once more to stop at once"),
        ));
        let addresses = client::addresses(&arguments.coordinator)?;
        let dialer = arguments.credentials.dialer_to(&addresses)?;
        let sessions = Sessions::default();
        if let Some(telemetry) = telemetry {
            telemetry.start(Part::Worker(sessions.clone())).await?;
        }
        let open_store = open_allowed(&arguments.allow_store)?;
        let library = Arc::new(Library::new(Arc::clone(&open_store), Cache::of_process()));
        let (peers, peer_address) = peers(arguments, &addresses, dialer.clone(), tls, &stop).await?;
        let mut workers = JoinSet::new();
        for (device, mut config) in devices.into_iter().zip(configs) {
            config.stores = Arc::clone(&open_store);
            config.sessions = sessions.clone();
            config.peer_address.clone_from(&peer_address);
            let models = Arc::new(EngineModels::new(Arc::clone(&library)).on(device));
            let connect = GrpcConnect::new(addresses.clone(), dialer.clone());
            workers.spawn(serve(
                sr3_jobs::runners(&models, Arc::clone(&peers)),
                connect,
                config,
                stop.clone(),
            ));
        }
        // One that gives up takes the others along: a process that half works is noticed by nobody.
        let mut given_up: Option<WorkerFailure> = None;
        while let Some(ended) = workers.join_next().await {
            stop.cancel();
            let ended =
                ended.map_err(|_| CommandError::failed("internal error of a worker; please report it"))?;
            given_up = given_up.or(ended.err());
        }
        match given_up {
            Some(error) => Err(CommandError::failed(error.to_string())),
            None => Ok(Ending::Done),
        }
    })
}

/// How it reaches other members of a gang, and where they reach it: nowhere if it takes part in none.
async fn peers(
    arguments: &WorkerArgs,
    coordinators: &[Address],
    dialer: Dialer,
    tls: Option<Tls>,
    stop: &Cancel,
) -> Result<(Arc<dyn Peers>, String), CommandError> {
    let on_loopback = coordinators.iter().all(Address::is_loopback);
    let listen = match arguments.peers {
        Some(listen) => listen,
        None if on_loopback => SocketAddr::from(([127, 0, 0, 1], 0)),
        None => return Ok((Arc::new(LocalPeers::default()), String::new())),
    };
    // On loopback everybody may do everything anyway, and a certificate for 127.0.0.1 is seldom there.
    let tls = tls.filter(|_| arguments.peers.is_some());
    if !listen.ip().is_loopback() && tls.is_none() && !arguments.insecure {
        return Err(CommandError::usage(
            "--peers beyond loopback: name a folder of certificates with --tls, or take --insecure",
        ));
    }
    let dialer = if tls.is_some() { dialer } else { Dialer::default() };
    let host = arguments.peer_host.as_deref();
    let peers = GrpcPeers::serve(listen, host, tls, dialer, stop.clone()).await;
    let peers = peers.map_err(|e| CommandError::failed(e.to_string()))?;
    let address = peers.address();
    Ok((Arc::new(peers), address))
}

fn config(arguments: &WorkerArgs, device: Device, count: usize) -> Result<ClusterWorkerConfig, CommandError> {
    let About { name, mut classes, memory } =
        device.about().map_err(|e| CommandError::usage(e.to_string()))?;
    // What it prefers comes first.
    if device == Device::Cpu && Precision::faster(Isa::detect()) == Precision::Bf16 {
        classes.rotate_right(1);
    }
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let named = arguments.name.clone();
    let mut shown = named.unwrap_or_else(|| format!("{}-{}", host.trim(), std::process::id()));
    if count > 1 {
        shown = format!("{shown}/{device}");
    }
    let most = memory.map(|[total, _]| total).or(memory::most().map(|room| room.limit));
    let threads = if device == Device::Cpu { rayon::current_num_threads() } else { 1 };
    Ok(ClusterWorkerConfig {
        name: shown,
        device: format!("{device} ({name})"),
        offer: Offer {
            kinds: Vec::new(),
            classes,
            memory_bytes: most.unwrap_or(0),
            threads: u32::try_from(threads).unwrap_or(u32::MAX),
        },
        drain_timeout: Duration::from_secs(arguments.drain_timeout),
        ..ClusterWorkerConfig::default()
    })
}
