//! `sr3 ledger`: a coordinator's state as a file, to move it or to keep a copy.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sr3_coordinator::ledger::{dump, open_ledger};
use tokio::{fs::File, io::BufReader};

use crate::exit::{CommandError, Ending};

/// What to do with a coordinator's state.
#[derive(Clone, Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write it into FILE as JSON lines. Takes the state over: a coordinator that runs on it ends, so stop it first.
    Export(StateArgs),
    /// Fill an empty one from FILE.
    Import(StateArgs),
}

/// Which state.
#[derive(Clone, Debug, Args)]
pub struct StateArgs {
    /// Where it lies: what the coordinator has as --state.
    #[arg(long, value_name = "URL")]
    pub state: String,
    /// The export.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Runs it.
pub fn run(command: &LedgerCommand) -> Result<Ending, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let named =
            |file: &PathBuf, e: std::io::Error| CommandError::usage(format!("`{}`: {e}", file.display()));
        let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
        let (LedgerCommand::Export(state) | LedgerCommand::Import(state)) = command;
        let (file, ledger) = match command {
            LedgerCommand::Export(_) => {
                (File::create_new(&state.file).await, open_ledger(&state.state).await)
            }
            LedgerCommand::Import(_) => (File::open(&state.file).await, open_ledger(&state.state).await),
        };
        let (file, ledger) = (file.map_err(|e| named(&state.file, e))?, ledger.map_err(|e| failed(&e))?);
        let rows = match command {
            LedgerCommand::Export(_) => dump::export(&*ledger, file).await,
            LedgerCommand::Import(_) => dump::import(&*ledger, BufReader::new(file)).await,
        };
        let closed = ledger.close().await;
        let rows = rows.map_err(|e| failed(&e))?;
        closed.map_err(|e| failed(&e))?;
        tell!("sr3: {rows} rows");
        Ok(Ending::Done)
    })
}
