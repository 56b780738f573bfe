//! `sr3 coordinator`: a coordinator process.

use std::{net::SocketAddr, sync::Arc};

use clap::Args;
use sr3_coordinator::{
    clock::Clock,
    core::{OpenStore, Parts},
    ledger::open_ledger,
    scheduler,
    service::{self, Standby},
};
use sr3_jobs::{models::Library, upscale::EngineModels};
use sr3_proto::{Cancel, Location, Store, net::Address, store::Allowed};
use tokio_stream::wrappers::TcpListenerStream;

use crate::{
    exit::{CommandError, Ending},
    signals,
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
    /// Place that jobs may read and write, such as s3://bucket/prefix or a folder; all others are refused. May be
    /// repeated [default: every place that this process can open].
    #[arg(long, value_name = "URL")]
    pub allow_store: Vec<String>,
    /// Seconds after which a worker that says nothing loses its units.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_ttl: u32,
}

/// Runs it until a signal comes.
pub fn run(arguments: &CoordinatorArgs) -> Result<Ending, CommandError> {
    if !arguments.listen.ip().is_loopback() {
        return Err(CommandError::usage(format!(
            "`{}` can be reached from other machines, and this version has no TLS: listen on 127.0.0.1, and let others \
             in through a tunnel",
            arguments.listen
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &CoordinatorArgs) -> Result<Ending, CommandError> {
    let listener = tokio::net::TcpListener::bind(arguments.listen).await.map_err(|e| {
        CommandError::failed(format!("cannot listen on {}: {e}: choose another --listen", arguments.listen))
    })?;
    let address = listener.local_addr().map_err(|e| CommandError::failed(e.to_string()))?;
    let state_place: Location = arguments.state.parse()?;
    if !state_place.is_local() {
        Store::open(&arguments.state)?.probe_conditional_put().await?;
    }
    let allowed = match arguments.allow_store.as_slice() {
        [] => None,
        places => Some(Allowed::new(places)?),
    };
    let lease_ttl = std::time::Duration::from_secs(arguments.lease_ttl.into());
    let open_store: OpenStore = Arc::new(move |location| {
        if let Some(allowed) = &allowed {
            allowed.check(location)?;
        }
        Store::at(location)
    });
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
    let peer = |written: &String| {
        let address = Address::parse(written).map_err(|e| CommandError::usage(e.to_string()))?;
        Ok::<_, CommandError>(service::peer(&address))
    };
    let peers = arguments.peer.iter().map(peer).collect::<Result<_, _>>()?;
    let standby = Standby { peers, ..Standby::default() };
    let state = arguments.state.clone();
    let open = || open_ledger(&state);
    let told = |active: bool| {
        let what = if active { "active" } else { "on standby" };
        say!("sr3: coordinator on http://{address} is {what}");
    };
    say!("sr3: coordinator listens on http://{address}");
    service::serve(TcpListenerStream::new(listener), parts, open, standby, stop, told)
        .await
        .map_err(|e| CommandError::failed(e.to_string()))?;
    Ok(Ending::Done)
}
