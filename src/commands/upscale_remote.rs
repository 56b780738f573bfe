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
    client, ended,
    exit::{CommandError, Ending},
    remote_job, signals,
};

/// Submits the job and stays with it; an interruption cancels it.
pub(super) fn run(arguments: &UpscaleArgs) -> Result<Ending, CommandError> {
    let spec = JobSpec::from(job(arguments)?);
    spec.check().map_err(|e| CommandError::usage(e.to_string()))?;
    let client = arguments.call.client(client::addresses(&arguments.coordinator)?)?;
    block_on(async {
        let interrupt = Cancel::new();
        let said = Some("cancelling the job; once more to leave it to itself");
        tokio::spawn(signals::watch(interrupt.clone(), said));
        let (job, _) = client.submit(&spec.to_yaml(), &random_key()).await?;
        let id = JobId::new(job.id);
        let people = !arguments.json && !arguments.quiet;
        if people {
            tell!("job {id}");
        }
        let show = if people { Show::Progress } else { Show::Nothing };
        let job = follow::follow(&client, id, show, &interrupt, OnInterrupt::Cancel).await?.unwrap_or(job);
        let ended = remote_job::ended(&job, ended::go_on(arguments.overwrite));
        ended.print(arguments.json, arguments.quiet);
        Ok(ended.ending())
    })
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
    if Path::new(source).is_file() {
        return Err(CommandError::usage(format!(
            "`{source}` is a file, and a cluster takes folders: name its folder and --include, or leave --coordinator out"
        )));
    }
    let mut spec = UpscaleSpec::new(place(source)?, place(destination)?);
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
        return Err(CommandError::usage("SRC and DST must not be empty"));
    }
    let absolute = std::path::absolute(written)
        .map_err(|e| CommandError::usage(format!("`{written}` cannot be made absolute ({e})")))?;
    absolute.into_os_string().into_string().map_err(|_| {
        CommandError::usage(format!("the path of `{written}` is not valid UTF-8: choose another place"))
    })
}
