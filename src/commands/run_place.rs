//! Where a training run lies: what commands that look at runs are given.

use sr3_jobs::train::NAME;
use sr3_proto::{JobId, words::printable};

use super::remote_args::RemoteArgs;
use crate::exit::CommandError;

/// The destination of a run, given that or the number of its job.
///
/// # Errors
/// The coordinator does not answer, does not know the job, or it is of another kind.
pub(super) async fn run_place(of: &str, remote: &RemoteArgs) -> Result<String, CommandError> {
    let Ok(id) = of.parse::<u64>() else { return Ok(of.to_string()) };
    let job = remote.client()?.job(JobId::new(id)).await?;
    if job.kind != NAME {
        let kind = printable(&job.kind);
        return Err(CommandError::usage(format!(
            "job {id} is of kind `{kind}`: only `{NAME}` has checkpoints and a curve"
        )));
    }
    let written = job.places.iter().find(|place| place.writes).map(|place| place.location.clone());
    written.ok_or_else(|| CommandError::failed(format!("job {id} names no destination")))
}
