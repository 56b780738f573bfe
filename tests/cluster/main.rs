//! Clusters of real processes: coordinators, workers and clients of the built command, on loopback.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod faults;
mod kinds;
mod models;
mod pictures;
mod processes;
#[path = "../../proto/tests/common/s3.rs"]
mod s3;
mod telemetry;
mod whole;
mod wire;
