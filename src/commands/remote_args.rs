//! The options of every command that asks a coordinator, and how such a command runs.

use std::time::Duration;

use clap::Args;
use sr3_proto::{JobId, net::Address};

use super::credentials::CredentialArgs;
use crate::{
    client::{
        self,
        remote::{Client, ClientError, PATIENCE},
    },
    exit::CommandError,
};

/// Which cluster.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// Coordinators of the cluster, such as http://10.0.0.1:7070: the one that serves is found [env: SR3_COORDINATOR]
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub call: CallArgs,
}

/// How a coordinator is called.
#[derive(Clone, Debug, Args)]
pub struct CallArgs {
    /// Shared options.
    #[command(flatten)]
    pub credentials: CredentialArgs,
    /// Seconds that a coordinator which does not answer is waited for.
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub connect_timeout: Option<u16>,
}

impl RemoteArgs {
    /// A client of the coordinators that are named here, or by the environment.
    ///
    /// # Errors
    /// None is named, or one that is no address.
    pub fn client(&self) -> Result<Client, CommandError> {
        self.call.client(client::addresses(&self.coordinator)?)
    }
}

impl CallArgs {
    /// A client of the coordinators at `addresses`.
    ///
    /// # Errors
    /// There are none.
    pub fn client(&self, addresses: Vec<Address>) -> Result<Client, CommandError> {
        let patience = self.connect_timeout.map_or(PATIENCE, |seconds| Duration::from_secs(seconds.into()));
        let dialer = self.credentials.dialer_to(&addresses)?;
        Ok(Client::new(addresses, &dialer)?.with_patience(patience))
    }
}

/// Runs what a command does over the network to its end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| CommandError::failed(format!("cannot start: {e}")))?;
    let ended = runtime.block_on(work);
    // A name that is being looked up must not hold the command up.
    runtime.shutdown_background();
    ended
}

/// A job's id, as it is printed: leading zeros change nothing.
pub(super) fn job_id(text: &str) -> Result<JobId, String> {
    match text.parse() {
        Ok(id) if id >= JobId::new(1) => Ok(id),
        _ => Err("a job's id is a number from 1, see `sr3 jobs`".to_string()),
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        use tonic::Code;
        let message = error.to_string();
        match error {
            ClientError::NoAddress
            | ClientError::Address(_)
            | ClientError::Refused {
                code:
                    Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::Unauthenticated
                    | Code::PermissionDenied,
                ..
            } => Self::Usage { message },
            _ => Self::Failed { message },
        }
    }
}
