//! The contract between the parts of sr3: ids, keys, the envelope of a job, object layout, messages, and how stores
//! are opened.
//!
//! Every other crate may depend on this one; it depends on none of them. What crosses from coordinator to worker is defined
//! here and nowhere else, but for the bytes that only a kind of job reads. Apart from [`store`], everything is a pure
//! function of its arguments.

#![forbid(unsafe_code)]

pub mod access;
pub mod cancel;
pub mod digest;
pub mod gang;
pub mod ids;
pub mod job_spec;
pub mod key;
pub mod layout;
pub mod net;
pub mod order;
pub mod session;
pub mod store;
pub mod threads;
pub mod wire;
pub mod words;

pub use cancel::Cancel;
pub use digest::Digest;
pub use ids::{JobId, RunId, UnitId, WorkerId};
pub use job_spec::SpecError;
pub use key::Key;
pub use order::{Head, Needs, Offer, Order};
pub use session::{FailureKind, FromWorker, Grant, Hello, Lease, LeaseProgress, ToWorker, WorkerEnd};
pub use store::{Location, Store, StoreError};
pub use threads::off_thread;
