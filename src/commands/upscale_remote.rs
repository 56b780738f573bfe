//! `sr3 upscale SRC DST --coordinator URL`: the same command, done by a cluster.

use std::path::Path;

use sr3_engine::model::bundled::Bundled;
use sr3_jobs::{JobSpec, upscale::UpscaleSpec};
use sr3_proto::{Cancel, JobId};

use super::{
    follow::{self, OnInterrupt, Show},
    remote_args::block_on,
    submit::random_key,
    upscale::UpscaleArgs,
};
use crate::{
    client::{self, remote::Client},
    ended,
    exit::{CommandError, Ending},
    remote_job, signals,
};

/// Submits the job and stays with it; an interruption cancels it.
pub(super) fn run(arguments: &UpscaleArgs) -> Result<Ending, CommandError> {
    let spec = JobSpec::from(job(arguments)?);
    let client = arguments.call.client(client::addresses(&arguments.coordinator)?)?;
    by_cluster(&client, &spec, arguments.overwrite, arguments.json, arguments.quiet)
}

/// The same for any job that makes pictures of pictures.
pub(super) fn by_cluster(
    client: &Client,
    spec: &JobSpec,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> Result<Ending, CommandError> {
    spec.check().map_err(|e| CommandError::usage(e.to_string()))?;
    block_on(async {
        let interrupt = Cancel::new();
        let said = Some("cancelling the job; once more to leave it to itself");
        tokio::spawn(signals::watch(interrupt.clone(), said));
        let (job, _) = client.submit(&spec.to_yaml(), &random_key()).await?;
        let id = JobId::new(job.id);
        let people = !json && !quiet;
        if people {
            tell!("job {id}");
        }
        let show = if people { Show::Progress } else { Show::Nothing };
        let job = follow::follow(client, id, show, &interrupt, OnInterrupt::Cancel).await?.unwrap_or(job);
        let ended = remote_job::ended(&job, ended::go_on(overwrite));
        ended.print(json, quiet);
        Ok(ended.ending())
    })
}

/// A place of which a cluster takes folders only.
pub(super) fn folder(written: &str, what: &str) -> Result<String, CommandError> {
    if Path::new(written).is_file() {
        return Err(CommandError::usage(format!(
            "`{written}` is a file, and a cluster takes folders as {what}: name its folder and --include, or leave \
             --coordinator out"
        )));
    }
    place(written)
}

fn job(arguments: &UpscaleArgs) -> Result<UpscaleSpec, CommandError> {
    let model = &arguments.model;
    let wish = model.for_cluster()?;
    if arguments.dry_run {
        return Err(CommandError::usage(
            "--dry-run plans for this machine: leave --coordinator out, or submit a job and `sr3 watch` it",
        ));
    }
    if arguments.follow_links {
        return Err(CommandError::usage(
            "--follow-links is for this machine alone: copy the files in, or leave --coordinator out",
        ));
    }
    let (sources, destination) = arguments.places()?;
    let [source] = sources else {
        return Err(CommandError::usage(format!(
            "{} places are named as SRC, and a cluster takes one folder: name it and --include, or leave --coordinator out",
            sources.len()
        )));
    };
    let mut spec = UpscaleSpec::new(folder(source, "SRC")?, place(destination)?);
    spec.wish = wish;
    if Bundled::find(&spec.wish.model).is_none() && Path::new(&spec.wish.model).is_dir() {
        spec.wish.model = place(&spec.wish.model)?;
    }
    spec.writing = arguments.writing.clone();
    spec.selection = arguments.selection.clone();
    spec.job.overwrite = arguments.overwrite;
    spec.job.max_bad_items = arguments.max_bad_items;
    Ok(spec)
}

/// A URL as it is; a path as one that means the same to the coordinator.
pub(super) fn place(written: &str) -> Result<String, CommandError> {
    if written.contains("://") {
        return Ok(written.to_string());
    }
    if written.is_empty() {
        return Err(CommandError::usage("places must not be empty"));
    }
    let absolute = std::path::absolute(written)
        .map_err(|e| CommandError::usage(format!("`{written}` cannot be made absolute ({e})")))?;
    absolute.into_os_string().into_string().map_err(|_| {
        CommandError::usage(format!("the path of `{written}` is not valid UTF-8: choose another place"))
    })
}
