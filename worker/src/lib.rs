//! The worker: runs shards of images on the device of its machine.
//!
//! [`runner`] moves items through fetch, decode, compute, encode and put; [`Processor`] is what it knows of images
//! and networks. It owns no state that outlives it: verdicts go to the coordinator, outputs to the store.

mod device;
mod processor;
mod publish;
pub mod runner;
mod super_resolution;

pub use processor::{Computed, Encoded, ItemError, Processor};
pub use runner::{WorkerConfig, run};
pub use super_resolution::SuperResolution;
