//! `sr3 checkpoints JOB|PLACE`: what a run has written down, and where its models lie.

use clap::Args;
use serde_json::json;
use sr3_jobs::train::{CheckpointInfo, checkpoints};
use sr3_proto::{Store, words::printable};

use super::{
    remote_args::{RemoteArgs, block_on},
    run_place::run_place,
};
use crate::exit::{self, CommandError, Ending};

/// Arguments of `sr3 checkpoints`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::REMOTE_HELP)]
pub struct CheckpointsArgs {
    /// A training job of a cluster, by its number, or the destination of a run: a folder or a URL.
    #[arg(value_name = "JOB|PLACE")]
    pub of: String,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// One JSON object a checkpoint.
    #[arg(long)]
    pub json: bool,
}

/// Runs it.
pub fn run(arguments: &CheckpointsArgs) -> Result<Ending, CommandError> {
    block_on(async {
        let place = run_place(&arguments.of, &arguments.remote).await?;
        let store = Store::at(&place.parse()?)?;
        let found = checkpoints(&store).await?;
        if found.is_empty() && !arguments.json {
            tell!("sr3: `{}` has no checkpoint", printable(&place));
        }
        for info in &found {
            print(info, place.trim_end_matches('/'), arguments.json);
        }
        Ok(Ending::Done)
    })
}

fn print(info: &CheckpointInfo, place: &str, json: bool) {
    let models: Vec<String> = info.models().iter().map(|model| format!("{place}/{model}")).collect();
    let CheckpointInfo { step, samples, weights_sha256, validation_loss, .. } = info;
    if json {
        let object = json!({
            "step": step, "samples": samples, "weights_sha256": weights_sha256,
            "validation_loss": validation_loss, "models": models,
        });
        return say!("{object}");
    }
    let loss = validation_loss.map_or_else(String::new, |loss| format!(", validation loss {loss:.5}"));
    say!("step {step}, {samples} samples{loss}");
    say!("  weights sha256:{weights_sha256}");
    for model in models {
        say!("  {model}");
    }
}
