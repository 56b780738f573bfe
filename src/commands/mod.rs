//! One module per sub-command: arguments in, an [`Ending`](crate::exit::Ending) out.

mod allowed;
pub mod bench;
pub mod certs;
pub mod checkpoints;
pub mod control;
pub mod convert;
pub mod coordinator;
mod credentials;
pub mod devices;
mod dry_run;
pub mod evaluate;
mod follow;
pub mod health;
pub mod jobs;
pub mod ledger;
pub mod logs;
mod model_args;
pub mod models;
pub mod plot;
mod remote_args;
mod run_place;
pub mod shell;
pub mod spec;
pub mod submit;
mod table;
pub mod tokens;
pub mod train;
mod train_forecast;
pub mod upscale;
mod upscale_remote;
pub mod worker;
pub mod workers;

pub use credentials::CredentialArgs;
pub use model_args::ModelArgs;
pub use remote_args::{CallArgs, RemoteArgs};
