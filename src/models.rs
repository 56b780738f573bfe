//! What the command asks of the engine: to open a model by name and make a processor of it.

use std::sync::Arc;

use sr3_proto::{Colour, Digest, Dtype, UpscaleJob};
use sr3_worker::Processor;

use crate::{exit::CommandError, forecast::Forecast};

/// What the user asked for. None means the model's own choice.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// Name of a built-in model, or path of a checkpoint folder.
    pub model: String,
    /// Preset of the checkpoint.
    pub preset: Option<String>,
    /// Output size over input size.
    pub scale: Option<u32>,
    /// Number of steps.
    pub steps: Option<u32>,
    /// Sampler.
    pub sampler: Option<String>,
    /// Seed of the noise.
    pub seed: u64,
    /// Quality of lossy formats, 1 to 100.
    pub quality: u8,
    /// What lies under transparent pixels where the output's format knows none.
    pub background: Option<Colour>,
    /// Tile side in output pixels.
    pub tile: Option<u32>,
    /// Tiles that go through the network at once.
    pub batch: Option<u32>,
    /// Whether outputs are projected so that they reduce to their input.
    pub projection: bool,
    /// What convolutions are computed in.
    pub dtype: Dtype,
}

impl From<&UpscaleJob> for ModelRequest {
    /// What the job asks of its model; the batch is for whoever runs it to choose.
    fn from(job: &UpscaleJob) -> Self {
        Self {
            model: job.model.clone(),
            preset: job.preset.clone(),
            scale: job.scale,
            steps: job.steps,
            sampler: job.sampler.clone(),
            seed: job.seed,
            quality: job.quality,
            background: job.background,
            tile: job.tile,
            batch: None,
            projection: job.projection,
            dtype: job.dtype,
        }
    }
}

/// An open model.
pub struct OpenModel<P> {
    /// Runs it.
    pub processor: P,
    /// How long it will take.
    pub forecast: Arc<dyn Forecast>,
    /// Its name, for people.
    pub name: String,
    /// Digest of its checkpoint.
    pub digest: Digest,
    /// The preset in force.
    pub preset: String,
    /// Sampler, noise levels and tiles in force, spelt out.
    pub sampling: String,
    /// The scale in force.
    pub scale: u32,
    /// What convolutions are computed in: never `auto`.
    pub dtype: Dtype,
}

/// Opens models.
pub trait Models: Sync {
    /// What runs them.
    type Processor: Processor;

    /// Opens a model, or says in one line what is wrong with the request and what would be right.
    fn open(&self, request: &ModelRequest) -> Result<OpenModel<Self::Processor>, CommandError>;
}
