//! `sr3 submit FILE`.

use std::{
    fs::File,
    io::{self, Read},
};

use clap::Args;
use sr3_jobs::JobSpec;
use sr3_proto::{JobId, job_spec::TEXT_BYTES_MAX};

use super::{
    follow,
    generate::{self, GenerateArgs},
    remote_args::{RemoteArgs, block_on},
    train::{self, TrainArgs},
};
use crate::{
    exit::{self, CommandError, Ending},
    remote_job,
    say::print,
};

/// Arguments of `sr3 submit`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::REMOTE_HELP)]
pub struct SubmitArgs {
    /// A job spec in YAML or JSON; - reads it from stdin.
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Shared options.
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// Say what it takes (of kind train and generate: sizes, memory, and time on this machine), and submit nothing.
    #[arg(long, conflicts_with = "watch")]
    pub dry_run: bool,
    /// Stay with the job until it has ended, as `sr3 watch` does.
    #[arg(long)]
    pub watch: bool,
    /// Print the job as a line of JSON.
    #[arg(long)]
    pub json: bool,
    /// A name of your own for this submission: another one with the same key finds the job instead of making a second
    /// [default: a random one per call].
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// Runs it.
pub fn run(arguments: &SubmitArgs) -> Result<Ending, CommandError> {
    let spec = read(&arguments.file)?;
    if arguments.dry_run {
        return forecast(&arguments.file, &spec);
    }
    let client = arguments.remote.client()?;
    let key = arguments.idempotency_key.clone().unwrap_or_else(random_key);
    block_on(async {
        let (job, existed) = client.submit(&spec, &key).await?;
        let id = JobId::new(job.id);
        if arguments.json {
            let mut object = remote_job::json(&job);
            object["existed"] = existed.into();
            print(&format!("{object}\n"));
        } else {
            print(&format!("{id}\n"));
        }
        if arguments.watch { follow::watch(&client, id, arguments.json).await } else { Ok(Ending::Done) }
    })
}

/// What a job takes, by a short run on this machine.
fn forecast(file: &str, spec: &str) -> Result<Ending, CommandError> {
    let file = file.to_string();
    match JobSpec::parse(spec) {
        Ok(JobSpec::Train(_)) => train::run(&TrainArgs { dry_run: true, ..TrainArgs::of(file) }),
        Ok(JobSpec::Generate(_)) => generate::run(&GenerateArgs { dry_run: true, ..GenerateArgs::of(file) }),
        _ => Err(CommandError::usage(
            "--dry-run is of jobs of kind train and generate; the commands of other kinds have their own",
        )),
    }
}

/// A key that no other call has: so that asking again within this one makes no second job.
pub(super) fn random_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The text of a spec that can be used: what is wrong with it is told without a coordinator.
fn read(file: &str) -> Result<String, CommandError> {
    let (name, source): (_, io::Result<Box<dyn Read>>) = match file {
        "-" => ("stdin", Ok(Box::new(io::stdin()))),
        file => (file, File::open(file).map(|file| Box::new(file) as Box<dyn Read>)),
    };
    let mut bytes = Vec::new();
    source
        .and_then(|source| source.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| CommandError::usage(format!("`{name}` cannot be read ({e}): name a job spec")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| CommandError::usage(format!("`{name}` is not text: name a job spec in YAML")))?;
    JobSpec::parse(&text).map_err(|e| CommandError::usage(e.in_file(name)))?;
    Ok(text)
}
