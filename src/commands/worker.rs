//! `sr3 worker`: a worker process.

use std::{sync::Arc, time::Duration};

use clap::{Args, value_parser};
use sr3_engine::ops::Isa;
use sr3_proto::Cancel;
use sr3_worker::{ClusterWorkerConfig, GrpcConnect, serve};

use super::model_args::start_threads;
use crate::{
    client,
    engine_models::EngineModels,
    exit::{CommandError, Ending},
    signals,
};

/// Arguments of `sr3 worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// Coordinators of the cluster: the one that serves is found [env: SR3_COORDINATOR]
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Name for people [default: host and process].
    #[arg(long)]
    pub name: Option<String>,
    /// Seconds that a signal leaves for finishing what is begun; what is not finished then is given back.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_timeout: u64,
}

/// Runs it until a signal comes.
pub fn run(arguments: &WorkerArgs) -> Result<Ending, CommandError> {
    start_threads(arguments.threads);
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
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let name = arguments.name.clone();
        let config = ClusterWorkerConfig {
            name: name.unwrap_or_else(|| format!("{}-{}", host.trim(), std::process::id())),
            device: format!("cpu ({:?})", Isa::detect()),
            drain_timeout: Duration::from_secs(arguments.drain_timeout),
            ..ClusterWorkerConfig::default()
        };
        let connect = GrpcConnect::new(client::addresses(&arguments.coordinator)?);
        serve(Arc::new(EngineModels), connect, config, stop)
            .await
            .map_err(|e| CommandError::failed(e.to_string()))?;
        Ok(Ending::Done)
    })
}
