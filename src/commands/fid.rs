//! `sr3 fid A B`: how far a set of pictures lies from another, in this process or by a cluster.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, value_parser};
use sr3_coordinator::{Kind, Kinds, core::view::Phase};
use sr3_engine::{metrics::Picture, ops::Isa, vision::Inception};
use sr3_jobs::{
    JobSpec, Selection,
    compare::{
        Compare, CompareFields, CompareJob, CompareOrder, CompareSpec, Compared, ComparedOrder, Mode, NAME,
        Numbers, OpenedCompare, PlannedLooks, Role, SetNumbers,
    },
    models::{Cache, Weights, cache_bytes_max, cache_folder},
};
use sr3_proto::{
    Cancel, JobId, Key, Location, Store, StoreError, off_thread,
    words::{counted, printable},
};
use sr3_worker::{Runner, Runners};

use super::{
    evaluate::open_to_write,
    follow::{self, OnInterrupt, Show},
    model_args::start_threads,
    remote_args::{CallArgs, block_on},
    submit::random_key,
    upscale_remote::place,
};
use crate::{
    client::{
        self,
        local::{self, LocalJob, Members},
    },
    clock::clock,
    exit::{self, CommandError, Ending},
    remote_job, signals,
};

/// So many pictures that were left out are named.
const NAMED: usize = 10;

/// Arguments of `sr3 fid`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct FidArgs {
    /// What is compared.
    #[command(flatten)]
    pub job: CompareFields,
    /// Shared options.
    #[command(flatten)]
    pub selection: Selection,
    /// Write mean and covariance of A's features to this .npz, as pytorch-fid and others read it; B may be left out then.
    #[arg(long, value_name = "FILE")]
    pub save_stats: Option<PathBuf>,
    /// Let a cluster do it: its coordinators, such as http://10.0.0.1:7070. They and the workers must see all places under the
    /// same path or URL; --out says where features and numbers go.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub call: CallArgs,
    /// Only say how many pictures would be looked at, and how long this machine takes for them.
    #[arg(long, conflicts_with = "coordinator")]
    pub dry_run: bool,
    /// Pictures that are looked at together; changes speed and memory, never the result [default: 8].
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    pub batch: Option<u16>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// The numbers and all that decides them as one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn run(arguments: &FidArgs) -> Result<Ending, CommandError> {
    let mut spec = CompareSpec { job: arguments.job.clone(), selection: arguments.selection.clone() };
    spec.job.save_statistics = arguments.save_stats.is_some();
    if let Some((field, message)) = spec.contradiction() {
        let option = match field {
            "source" => "A".to_string(),
            "reference" => "B".to_string(),
            "destination" => "--out".to_string(),
            other => format!("--{}", other.replace('_', "-")),
        };
        return Err(CommandError::usage(format!("{option}: {message}")));
    }
    if !arguments.coordinator.is_empty() {
        return by_cluster(arguments, spec);
    }
    start_threads(arguments.threads);
    block_on(here(arguments, spec))
}

async fn here(arguments: &FidArgs, spec: CompareSpec) -> Result<Ending, CommandError> {
    let weights = Weights::of_process();
    let kind = Arc::new(Compare::new(weights.clone()));
    let resolving = Arc::clone(&kind);
    let resolved = off_thread(move || resolving.resolve(&spec)).await;
    let order = resolved.map_err(|e| CommandError::failed(e.to_string()))??;
    let stores = open(&order)?;
    let (features, kept) = features()?;
    let written = order.destination.as_deref().filter(|_| !arguments.dry_run);
    let numbers = written.map(open_to_write).transpose()?;
    if let Some(numbers) = &numbers {
        numbers.check().await?;
    }
    let begun = CompareJob::new(&order, &stores, features.clone(), numbers).map_err(CommandError::usage)?;
    if arguments.dry_run {
        let planned = begun.forecast().await.map_err(|e| CommandError::failed(e.to_string()))?;
        return off_thread(move || forecast(&planned, order.mode))
            .await
            .map_err(|e| CommandError::failed(e.to_string()))?;
    }
    let interrupt = Cancel::new();
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    let envelope = Arc::new(order.envelope(None, 1).map_err(CommandError::usage)?);
    let stores = stores.into_iter().map(Arc::new).collect();
    let mut compared = ComparedOrder::new(order, stores, Arc::new(features.clone()), weights);
    if let Some(batch) = arguments.batch {
        compared = compared.with_batch(batch.into());
    }
    let runner: Arc<dyn Runner> = Arc::new(OpenedCompare(Arc::new(compared)));
    let kind: Arc<dyn Kind> = kind;
    let job = LocalJob {
        order: envelope,
        begun: Box::new(begun),
        kinds: Kinds::new([kind]),
        members: Members::one(Runners::new([runner])),
        forecast: None,
        journal: None,
    };
    let show = local::Show { json: arguments.json, quiet: false };
    let ended = local::run(job, show, &interrupt).await?;
    if interrupt.is_cancelled() {
        return Ok(Ending::Interrupted);
    }
    if ended.phase != Phase::Succeeded || ended.summary.is_empty() {
        return Err(CommandError::failed(ended.reason));
    }
    let compared = read(&ended.summary)?;
    save(arguments, &compared, &features).await?;
    if let Some(cache) = kept {
        cache.make_room();
    }
    Ok(print(&compared, arguments.json))
}

/// Prints what would be looked at, and looks at some noise to tell how long that takes.
fn forecast(planned: &[PlannedLooks], mode: Mode) -> Result<Ending, CommandError> {
    let mut images = 0;
    for set in planned {
        images += set.images;
        let place = printable(&set.place);
        match set.is_known {
            true => say!("{place}: nothing to look at, its features or statistics are there"),
            false => say!("{place}: {} in {}", counted(set.images, "picture"), counted(set.units, "unit")),
        }
    }
    if images > 0 {
        let second = images_a_second(mode)?;
        let time = clock(Duration::from_secs_f64(images as f64 / second));
        say!("{second:.1} pictures/s by one worker like this machine ({}): {time}", Isa::detect());
    }
    Ok(Ending::Done)
}

/// Of a network with drawn weights: what it says does not change its speed.
fn images_a_second(mode: Mode) -> Result<f64, CommandError> {
    const SIDE: usize = 128;
    const COUNT: usize = 8;
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
    let mut network = Inception::seeded(1, Isa::detect()).map_err(|e| failed(&e))?;
    let bytes: Vec<u8> = (0..COUNT * SIDE * SIDE * 3).map(|i| (i * 31 % 251) as u8).collect();
    let pictures = bytes.chunks_exact(SIDE * SIDE * 3).map(|rgb| Picture::new(SIDE, SIDE, rgb));
    let pictures: Vec<Picture<'_>> = pictures.collect::<Result<_, _>>().map_err(|e| failed(&e))?;
    let mut seconds = 0.0;
    // The first call takes memory; the last counts.
    for _ in 0..3 {
        let begun = Instant::now();
        network.features(&pictures, mode.0).map_err(|e| failed(&e))?;
        seconds = begun.elapsed().as_secs_f64();
    }
    Ok(COUNT as f64 / seconds)
}

/// Of the order's sets, each once.
fn open(order: &CompareOrder) -> Result<Vec<Store>, CommandError> {
    let locations: Vec<Location> = order.locations().map_err(CommandError::usage)?;
    Ok(locations.iter().map(Store::at).collect::<Result<_, _>>()?)
}

/// Where features go: into this user's cache, of which the oldest are removed after a run; into memory where there is none.
fn features() -> Result<(Store, Option<Cache>), CommandError> {
    let Some(root) = cache_folder() else { return Ok((Store::in_memory(), None)) };
    let folder = root.join("features");
    fs::create_dir_all(&folder).map_err(|e| StoreError::at(&folder, e))?;
    let cache = Cache::new(folder.join("features"), cache_bytes_max());
    Ok((Store::at(&Location::folder(folder))?, Some(cache)))
}

/// Copies the source's statistics to where they were asked for.
async fn save(arguments: &FidArgs, compared: &Compared, features: &Store) -> Result<(), CommandError> {
    let (Some(path), Some(name)) = (&arguments.save_stats, &compared.statistics) else { return Ok(()) };
    let key = Key::new(name.clone()).map_err(|e| CommandError::failed(e.to_string()))?;
    let (_, bytes) = features.get(&key).await?;
    let shown = printable(&path.display().to_string());
    fs::write(path, bytes).map_err(|e| CommandError::failed(format!("`{shown}` cannot be written: {e}")))?;
    Ok(features.delete(&key).await?)
}

/// Submits the job and stays with it; an interruption cancels it.
fn by_cluster(arguments: &FidArgs, mut spec: CompareSpec) -> Result<Ending, CommandError> {
    if arguments.batch.is_some() || arguments.threads.is_some() {
        return Err(CommandError::usage(
            "--batch and --threads are the workers' own settings: leave them out with --coordinator",
        ));
    }
    let Some(destination) = &spec.job.destination else {
        return Err(CommandError::usage(
            "a cluster keeps features and numbers at a place: name it with --out, a folder or a URL",
        ));
    };
    let destination = place(destination)?;
    spec.job.source = place(&spec.job.source)?;
    spec.job.reference = spec.job.reference.as_deref().map(place).transpose()?;
    spec.job.held_out = spec.job.held_out.as_deref().map(place).transpose()?;
    spec.job.destination = Some(destination.clone());
    let spec = JobSpec::from(spec);
    spec.check().map_err(|e| CommandError::usage(e.to_string()))?;
    let client = arguments.call.client(client::addresses(&arguments.coordinator)?)?;
    block_on(async {
        let interrupt = Cancel::new();
        let said = Some("cancelling the job; once more to leave it to itself");
        tokio::spawn(signals::watch(interrupt.clone(), said));
        let (job, _) = client.submit(&spec.to_yaml(), &random_key()).await?;
        let id = JobId::new(job.id);
        if !arguments.json {
            tell!("job {id}");
        }
        let show = if arguments.json { Show::Nothing } else { Show::Progress };
        let job = follow::follow(&client, id, show, &interrupt, OnInterrupt::Cancel).await?.unwrap_or(job);
        if interrupt.is_cancelled() {
            return Ok(Ending::Interrupted);
        }
        if remote_job::state(&job) != "succeeded" || job.summary.is_empty() {
            return Err(CommandError::failed(printable(&job.reason)));
        }
        let compared = read(&job.summary)?;
        if arguments.save_stats.is_some() {
            save(arguments, &compared, &Store::open(&destination)?).await?;
        }
        Ok(print(&compared, arguments.json))
    })
}

fn read(summary: &str) -> Result<Compared, CommandError> {
    serde_json::from_str(summary)
        .map_err(|e| CommandError::failed(format!("the {NAME} job's numbers cannot be read: {e}")))
}

/// What came of a job on a cluster, for who watched it.
pub(super) fn tell_of(summary: &str) {
    if let Ok(compared) = serde_json::from_str(summary) {
        print(&compared, false);
    }
}

fn print(compared: &Compared, json: bool) -> Ending {
    if json {
        say!("{}", serde_json::json!(compared));
        return ending(compared);
    }
    for set in &compared.sets {
        say!("{}", about(set));
    }
    say!("{} ({}), {} {:.12}", compared.mode, compared.resize, compared.network, compared.weights);
    for (name, value) in lines(&compared.numbers) {
        say!("{name:<17} {value}");
    }
    for note in &compared.notes {
        tell!("sr3: {note}");
    }
    ending(compared)
}

fn ending(compared: &Compared) -> Ending {
    match compared.sets.iter().any(|set| set.left_out > 0) {
        true => Ending::WithQuarantined,
        false => Ending::Done,
    }
}

fn about(set: &SetNumbers) -> String {
    let role = match set.role {
        Role::Source => "A",
        Role::Reference => "B",
        Role::HeldOut => "held out",
    };
    let mut text = format!("{role}: {}", printable(&set.place));
    match set.images {
        Some(images) => text += &format!(", {}", counted(images, "image")),
        None => text += ", statistics of images that they do not count",
    }
    if set.only_statistics && set.images.is_some() {
        text += ", by their statistics";
    }
    if set.left_out > 0 {
        text += &format!(", {} left out", set.left_out);
    }
    if let Some(sha256) = &set.sha256 {
        text += &format!(", sha256 {}", sha256.short());
    }
    for (name, reason) in set.left_out_first.iter().take(NAMED) {
        text += &format!("\n  left out: {}: {}", printable(name), printable(reason));
    }
    text
}

/// Names and numbers, in order.
pub(crate) fn lines(numbers: &Numbers) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    // No number is minus nothing.
    let number = |value: f64| format!("{:.6}", if value.abs() < 5e-7 { 0.0 } else { value });
    let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    add("fid", numbers.fid.map(number));
    add("sfid", numbers.sfid.map(number));
    add(
        "kid",
        numbers.kid.map(|kid| {
            format!(
                "{} ± {} ({} subsets of {})",
                number(kid.mean),
                number(kid.deviation),
                kid.subsets,
                kid.size
            )
        }),
    );
    add("mind", numbers.mind.map(number));
    add("precision", numbers.precision.map(number));
    add("recall", numbers.recall.map(number));
    add(
        "inception score",
        numbers.inception_score.map(|score| {
            format!("{} ± {} ({} splits)", number(score.mean), number(score.deviation), score.splits)
        }),
    );
    add(
        "memorisation",
        numbers.memorisation.map(|found| {
            format!(
                "{} (0.5: nothing is copied); median distance to the nearest of B: A {}, held out {}",
                number(found.nearer),
                number(found.source),
                number(found.held_out)
            )
        }),
    );
    lines
}

/// One line about a spec that can be used.
pub(super) fn summary(spec: &CompareSpec) -> String {
    let (source, mode) = (&spec.job.source, spec.job.mode);
    let metrics: Vec<String> = spec.metrics().iter().map(ToString::to_string).collect();
    match &spec.job.reference {
        Some(reference) => format!("compare {source} with {reference}: {} as {mode}", metrics.join(", ")),
        None => format!("compare {source} with nothing: its statistics as {mode}"),
    }
}
