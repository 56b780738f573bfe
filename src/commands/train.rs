//! `sr3 train SPEC`: trains a network in this process, by as many members as asked for. The same spec goes to a cluster with
//! `sr3 submit`.

use std::{sync::Arc, time::Duration};

use clap::Args;
use sr3_coordinator::{Kind, Kinds, core::view::Phase, kind::Begin};
use sr3_engine::device::Device;
use sr3_jobs::{
    models::Library,
    train::{NAME, Train, TrainOrder, TrainSpec, Trained, runs, sizes},
    upscale::Bits,
};
use sr3_proto::{Cancel, SpecError, Store, job_spec::Document, off_thread, wire::v1::Job};
use sr3_worker::{
    Runner, Runners,
    gang::{LocalPeers, Peers},
};

use super::{
    remote_args::block_on,
    spec_file::{self, SpecFile},
    train_forecast,
};
use crate::{
    client::local::{self, LocalJob, Members},
    exit::{self, CommandError, Ending},
    signals,
};

/// How long a member may take to write down what it has come to when it is asked to stop.
const LEAVE: Duration = Duration::from_secs(600);

/// Arguments of `sr3 train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct TrainArgs {
    /// A job spec of kind train, in YAML or JSON; - reads it from stdin.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Members in this process. The weights do not depend on it; with one CPU more are not faster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: u32,
    /// Steps of the run, instead of those of the spec.
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// Threads that compute [default: as many as cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Say what it takes (parameters, memory, and time on this machine, by computing a call of its network), and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Print what came of it as a line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs it.
pub fn run(arguments: &TrainArgs) -> Result<Ending, CommandError> {
    run_spec(arguments, &SpecFile::read(&arguments.file)?)
}

/// Says what a spec takes.
pub(super) fn forecast(spec: &SpecFile) -> Result<Ending, CommandError> {
    let (file, steps, threads) = (spec.name.clone(), None, None);
    let asked = TrainArgs { file, workers: 1, steps, threads, dry_run: true, json: false, quiet: false };
    run_spec(&asked, spec)
}

fn run_spec(arguments: &TrainArgs, spec: &SpecFile) -> Result<Ending, CommandError> {
    super::model_args::start_threads(arguments.threads);
    block_on(here(arguments, spec))
}

async fn here(arguments: &TrainArgs, spec: &SpecFile) -> Result<Ending, CommandError> {
    let document = spec.document(NAME, "train")?;
    let library = Arc::new(Library::of_process());
    let kind = Arc::new(Train::new(Arc::clone(&library)));
    let mut orders = Vec::new();
    for run in runs(&document).map_err(|e| spec.wrong(e))? {
        orders.push(order(arguments, spec, &kind, &run).await?);
    }
    let interrupt = Cancel::new();
    if !arguments.dry_run {
        let said = "writing a checkpoint; once more to stop at once";
        tokio::spawn(signals::watch(interrupt.clone(), Some(said)));
    }
    // The stages of a cascade one after the other: here they would take each other's processors.
    for (name, order) in orders {
        if arguments.dry_run {
            off_thread(move || train_forecast::print(&order))
                .await
                .map_err(|e| CommandError::failed(e.to_string()))??;
            continue;
        }
        match run_here(arguments, &kind, &library, name, order, &interrupt).await? {
            Ending::Done => {}
            other => return Ok(other),
        }
    }
    Ok(Ending::Done)
}

/// What a run is called and comes to.
async fn order(
    arguments: &TrainArgs,
    file: &SpecFile,
    kind: &Arc<Train>,
    document: &Document,
) -> Result<(Option<String>, TrainOrder), CommandError> {
    let wrong = |e: SpecError| file.wrong(e);
    let mut spec = TrainSpec::read(document).map_err(wrong)?;
    if let Some(steps) = arguments.steps {
        (spec.train.steps, spec.train.samples) = (Some(steps), None);
    }
    if let Some((field, message)) = spec.contradiction() {
        return Err(CommandError::usage(format!("{field}: {message}")));
    }
    let bits = Bits::here(Device::Cpu, spec.train.dtype).map_err(CommandError::usage)?;
    let name = spec.train.name.clone();
    let resolving = Arc::clone(kind);
    let resolved = off_thread(move || resolving.resolve(&spec, &bits)).await;
    let order = resolved.map_err(|e| CommandError::failed(e.to_string()))?;
    Ok((name, order.map_err(|(field, message)| wrong(document.wrong(field, &message)))?))
}

async fn run_here(
    arguments: &TrainArgs,
    kind: &Arc<Train>,
    library: &Arc<Library>,
    name: Option<String>,
    order: TrainOrder,
    interrupt: &Cancel,
) -> Result<Ending, CommandError> {
    spec_file::make_folder(&order.destination)?;
    let envelope = Arc::new(order.envelope(name, 1)?);
    let begin = Begin { open_store: Arc::new(Store::at), owner: String::new(), run: None, planning: true };
    let begun = kind.begin(Arc::clone(&envelope), begin).await;
    let begun = begun.map_err(|e| CommandError::failed(e.to_string()))?;
    let peers = LocalPeers::default();
    let runner =
        || -> Arc<dyn Runner> { Arc::new(Train::with_peers(Arc::clone(library), Arc::new(peers.clone()))) };
    let runners = (0..arguments.workers).map(|_| Runners::new([runner()])).collect();
    let kinds: Arc<dyn Kind> = Arc::<Train>::clone(kind);
    let job = LocalJob {
        order: envelope,
        begun,
        kinds: Kinds::new([kinds]),
        members: Members { runners, peer_address: peers.address(), leave: LEAVE },
        forecast: None,
        journal: None,
    };
    let show = local::Show { json: arguments.json, quiet: arguments.quiet };
    let ended = local::run(job, show, interrupt).await?;
    if interrupt.is_cancelled() {
        return Ok(Ending::Interrupted);
    }
    if ended.phase != Phase::Succeeded {
        return Err(CommandError::failed(ended.reason));
    }
    let trained: Trained = serde_json::from_str(&ended.summary)
        .map_err(|e| CommandError::failed(format!("what came of the run cannot be read: {e}")))?;
    print(&trained, &order.destination, arguments.json);
    Ok(Ending::Done)
}

/// What came of a run on a cluster.
pub(super) fn tell_of(job: &Job) {
    let destination = job.places.iter().find(|place| place.writes).map_or("", |place| &place.location);
    if let Ok(trained) = serde_json::from_str::<Trained>(&job.summary) {
        print(&trained, destination, false);
    }
}

/// What came of a run.
fn print(trained: &Trained, destination: &str, json: bool) {
    let Trained { step, samples, weights_sha256, checkpoint } = trained;
    if json {
        say!("{}", serde_json::json!(trained));
        return;
    }
    say!("{step} steps, {samples} samples");
    say!("checkpoint {}/{checkpoint}", destination.trim_end_matches('/'));
    say!("weights sha256:{weights_sha256}");
}

/// One line about a spec that can be used.
pub(super) fn summary(spec: &TrainSpec) -> String {
    let t = &spec.train;
    format!("train {} on {} into {}", sizes(t.low_res, t.high_res), t.source, t.destination)
}
