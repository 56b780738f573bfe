//! Running a job from the command: where its inputs and outputs lie, and the cluster inside this process.

pub mod local;
pub mod places;
pub(crate) mod signals;
