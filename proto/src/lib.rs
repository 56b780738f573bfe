//! The contract between the parts of sr3: ids, keys, job specs, object layout, records, messages, and how stores
//! are opened.
//!
//! Every other crate may depend on this one; it depends on none of them. What lies on disk (`.sr3/`) and what
//! crosses from coordinator to worker is defined here and nowhere else. Apart from [`store`], everything is a pure
//! function of its arguments.

pub mod cancel;
pub mod colour;
pub mod digest;
pub mod dtype;
pub mod ids;
pub mod in_flight;
pub mod job_spec;
pub mod key;
pub mod layout;
pub mod record;
pub mod session;
pub mod spec;
pub mod store;
pub mod task;
pub mod threads;
pub mod wire;
pub mod words;

pub use cancel::Cancel;
pub use colour::Colour;
pub use digest::Digest;
pub use dtype::Dtype;
pub use ids::{JobId, RunId, ShardId, WorkerId};
pub use job_spec::{JobSpec, SpecError, UpscaleJob};
pub use key::Key;
pub use layout::{FormatChoice, Naming, OutputFormat};
pub use record::{ItemRecord, ItemStatus, JobRecord, ShardManifest, Success};
pub use session::{FailureKind, FromWorker, Grant, Hello, Lease, LeaseProgress, ToWorker, WorkerEnd};
pub use spec::{RecipeSpec, UpscaleSpec};
pub use store::{Location, Store, StoreError};
pub use task::{ItemTask, OnExisting};
pub use threads::off_thread;
