//! sr3: diffusion super-resolution for one photograph or a whole bucket.
//!
//! This package is the command and the client. The library below it is re-exported: [`engine`] holds the science,
//! [`jobs`] the kinds of jobs, [`coordinator`] and [`worker`] what runs them, [`proto`] the contract between these.

#![forbid(unsafe_code)]

pub use sr3_coordinator as coordinator;
pub use sr3_engine as engine;
pub use sr3_jobs as jobs;
pub use sr3_proto as proto;
pub use sr3_worker as worker;

#[macro_use]
mod log;
#[macro_use]
mod say;

mod chart;
pub mod cli;
pub mod client;
mod clock;
pub mod commands;
mod console;
mod ended;
pub mod exit;
mod forecast;
mod progress;
mod remote_job;
mod report;
mod signals;
mod telemetry;
mod tune;
