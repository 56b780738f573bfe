//! The command line: which commands there are, and nothing of what they do.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{
    commands::{
        bench::{self, BenchCommand},
        convert::{self, ConvertArgs},
        evaluate::{self, EvaluateArgs},
        models::{self as models_command, ModelsCommand},
        upscale::{self, UpscaleArgs},
    },
    exit::{self, CommandError, Ending},
    models::Models,
};

/// Diffusion super-resolution (SR3) for one photograph or a whole folder.
#[derive(Debug, Parser)]
#[command(name = "sr3", version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Upscale an image, or every image of a folder.
    Upscale(UpscaleArgs),
    /// Reduce pictures, enlarge them again, and print PSNR, SSIM and consistency beside bicubic.
    Evaluate(EvaluateArgs),
    /// Import a generator checkpoint of the public SR3 implementation.
    Convert(ConvertArgs),
    /// Show models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// Parses `arguments` (the program's name first), runs the command with `models`, and returns its exit
/// code.
pub fn main_with<M: Models>(models: &M, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too. If they cannot be printed there is nobody to tell.
            let _ = error.print();
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    // A second initialisation, in tests, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("SR3_LOG").unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(std::io::stderr)
        .try_init();
    let ended: Result<Ending, CommandError> = match &cli.command {
        Command::Upscale(arguments) => upscale::run(arguments, models),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Models(command) => models_command::run(command),
        Command::Bench(command) => bench::run(command),
    };
    match ended {
        Ok(ending) => ending.code(),
        Err(error) => {
            eprintln!("sr3: {error}");
            error.code()
        }
    }
}
