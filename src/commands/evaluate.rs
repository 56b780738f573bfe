//! `sr3 evaluate SRC`: how near pictures are to what they should be, in this process or by a cluster.

use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use sr3_coordinator::{Kind, Kinds};
use sr3_engine::{
    device::Device,
    ops::{Isa, Precision},
};
use sr3_jobs::{
    Dtype, JobSpec, Selection,
    cut::UnitLimits,
    evaluate::{
        Evaluate, EvaluateFields, EvaluateJob, EvaluateSpec, MeasuredOrder, Method, Metric, NAME, NUMBERS,
        Number, OpenedEvaluate, ResolveError, Row, Statistic, Summary,
        report::{read_rows, rows_key},
    },
    images::{Selected, Source, SourceError},
    models::Weights,
    upscale::{Bits, EngineModels, Machine, engine_models::precision},
};
use sr3_proto::{Cancel, JobId, Store, off_thread, words::printable};
use sr3_worker::{Runner, Runners};

use super::{
    ModelArgs,
    follow::{self, OnInterrupt, Show},
    remote_args::{CallArgs, block_on},
    spec_file,
    submit::random_key,
    upscale_remote::place,
};
use crate::{
    client::{
        self,
        local::{self, LocalJob, Members},
        remote::Client,
    },
    exit::{self, CommandError, Ending},
    remote_job, signals,
};

/// Arguments of `sr3 evaluate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct EvaluateArgs {
    /// What is measured.
    #[command(flatten)]
    pub job: EvaluateFields,
    /// Shared options.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Shared options.
    #[command(flatten)]
    pub selection: Selection,
    /// Let a cluster do it: its coordinators, such as http://10.0.0.1:7070. They and the workers must see all places under the
    /// same path or URL; --out says where the numbers go.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub call: CallArgs,
    /// One JSON object a picture and method, and the means last.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn run(arguments: &EvaluateArgs) -> Result<Ending, CommandError> {
    let spec = EvaluateSpec {
        job: arguments.job.clone(),
        wish: arguments.model.wish.clone(),
        selection: arguments.selection.clone(),
    };
    if let Some((field, message)) = spec.contradiction() {
        let option = if field == "destination" { "out".into() } else { field.replace('_', "-") };
        return Err(CommandError::usage(format!("--{option}: {message}")));
    }
    if !arguments.coordinator.is_empty() {
        return by_cluster(arguments, spec);
    }
    arguments.model.start_threads();
    block_on(here(arguments, spec))
}

async fn here(arguments: &EvaluateArgs, spec: EvaluateSpec) -> Result<Ending, CommandError> {
    let interrupt = Cancel::new();
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    let show = local::Show { json: arguments.json, quiet: false };
    let Some(measured) = measure(spec, arguments.model.machine()?, show, &interrupt).await? else {
        return Ok(Ending::Interrupted);
    };
    print(&measured.rows, &measured.summary, arguments.json);
    match measured.failure {
        None => Ok(ending(&measured.rows)),
        Some(reason) => Err(CommandError::failed(reason)),
    }
}

/// What an evaluation came to.
pub(super) struct Measured {
    pub(super) rows: Vec<Row>,
    pub(super) summary: Summary,
    /// Why it did not get to its end.
    pub(super) failure: Option<String>,
}

/// Evaluates in this process; none if it was interrupted.
pub(super) async fn measure(
    spec: EvaluateSpec,
    machine: Machine,
    show: local::Show,
    interrupt: &Cancel,
) -> Result<Option<Measured>, CommandError> {
    let weights = Weights::of_process();
    let evaluate = Arc::new(Evaluate::new(Arc::<EngineModels>::default(), weights.clone()));
    let bits = bits(&spec, machine)?;
    let (asked, resolving) = (spec, Arc::clone(&evaluate));
    let resolved = off_thread(move || resolving.resolve(&asked, &bits)).await;
    let order = resolved.map_err(|e| CommandError::failed(e.to_string()))??;
    let open = |written: &String| Ok::<_, CommandError>(Store::at(&written.parse()?)?);
    let source = open(&order.source)?;
    let reference = order.reference.as_ref().map(open).transpose()?;
    let truths = reference.as_ref().unwrap_or(&source).clone();
    let images = Source::All(truths).require_images(&Selected::new(&order.selection)?).await;
    images.map_err(|e| no_images(e, order.reference.as_ref().unwrap_or(&order.source)))?;
    let (numbers, destination) = match &order.destination {
        Some(written) => {
            let store = open_to_write(written)?;
            store.check().await?;
            (store.clone(), Some(Arc::new(store)))
        }
        None => (Store::in_memory(), None),
    };
    let envelope = Arc::new(order.envelope(None, 1).map_err(CommandError::usage)?);
    let model = evaluate.model(&order, machine);
    let begun =
        EvaluateJob::new(&order, source.clone(), reference.clone(), numbers.clone(), UnitLimits::default())?;
    let reference = reference.map(Arc::new);
    let measured = MeasuredOrder::new(order, Arc::new(source), reference, destination, model, weights);
    let (runner, kind): (Arc<dyn Runner>, Arc<dyn Kind>) =
        (Arc::new(OpenedEvaluate(Arc::new(measured))), evaluate);
    let job = LocalJob {
        order: envelope,
        begun: Box::new(begun),
        kinds: Kinds::new([kind]),
        members: Members::one(Runners::new([runner])),
        forecast: None,
        journal: None,
    };
    let ended = local::run(job, show, interrupt).await?;
    if interrupt.is_cancelled() {
        return Ok(None);
    }
    if !ended.reported {
        return Err(CommandError::failed(ended.reason));
    }
    let is_whole = ended.phase == sr3_coordinator::core::view::Phase::Succeeded;
    Ok(Some(Measured {
        rows: rows(&numbers).await?,
        summary: summary(&ended.summary)?,
        failure: (!is_whole).then_some(ended.reason),
    }))
}

/// Those of the device that was asked for.
fn bits(spec: &EvaluateSpec, machine: Machine) -> Result<Bits, CommandError> {
    let (device, isa) = (machine.device.unwrap_or_default(), Isa::detect());
    let precision = match (device, spec.wish.dtype) {
        (Device::Cpu, dtype) => precision(dtype, isa),
        (_, Dtype::Bf16) => Precision::Bf16,
        _ => Precision::F32,
    };
    let class = device.class(precision).map_err(|e| CommandError::usage(e.to_string()))?;
    let dtype = if precision == Precision::Bf16 { Dtype::Bf16 } else { Dtype::F32 };
    Ok(Bits { dtype, class })
}

/// Submits the job and stays with it; an interruption cancels it.
fn by_cluster(arguments: &EvaluateArgs, mut spec: EvaluateSpec) -> Result<Ending, CommandError> {
    spec.wish = arguments.model.for_cluster()?;
    let Some(destination) = &spec.job.destination else {
        return Err(CommandError::usage(
            "a cluster writes its numbers to a place: name it with --out, a folder or a URL",
        ));
    };
    let destination = place(destination)?;
    spec.job.source = place(&spec.job.source)?;
    spec.job.reference = spec.job.reference.as_deref().map(place).transpose()?;
    spec.job.destination = Some(destination.clone());
    let client = arguments.call.client(client::addresses(&arguments.coordinator)?)?;
    block_on(async {
        let interrupt = Cancel::new();
        let said = Some("cancelling the job; once more to leave it to itself");
        tokio::spawn(signals::watch(interrupt.clone(), said));
        let show = if arguments.json { Show::Nothing } else { Show::Progress };
        let Some(measured) = measure_by(&client, spec, show, &interrupt).await? else {
            return Ok(Ending::Interrupted);
        };
        print(&measured.rows, &measured.summary, arguments.json);
        if !arguments.json {
            say!("rows: {}/{}", destination.trim_end_matches('/'), rows_key());
        }
        match measured.failure {
            None if measured.summary.set_aside == 0 => Ok(Ending::Done),
            None => Ok(Ending::WithQuarantined),
            Some(reason) => Err(CommandError::failed(reason)),
        }
    })
}

/// Evaluates by a cluster, whose places the spec names as it sees them; none if it was interrupted, and cancelled.
pub(super) async fn measure_by(
    client: &Client,
    spec: EvaluateSpec,
    show: Show,
    interrupt: &Cancel,
) -> Result<Option<Measured>, CommandError> {
    let destination = spec.job.destination.clone().unwrap_or_default();
    let spec = JobSpec::from(spec);
    spec.check().map_err(|e| CommandError::usage(e.to_string()))?;
    let (job, _) = client.submit(&spec.to_yaml(), &random_key()).await?;
    let id = JobId::new(job.id);
    if show == Show::Progress {
        tell!("job {id}");
    }
    let job = follow::follow(client, id, show, interrupt, OnInterrupt::Cancel).await?.unwrap_or(job);
    if interrupt.is_cancelled() {
        return Ok(None);
    }
    if !job.reported || job.summary.is_empty() {
        return Err(CommandError::failed(printable(&job.reason)));
    }
    // The cluster may write where this machine cannot read.
    let rows = match Store::open(&destination) {
        Ok(store) => rows(&store).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let is_whole = remote_job::state(&job) == "succeeded";
    Ok(Some(Measured {
        rows,
        summary: summary(&job.summary)?,
        failure: (!is_whole).then(|| printable(&job.reason)),
    }))
}

pub(super) fn open_to_write(written: &str) -> Result<Store, CommandError> {
    spec_file::make_folder(written)?;
    Ok(Store::at(&written.parse()?)?)
}

fn no_images(error: SourceError, place: &str) -> CommandError {
    match error {
        SourceError::Store(error) => error.into(),
        SourceError::NoImages { looked_for } => {
            CommandError::usage(format!("no images found in `{}`: {looked_for}", printable(place)))
        }
    }
}

async fn rows(numbers: &Store) -> Result<Vec<Row>, CommandError> {
    let (_, bytes) = numbers.get(&rows_key()).await?;
    read_rows(&bytes).map_err(|e| CommandError::failed(format!("the rows cannot be read again: {e}")))
}

fn summary(text: &str) -> Result<Summary, CommandError> {
    serde_json::from_str(text)
        .map_err(|e| CommandError::failed(format!("the {NAME} job's summary cannot be read: {e}")))
}

fn ending(rows: &[Row]) -> Ending {
    if rows.iter().any(|row| row.reason.is_some()) { Ending::WithQuarantined } else { Ending::Done }
}

fn print(rows: &[Row], summary: &Summary, json: bool) {
    if json {
        for row in rows {
            for Method { method, scores } in &row.methods {
                say!("{}", json!({ "picture": row.picture, "method": method, "scores": scores }));
            }
            if let Some(reason) = &row.reason {
                say!("{}", json!({ "picture": row.picture, "reason": reason }));
            }
        }
        for (method, numbers) in &summary.methods {
            let of = |what: fn(&Statistic) -> Option<f64>| {
                numbers.iter().map(|(name, n)| (name.clone(), json!(what(n)))).collect::<Map<String, Value>>()
            };
            say!(
                "{}",
                json!({ "picture": format!("mean of {}", summary.pictures), "method": method,
                    "scores": of(|n| n.mean), "ci95": of(|n| n.ci95), "set_aside": summary.set_aside,
                    "networks": summary.networks })
            );
        }
        return;
    }
    let asked =
        |number: &&Number| summary.methods.iter().any(|(_, numbers)| numbers.contains_key(number.name));
    // The spectrum of a single picture is for files.
    let (spectrum, columns): (Vec<&Number>, Vec<&Number>) =
        NUMBERS.iter().filter(asked).partition(|number| number.metric == Metric::Spectrum);
    if !columns.is_empty() {
        line("picture", "method", &columns, |number| number.title.to_string());
    }
    for row in rows {
        let picture = printable(&row.picture);
        for Method { method, scores } in row.methods.iter().filter(|_| !columns.is_empty()) {
            let numbers = scores.numbers();
            let value = |number: &Number| NUMBERS.iter().zip(numbers).find(|(of, _)| *of == number)?.1;
            line(&picture, method, &columns, |number| number.write(value(number)));
        }
        if let Some(reason) = &row.reason {
            say!("{picture:<24} set aside: {}", printable(reason));
        }
    }
    if !columns.is_empty() {
        means(summary, &format!("mean of {}", summary.pictures), &columns);
    }
    if !spectrum.is_empty() {
        line("detail, dB above truth", "method", &spectrum, |number| number.title.to_string());
        means(summary, &format!("mean of {}", summary.pictures), &spectrum);
    }
    for looker in &summary.networks {
        say!("{}: weights sha256:{}", printable(&looker.network), printable(&looker.weights));
    }
    if summary.set_aside > 0 {
        say!("{} set aside", summary.set_aside);
    }
}

/// Lines of the means of some numbers.
fn means(summary: &Summary, title: &str, columns: &[&Number]) {
    for (method, numbers) in &summary.methods {
        let of = |number: &Number| numbers.get(number.name).copied();
        line(title, method, columns, |number| number.write(of(number).and_then(|n| n.mean)));
        if summary.pictures > 1 {
            line("± (95 %)", method, columns, |number| number.write_half(of(number).and_then(|n| n.ci95)));
        }
    }
}

fn line(picture: &str, method: &str, columns: &[&Number], value: impl Fn(&Number) -> String) {
    let cell = |number: &&Number| format!(" {:>width$}", value(number), width = number.title.len().max(8));
    let cells: String = columns.iter().map(cell).collect();
    say!("{picture:<24} {method:<10}{cells}");
}

impl From<ResolveError> for CommandError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Model(error) => error.into(),
            ResolveError::Weights(error) => error.into(),
        }
    }
}
