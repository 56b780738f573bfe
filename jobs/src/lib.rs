//! The kinds of jobs: one folder, one kind, from its spec to its results.
//!
//! A kind implements the coordinator's [`Kind`] and the worker's [`Runner`]; in one
//! process they are the same objects. What kinds share stands beside them: how images of a source are found ([`images`]), how
//! a list of entries is cut into units ([`cut`]), what a person may choose ([`wish`]).

#![forbid(unsafe_code)]

pub mod class;
pub mod colour;
pub mod compare;
pub mod cut;
pub mod device;
pub mod dtype;
mod envelope;
pub mod evaluate;
pub mod generate;
pub mod images;
pub mod lazy;
pub mod models;
mod numbers;
pub mod project;
mod schema;
pub mod spec;
pub mod train;
pub mod upscale;
pub mod wish;

pub use class::ClassChoice;
pub use colour::Colour;
pub use device::DeviceChoice;
pub use dtype::Dtype;
pub use spec::JobSpec;
pub use wish::{Selection, Wish, Writing};

use std::sync::Arc;

use compare::Compare;
use evaluate::Evaluate;
use generate::Generate;
use models::Weights;
use project::Project;
use sr3_coordinator::{Kind, Kinds};
use sr3_worker::{Runner, Runners, gang::Peers};
use train::Train;
use upscale::{EngineModels, Upscale};

/// Every kind, for a coordinator.
pub fn kinds(models: &Arc<EngineModels>) -> Kinds {
    let all: [Arc<dyn Kind>; 6] = [
        Arc::new(Upscale::new(Arc::clone(models))),
        Arc::new(Evaluate::new(Arc::clone(models), Weights::of_process())),
        Arc::new(Generate::new(Arc::clone(models))),
        Arc::new(Compare::new(Weights::of_process())),
        Arc::new(Train::new(Arc::clone(models.library()))),
        Arc::new(Project),
    ];
    Kinds::new(all)
}

/// Every kind, for a worker that reaches others by `peers`.
pub fn runners(models: &Arc<EngineModels>, peers: Arc<dyn Peers>) -> Runners {
    let all: [Arc<dyn Runner>; 6] = [
        Arc::new(Upscale::new(Arc::clone(models))),
        Arc::new(Evaluate::new(Arc::clone(models), Weights::of_process())),
        Arc::new(Generate::new(Arc::clone(models))),
        Arc::new(Compare::new(Weights::of_process())),
        Arc::new(Train::with_peers(Arc::clone(models.library()), peers)),
        Arc::new(Project),
    ];
    Runners::new(all)
}
