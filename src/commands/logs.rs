//! `sr3 logs JOB`: what happened to a job.

use clap::Args;
use serde_json::json;
use sr3_proto::{JobId, words::printable};

use super::remote_args::{RemoteArgs, block_on, job_id};
use crate::{
    clock::{age, since},
    exit::{CommandError, Ending},
    say::print,
};

/// Arguments of `sr3 logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArgs {
    /// Id of the job.
    #[arg(value_name = "JOB", value_parser = job_id)]
    pub job: JobId,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Go on until the job has ended.
    #[arg(long, short)]
    pub follow: bool,
    /// A line of JSON per event.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn run(arguments: &LogsArgs) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    block_on(async {
        let mut logs = client.logs(arguments.job, arguments.follow);
        while let Some(event) = logs.next().await? {
            print(&if arguments.json {
                let (sequence, at_ms, text) = (event.sequence, event.at_ms, event.text);
                format!("{}\n", json!({ "sequence": sequence, "at_ms": at_ms, "text": text }))
            } else {
                format!("{:>5} ago  {}\n", age(since(event.at_ms)), printable(&event.text))
            });
        }
        Ok(Ending::Done)
    })
}
