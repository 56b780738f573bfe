//! The command line: which commands there are, and nothing of what they do.

use std::{ffi::OsString, path::Path, sync::Arc};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use sr3_jobs::upscale::Models;
use sr3_proto::words::printable;

use crate::{
    commands::{
        bench::{self, BenchCommand},
        certs::{self, CertsCommand},
        checkpoints::{self, CheckpointsArgs},
        control::{self, Control, ControlArgs},
        convert::{self, ConvertArgs},
        coordinator::{self, CoordinatorArgs},
        devices::{self, DevicesArgs},
        evaluate::{self, EvaluateArgs},
        fid::{self, FidArgs},
        generate::{self, GenerateArgs},
        health::{self, HealthArgs},
        jobs::{self, JobArgs, JobsArgs},
        ledger::{self, LedgerCommand},
        logs::{self, LogsArgs},
        models::{self as models_command, ModelsCommand},
        pack::{self, PackArgs},
        plot::{self, PlotArgs},
        project::{self, ProjectArgs},
        report::{self, ReportArgs},
        shell::{self, CompletionsArgs, ManArgs},
        spec::{self, SpecCommand},
        submit::{self, SubmitArgs},
        tokens::{self, TokensCommand},
        train::{self, TrainArgs},
        tune::{self, TuneArgs},
        upscale::{self, UpscaleArgs},
        weights::{self, WeightsCommand},
        worker::{self, WorkerArgs},
        workers::{self, DrainArgs, WorkersArgs},
    },
    exit::{self, CommandError, Ending},
    log::{self, LogFormat},
    say,
};

/// Diffusion super-resolution (SR3) for one photograph or a whole folder.
#[derive(Debug, Parser)]
#[command(name = "sr3", version, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// What standard error is written as: text, or json, an object a line [env: SR3_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    log: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Upscale an image, or every image of a folder.
    Upscale(UpscaleArgs),
    /// Give a cluster a job, and print its id.
    Submit(SubmitArgs),
    /// List a cluster's jobs.
    Jobs(JobsArgs),
    /// Show a job.
    Status(JobArgs),
    /// Show a job's progress until it has ended.
    Watch(JobArgs),
    /// Show what happened to a job.
    Logs(LogsArgs),
    /// End a job; what is finished stays.
    Cancel(ControlArgs),
    /// Begin nothing more of a job.
    Pause(ControlArgs),
    /// Let a paused job go on.
    Resume(ControlArgs),
    /// List a cluster's workers.
    Workers(WorkersArgs),
    /// Let a worker finish what it has, and leave.
    Drain(DrainArgs),
    /// Ask a coordinator whether it serves, or at least lives.
    Health(HealthArgs),
    /// Reduce pictures, enlarge them again, and print PSNR, SSIM and consistency beside bicubic.
    Evaluate(EvaluateArgs),
    /// Print how far a set of pictures lies from another: FID, KID, MIND and others.
    Fid(FidArgs),
    /// Make what any upscaler has enlarged reduce to its inputs again: no colour shift, nothing made up that the inputs deny.
    Project(ProjectArgs),
    /// Train a network from a job spec, in this process.
    Train(TrainArgs),
    /// Make samples from a job spec, in this process: out of noise, through the stages of a cascade.
    Generate(GenerateArgs),
    /// Search how a checkpoint is best sampled, on pictures that it has not learned from.
    Tune(TuneArgs),
    /// List what a training run has written down.
    Checkpoints(CheckpointsArgs),
    /// Put generated samples into one file: .npz or .tar.
    Pack(PackArgs),
    /// Draw the curve of a training run, or of several in one picture.
    Plot(PlotArgs),
    /// Write what runs came to as one page of HTML that needs nothing else.
    Report(ReportArgs),
    /// Import a generator checkpoint of the public SR3 implementation.
    Convert(ConvertArgs),
    /// Run a coordinator: it spreads jobs over workers and keeps their state.
    Coordinator(CoordinatorArgs),
    /// Copy a coordinator's state to a file, and back.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Run a worker: it takes units from a coordinator and computes them on this machine.
    Worker(WorkerArgs),
    /// Make certificates for the parts of a cluster.
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Make, list and revoke the tokens by which people and programs call a cluster.
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// List what this machine computes on, and compare it with the CPU.
    Devices(DevicesArgs),
    /// Show models.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Import and list the weights that distances between sets of pictures are computed with.
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Describe and check job specs.
    #[command(subcommand)]
    Spec(SpecCommand),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print what makes a shell complete this command.
    Completions(CompletionsArgs),
    /// Write the manual pages.
    #[command(hide = true)]
    Man(ManArgs),
}

/// Parses `arguments` (the program's name first), runs the command with `models`, and returns its exit
/// code.
pub fn main_with<M: Models>(models: &Arc<M>, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Err(refusal) = as_text(&arguments) {
        tell!("sr3: {refusal}");
        return 2;
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            tell!("sr3: {}", complaint(&error, &arguments));
            return 2;
        }
        Err(help) => {
            if let Err(error) = help.print() {
                say::keep(error);
            }
            return told(0);
        }
    };
    let ended = log::start(cli.log).and_then(|()| run(&cli.command, models));
    told(match ended {
        Ok(ending) => ending.code(),
        Err(error) => {
            tell!("sr3: {error}");
            error.code()
        }
    })
}

fn run<M: Models>(command: &Command, models: &Arc<M>) -> Result<Ending, CommandError> {
    match command {
        Command::Upscale(arguments) => upscale::run(arguments, models),
        Command::Submit(arguments) => submit::run(arguments),
        Command::Jobs(arguments) => jobs::list(arguments),
        Command::Status(arguments) => jobs::status(arguments),
        Command::Watch(arguments) => jobs::watch(arguments),
        Command::Logs(arguments) => logs::run(arguments),
        Command::Cancel(arguments) => control::run(arguments, Control::Cancel),
        Command::Pause(arguments) => control::run(arguments, Control::Pause),
        Command::Resume(arguments) => control::run(arguments, Control::Resume),
        Command::Workers(arguments) => workers::list(arguments),
        Command::Drain(arguments) => workers::drain(arguments),
        Command::Health(arguments) => health::run(arguments),
        Command::Evaluate(arguments) => evaluate::run(arguments),
        Command::Fid(arguments) => fid::run(arguments),
        Command::Project(arguments) => project::run(arguments),
        Command::Train(arguments) => train::run(arguments),
        Command::Generate(arguments) => generate::run(arguments),
        Command::Tune(arguments) => tune::run(arguments),
        Command::Checkpoints(arguments) => checkpoints::run(arguments),
        Command::Pack(arguments) => pack::run(arguments),
        Command::Plot(arguments) => plot::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Convert(arguments) => convert::run(arguments),
        Command::Ledger(command) => ledger::run(command),
        Command::Worker(arguments) => worker::run(arguments),
        Command::Coordinator(arguments) => coordinator::run(arguments),
        Command::Certs(command) => certs::run(command),
        Command::Tokens(command) => tokens::run(command),
        Command::Devices(arguments) => devices::run(arguments),
        Command::Models(command) => models_command::run(command),
        Command::Weights(command) => weights::run(command),
        Command::Spec(command) => spec::run(command),
        Command::Bench(command) => bench::run(command),
        Command::Completions(arguments) => shell::completions(arguments, Cli::command()),
        Command::Man(arguments) => shell::man(arguments, Cli::command()),
    }
}

/// The exit code of a command that ended with `code`, unless what it had to say did not arrive.
fn told(code: u8) -> u8 {
    match say::failure() {
        None => code,
        Some(failure) => {
            tell!("sr3: {failure}");
            CommandError::failed(failure).code()
        }
    }
}

/// Names the argument that is no text: the parser would not say which.
fn as_text(arguments: &[OsString]) -> Result<(), String> {
    match arguments.iter().skip(1).find(|argument| argument.to_str().is_none()) {
        Some(odd) => Err(format!(
            "the argument `{}` is not valid UTF-8: rename what it names, or name its folder",
            printable(&odd.to_string_lossy())
        )),
        None => Ok(()),
    }
}

/// What is wrong with the arguments, on one line that says what to do.
fn complaint(error: &clap::Error, arguments: &[OsString]) -> String {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(first) = arguments.get(1).and_then(|first| first.to_str())
        && (first.contains(['.', '/', '\\']) || Path::new(first).exists())
    {
        let rest = arguments[1..].iter().map(|argument| argument.to_string_lossy());
        let call = printable(&rest.collect::<Vec<_>>().join(" "));
        return format!("`{}` is no command; to enlarge it: sr3 upscale {call}", printable(first));
    }
    format!("{}; see --help", one_line(&error.to_string()))
}

/// The parser's complaint without its heading and its usage text.
fn one_line(complaint: &str) -> String {
    let end = ["\n\nUsage:", "\n\nFor more information"].iter().filter_map(|mark| complaint.find(mark)).min();
    let text = complaint[..end.unwrap_or(complaint.len())].trim_start_matches("error: ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_arguments_is_one_line() {
        for (arguments, part) in [
            (vec!["sr3", "upscale", "a", "b", "--steps", "0"], "'0' for '--steps"),
            (vec!["sr3", "upscale"], "<SRC>... <DST>"),
            (vec!["sr3", "upscale", "a", "b", "--sede", "1"], "--seed"),
        ] {
            let complaint = one_line(&Cli::try_parse_from(arguments).unwrap_err().to_string());
            assert!(complaint.contains(part) && !complaint.contains('\n'), "{complaint}");
            assert!(!complaint.contains("Usage"), "{complaint}");
        }
    }
}
