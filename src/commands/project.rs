//! `sr3 project LOW HIGH OUT`: what any upscaler has made, moved to the nearest pictures that reduce to its inputs.

use std::{sync::Arc, time::Instant};

use clap::Args;
use sr3_jobs::{
    JobSpec, Selection, Writing,
    images::Selected,
    lazy::Lazy,
    project::{Project, ProjectSpec, Projection},
    upscale::{Enlarged, RunError, UpscaleOrder},
};

use super::{
    pictures_here::{self, Here},
    remote_args::{CallArgs, block_on},
    upscale_remote::{by_cluster, folder, place},
};
use crate::{
    client::{
        self,
        places::{self, Places},
    },
    exit::{self, CommandError, Ending},
};

/// Arguments of `sr3 project`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct ProjectArgs {
    /// The small pictures: a folder, taken at any depth, a prefix in a bucket (s3://bucket/photos), or one picture.
    #[arg(value_name = "LOW")]
    pub low: String,
    /// What another upscaler has made of them, in the same tree and under the same names; an extension may be another one.
    #[arg(value_name = "HIGH")]
    pub high: String,
    /// Where the results go, in the tree and under the names of LOW; for a single picture it may be a file: a name that ends
    /// in .png, .jpg, .webp or .tif.
    #[arg(value_name = "OUT")]
    pub out: String,
    /// Shared options.
    #[command(flatten)]
    pub writing: Writing,
    /// Compute everything again and replace what is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Shared options.
    #[command(flatten)]
    pub selection: Selection,
    /// Fail when more pictures than this have to be set aside [default: no bound].
    #[arg(long, value_name = "N")]
    pub max_bad_items: Option<u64>,
    /// Let a cluster do it: its coordinators, such as http://10.0.0.1:7070. They and the workers must see all places under the
    /// same path or URL.
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

/// Runs it.
pub fn run(arguments: &ProjectArgs) -> Result<Ending, CommandError> {
    if arguments.coordinator.is_empty() {
        return block_on(here(arguments));
    }
    let (low, high) = (folder(&arguments.low, "LOW")?, folder(&arguments.high, "HIGH")?);
    let spec = JobSpec::from(spec(arguments, low, high, place(&arguments.out)?));
    let client = arguments.call.client(client::addresses(&arguments.coordinator)?)?;
    by_cluster(&client, &spec, arguments.overwrite, arguments.json, arguments.quiet)
}

fn spec(arguments: &ProjectArgs, low: String, high: String, out: String) -> ProjectSpec {
    let mut spec = ProjectSpec::new(low, high, out);
    spec.writing = arguments.writing.clone();
    spec.selection = arguments.selection.clone();
    spec.job.overwrite = arguments.overwrite;
    spec.job.max_bad_items = arguments.max_bad_items;
    spec
}

async fn here(arguments: &ProjectArgs) -> Result<Ending, CommandError> {
    let begun = Instant::now();
    let ProjectArgs { low, high, out, writing, .. } = arguments;
    let low_places = places::resolve(std::slice::from_ref(low), out, writing.format, arguments.overwrite)?;
    let (partners, high_name) = places::enlarged(&low_places, low, high, out, writing.format)?;
    let Places { source, source_name, destination } = low_places;
    let order = UpscaleOrder {
        naming: destination.naming(),
        enlarged: Some(Enlarged { place: high_name.clone(), naming: partners.naming.clone() }),
        ..spec(arguments, source_name, high_name, out.clone()).order()
    };
    source.store().check().await?;
    partners.store.check().await?;
    let selected = Selected::new(&arguments.selection)?;
    let images = source.require_images(&selected).await;
    images.map_err(|e| RunError::of_source(e, &order.source))?;
    pictures_here::run(Here {
        begun,
        source,
        enlarged: Some(partners),
        destination,
        written: out,
        order,
        processor: Lazy::ready(Projection::new(writing)),
        forecast: None,
        kind: Arc::new(Project),
        json: arguments.json,
        quiet: arguments.quiet,
    })
    .await
}
