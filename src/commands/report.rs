//! `sr3 report PLACE…`: what runs came to, as one page that needs nothing else.

use std::path::PathBuf;

use clap::Args;
use sr3_jobs::JobSpec;
use sr3_proto::{JobId, Store, words::printable};

use super::remote_args::{RemoteArgs, block_on};
use crate::{
    exit::{self, CommandError, Ending},
    report::{self, Place},
};

/// Arguments of `sr3 report`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::REMOTE_HELP)]
pub struct ReportArgs {
    /// Where runs have written (training runs, samples, evaluations, comparisons, results of `sr3 upscale` and `sr3 project`): folders or URLs; or
    /// jobs of a cluster, by their numbers.
    #[arg(value_name = "JOB|PLACE", required = true)]
    pub of: Vec<String>,
    /// Where the page goes.
    #[arg(long, short, default_value = "report.html")]
    pub out: PathBuf,
    /// For an evaluation: where lie the pictures that those measured should be, so that some are shown. Of a job it is known.
    #[arg(long, value_name = "PLACE")]
    pub truths: Option<String>,
    /// For an evaluation against a reference: where the pictures lie that were measured, so that some are shown. Of a job it is
    /// known.
    #[arg(long, value_name = "PLACE", requires = "truths")]
    pub results: Option<String>,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Runs it.
pub fn run(arguments: &ReportArgs) -> Result<Ending, CommandError> {
    let page = block_on(async {
        let mut places = Vec::new();
        for of in &arguments.of {
            places.push(place(of, arguments).await?);
        }
        report::page(&places).await
    })?;
    let out = printable(&arguments.out.display().to_string());
    let cannot = |e| CommandError::failed(format!("`{out}` cannot be written: {e}"));
    std::fs::write(&arguments.out, &page).map_err(cannot)?;
    tell!("sr3: {} KB in `{out}`", page.len().div_ceil(1000));
    Ok(Ending::Done)
}

/// A place, or that of a job.
async fn place(of: &str, arguments: &ReportArgs) -> Result<Place, CommandError> {
    let open = |written: &str| Ok::<_, CommandError>(Store::at(&written.parse()?)?);
    let named = |written: &Option<String>| written.as_deref().map(open).transpose();
    let (truths, results) = (named(&arguments.truths)?, named(&arguments.results)?);
    let Ok(id) = of.parse::<u64>() else {
        let store = open(of)?;
        store.check().await?;
        return Ok(Place { name: of.to_string(), store, spec: None, truths, results });
    };
    let job = arguments.remote.client()?.job(JobId::new(id)).await?;
    let written = job.places.iter().find(|place| place.writes).map(|place| place.location.clone());
    let Some(written) = written else {
        return Err(CommandError::failed(format!("job {id} names no destination")));
    };
    let store = open(&written)?;
    store.check().await?;
    // What cannot be opened from here is only not shown.
    let of_job = match JobSpec::parse(&job.spec) {
        Ok(JobSpec::Evaluate(spec)) => match spec.job.reference {
            Some(reference) => (open(&reference).ok(), open(&spec.job.source).ok()),
            None => (open(&spec.job.source).ok(), None),
        },
        _ => (None, None),
    };
    Ok(Place {
        name: format!("job {id}, {written}"),
        store,
        spec: Some(job.spec),
        truths: truths.or(of_job.0),
        results: results.or(of_job.1),
    })
}
