//! `sr3 upscale SRC DST`.

use std::{sync::Arc, time::Instant};

use clap::Args;
use sr3_coordinator::{Kind, Kinds};
use sr3_engine::ops::{Isa, Precision};
use sr3_jobs::{
    Dtype, Selection, Writing,
    cut::UnitLimits,
    images::Selected,
    lazy::Lazy,
    upscale::{
        ItemRecord, Journal, Models, OpenModel, Opened, OpenedUpscale, Run, RunError, Upscale, UpscaleJob,
        UpscaleOrder, report,
    },
};
use sr3_proto::{Cancel, Store, StoreError, layout, off_thread};
use sr3_worker::{Runner, Runners};

use crate::{
    client::{
        local::{self, LocalJob, Members},
        places::{self, Destination, Places},
    },
    commands::{dry_run, model_args::ModelArgs, remote_args::CallArgs, upscale_remote},
    ended::Ended,
    exit::{self, CommandError, Ending},
    signals,
};

/// Arguments of `sr3 upscale`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = exit::HELP,
    allow_negative_numbers = true,
    override_usage = "sr3 upscale [OPTIONS] <SRC>... <DST>"
)]
pub struct UpscaleArgs {
    /// SRC: an image or several, a folder of images at any depth, or a prefix in a bucket (s3://bucket/photos, gs://…,
    /// az://…). DST: folder or prefix for the results, in the tree and under the names of their inputs; for a single image it
    /// may be a file: a name that ends in .png, .jpg, .webp or .tif.
    #[arg(value_name = "SRC>... <DST", required = true, num_args = 1..)]
    pub places: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Shared options.
    #[command(flatten)]
    pub writing: Writing,
    /// Compute everything again and replace what is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Shared options.
    #[command(flatten)]
    pub selection: Selection,
    /// Follow links that lead out of SRC: files and folders that they lead to are taken under the links' paths. Links into
    /// DST, or back to where they lie, are never followed.
    #[arg(long)]
    pub follow_links: bool,
    /// Fail when more images than this have to be set aside [default: no bound].
    #[arg(long, value_name = "N")]
    pub max_bad_items: Option<u64>,
    /// List what would be done, with sizes and the time that it would take here, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Let a cluster do it: its coordinators, such as http://10.0.0.1:7070. They and the workers must see SRC and DST
    /// under the same path or URL.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub call: CallArgs,
    /// Print one JSON object at the end, and no progress.
    #[arg(long)]
    pub json: bool,
    /// Print errors only.
    #[arg(long)]
    pub quiet: bool,
}

impl UpscaleArgs {
    /// The places of the inputs and that of the results, which comes last.
    ///
    /// # Errors
    /// One line, where there is only one place.
    pub fn places(&self) -> Result<(&[String], &str), CommandError> {
        match self.places.split_last() {
            Some((destination, sources)) if !sources.is_empty() => Ok((sources, destination)),
            _ => Err(CommandError::usage("the place for the results is missing: <DST>; see --help")),
        }
    }
}

/// Runs it.
pub fn run<M: Models>(arguments: &UpscaleArgs, models: &Arc<M>) -> Result<Ending, CommandError> {
    if !arguments.coordinator.is_empty() {
        return upscale_remote::run(arguments);
    }
    arguments.model.start_threads();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    runtime.block_on(upscale(arguments, models))
}

async fn upscale<M: Models>(arguments: &UpscaleArgs, models: &Arc<M>) -> Result<Ending, CommandError> {
    let begun = Instant::now();
    let (sources, written) = arguments.places()?;
    let mut places = places::resolve(sources, written, arguments.writing.format, arguments.overwrite)?;
    if arguments.follow_links {
        places = places.following_links(&sources[0])?;
    }
    let Places { source, source_name, destination } = places;
    let (wish, machine) = (&arguments.model.wish, arguments.model.machine()?);
    let (library, asked) = (Arc::clone(models), (wish.clone(), arguments.writing.clone(), machine));
    let opened = off_thread(move || library.open(&asked.0, &asked.1, &asked.2)).await;
    let OpenModel { processor, forecast, resolved, bits } =
        opened.map_err(|e| CommandError::failed(e.to_string()))??;
    if bits.dtype == Dtype::Bf16 && !Precision::is_native(Isa::detect()) && !arguments.quiet {
        tell!(
            "sr3: warning: this processor has no instructions for bf16, so it is slower than f32: leave --dtype out"
        );
    }
    let Selection { include, exclude, bytes_min, bytes_max } = arguments.selection.clone();
    let order = UpscaleOrder {
        source: source_name,
        destination: written.to_string(),
        model: wish.model.clone(),
        memory_bytes: resolved.memory_bytes,
        recipe: resolved.recipe(wish, &arguments.writing, bits),
        naming: destination.naming(),
        include,
        exclude,
        bytes_min,
        bytes_max,
        max_bad_items: arguments.max_bad_items,
        overwrite: arguments.overwrite,
    };
    source.store().check().await?;
    let selected = Selected::new(&arguments.selection)?;
    let images = source.require_images(&selected).await;
    images.map_err(|e| RunError::of_source(e, &order.source))?;
    if arguments.dry_run {
        let outputs = destination.existing()?;
        let plan = dry_run::Plan { source: &source, outputs: outputs.as_ref(), order: &order };
        return dry_run::run(plan, &*forecast, arguments.json).await;
    }
    let interrupt = Cancel::new();
    // Even the second leaves nothing to repair: no output is ever under its name before it is whole.
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    let (outputs, state) = destination.open()?;
    if let Destination::Bucket(_) = destination {
        outputs.check().await?;
        warn_of_a_single_writer(&outputs).await?;
    }
    let owner = format!("process {} {:016x}", std::process::id(), rand::random::<u64>());
    let run = Run::begin(state.clone(), &outputs, order.clone(), owner).await?;
    if matches!(destination, Destination::Folder(_)) && !run.is_locked() && !arguments.quiet {
        tell!(
            "sr3: warning: the file system of `{written}` has no locks: let nothing else write there while this runs"
        );
    }
    let journal = Arc::new(Journal::open(state.clone()).await?);
    let opened = Opened::new(
        order.clone(),
        Lazy::ready(processor),
        Arc::new(source.store().clone()),
        Arc::new(outputs.clone()),
        Arc::new(state.clone()),
        Some(Arc::clone(&journal)),
    );
    let runner: Arc<dyn Runner> = Arc::new(OpenedUpscale(Arc::new(opened)));
    let kind: Arc<dyn Kind> = Arc::new(Upscale::new(Arc::clone(models)));
    let job = LocalJob {
        order: Arc::new(order.envelope(None, 1)?),
        begun: Box::new(UpscaleJob::new(
            source,
            outputs,
            run,
            journal.found().clone(),
            UnitLimits::default(),
        )?),
        kinds: Kinds::new([kind]),
        members: Members::one(Runners::new([runner])),
        forecast: Some(forecast),
        journal: Some(journal),
    };
    let show = local::Show { json: arguments.json, quiet: arguments.quiet };
    let job = local::run(job, show, &interrupt).await?;
    let records = if job.reported { read_report(&state, &order.source).await? } else { Vec::new() };
    let report = (job.reported && destination.keeps_state())
        .then(|| format!("{}/{}", written.trim_end_matches('/'), layout::report_key()));
    let ended = Ended::here(&job, &records, &order, report, begun.elapsed());
    ended.print(arguments.json, arguments.quiet);
    Ok(ended.ending())
}

/// What the report says of the job of `source` that has just ended.
async fn read_report(state: &Store, source: &str) -> Result<Vec<ItemRecord>, CommandError> {
    let (_, bytes) = state.get(&layout::report_key()).await?;
    report::records_of(&bytes, source)
        .map_err(|e| CommandError::failed(format!("the report cannot be read again: {e}")))
}

/// Without conditional writes one run alone is safe, two at once are not: it goes on, but says so.
async fn warn_of_a_single_writer(outputs: &Store) -> Result<(), CommandError> {
    match outputs.probe_conditional_put().await {
        Err(StoreError::NotConditional { location, found }) => {
            tell!(
                "sr3: warning: `{location}` has no safe conditional writes ({found}): let nothing else write there \
                 while this runs"
            );
            Ok(())
        }
        other => Ok(other?),
    }
}
