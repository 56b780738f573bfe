//! Generating: samples out of noise, or out of the pictures of a source, through the stages of a cascade.
//!
//! | what | where |
//! |---|---|
//! | what a person writes, and what becomes of it | `spec`, `order`, `resolve` |
//! | a stage: its model, opened, and what it does to a sample | `stage` |
//! | a sample's name, a unit's bytes, a unit's manifest | `sample` |
//! | which units there are, in which order, and the end | `plan`, `job` |
//! | a unit at work | `runner` |
//!
//! Promises. A sample is a function of (order without its count, index): of its class, which its index decides, its noise,
//! and its models; of no other sample, and of nobody who computed it. Of every class there are as many samples as of every
//! other, or one more. A unit of a later stage begins when the one that its samples come from is recorded. Outputs are PNG
//! files that are created once; what was made before a job was killed is not made again.

mod job;
mod kind;
mod order;
mod plan;
mod resolve;
mod runner;
mod sample;
mod spec;
mod stage;

pub use job::Generated;
pub use kind::Generate;
pub use order::{GenerateOrder, StageOrder};
pub use sample::{Made, read_samples, samples_key};
pub use spec::{GenerateFields, GenerateSpec, StageSpec};
pub use stage::OpenStage;

/// The kind's name.
pub const NAME: &str = "generate";
