//! `sr3 jobs`, `sr3 status JOB`, `sr3 watch JOB`: looking at jobs.

use clap::{Args, value_parser};
use sr3_proto::{JobId, wire::v1::Job, words::printable};

use super::{
    follow,
    remote_args::{RemoteArgs, block_on, job_id},
    table::table,
};
use crate::{
    clock::{age, since},
    exit::{self, CommandError, Ending},
    remote_job,
    say::print,
};

/// Arguments of `sr3 jobs`.
#[derive(Clone, Debug, Args)]
pub struct JobsArgs {
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pub limit: u32,
    /// A line of JSON per job.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sr3 status` and `sr3 watch`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::REMOTE_HELP)]
pub struct JobArgs {
    /// Id of the job.
    #[arg(value_name = "JOB", value_parser = job_id)]
    pub job: JobId,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// As JSON, a line per state.
    #[arg(long)]
    pub json: bool,
}

/// Lists jobs, newest first.
pub fn list(arguments: &JobsArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let jobs = client.jobs(arguments.limit).await?;
        if arguments.json {
            let lines: String = jobs.iter().map(|job| format!("{}\n", remote_job::json(job))).collect();
            print(&lines);
        } else {
            let rows: Vec<_> = jobs.iter().map(row).collect();
            print(&table(["JOB", "STATE", "NAME", "IMAGES", "SET ASIDE", "AGE", "MODEL"], &rows));
        }
        Ok(Ending::Done)
    })
}

fn row(job: &Job) -> [String; 7] {
    let counts = remote_job::counts(job);
    let more = if job.planning_done { "" } else { "+" };
    [
        JobId::new(job.id).to_string(),
        remote_job::state(job).to_string(),
        printable(&job.name),
        format!("{}/{}{more}", counts.done + counts.skipped, counts.planned),
        counts.quarantined.to_string(),
        age(since(job.submitted_ms)),
        printable(remote_job::model(job).0),
    ]
}

/// Shows a job.
pub fn status(arguments: &JobArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let job = client.job(arguments.job).await?;
        if arguments.json {
            print(&format!("{}\n", remote_job::json(&job)));
        } else {
            print(&remote_job::text(&job));
        }
        Ok(Ending::Done)
    })
}

/// Stays with a job until it has ended.
pub fn watch(arguments: &JobArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(follow::watch(&client, arguments.job, arguments.json))
}
