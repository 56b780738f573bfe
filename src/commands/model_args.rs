//! The options that choose a model and how it is used, shared by every command that runs one.

use clap::{Args, value_parser};

use sr3_proto::{Colour, Dtype, job_spec::ranges};

use crate::models::ModelRequest;

/// Model, sampling and machine.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Model in the box, or folder of a checkpoint.
    #[arg(long, default_value = "photo-4x")]
    pub model: String,
    /// The model's setting of sampler and steps: for photo-4x one, fast, default or fine, from quick to careful.
    #[arg(long)]
    pub preset: Option<String>,
    /// Output size over input size: any whole number [default: the model's].
    #[arg(long, value_parser = whole_scale)]
    pub scale: Option<u32>,
    /// Sampling steps [default: the preset's].
    #[arg(long, value_parser = value_parser!(u32).range(1..=10_000))]
    pub steps: Option<u32>,
    /// Sampler: ddim, dpmpp_2m, ancestral or ancestral_posterior [default: the preset's].
    #[arg(long)]
    pub sampler: Option<String>,
    /// Seed of the noise; the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Side of the tiles that large images are computed in, in output pixels [default: the model's].
    #[arg(long, value_parser = value_parser!(u32).range(16..=65_536))]
    pub tile: Option<u32>,
    /// Tiles computed at once; changes speed and memory, never the result [default: 2].
    #[arg(long, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Do not project results so that, reduced to the input's size, they are the input.
    #[arg(long)]
    pub no_projection: bool,
    /// What convolutions are computed in: f32 gives the same bytes on every machine, bf16 on machines of one kind; auto
    /// takes bf16 where this machine is found to be faster with it.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
}

impl ModelArgs {
    /// What is asked of the model; `quality` and `background` are those of output formats that need them.
    #[must_use]
    pub fn request(&self, quality: u8, background: Option<Colour>) -> ModelRequest {
        ModelRequest {
            model: self.model.clone(),
            preset: self.preset.clone(),
            scale: self.scale,
            steps: self.steps,
            sampler: self.sampler.clone(),
            seed: self.seed,
            quality,
            background,
            tile: self.tile,
            batch: self.batch,
            projection: !self.no_projection,
            dtype: self.dtype,
        }
    }

    /// Makes the pool that computes, of as many threads as were asked for.
    pub fn start_threads(&self) {
        start_threads(self.threads);
    }
}

/// A scale; a fraction is told that it is one.
fn whole_scale(text: &str) -> Result<u32, String> {
    let (least, most) = (ranges::SCALE.start(), ranges::SCALE.end());
    let whole = text.parse().ok().filter(|scale| ranges::SCALE.contains(scale));
    whole.ok_or_else(|| format!("a whole number from {least} to {most} is wanted"))
}

/// Makes the process's pool; None for a thread per core.
pub(super) fn start_threads(threads: Option<u16>) {
    if let Some(threads) = threads {
        // A pool that exists already can only be one that a test made.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build_global();
    }
}
