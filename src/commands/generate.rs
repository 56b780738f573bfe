//! `sr3 generate SPEC`: makes samples in this process. The same spec goes to a cluster with `sr3 submit`.

use std::{fs, path::PathBuf, sync::Arc};

use clap::Args;
use sr3_coordinator::{Kind, Kinds, core::view::Phase, kind::Begin};
use sr3_engine::device::Device;
use sr3_jobs::{
    generate::{Generate, GenerateOrder, GenerateSpec, Generated, NAME},
    upscale::{Bits, EngineModels},
};
use sr3_proto::{Cancel, SpecError, Store, off_thread, wire::v1::Job};
use sr3_worker::{Runner, Runners};

use super::{
    generate_forecast,
    remote_args::block_on,
    spec_file::{self, SpecFile},
};
use crate::{
    client::local::{self, LocalJob, Members},
    exit::{self, CommandError, Ending},
    signals,
};

/// Arguments of `sr3 generate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct GenerateArgs {
    /// A job spec of kind generate, in YAML or JSON; - reads it from stdin.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Make one sample alone, the one that the job would make with this number, and write it to --out.
    #[arg(long, value_name = "K", requires = "out")]
    pub index: Option<u64>,
    /// The file that --index is written to, as PNG.
    #[arg(long, value_name = "FILE", requires = "index")]
    pub out: Option<PathBuf>,
    /// What computes: cpu, candle-cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
    /// Threads that compute [default: as many as cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Say what it takes (stages, units, memory, and time on this machine, by computing a step of each stage), and write nothing.
    #[arg(long, conflicts_with = "index")]
    pub dry_run: bool,
    /// Print what came of it as a line of JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Runs it.
pub fn run(arguments: &GenerateArgs) -> Result<Ending, CommandError> {
    run_spec(arguments, &SpecFile::read(&arguments.file)?)
}

/// Says what a spec takes.
pub(super) fn forecast(spec: &SpecFile) -> Result<Ending, CommandError> {
    let (file, index, out, threads) = (spec.name.clone(), None, None, None);
    let device = Device::Cpu;
    let asked = GenerateArgs { file, index, out, device, threads, dry_run: true, json: false, quiet: false };
    run_spec(&asked, spec)
}

fn run_spec(arguments: &GenerateArgs, spec: &SpecFile) -> Result<Ending, CommandError> {
    super::model_args::start_threads(arguments.threads);
    block_on(here(arguments, spec))
}

async fn here(arguments: &GenerateArgs, file: &SpecFile) -> Result<Ending, CommandError> {
    let document = file.document(NAME, "generate")?;
    let wrong = |e: SpecError| file.wrong(e);
    let spec = GenerateSpec::read(&document).map_err(wrong)?;
    let device = arguments.device;
    let bits = Bits::here(device, spec.dtype()).map_err(CommandError::usage)?;
    let kind = Arc::new(Generate::new(Arc::new(EngineModels::default().on(device))));
    let (resolving, asked, bits) = (Arc::clone(&kind), spec.clone(), bits);
    let planned = arguments.dry_run;
    let resolved = off_thread(move || match planned {
        true => resolving.plan(&asked, &bits),
        false => resolving.resolve(&asked, &bits),
    });
    let resolved = resolved.await;
    let order = resolved.map_err(|e| CommandError::failed(e.to_string()))?;
    let order = order.map_err(|(field, message)| wrong(document.wrong(field, &message)))?;
    if let (Some(index), Some(out)) = (arguments.index, arguments.out.clone()) {
        return one(kind, order, index, out).await;
    }
    if arguments.dry_run {
        off_thread(move || generate_forecast::print(&kind, &order))
            .await
            .map_err(|e| CommandError::failed(e.to_string()))??;
        return Ok(Ending::Done);
    }
    spec_file::make_folder(&order.destination)?;
    let interrupt = Cancel::new();
    tokio::spawn(signals::watch(interrupt.clone(), None));
    let envelope = Arc::new(order.envelope(spec.job.name.clone(), 1)?);
    let begin = Begin { open_store: Arc::new(Store::at), owner: String::new(), run: None, planning: true };
    let begun = kind.begin(Arc::clone(&envelope), begin).await;
    let begun = begun.map_err(|e| CommandError::failed(e.to_string()))?;
    let runner: Arc<dyn Runner> = Arc::<Generate>::clone(&kind);
    let kinds: Arc<dyn Kind> = kind;
    let job = LocalJob {
        order: envelope,
        begun,
        kinds: Kinds::new([kinds]),
        members: Members::one(Runners::new([runner])),
        forecast: None,
        journal: None,
    };
    let show = local::Show { json: arguments.json, quiet: arguments.quiet };
    let ended = local::run(job, show, &interrupt).await?;
    if interrupt.is_cancelled() {
        return Ok(Ending::Interrupted);
    }
    if ended.phase != Phase::Succeeded {
        return Err(CommandError::failed(ended.reason));
    }
    let generated: Generated = serde_json::from_str(&ended.summary)
        .map_err(|e| CommandError::failed(format!("what came of the job cannot be read: {e}")))?;
    print(&generated, &order.destination, arguments.json);
    Ok(if generated.set_aside > 0 { Ending::WithQuarantined } else { Ending::Done })
}

async fn one(
    kind: Arc<Generate>,
    order: GenerateOrder,
    index: u64,
    out: PathBuf,
) -> Result<Ending, CommandError> {
    let made = off_thread(move || kind.one(&order, index)).await;
    let made = made.map_err(|e| CommandError::failed(e.to_string()))?.map_err(CommandError::failed)?;
    fs::write(&out, made).map_err(|e| CommandError::failed(format!("`{}`: {e}", out.display())))?;
    Ok(Ending::Done)
}

/// What came of a job on a cluster.
pub(super) fn tell_of(job: &Job) {
    let destination = job.places.iter().find(|place| place.writes).map_or("", |place| &place.location);
    if let Ok(generated) = serde_json::from_str::<Generated>(&job.summary) {
        print(&generated, destination, false);
    }
}

fn print(generated: &Generated, destination: &str, json: bool) {
    let Generated { samples, set_aside, samples_sha256 } = generated;
    if json {
        say!("{}", serde_json::json!(generated));
        return;
    }
    let aside = if *set_aside > 0 { format!(", {set_aside} set aside") } else { String::new() };
    say!("{samples} samples in {destination}{aside}");
    say!("samples sha256:{samples_sha256}");
}

/// One line about a spec that can be used.
pub(super) fn summary(spec: &GenerateSpec) -> String {
    let job = &spec.job;
    let stages: Vec<_> = job.stages.iter().map(|stage| stage.model.as_str()).collect();
    let what = match (&job.source, job.count) {
        (Some(source), _) => format!("what comes of {source}"),
        (None, Some(count)) => format!("{count} samples"),
        (None, None) => "samples".to_string(),
    };
    format!("generate {what} with {} into {}", stages.join(", then "), job.destination)
}
