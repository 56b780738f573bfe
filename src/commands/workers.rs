//! `sr3 workers`, `sr3 drain WORKER`.

use clap::Args;
use serde_json::{Value, json};
use sr3_proto::{
    WorkerId,
    wire::v1::{ListWorkersResponse, Worker},
    words::printable,
};

use super::{
    remote_args::{RemoteArgs, block_on},
    table::table,
};
use crate::{
    exit::{CommandError, Ending},
    say::print,
};

/// Arguments of `sr3 workers`.
#[derive(Clone, Debug, Args)]
pub struct WorkersArgs {
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// A line of JSON per worker.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sr3 drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// Id of the worker.
    #[arg(value_name = "WORKER", value_parser = worker_id)]
    pub worker: WorkerId,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Lists the workers that are connected.
pub fn list(arguments: &WorkersArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let ListWorkersResponse { workers, insecure } = client.workers().await?;
        if arguments.json {
            print(&workers.iter().map(|worker| format!("{}\n", as_json(worker))).collect::<String>());
        } else {
            let rows: Vec<_> = workers.iter().map(row).collect();
            print(&table(["WORKER", "STATE", "NAME", "DEVICE", "UNITS", "DONE", "VERSION"], &rows));
            if insecure {
                print("This cluster is --insecure: whoever reaches it may do anything.\n");
            }
        }
        Ok(Ending::Done)
    })
}

/// Lets a worker finish what it has, and leave.
pub fn drain(arguments: &DrainArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    let id = arguments.worker;
    block_on(async {
        client.drain(id).await?;
        print(&format!("worker {id}: draining\n"));
        Ok(Ending::Done)
    })
}

fn state(worker: &Worker) -> &'static str {
    match (worker.draining, worker.leases) {
        (true, _) => "draining",
        (false, 0) => "idle",
        (false, _) => "working",
    }
}

fn row(worker: &Worker) -> [String; 7] {
    [
        WorkerId::new(worker.id).to_string(),
        state(worker).to_string(),
        printable(&worker.name),
        printable(&worker.device),
        worker.leases.to_string(),
        worker.units_done.to_string(),
        printable(&worker.version),
    ]
}

fn as_json(worker: &Worker) -> Value {
    json!({
        "id": worker.id,
        "name": worker.name,
        "state": state(worker),
        "device": worker.device,
        "version": worker.version,
        "leases": worker.leases,
        "credits": worker.credits,
        "models": worker.models,
        "shards_done": worker.units_done,
        "kinds": worker.kinds,
        "classes": worker.classes,
        "memory_bytes": (worker.memory_bytes > 0).then_some(worker.memory_bytes),
        "threads": worker.threads,
        "caller": worker.caller,
    })
}

fn worker_id(text: &str) -> Result<WorkerId, String> {
    text.parse().map_err(|_| "a worker's id is a number, see `sr3 workers`".to_string())
}
