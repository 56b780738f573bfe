//! The coordinator: keeps jobs, hands out their units, records what is finished.
//!
//! It knows jobs, stages, units and leases, and not what they are about: that is for the [`kind`]s of jobs, which it is
//! given. Decisions are a pure function of facts ([`scheduler`]); what must outlive a crash is in the [`ledger`]; [`core`]
//! joins them to workers' sessions; [`service`] puts that on the network. It never sees an image, a model or a device.

#![forbid(unsafe_code)]

pub mod caller;
pub mod clock;
pub mod core;
pub mod error;
pub mod gang;
pub mod kind;
pub mod ledger;
pub mod rows;
pub mod scheduler;
pub mod service;
pub mod telemetry;

pub use error::JobError;
pub use kind::{Kind, Kinds};
