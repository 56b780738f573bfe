//! Measuring pictures: those of one set against those of another, or how near a model comes to pictures that were reduced
//! first.
//!
//! | what | where |
//! |---|---|
//! | what a person writes, and what becomes of it | `choice`, `spec`, `order` |
//! | which pictures are measured, in which units | `job`, [`crate::cut`] |
//! | a unit's bytes | `item` |
//! | a picture from its bytes to its scores | `runner`, `measure`, `looking`, [`crate::class`] |
//! | rows, means, and their files | `scores`, `report` |
//!
//! Every number is a function of the pictures and the order: not of who measured what, nor of how many did. Sums are taken
//! in the order of the listing.

mod choice;
mod item;
mod job;
mod kind;
mod looking;
mod measure;
mod order;
pub mod report;
mod runner;
mod scores;
mod spec;

pub use choice::Metric;
pub use job::EvaluateJob;
pub use kind::{Evaluate, ResolveError};
pub use order::EvaluateOrder;
pub use runner::{MeasuredOrder, OpenedEvaluate};
pub use scores::{Looker, Method, NUMBERS, Number, Row, Scores, Statistic, Summary};
pub use spec::{EvaluateFields, EvaluateSpec};

/// The kind's name.
pub const NAME: &str = "evaluate";
