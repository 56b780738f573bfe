//! `sr3 upscale SRC DST`.

use std::{sync::Arc, time::Instant};

use clap::{Args, value_parser};
use sr3_coordinator::{JobState, core::Place, report};
use sr3_engine::ops::{Isa, Precision};
use sr3_proto::{
    Cancel, Colour, Dtype, FormatChoice, ItemRecord, RecipeSpec, Store, StoreError, UpscaleSpec, layout,
};

use sr3_worker::Journal;

use crate::{
    client::{
        local,
        places::{self, Destination, Places},
    },
    commands::{dry_run, model_args::ModelArgs, remote_args::PatienceArgs, upscale_remote},
    ended::Ended,
    exit::{self, CommandError, Ending},
    models::{Models, OpenModel},
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
    /// Output format: auto (the input's, PNG for formats that are only read), png, jpeg, webp or tiff.
    #[arg(long, default_value = "auto")]
    pub format: FormatChoice,
    /// What lies under transparent pixels of a JPEG, which knows none: white, black or #rrggbb [default: such pictures are
    /// set aside].
    #[arg(long, value_name = "COLOUR")]
    pub background: Option<Colour>,
    /// Quality of JPEG, 1 to 100; other formats are written without loss.
    #[arg(long, default_value_t = 95, value_parser = value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Compute everything again and replace what is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Take only paths that match this glob, relative to SRC; `*` also matches `/`, and an extension counts in any case:
    /// '*.jpg' takes .JPG. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out paths that match this glob, as --include reads it. May be repeated.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
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
    pub patience: PatienceArgs,
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
pub fn run<M: Models>(arguments: &UpscaleArgs, models: &M) -> Result<Ending, CommandError> {
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

async fn upscale<M: Models>(arguments: &UpscaleArgs, models: &M) -> Result<Ending, CommandError> {
    let begun = Instant::now();
    let (sources, written) = arguments.places()?;
    let mut places = places::resolve(sources, written, arguments.format, arguments.overwrite)?;
    if arguments.follow_links {
        places = places.following_links(&sources[0])?;
    }
    let Places { source, source_name, destination } = places;
    let OpenModel { processor, forecast, name, digest, preset, sampling, scale, dtype } =
        models.open(&arguments.model.request(arguments.quality, arguments.background))?;
    let spec = UpscaleSpec {
        source: source_name,
        destination: written.to_string(),
        model: arguments.model.model.clone(),
        recipe: RecipeSpec {
            model: digest,
            model_name: name,
            preset,
            sampler: arguments.model.sampler.clone(),
            steps: arguments.model.steps,
            sampling,
            seed: arguments.model.seed,
            scale,
            format: arguments.format,
            quality: arguments.quality,
            background: arguments.background,
            tile: arguments.model.tile,
            projection: !arguments.model.no_projection,
            dtype,
        },
        naming: destination.naming(),
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: arguments.max_bad_items,
        overwrite: arguments.overwrite,
    };
    if dtype == Dtype::Bf16 && !Precision::is_native(Isa::detect()) && !arguments.quiet {
        eprintln!(
            "sr3: warning: this processor has no instructions for bf16, so it is slower than f32: leave --dtype out"
        );
    }
    source.store().check().await?;
    source.require_images(&spec).await?;
    if arguments.dry_run {
        let outputs = destination.existing()?;
        let plan = dry_run::Plan { source: &source, outputs: outputs.as_ref(), spec: &spec };
        return dry_run::run(plan, &*forecast, arguments.json).await;
    }
    let interrupt = Cancel::new();
    // Even the second leaves nothing to repair: no output is ever under its name before it is whole.
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    let (outputs, state_store) = destination.open()?;
    if let Destination::Bucket(_) = destination {
        outputs.check().await?;
        warn_of_a_single_writer(&outputs).await?;
    }
    let owner = format!("process {} {:016x}", std::process::id(), rand::random::<u64>());
    let state = JobState::begin(state_store.clone(), &outputs, spec.clone(), owner).await?;
    if matches!(destination, Destination::Folder(_)) && !state.is_locked() && !arguments.quiet {
        eprintln!(
            "sr3: warning: the file system of `{written}` has no locks: let nothing else write there while this runs"
        );
    }
    let journal = Arc::new(Journal::open(state_store.clone()).await?);
    let place = Place { source, outputs, state, suspects: journal.found().clone() };
    let apart = (!destination.keeps_state()).then(|| state_store.clone());
    let show = local::Show { json: arguments.json, quiet: arguments.quiet };
    let job = local::run(place, apart, processor, show, forecast, journal, &interrupt).await?;
    let records = if job.reported { read_report(&state_store, &spec.source).await? } else { Vec::new() };
    let report = (job.reported && destination.keeps_state())
        .then(|| format!("{}/{}", written.trim_end_matches('/'), layout::report_key()));
    let ended = Ended::here(&job, &records, &spec, report, begun.elapsed());
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
            eprintln!(
                "sr3: warning: `{location}` has no safe conditional writes ({found}): let nothing else write there \
                 while this runs"
            );
            Ok(())
        }
        other => Ok(other?),
    }
}
