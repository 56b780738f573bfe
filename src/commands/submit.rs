//! `sr3 submit FILE`.

use clap::Args;
use sr3_jobs::JobSpec;
use sr3_proto::{JobId, SpecError, job_spec::Document};

use super::{
    follow, generate,
    remote_args::{RemoteArgs, block_on},
    spec_file::SpecFile,
    train,
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
    let file = SpecFile::read(&arguments.file)?;
    let specs = jobs(&file)?;
    if arguments.dry_run {
        return forecast(&file, &specs[0].job);
    }
    let client = arguments.remote.client()?;
    let key = arguments.idempotency_key.clone().unwrap_or_else(random_key);
    block_on(async {
        let mut jobs = Vec::new();
        for spec in &specs {
            // Each stage is a submission of its own.
            let key = spec.stage.as_ref().map_or_else(|| key.clone(), |stage| format!("{key}/{stage}"));
            let (job, existed) = client.submit(&spec.text, &key).await?;
            let id = JobId::new(job.id);
            if arguments.json {
                let mut object = remote_job::json(&job);
                object["existed"] = existed.into();
                print(&format!("{object}\n"));
            } else {
                print(&format!("{id}\n"));
            }
            jobs.push(id);
        }
        for id in jobs.into_iter().filter(|_| arguments.watch) {
            match follow::watch(&client, id, arguments.json).await? {
                Ending::Done => {}
                other => return Ok(other),
            }
        }
        Ok(Ending::Done)
    })
}

/// A job that a file asks for.
struct Submission {
    /// What it is called, where the file asks for several.
    stage: Option<String>,
    job: JobSpec,
    text: String,
}

/// What a job takes, by a short run on this machine.
fn forecast(file: &SpecFile, job: &JobSpec) -> Result<Ending, CommandError> {
    match job {
        JobSpec::Train(_) => train::forecast(file),
        JobSpec::Generate(_) => generate::forecast(file),
        _ => Err(CommandError::usage(
            "--dry-run is of jobs of kind train and generate; the commands of other kinds have their own",
        )),
    }
}

/// A key that no other call has: so that asking again within this one makes no second job.
pub(super) fn random_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The jobs of a file that can be used, one at least: what is wrong with it is told without a coordinator.
fn jobs(file: &SpecFile) -> Result<Vec<Submission>, CommandError> {
    let (text, wrong) = (&file.text, |e: SpecError| file.wrong(e));
    let documents = JobSpec::documents(text).map_err(wrong)?;
    let is_one = JobSpec::parse(text).is_ok();
    let submission = |document: &Document| {
        let job = JobSpec::read(document).map_err(wrong)?;
        // The file as it was written, where it is one job: a coordinator's words about it have its lines.
        Ok(match document.text("name") {
            Some(stage) if !is_one => Submission { stage: Some(stage.to_string()), text: job.to_yaml(), job },
            _ => Submission { stage: None, text: text.clone(), job },
        })
    };
    documents.iter().map(submission).collect()
}
