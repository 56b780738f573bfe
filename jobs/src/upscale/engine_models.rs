//! Models by name or folder, run by this machine's engine.

use std::sync::Arc;

use sr3_engine::device::Device;
use sr3_engine::diffusion::{Sampler, Tile};
use sr3_engine::image;
use sr3_engine::model::checkpoint::CheckpointConfig;
use sr3_engine::model::{Graph, Packed, UNetConfig};
use sr3_engine::ops::{Isa, Precision};
use sr3_engine::upscaler::{Passes, Recipe, RecipeRequest};
use sr3_proto::Digest;

use super::{
    Bits, Forecast, Machine, ModelError, Models, OpenModel, Resolved, SuperResolution,
    super_resolution::NETWORK_BYTES,
    told::{Told, looker},
};
use crate::{
    ClassChoice, Dtype, Wish, Writing,
    models::{Known, Library},
};

/// Models of a library, run by this machine's engine.
#[derive(Debug)]
pub struct EngineModels {
    library: Arc<Library>,
    device: Device,
}

impl EngineModels {
    /// Those of `library`.
    pub fn new(library: Arc<Library>) -> Self {
        Self { library, device: Device::Cpu }
    }

    /// Run by another device than the CPU's plan.
    #[must_use]
    pub fn on(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// What runs them.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Where they come from.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }
}

impl Default for EngineModels {
    /// Every model that this process can open.
    fn default() -> Self {
        Self::new(Arc::new(Library::of_process()))
    }
}

/// What a choice comes to with these instructions.
pub fn precision(dtype: Dtype, isa: Isa) -> Precision {
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
pub fn recipe(config: &CheckpointConfig, wish: &Wish, batch: Option<u32>) -> Result<Recipe, ModelError> {
    let request = RecipeRequest {
        preset: wish.preset.as_deref(),
        sampler: wish.sampler.as_deref(),
        steps: wish.steps.map(|steps| steps as usize),
        tile: wish.tile.map(|tile| tile as usize),
        batch: batch.map(|batch| batch as usize),
        // Where each picture has its own, one stands for all here.
        class: wish.class.map(|class| if let ClassChoice::One(class) = class { class } else { 0 }),
        seed: wish.seed,
        projection: wish.projection,
        precision: precision(wish.dtype, Isa::detect()),
    };
    Recipe::new(config, &request).map_err(|e| ModelError::Wish(e.to_string()))
}

impl Models for EngineModels {
    type Processor = SuperResolution;

    fn resolve(&self, wish: &Wish) -> Result<Resolved, ModelError> {
        let config = self.library.config(&wish.model)?;
        let recipe = recipe(&config, &Wish { dtype: Dtype::F32, ..wish.clone() }, None)?;
        resolved(&config, &recipe, wish, looker(wish.class, &config, &self.weights())?)
    }

    fn open(
        &self,
        wish: &Wish,
        writing: &Writing,
        machine: &Machine,
    ) -> Result<OpenModel<SuperResolution>, ModelError> {
        let checkpoint = self.library.checkpoint(&wish.model)?;
        let config = &checkpoint.config;
        let device = machine.device.unwrap_or(self.device);
        let recipe = recipe(config, &on(wish, device), machine.batch)?;
        let class = device.class(recipe.precision).map_err(|e| ModelError::Wish(e.to_string()))?;
        let dtype = match recipe.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::Bf16,
        };
        let looker = looker(wish.class, config, &self.weights())?;
        let told = Told::new(wish.class, config, looker.as_ref(), &self.weights())?;
        let resolved = resolved(config, &recipe, wish, looker)?;
        let (scale, quicker) = (resolved.scale as usize, quicker(config, &recipe));
        let background = writing.background.map(|colour| colour.0);
        let processor =
            SuperResolution::new(Arc::clone(&checkpoint), recipe, scale, writing.quality, background)
                .on(device)
                .told(told);
        let forecast = Arc::new(EngineForecast { engine: processor.clone(), scale, quicker });
        Ok(OpenModel { processor, forecast, resolved, bits: Bits { dtype, class } })
    }
}

/// Bytes of a weight as it was read, and as a network that packs where it uses them has it.
const BYTES_A_PARAMETER: u64 = 2 * 4;
/// And of one that has packed them: four times the weights as convolutions take them (625 million took 12.5 GiB).
const BYTES_A_PARAMETER_PACKED: u64 = 5 * 4;
/// A network has its weights packed where all of that is at most one part of so many of the machine's memory: a cascade has several.
const SHARES: u64 = 4;
/// A layer that is packed takes so many times the memory of its weights, for one at a time.
const PACKED: u64 = 4;

/// The fewest bytes that a network takes: its weights as they were read and as they are computed with, and the tiles in it.
pub(crate) fn memory(config: &CheckpointConfig) -> Result<u64, ModelError> {
    let graph = Graph::build(&config.model).map_err(|e| ModelError::Wish(e.to_string()))?;
    let parameters = graph.params.iter().map(|param| param.shape.iter().product::<usize>() as u64);
    let (all, largest) = parameters.fold((0, 0), |(all, largest), count| (all + count, count.max(largest)));
    Ok(BYTES_A_PARAMETER * all + 4 * PACKED * largest + NETWORK_BYTES)
}

/// How this machine has a network's weights: all packed, if it has memory for that.
pub(crate) fn packed(config: &UNetConfig) -> Result<Packed, ModelError> {
    let parameters = Graph::build(config).map_err(|e| ModelError::Wish(e.to_string()))?.parameter_count();
    let room = sr3_worker::memory::most().map_or(u64::MAX, |room| room.limit);
    Ok(match BYTES_A_PARAMETER_PACKED * parameters as u64 <= room / SHARES {
        true => Packed::Once,
        false => Packed::WhereUsed,
    })
}

/// A wish as a device takes it: `auto` is f32 on any but the CPU.
fn on(wish: &Wish, device: Device) -> Wish {
    let dtype = match (device, wish.dtype) {
        (Device::CandleCpu | Device::Cuda(_), Dtype::Auto) => Dtype::F32,
        (_, dtype) => dtype,
    };
    Wish { dtype, ..wish.clone() }
}

fn resolved(
    config: &CheckpointConfig,
    recipe: &Recipe,
    wish: &Wish,
    looker: Option<Known>,
) -> Result<Resolved, ModelError> {
    let scale = wish.scale.map_or(config.scale, |scale| scale as usize);
    let digest = Digest::try_from(config.sha256.clone()).map_err(|e| ModelError::Broken(e.to_string()))?;
    Ok(Resolved {
        name: config.name.clone(),
        digest,
        preset: wish.preset.clone().unwrap_or_else(|| config.default_preset.clone()),
        sampling: sampling(recipe, scale),
        scale: scale as u32,
        memory_bytes: memory(config)?,
        looker,
    })
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

/// What decides a result besides the weights, spelt out: a preset's name alone would hide that its levels changed.
///
/// It is part of what results are recognised by, so its form never changes: a new choice may add words, and only where
/// it is made.
pub(crate) fn sampling(recipe: &Recipe, scale: usize) -> String {
    let Tile { size, overlap } = recipe.tile;
    let mut text =
        format!("{}, tiles {size}/{overlap}", steps_in_words(recipe.sampler, &recipe.noise_levels));
    if let Some((above, below)) = Passes::new(recipe.scale, scale).reduced_to() {
        text += &format!(", {above}/{below} between passes");
    }
    text
}

/// Of that, the sampler and its levels.
pub(crate) fn steps_in_words(sampler: Sampler, noise_levels: &[f64]) -> String {
    let sampler = match sampler {
        Sampler::Ancestral => "Ancestral".to_string(),
        Sampler::AncestralPosterior => "AncestralPosterior".to_string(),
        Sampler::AncestralLearned => "AncestralLearned".to_string(),
        Sampler::Ddim { eta } => format!("Ddim {{ eta: {} }}", number(eta)),
        Sampler::Dpmpp2m => "Dpmpp2m".to_string(),
    };
    let levels: Vec<_> = noise_levels.iter().copied().map(number).collect();
    format!("{sampler} at [{}]", levels.join(", "))
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
    use sr3_engine::model::bundled::Bundled;

    use super::*;

    #[test]
    fn the_canonical_form_of_sampling_is_pinned() {
        let bundled = Bundled::find("photo-4x").unwrap().config().unwrap();
        let request =
            |sampler: &str| Wish { steps: Some(2), sampler: Some(sampler.into()), ..Wish::default() };
        let mut made = recipe(&bundled, &request("ddim"), None).unwrap();
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
            made.sampler = recipe(&bundled, &request(name), None).unwrap().sampler;
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
