//! The worker: runs shards of images on the device of its machine.
//!
//! The pipeline moves items through fetch, decode, compute, encode and put; [`Processor`] is what it knows of images
//! and networks. [`cluster`] feeds it the shards of any number of jobs, over a session with a coordinator in this process
//! or elsewhere ([`connect`]). It owns no state that outlives it: verdicts go to the
//! coordinator, outputs and manifests to the store.

mod backoff;
pub mod cluster;
pub mod connect;
mod device;
mod grpc;
mod holdings;
mod journal;
mod manifest;
mod member;
mod memory;
pub mod models;
pub mod pace;
mod pipeline;
mod processor;
mod publish;
mod read;
mod session;
mod shard;
mod stores;
mod super_resolution;
mod work;

pub use cluster::{ClusterWorkerConfig, WorkerFailure, serve};
pub use connect::{Connect, ConnectError};
pub use grpc::{GrpcConnect, OpenChannel};
pub use journal::Journal;
pub use models::OpenProcessor;
pub use pace::Pace;
pub use pipeline::WorkerConfig;
pub use processor::{Computed, Encoded, ItemError, Processor};
pub use stores::OpenStore;
pub use super_resolution::SuperResolution;
