//! `sr3 health`: whether a coordinator serves, for probes and scripts.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use sr3_coordinator::service::LIVE;
use sr3_proto::net::{Address, Bearer, Dialer, distrust};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{credentials::CredentialArgs, remote_args::block_on};
use crate::exit::{CommandError, Ending};

/// So long it is waited for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

const HELP: &str = "Exit codes:
  0  it serves; with --live: it answers
  1  it does not, and the line says why
  2  the arguments cannot be used";

/// Arguments of `sr3 health`.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
pub struct HealthArgs {
    /// The coordinator, such as http://10.0.0.1:7070
    #[arg(value_name = "URL")]
    pub coordinator: String,
    /// Ask only whether the process answers: one on standby does, too.
    #[arg(long)]
    pub live: bool,
    /// Folder of certificates: ca.crt is whom to trust [env: SR3_TLS] [default: whom the system trusts]
    #[arg(long, value_name = "FOLDER")]
    pub tls: Option<PathBuf>,
}

/// Runs it.
pub fn run(arguments: &HealthArgs) -> Result<Ending, CommandError> {
    let address = Address::parse(&arguments.coordinator).map_err(|e| CommandError::usage(e.to_string()))?;
    let credentials = CredentialArgs { tls: arguments.tls.clone(), token_file: None };
    let dialer = Dialer::new(credentials.tls()?, Bearer::None);
    block_on(async move {
        let asked = tokio::time::timeout(PATIENCE, ask(&address, &dialer, arguments.live)).await;
        let late = |_| Err(format!("no answer within {} seconds", PATIENCE.as_secs()));
        match asked.unwrap_or_else(late) {
            Ok(()) => {
                say!("serving");
                Ok(Ending::Done)
            }
            Err(reason) => {
                say!("{address}: {reason}");
                Ok(Ending::Failed)
            }
        }
    })
}

async fn ask(address: &Address, dialer: &Dialer, live: bool) -> Result<(), String> {
    let channel = dialer.connect(address, PATIENCE).await.map_err(|error| {
        distrust(&error).unwrap_or_else(|| format!("nobody answers ({})", innermost(&error)))
    })?;
    let service = if live { LIVE } else { "" }.to_string();
    match HealthClient::new(channel).check(HealthCheckRequest { service }).await {
        Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
        Ok(_) => Err("this coordinator is on standby".to_string()),
        Err(status) => Err(refusal(&status)),
    }
}

fn refusal(status: &Status) -> String {
    match status.code() {
        Code::NotFound | Code::Unimplemented => "this is no coordinator of this version".to_string(),
        _ => status.message().to_string(),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
