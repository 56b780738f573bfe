//! How the command ends: its exit codes, and its errors sorted by them.

use sr3_jobs::{
    images::GlobError,
    upscale::{ModelError, RunError},
};
use sr3_proto::StoreError;

/// What the codes mean, for `--help`.
pub const HELP: &str = "Exit codes:
  0    every image has its result
  1    the run failed: full disk, no permission, too many bad images
  2    the arguments cannot be used, or there is nothing to do
  3    the run finished, and some images were set aside (see DST/.sr3/report.jsonl)
  130  interrupted; run the same command again to go on";

/// What the codes mean for a job on a cluster.
pub const REMOTE_HELP: &str = "Exit codes:
  0    done; of a job that was watched: every image has its result
  1    the coordinator does not answer, or the watched job failed or was cancelled
  2    the arguments cannot be used, or there is no such job
  3    the watched job finished, and some images were set aside
  130  interrupted; the job goes on";

/// How a command that ran came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is done.
    Done,
    /// Done, but some items were quarantined.
    WithQuarantined,
    /// It failed; why was told.
    Failed,
    /// It was interrupted.
    Interrupted,
}

/// Why a command did not get to run, or broke off. Shown as one line.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The user must change something about the call.
    #[error("{message}")]
    Usage {
        /// What, and how.
        message: String,
    },
    /// Something else went wrong.
    #[error("{message}")]
    Failed {
        /// What, and what to do.
        message: String,
    },
}

impl CommandError {
    /// A [`CommandError::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// A [`CommandError::Failed`].
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into() }
    }

    /// Its exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Failed { .. } => 1,
        }
    }
}

impl From<RunError> for CommandError {
    fn from(error: RunError) -> Self {
        let message = error.to_string();
        match error {
            RunError::Glob { .. } | RunError::OtherRecipe { .. } | RunError::NoImages { .. } => {
                Self::Usage { message }
            }
            RunError::Store(error) if error.is_usage() => Self::Usage { message },
            _ => Self::Failed { message },
        }
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        RunError::from(error).into()
    }
}

impl From<GlobError> for CommandError {
    fn from(error: GlobError) -> Self {
        RunError::from(error).into()
    }
}

impl From<ModelError> for CommandError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Wish(message) => Self::Usage { message },
            ModelError::Broken(message) | ModelError::Unreachable(message) => Self::Failed { message },
        }
    }
}

impl Ending {
    /// Its exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::WithQuarantined => 3,
            Self::Interrupted => INTERRUPTED,
        }
    }
}

/// The shell's convention for a process ended by SIGINT.
pub const INTERRUPTED: u8 = 130;
