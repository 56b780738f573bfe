//! What a job asks of whoever knows models: to say what a wish comes to, and to open a model for it.

use std::sync::Arc;

use sr3_engine::device::Device;
use sr3_proto::{Digest, FailureKind};
use sr3_worker::Failure;

use super::{Bits, Forecast, Processor, RecipeSpec};
use crate::{
    Wish, Writing,
    models::{Known, Weights},
};

/// Opens models.
pub trait Models: Send + Sync + 'static {
    /// What runs them.
    type Processor: Processor;

    /// What a wish comes to. May block.
    ///
    /// # Errors
    /// One line: what is wrong with the wish, and what would be right.
    fn resolve(&self, wish: &Wish) -> Result<Resolved, ModelError> {
        Ok(self.open(wish, &Writing::default(), &Machine::default())?.resolved)
    }

    /// Where weights of networks that look at pictures lie.
    fn weights(&self) -> Weights {
        Weights::of_process()
    }

    /// Opens a model for a wish. May block.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    fn open(
        &self,
        wish: &Wish,
        writing: &Writing,
        machine: &Machine,
    ) -> Result<OpenModel<Self::Processor>, ModelError>;
}

/// What is chosen of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// What computes; none for what the models run on by themselves.
    pub device: Option<Device>,
    /// Tiles computed at once; none for as many as the machine likes. It never changes a result.
    pub batch: Option<u32>,
}

/// An open model.
pub struct OpenModel<P> {
    /// Runs it.
    pub processor: P,
    /// How long it will take.
    pub forecast: Arc<dyn Forecast>,
    /// What the wish came to.
    pub resolved: Resolved,
    /// Which bits its results have.
    pub bits: Bits,
}

/// What a wish came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The model's name, for people.
    pub name: String,
    /// Digest of its checkpoint.
    pub digest: Digest,
    /// The preset in force.
    pub preset: String,
    /// Sampler, noise levels and tiles in force, spelt out.
    pub sampling: String,
    /// The scale in force.
    pub scale: u32,
    /// Memory that it takes, in bytes.
    pub memory_bytes: u64,
    /// What looks at pictures to tell the model what they show.
    pub looker: Option<Known>,
}

impl Resolved {
    /// The recipe that a wish comes to.
    pub fn recipe(self, wish: &Wish, writing: &Writing, bits: Bits) -> RecipeSpec {
        let Self { name, digest, preset, sampling, scale, looker, .. } = self;
        let Bits { dtype, class } = bits;
        RecipeSpec {
            model: Some(digest),
            model_name: name,
            preset,
            sampler: wish.sampler.clone(),
            steps: wish.steps,
            sampling,
            seed: wish.seed,
            scale,
            format: writing.format,
            quality: writing.quality,
            background: writing.background,
            image_class: wish.class,
            looker,
            tile: wish.tile,
            projection: wish.projection,
            dtype,
            class,
        }
    }
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// What was wished for is not there.
    #[error("{0}")]
    Wish(String),
    /// It is, and cannot be used.
    #[error("{0}")]
    Broken(String),
    /// Nobody can say: where it lies does not answer.
    #[error("{0}")]
    Unreachable(String),
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let kind = match &error {
            ModelError::Unreachable(_) => FailureKind::Transient,
            ModelError::Wish(_) | ModelError::Broken(_) => FailureKind::Worker,
        };
        Self::new(kind, error)
    }
}
