//! The `sr3` command.

#![forbid(unsafe_code)]

use std::{process::ExitCode, sync::Arc};

use sr3::jobs::upscale::EngineModels;

fn main() -> ExitCode {
    sr3::cli::main_with(&Arc::<EngineModels>::default(), std::env::args_os()).into()
}
