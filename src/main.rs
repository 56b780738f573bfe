//! The `sr3` command.

use std::process::ExitCode;

use sr3::engine_models::EngineModels;

fn main() -> ExitCode {
    sr3::cli::main_with(&EngineModels, std::env::args_os()).into()
}
