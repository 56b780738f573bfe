//! The coordinator: plans a job, hands out its shards, records what is finished.
//!
//! Decisions are pure functions of facts that others fetched ([`filter`], [`system_files`],
//! [`history`], [`planner`], [`report`], [`scheduler`]);
//! reading and writing stores is in [`state`] and [`scan`]; what must outlive a crash is in the [`ledger`]; [`core`]
//! joins them to workers' sessions. It knows nothing of images beyond their first bytes, and nothing of models or devices.

pub mod clock;
pub mod core;
pub mod error;
pub mod filter;
pub mod history;
pub mod ledger;
pub mod nothing;
pub mod planner;
pub mod report;
pub mod rows;
pub mod scan;
pub mod scheduler;
pub mod service;
pub mod sniff;
pub mod state;
pub mod system_files;

pub use error::JobError;
pub use planner::ShardLimits;
pub use scan::Source;
pub use state::JobState;
