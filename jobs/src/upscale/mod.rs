//! Upscaling every image of a source into a destination.
//!
//! | what | where |
//! |---|---|
//! | what a person writes, and what becomes of it | `spec`, `order` |
//! | which inputs are due, in which units | `scan`, `history`, `claims`, [`crate::cut`] |
//! | a unit's bytes | `item` |
//! | an item from its input to its output | `runner`, [`Processor`], `publish`, `manifest` |
//! | a destination's `.sr3/` | `run`, `record`, `report`, `journal` |
//! | models, devices and the engine | `models`, `bits`, `engine_models`, `super_resolution`, `told`, `pictures` |
//!
//! Another kind lends it what it makes pictures with: [`crate::project`].

mod bits;
mod claims;
pub mod engine_models;
mod forecast;
pub mod history;
pub mod in_flight;
mod item;
mod job;
mod journal;
mod kind;
mod manifest;
mod models;
mod order;
mod pace;
pub(crate) mod pictures;
mod processor;
pub(crate) mod publish;
pub mod record;
pub mod report;
mod run;
mod runner;
mod scan;
mod spec;
mod super_resolution;
mod told;

pub use bits::Bits;
pub use engine_models::EngineModels;
pub use forecast::Forecast;
pub use item::{ItemTask, Items, OnExisting, Settled, UnitError};
pub use job::UpscaleJob;
pub use journal::Journal;
pub use kind::{Upscale, check_model};
pub(crate) use kind::{begin, places, set_aside};
pub use models::{Machine, ModelError, Models, OpenModel, Resolved};
pub use order::{Enlarged, F32_CLASS, RecipeSpec, UpscaleOrder};
pub use pace::Pace;
pub use processor::{Computed, Distance, Encoded, Files, ItemError, Processor};
pub use record::{EnlargedRecord, ItemRecord, ItemStatus, RunRecord, ShardManifest, Success};
pub use run::{Run, RunError, read_history};
pub use runner::{Opened, OpenedUpscale};
pub use scan::{Planned, Scan};
pub use spec::{UpscaleFields, UpscaleSpec};
pub(crate) use super_resolution::COMPUTED_PIXELS_MAX;
pub use super_resolution::{Network, SuperResolution};

/// The kind's name.
pub const NAME: &str = "upscale";

/// The name of the kind that makes what somebody else has enlarged reduce to its inputs: [`crate::project`].
pub const PROJECT: &str = "project";
