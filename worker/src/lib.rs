//! The worker: runs units of jobs on the device of its machine.
//!
//! [`cluster`] holds units of any number of jobs, over a session with a coordinator in this process or elsewhere
//! ([`connect`]). A [`Runner`] of their kind knows what their items are; the [`Pipeline`] bounds what these have in memory and
//! owns the device. It owns no state that outlives it: verdicts go to the coordinator, results to stores. It never decides
//! what is to be done.

#![deny(unsafe_code)]

mod backoff;
pub mod cluster;
pub mod connect;
mod device;
pub mod gang;
mod grpc;
mod holdings;
mod member;
pub mod memory;
mod orders;
mod pipeline;
pub mod runner;
mod seat;
mod session;
mod stores;
pub mod telemetry;
mod unit;
mod work;

pub use cluster::{ClusterWorkerConfig, WorkerFailure, serve};
pub use connect::{Connect, ConnectError};
pub use device::Held;
pub use grpc::{GrpcConnect, OpenChannel};
pub use pipeline::{Computing, Decoding, Pipeline, WorkerConfig};
pub use runner::{OpenOrder, Runner, Runners, UnitWork};
pub use seat::Seat;
pub use stores::{OpenStore, Stores};
pub use work::{Attempt, Failure, Stop, UnitProgress};
