//! A stage: what its model does to a sample, opened on a device.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use sr3_engine::{
    augmentation::Augmentation,
    device::Device,
    diffusion::{NoiseSource, Objective},
    generator::{Generator, GeneratorRecipe, Wanted},
    image::{self, Channels, DecodeLimits, Metadata, OutputFormat, Planes},
    model::{
        Denoiser, Graph, Preset,
        checkpoint::{Checkpoint, CheckpointConfig},
        initial_weights,
    },
    ops::Precision,
    upscaler::{LowRes, Recipe, RecipeRequest, UpscaleError, Upscaler},
};
use sr3_worker::Stop;

use super::order::{GenerateOrder, StageOrder};
use crate::{
    Dtype,
    models::Library,
    upscale::{ModelError, engine_models},
};

/// What a stage does.
pub(super) enum Way {
    /// Makes pictures of noise.
    Make(Box<GeneratorRecipe>),
    /// Enlarges those that it is given.
    Enlarge(Box<Recipe>),
}

/// How a stage's model is to be used.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) preset: Option<&'a str>,
    pub(super) sampler: Option<&'a str>,
    pub(super) steps: Option<u64>,
    pub(super) guidance: f64,
    pub(super) truncated: f64,
    pub(super) projection: bool,
    pub(super) seed: u64,
    pub(super) precision: Precision,
}

impl Way {
    /// Of a model, in a stage that makes pictures of noise or enlarges.
    pub(super) fn new(config: &CheckpointConfig, makes: bool, asked: Asked<'_>) -> Result<Self, String> {
        let request = RecipeRequest {
            preset: asked.preset,
            sampler: asked.sampler,
            steps: asked.steps.map(|steps| steps as usize),
            tile: None,
            batch: None,
            // Every sample has its own.
            class: (config.model.classes > 0).then_some(0),
            seed: asked.seed,
            projection: asked.projection,
            precision: asked.precision,
        };
        // Of 255, and pictures are in [-1, 1].
        let noise = asked.truncated / 127.5;
        if noise > 0.0 && !makes && config.objective == Objective::Image && config.model.in_channel == 3 {
            return Err("makes pictures in one go: it cannot be stopped early".to_string());
        }
        match makes {
            true => {
                let recipe = GeneratorRecipe::new(config, &request, asked.guidance);
                let recipe = recipe.and_then(|recipe| Ok(recipe.truncated(noise)?));
                recipe.map(|recipe| Self::Make(Box::new(recipe))).map_err(|e| e.to_string())
            }
            false => {
                let recipe = Recipe::new(config, &request).and_then(|recipe| recipe.truncated(noise));
                recipe.map(|recipe| Self::Enlarge(Box::new(recipe))).map_err(|e| e.to_string())
            }
        }
    }

    /// Sampler and noise levels in force, spelt out.
    pub(super) fn sampling(&self) -> String {
        let (steps, end) = match self {
            Self::Make(recipe) => {
                (engine_models::steps_in_words(recipe.sampler, &recipe.noise_levels), recipe.end)
            }
            Self::Enlarge(recipe) => (engine_models::sampling(recipe, recipe.scale), recipe.end),
        };
        if end < 1.0 { format!("{steps} to {end}") } else { steps }
    }

    /// Evaluations of the network a sample.
    pub(super) fn evaluations(&self) -> usize {
        match self {
            Self::Make(recipe) => recipe.noise_levels.len() * if recipe.guidance == 1.0 { 1 } else { 2 },
            Self::Enlarge(recipe) => recipe.noise_levels.len(),
        }
    }
}

/// A stage with its model in memory.
pub struct OpenStage {
    checkpoint: Arc<Checkpoint>,
    way: Way,
    device: Device,
    precision: Precision,
    augmentation: Augmentation,
    seed: u64,
    told_class: bool,
}

/// What goes into a stage.
pub(super) struct Given {
    /// Names its noise.
    pub(super) key: String,
    /// What it shows, where the model is told.
    pub(super) class: Option<u32>,
    /// The picture that is enlarged, as a file.
    pub(super) picture: Option<Vec<u8>>,
}

impl OpenStage {
    /// Opens the model of a stage, which must be what it was where the job was accepted.
    ///
    /// # Errors
    /// One line.
    pub(super) fn open(
        order: &GenerateOrder,
        number: usize,
        library: &Library,
        device: Device,
    ) -> Result<Self, ModelError> {
        let stage = &order.stages[number];
        let checkpoint = library.checkpoint(&stage.model)?;
        let wrong = |text: String| ModelError::Wish(format!("model `{}` {text}", stage.model));
        if checkpoint.config.sha256 != stage.sha256.as_str() {
            return Err(wrong(format!(
                "has sha256 {} here and {} in the job: give every machine the same checkpoint",
                checkpoint.config.sha256, stage.sha256
            )));
        }
        let precision = stage.precision();
        let class = device.class(precision).map_err(|e| ModelError::Wish(e.to_string()))?;
        if class != stage.class {
            return Err(ModelError::Wish(format!(
                "this worker gives results of class `{class}`, and stage {} of the job has class `{}`",
                number + 1,
                stage.class
            )));
        }
        let makes = number == 0 && order.source.is_none();
        let way = Way::new(&checkpoint.config, makes, stage.asked(order.seed, precision)).map_err(wrong)?;
        if way.sampling() != stage.sampling {
            return Err(wrong(format!(
                "samples as `{}` here and as `{}` in the job: run the same sr3 on every machine",
                way.sampling(),
                stage.sampling
            )));
        }
        // The checkpoint counts blur in pixels of the large picture.
        let augmentation = Augmentation { blur: stage.blur / stage.scale as f64, noise: stage.noise };
        let (seed, told_class) = (order.seed, stage.told_class);
        Ok(Self { checkpoint, way, device, precision, augmentation, seed, told_class })
    }

    /// A stage of a plan: a published network whose weights are drawn. It takes the time of one that has learned.
    ///
    /// # Errors
    /// One line.
    pub(super) fn untrained(
        order: &GenerateOrder,
        number: usize,
        network: &Preset,
        device: Device,
    ) -> Result<Self, String> {
        let stage = &order.stages[number];
        let precision = stage.precision();
        let config = network.untrained();
        let makes = number == 0 && order.source.is_none();
        let way = Way::new(&config, makes, stage.asked(order.seed, precision))?;
        let graph = Graph::build(&config.model).map_err(|e| e.to_string())?;
        let checkpoint = Checkpoint::new(config, initial_weights(&graph, 0)).map_err(|e| e.to_string())?;
        let (checkpoint, augmentation) = (Arc::new(checkpoint), Augmentation::default());
        let (seed, told_class) = (order.seed, stage.told_class);
        Ok(Self { checkpoint, way, device, precision, augmentation, seed, told_class })
    }

    /// What its network is called on a device.
    pub(super) fn device_name(&self) -> String {
        format!("network {} in {} on {}", self.checkpoint.digest, self.precision, self.device)
    }

    /// The network, on its device.
    pub(super) fn open_device(&self) -> Result<Box<dyn Denoiser>, String> {
        let Checkpoint { config, weights, .. } = &*self.checkpoint;
        let packed = engine_models::packed(&config.model).map_err(|e| e.to_string())?;
        self.device.open(&config.model, weights, self.precision, packed).map_err(|e| e.to_string())
    }

    /// Seconds that one sample takes on this machine: one step of one is computed, twice, and the second counts. `side` is that of
    /// its picture.
    ///
    /// # Errors
    /// One line, where the network cannot be run.
    pub fn measure(&self, side: usize) -> Result<f64, String> {
        let mut network = self.open_device()?;
        let (levels, scale) = match &self.way {
            Way::Make(recipe) => (&recipe.noise_levels, 1),
            Way::Enlarge(recipe) => (&recipe.noise_levels, recipe.scale),
        };
        let last = levels[levels.len() - 1..].to_vec();
        let class = self.told_class.then_some(0);
        let small = (side / scale).max(1);
        let rgb: Vec<f32> = (0..3 * small * small).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let mut seconds = 0.0;
        for _ in 0..2 {
            let begun = Instant::now();
            let go_on = &mut |_| ControlFlow::Continue(());
            match &self.way {
                Way::Make(recipe) => {
                    let one =
                        GeneratorRecipe { noise_levels: last.clone(), guidance: 1.0, ..(**recipe).clone() };
                    let mut generator = Generator::new(&mut network, one).map_err(|e| e.to_string())?;
                    generator.generate(&[Wanted { key: "", class }], go_on).map_err(|e| e.to_string())?;
                }
                Way::Enlarge(recipe) => {
                    let one = Recipe { noise_levels: last.clone(), class, ..(**recipe).clone() };
                    let low = LowRes { width: small, height: small, rgb: &rgb, key: "", lossy: false };
                    let mut upscaler = Upscaler::new(&mut network, one).map_err(|e| e.to_string())?;
                    upscaler.upscale(&[low], go_on).map_err(|e| e.to_string())?;
                }
            }
            seconds = begun.elapsed().as_secs_f64();
        }
        Ok(seconds * self.way.evaluations() as f64)
    }

    /// What comes of some samples, as PNG, or why nothing does. `progress` hears the share that is done, and may end it.
    pub(super) fn run(
        &self,
        network: &mut Box<dyn Denoiser>,
        given: &[Given],
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<Result<Vec<u8>, String>>, Stop> {
        match &self.way {
            Way::Make(recipe) => {
                let [height, width] = recipe.size;
                let wanted: Vec<_> =
                    given.iter().map(|given| Wanted { key: &given.key, class: given.class }).collect();
                let mut generator = Generator::new(network, (**recipe).clone()).map_err(Stop::worker)?;
                let made = generator.generate(&wanted, progress).map_err(|error| match error {
                    sr3_engine::generator::GenerateError::Cancelled => Stop::Cancelled,
                    other => Stop::worker(other),
                })?;
                let file = |rgb: Option<Vec<f32>>| {
                    let rgb = rgb.ok_or("it holds values that are no numbers: check the model's weights")?;
                    png(width, height, rgb)
                };
                Ok(made.into_iter().map(file).collect())
            }
            Way::Enlarge(recipe) => {
                let count = given.len() as f64;
                let mut made = Vec::new();
                for (number, given) in given.iter().enumerate() {
                    let mut of_all = |share: f64| progress((number as f64 + share) / count);
                    made.push(match self.enlarge(network, recipe, given, &mut of_all) {
                        Ok(file) => Ok(file),
                        Err(Stop::Bad { reason }) => Err(reason),
                        Err(stop) => return Err(stop),
                    });
                }
                Ok(made)
            }
        }
    }

    fn enlarge(
        &self,
        network: &mut Box<dyn Denoiser>,
        recipe: &Recipe,
        given: &Given,
        progress: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<Vec<u8>, Stop> {
        let bad = |reason: String| Stop::Bad { reason };
        let bytes = given.picture.as_ref().ok_or_else(|| Stop::worker("a stage was given no picture"))?;
        let picture = image::decode(bytes, &DecodeLimits::default()).map_err(|e| bad(e.to_string()))?.picture;
        let Planes { width, height, mut rgb, .. } = image::to_planes(&picture);
        let augments = NoiseSource::new(self.seed, &format!("augmentation\u{0}{}", given.key));
        self.augmentation.apply(&mut rgb, [height, width], &augments);
        let recipe = Recipe { class: given.class.filter(|_| self.told_class), ..recipe.clone() };
        let low = LowRes { width, height, rgb: &rgb, key: &given.key, lossy: false };
        let mut upscaler = Upscaler::new(network, recipe).map_err(Stop::worker)?;
        let mut made = upscaler.upscale(&[low], progress).map_err(|error| match error {
            UpscaleError::Cancelled => Stop::Cancelled,
            other => bad(other.to_string()),
        })?;
        let made = made.pop().ok_or_else(|| Stop::worker("nothing was made"))?;
        png(made.width, made.height, made.rgb).map_err(bad)
    }
}

impl StageOrder {
    fn precision(&self) -> Precision {
        if self.dtype == Dtype::Bf16 { Precision::Bf16 } else { Precision::F32 }
    }

    /// How its model is to be used.
    pub(super) fn asked(&self, seed: u64, precision: Precision) -> Asked<'_> {
        Asked {
            preset: Some(&self.preset),
            sampler: self.sampler.as_deref(),
            steps: self.steps,
            guidance: self.guidance,
            truncated: self.truncated,
            projection: self.projection,
            seed,
            precision,
        }
    }
}

fn png(width: usize, height: usize, rgb: Vec<f32>) -> Result<Vec<u8>, String> {
    let planes = Planes { width, height, rgb, alpha: None };
    let picture = image::from_planes(&planes, Channels::Rgb, false, Metadata::default());
    image::encode(&picture, OutputFormat::Png, 100).map(|encoded| encoded.bytes).map_err(|e| e.to_string())
}
