//! Comparing sets of pictures: how far what was generated lies from what is real, by features of FID's Inception network.
//!
//! | what | where |
//! |---|---|
//! | what a person writes, and what becomes of it | `choice`, `spec`, `order` |
//! | what a place holds: pictures, archives of them, statistics | `place`, `npz` |
//! | which pictures are looked at, in which units | `job`, `plan`, [`crate::cut`] |
//! | a unit's bytes, and the verdicts of its items | `unit` |
//! | pictures to features | `looking`, `part` |
//! | which features a set has, so that no picture is looked at twice | `set` |
//! | means and covariances, of a set or from a file | `statistics` |
//! | features to numbers | `numbers`, `result` |
//!
//! A job has two stages. In the first every unit writes the features of its pictures as one object, named by its digest; in
//! the second one worker puts the sets together and computes. A set's features are brought into the order of the sha256 of
//! their pictures' pixels: every number is a function of the pictures and the order, not of who looked at what, of names,
//! archives, or listings. Pictures that cannot be read are listed, and never counted.

mod choice;
mod job;
mod kind;
mod looking;
mod npz;
mod numbers;
mod order;
mod part;
mod place;
mod plan;
mod result;
mod runner;
mod set;
mod spec;
mod statistics;
mod unit;

pub use choice::{Metric, Mode};
pub use job::{CompareJob, PlannedLooks};
pub use kind::Compare;
pub use order::CompareOrder;
pub use result::{Compared, KidNumbers, Numbers, Role, ScoreNumbers, SetNumbers, left_out_key, numbers_key};
pub use runner::{ComparedOrder, OpenedCompare};
pub use spec::{CompareFields, CompareSpec};

/// The kind's name.
pub const NAME: &str = "compare";
