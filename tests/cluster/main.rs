//! Clusters of real processes: coordinators, workers and clients of the built command, on loopback.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod attacks;
mod authority;
#[path = "../classes/mod.rs"]
mod classes;
mod faults;
mod fid;
mod generation;
#[path = "../inception/mod.rs"]
mod inception;
mod kinds;
mod machines;
mod models;
mod pictures;
mod processes;
mod rotation;
#[path = "../../proto/tests/common/s3.rs"]
mod s3;
mod secrets;
mod telemetry;
mod training;
#[path = "../wheels/mod.rs"]
mod wheels;
mod whole;
mod wire;
