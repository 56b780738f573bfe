//! One module per sub-command: arguments in, an [`Ending`](crate::exit::Ending) out.

pub mod bench;
pub mod convert;
pub mod coordinator;
pub mod evaluate;
pub mod ledger;
mod model_args;
pub mod models;
pub mod spec;
pub mod upscale;
pub mod worker;

pub use model_args::ModelArgs;
