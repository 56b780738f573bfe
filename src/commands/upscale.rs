//! `sr3 upscale SRC DST`.

use std::{sync::Arc, time::Instant};

use clap::Args;
use sr3_engine::ops::{Isa, Precision};
use sr3_jobs::{
    Dtype, Selection, Writing,
    images::Selected,
    lazy::Lazy,
    upscale::{Models, OpenModel, RunError, Upscale, UpscaleOrder},
};
use sr3_proto::off_thread;

use crate::{
    client::places::{self, Places},
    commands::{
        dry_run,
        model_args::ModelArgs,
        pictures_here::{self, Here},
        remote_args::CallArgs,
        upscale_remote,
    },
    exit::{self, CommandError, Ending},
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
        enlarged: None,
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
    pictures_here::run(Here {
        begun,
        source,
        enlarged: None,
        destination,
        written,
        order,
        processor: Lazy::ready(processor),
        forecast: Some(forecast),
        kind: Arc::new(Upscale::new(Arc::clone(models))),
        json: arguments.json,
        quiet: arguments.quiet,
    })
    .await
}
