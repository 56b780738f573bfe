//! Models by name or folder, run by this machine's engine.

use std::path::Path;
use std::sync::Arc;

use sr3_coordinator::core::Recipes;
use sr3_engine::diffusion::{Sampler, Tile};
use sr3_engine::image;
use sr3_engine::model::bundled::{BUNDLED, Bundled};
use sr3_engine::model::checkpoint::{Checkpoint, CheckpointConfig};
use sr3_engine::ops::{Isa, Precision};
use sr3_engine::upscaler::{Passes, Recipe, RecipeRequest};
use sr3_proto::{Digest, Dtype, RecipeSpec, UpscaleJob, UpscaleSpec};
use sr3_worker::{OpenProcessor, SuperResolution};

use crate::exit::CommandError;
use crate::forecast::Forecast;
use crate::models::{ModelRequest, Models, OpenModel};

/// The models in the box, and folders of checkpoints.
#[derive(Clone, Copy, Debug)]
pub struct EngineModels;

/// Reads the checkpoint of a name in the box, or of a folder.
///
/// # Errors
/// One line that names the model and what is there instead.
pub fn read_checkpoint(model: &str) -> Result<Checkpoint, CommandError> {
    if let Some(bundled) = Bundled::find(model) {
        return bundled.checkpoint().map_err(|e| CommandError::failed(e.to_string()));
    }
    let folder = Path::new(model);
    if !folder.is_dir() {
        let names: Vec<_> = BUNDLED.iter().map(|bundled| bundled.name).collect();
        return Err(CommandError::usage(format!(
            "unknown model `{model}`: take one in the box ({}) or the folder of a checkpoint",
            names.join(", ")
        )));
    }
    Checkpoint::read_folder(folder).map_err(|e| CommandError::usage(e.to_string()))
}

/// What a choice comes to with these instructions.
pub(crate) fn precision(dtype: Dtype, isa: Isa) -> Precision {
    match dtype {
        Dtype::F32 => Precision::F32,
        Dtype::Bf16 => Precision::Bf16,
        Dtype::Auto => Precision::faster(isa),
    }
}

/// What a request makes of a checkpoint.
///
/// # Errors
/// One line that names what is not there, and what is.
pub fn recipe(config: &CheckpointConfig, request: &ModelRequest) -> Result<Recipe, CommandError> {
    let request = RecipeRequest {
        preset: request.preset.as_deref(),
        sampler: request.sampler.as_deref(),
        steps: request.steps.map(|steps| steps as usize),
        tile: request.tile.map(|tile| tile as usize),
        batch: request.batch.map(|batch| batch as usize),
        seed: request.seed,
        projection: request.projection,
        precision: precision(request.dtype, Isa::detect()),
    };
    Recipe::new(config, &request).map_err(|e| CommandError::usage(e.to_string()))
}

impl Models for EngineModels {
    type Processor = SuperResolution;

    fn open(&self, request: &ModelRequest) -> Result<OpenModel<SuperResolution>, CommandError> {
        let checkpoint = Arc::new(read_checkpoint(&request.model)?);
        let config = &checkpoint.config;
        let recipe = recipe(config, request)?;
        let digest =
            Digest::try_from(checkpoint.digest.clone()).map_err(|e| CommandError::failed(e.to_string()))?;
        let scale = request.scale.map_or(config.scale, |scale| scale as usize);
        let quicker = quicker(config, &recipe);
        let processor = SuperResolution::new(
            Arc::clone(&checkpoint),
            recipe.clone(),
            scale,
            request.quality,
            request.background.map(|colour| colour.0),
        );
        Ok(OpenModel {
            forecast: Arc::new(EngineForecast { engine: processor.clone(), scale, quicker }),
            name: config.name.clone(),
            digest,
            preset: request.preset.clone().unwrap_or_else(|| config.default_preset.clone()),
            sampling: sampling(&recipe, scale),
            dtype: match recipe.precision {
                Precision::F32 => Dtype::F32,
                Precision::Bf16 => Dtype::Bf16,
            },
            scale: scale as u32,
            processor,
        })
    }
}

/// The preset that takes most of the evaluations that are at most three quarters of the recipe's, and their share.
fn quicker(config: &CheckpointConfig, recipe: &Recipe) -> Option<(String, f64)> {
    let now = recipe.noise_levels.len() as f64;
    let shares = config.presets.iter().map(|(name, preset)| (name, preset.noise_levels().len() as f64 / now));
    let (name, share) = shares.filter(|(_, share)| *share <= 0.75).max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some((name.clone(), share))
}

/// How long a checkpoint takes in this process.
struct EngineForecast {
    engine: SuperResolution,
    scale: usize,
    quicker: Option<(String, f64)>,
}

impl Forecast for EngineForecast {
    fn size(&self, start: &[u8]) -> Option<[usize; 2]> {
        image::probe(start)
    }

    fn output_size(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|side| side * self.scale)
    }

    fn work(&self, size: [usize; 2]) -> f64 {
        self.engine.evaluated_megapixels(size)
    }

    fn seconds_of_work(&self) -> Result<f64, String> {
        self.engine.measure()
    }

    fn pace(&self) -> Option<f64> {
        self.engine.pace().seconds_a_megapixel()
    }

    fn quicker(&self) -> Option<(String, f64)> {
        self.quicker.clone()
    }
}

impl Recipes for EngineModels {
    fn resolve(&self, job: &UpscaleJob) -> Result<RecipeSpec, String> {
        let opened = Models::open(self, &ModelRequest::from(job)).map_err(|e| e.to_string())?;
        Ok(RecipeSpec {
            model: opened.digest,
            model_name: opened.name,
            preset: opened.preset,
            sampler: job.sampler.clone(),
            steps: job.steps,
            sampling: opened.sampling,
            seed: job.seed,
            scale: opened.scale,
            format: job.format,
            quality: job.quality,
            background: job.background,
            tile: job.tile,
            projection: job.projection,
            dtype: opened.dtype,
        })
    }
}

impl OpenProcessor for EngineModels {
    type Processor = SuperResolution;

    fn open(&self, spec: &UpscaleSpec) -> Result<SuperResolution, String> {
        let recipe = &spec.recipe;
        let request = ModelRequest {
            model: spec.model.clone(),
            preset: Some(recipe.preset.clone()),
            scale: Some(recipe.scale),
            steps: recipe.steps,
            sampler: recipe.sampler.clone(),
            seed: recipe.seed,
            quality: recipe.quality,
            background: recipe.background,
            tile: recipe.tile,
            batch: None,
            projection: recipe.projection,
            dtype: recipe.dtype,
        };
        let opened = Models::open(self, &request).map_err(|e| e.to_string())?;
        if opened.digest != recipe.model {
            return Err(format!(
                "model `{}` has sha256 {} here and {} in the job: give every machine the same checkpoint",
                spec.model, opened.digest, recipe.model
            ));
        }
        if opened.sampling != recipe.sampling {
            return Err(format!(
                "model `{}` samples as `{}` here and as `{}` in the job: run the same sr3 on every machine",
                spec.model, opened.sampling, recipe.sampling
            ));
        }
        Ok(opened.processor)
    }
}

/// What decides a result besides the weights, spelt out: a preset's name alone would hide that its levels changed.
///
/// It is part of what results are recognised by, so its form never changes: a new choice may add words, and only where
/// it is made.
fn sampling(recipe: &Recipe, scale: usize) -> String {
    let sampler = match recipe.sampler {
        Sampler::Ancestral => "Ancestral".to_string(),
        Sampler::AncestralPosterior => "AncestralPosterior".to_string(),
        Sampler::Ddim { eta } => format!("Ddim {{ eta: {} }}", number(eta)),
        Sampler::Dpmpp2m => "Dpmpp2m".to_string(),
    };
    let levels: Vec<_> = recipe.noise_levels.iter().copied().map(number).collect();
    let Tile { size, overlap } = recipe.tile;
    let mut text = format!("{sampler} at [{}], tiles {size}/{overlap}", levels.join(", "));
    if let Some((above, below)) = Passes::new(recipe.scale, scale).reduced_to() {
        text += &format!(", {above}/{below} between passes");
    }
    text
}

/// The shortest digits that read back as the number, with `.0` after a whole one, and a power of ten for one below 1e-4 or
/// from 1e16 on.
fn number(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(1e-4..1e16).contains(&size) => format!("{value:e}"),
        _ if value.fract() == 0.0 => format!("{value:.1}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_of_sampling_is_pinned() {
        let bundled = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
        let request = |sampler: &str| ModelRequest {
            model: "photo-4x".into(),
            preset: None,
            scale: None,
            steps: Some(2),
            sampler: Some(sampler.into()),
            seed: 0,
            quality: 95,
            background: None,
            tile: None,
            batch: None,
            projection: true,
            dtype: Dtype::F32,
        };
        let mut made = recipe(&bundled.config, &request("ddim")).unwrap();
        made.noise_levels = vec![0.1, 0.875, 1e-7, 1.0];
        assert_eq!(sampling(&made, 4), "Ddim { eta: 0.0 } at [0.1, 0.875, 1e-7, 1.0], tiles 192/32");
        made.sampler = Sampler::Ddim { eta: 0.25 };
        assert_eq!(sampling(&made, 16), "Ddim { eta: 0.25 } at [0.1, 0.875, 1e-7, 1.0], tiles 192/32");
        made.noise_levels = vec![0.5];
        for (name, text) in [
            ("dpmpp_2m", "Dpmpp2m"),
            ("ancestral", "Ancestral"),
            ("ancestral_posterior", "AncestralPosterior"),
        ] {
            made.sampler = recipe(&bundled.config, &request(name)).unwrap().sampler;
            assert_eq!(sampling(&made, 2), format!("{text} at [0.5], tiles 192/32"));
        }
        assert_eq!(sampling(&made, 6), "AncestralPosterior at [0.5], tiles 192/32, 3/2 between passes");
    }

    #[test]
    fn numbers_are_written_as_they_always_were() {
        for value in
            [0.0, 1.0, -2.5, 0.1, 1e-4, 9.9e-5, 1e-5, 1e16, 123456789.125, 0.30000000000000004, 1e-300]
        {
            assert_eq!(number(value), format!("{value:?}"));
        }
    }
}
