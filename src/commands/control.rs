//! `sr3 cancel JOB`, `sr3 pause JOB`, `sr3 resume JOB`.

use clap::Args;
use sr3_proto::JobId;

use super::remote_args::{RemoteArgs, block_on, job_id};
use crate::{
    exit::{CommandError, Ending},
    remote_job,
    say::print,
};

/// Arguments of the commands that steer a job.
#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    /// Id of the job.
    #[arg(value_name = "JOB", value_parser = job_id)]
    pub job: JobId,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// What is done to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// End it; what is finished stays.
    Cancel,
    /// Begin nothing more of it.
    Pause,
    /// Let it go on.
    Resume,
}

/// Does it, and prints the state that the job is in then.
pub fn run(arguments: &ControlArgs, control: Control) -> Result<Ending, CommandError> {
    let client = arguments.remote.client()?;
    let id = arguments.job;
    block_on(async {
        let job = match control {
            Control::Cancel => client.cancel(id).await?,
            Control::Pause => client.pause(id).await?,
            Control::Resume => client.resume(id).await?,
        };
        print(&format!("job {id}: {}\n", remote_job::state(&job)));
        Ok(Ending::Done)
    })
}
