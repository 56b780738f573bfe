//! How a network is used: what its checkpoint says, and what a user asked for instead.

use crate::diffusion::{LevelSpacing, LevelsError, NoiseSchedule, Objective, Sampler, Target, Tile};
use crate::model::Conditioning;
use crate::model::checkpoint::{CheckpointConfig, ResizeFilter, Upsample};
use crate::ops::Precision;
use crate::ops::resize::Filter;

use super::picture::RGB;

/// Tiles of networks whose checkpoint names none.
const TILE: Tile = Tile { size: 256, overlap: 32 };

/// Names of samplers, as the command and checkpoints spell them.
const SAMPLERS: [(&str, Sampler); 5] = [
    ("ddim", Sampler::Ddim { eta: 0.0 }),
    ("dpmpp_2m", Sampler::Dpmpp2m),
    ("ancestral", Sampler::Ancestral),
    ("ancestral_posterior", Sampler::AncestralPosterior),
    ("ancestral_learned", Sampler::AncestralLearned),
];

/// How a network is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// What the network predicts.
    pub objective: Objective,
    /// Of what.
    pub target: Target,
    /// Whether it says the variance of its steps beside that.
    pub learned_variance: bool,
    /// The process whose timesteps the network is told; none where it is told noise levels.
    pub timesteps: Option<NoiseSchedule>,
    /// How the input is enlarged.
    pub enlargement: Filter,
    /// How inputs are thought of as made: what results are projected for.
    pub reduction: Filter,
    /// How x_t is taken from level to level.
    pub sampler: Sampler,
    /// Noise levels at which the network is evaluated, rising.
    pub noise_levels: Vec<f64>,
    /// The level after the last: 1, or less of sampling that is stopped early.
    pub end: f64,
    /// Whether the estimated image is clamped to [-1, 1] in every step. The result always is.
    pub clamp: bool,
    /// Output pixels per input pixel and axis.
    pub scale: usize,
    /// How images that are larger than a tile are cut.
    pub tile: Tile,
    /// Tiles that the network is given at once. Changes speed and memory, never results.
    pub batch: usize,
    /// What the images show, counted from 0, where the network is told.
    pub class: Option<u32>,
    /// Seed of the job.
    pub seed: u64,
    /// Whether results are projected so that they reduce to their inputs.
    pub projection: bool,
    /// What the network's convolutions multiply, where it is run by this engine's own plan.
    pub precision: Precision,
}

/// What a user asks for. None means the checkpoint's own choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecipeRequest<'a> {
    /// One of the checkpoint's presets.
    pub preset: Option<&'a str>,
    /// Name of a sampler.
    pub sampler: Option<&'a str>,
    /// Number of network evaluations.
    pub steps: Option<usize>,
    /// Side of a tile in output pixels.
    pub tile: Option<usize>,
    /// Tiles at once.
    pub batch: Option<usize>,
    /// What the images show, counted from 0.
    pub class: Option<u32>,
    /// Seed of the job.
    pub seed: u64,
    /// Whether results are projected.
    pub projection: bool,
    /// What convolutions multiply.
    pub precision: Precision,
}

/// Why a request cannot be met. Every message is one line that says what would do.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The checkpoint has no such preset.
    #[error("the model has no preset {name}: take one of {known}")]
    Preset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// There is no such sampler.
    #[error("there is no sampler {name}: take one of {known}")]
    Sampler {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The network must be told a class, or that one is none of its own.
    #[error(
        "the model is told what an image shows: name a class from 0 to {last} with --class (in specs `class`)"
    )]
    Class {
        /// The last of its classes.
        last: usize,
    },
    /// It is told none.
    #[error("the model is not told what an image shows: leave the class out")]
    NoClasses,
    /// Nothing is left of the way.
    #[error("noise of deviation {deviation} is more than sampling begins with")]
    Truncated {
        /// What was asked for.
        deviation: f64,
    },
    /// It is the first stage of a cascade.
    #[error("the model makes pictures of noise, and enlarges none: `sr3 generate` samples from it")]
    MakesPictures,
    /// Levels cannot be spread over so many steps.
    #[error(transparent)]
    Levels(#[from] LevelsError),
    /// The network was trained on inputs that are enlarged in another way.
    #[error(
        "the model enlarges its input by {:?} with a = {}, {}: this build knows bicubic with a = -0.5 and bilinear, clamped to [-1, 1]",
        .found.filter,
        .found.a,
        clamp_in_words(.found.clamp)
    )]
    Upsample {
        /// What its checkpoint says.
        found: Upsample,
    },
}

fn clamp_in_words(clamp: Option<[f64; 2]>) -> String {
    clamp.map_or("not clamped".to_owned(), |[low, high]| format!("clamped to [{low}, {high}]"))
}

/// How x_t is taken from noise to picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// From level to level.
    pub sampler: Sampler,
    /// Noise levels at which the network is evaluated, rising; the level after the last is 1.
    pub noise_levels: Vec<f64>,
}

impl Sampling {
    /// The checkpoint's, with what a user asked for instead: of a request, its preset, sampler and steps.
    ///
    /// Another number of steps is spread evenly in log-SNR between the ends of the preset's levels.
    ///
    /// # Errors
    /// [`RecipeError`] where the request names what is not there.
    pub fn new(config: &CheckpointConfig, request: &RecipeRequest<'_>) -> Result<Self, RecipeError> {
        let name = request.preset.unwrap_or(&config.default_preset);
        let preset = config.presets.get(name).ok_or_else(|| RecipeError::Preset {
            name: name.to_string(),
            known: join(config.presets.keys().map(String::as_str)),
        })?;
        let sampler = match request.sampler {
            None => preset.sampler(),
            Some(name) => {
                let learned = config.model.learned_variance;
                let known = || SAMPLERS.iter().filter(|(_, s)| learned || *s != Sampler::AncestralLearned);
                known().find(|(known, _)| *known == name).map(|(_, sampler)| *sampler).ok_or_else(|| {
                    RecipeError::Sampler {
                        name: name.to_string(),
                        known: join(known().map(|(name, _)| *name)),
                    }
                })?
            }
        };
        let levels = preset.noise_levels();
        let noise_levels = match request.steps {
            Some(steps) if steps != levels.len() => respaced(levels, steps)?,
            _ => levels.to_vec(),
        };
        Ok(Self { sampler, noise_levels })
    }
}

impl Recipe {
    /// The checkpoint's way to sample, with what a user asked for instead.
    ///
    /// # Errors
    /// [`RecipeError`] where the request names what is not there.
    pub fn new(config: &CheckpointConfig, request: &RecipeRequest<'_>) -> Result<Self, RecipeError> {
        if config.model.in_channel == RGB && config.scale == 1 {
            return Err(RecipeError::MakesPictures);
        }
        let upsample = &config.upsample;
        let enlargement = match upsample.filter {
            ResizeFilter::Bicubic if upsample.a == -0.5 => Some(Filter::Bicubic),
            ResizeFilter::Bilinear => Some(Filter::Bilinear),
            ResizeFilter::Bicubic | ResizeFilter::Area => None,
        };
        let enlargement = enlargement.filter(|_| upsample.clamp == Some([-1.0, 1.0]));
        let enlargement = enlargement.ok_or_else(|| RecipeError::Upsample { found: upsample.clone() })?;
        match (config.model.classes, request.class) {
            (0, None) => {}
            (0, Some(_)) => return Err(RecipeError::NoClasses),
            (classes, Some(class)) if (class as usize) < classes => {}
            (classes, _) => return Err(RecipeError::Class { last: classes - 1 }),
        }
        let Sampling { sampler, noise_levels } = Sampling::new(config, request)?;
        let own = config.tile.unwrap_or(TILE);
        let tile = request.tile.map_or(own, |size| Tile { size, overlap: own.overlap.min(size / 4) });
        Ok(Self {
            objective: config.objective,
            target: config.x0_target(),
            learned_variance: config.model.learned_variance,
            timesteps: match config.model.layout.conditioning() {
                Conditioning::NoiseLevel => None,
                Conditioning::Timestep => config.noise_schedule.process(),
            },
            enlargement,
            reduction: match config.degradation.downsample {
                ResizeFilter::Area => Filter::Area,
                ResizeFilter::Bicubic | ResizeFilter::Bilinear => Filter::Bicubic,
            },
            sampler,
            noise_levels,
            end: 1.0,
            clamp: true,
            scale: config.scale,
            tile,
            batch: request.batch.unwrap_or(DEFAULT_BATCH),
            class: request.class,
            seed: request.seed,
            projection: request.projection,
            precision: request.precision,
        })
    }

    /// Stopped early, where noise of `deviation`, in pictures of [-1, 1], is left on the results. They are not to be projected:
    /// that would take noise away. 0 leaves the recipe as it is.
    ///
    /// # Errors
    /// The network begins with less noise than that.
    pub fn truncated(mut self, deviation: f64) -> Result<Self, RecipeError> {
        let on_x0 = match self.target {
            Target::Image => deviation,
            Target::Residual { scale } => deviation * f64::from(scale),
        };
        self.end = stop_early(&mut self.noise_levels, on_x0)?;
        Ok(self)
    }
}

/// Leaves of the levels those before the one at which noise of `deviation` is on x_0, and says which that is.
pub(crate) fn stop_early(noise_levels: &mut Vec<f64>, deviation: f64) -> Result<f64, RecipeError> {
    // x_t / a is x_0 with noise of deviation sqrt(1 - a²) / a on it.
    let end = 1.0 / (1.0 + deviation * deviation).sqrt();
    noise_levels.retain(|level| *level < end);
    match noise_levels.is_empty() {
        true => Err(RecipeError::Truncated { deviation }),
        false => Ok(end),
    }
}

/// Tiles at once where nothing is asked for: work for two cores even where tiles are small, in little memory.
const DEFAULT_BATCH: usize = 2;

/// The same range of levels in another number of steps.
fn respaced(levels: &[f64], steps: usize) -> Result<Vec<f64>, LevelsError> {
    let log_snr = |level: f64| {
        // A network may be asked at level 1 itself, whose log-SNR has no number: stop just short of it.
        let level = level.min(1.0 - 1e-9);
        2.0 * libm::log(level) - libm::log((1.0 - level) * (1.0 + level))
    };
    let (first, last) = (levels[0], levels[levels.len() - 1]);
    if levels.len() == 1 && steps > 1 {
        // A one-step preset names no end: go as far on the clean side as it starts on the noisy one.
        return LevelSpacing::LogSnr { first: log_snr(first), last: -log_snr(first) }.levels(steps);
    }
    LevelSpacing::LogSnr { first: log_snr(first), last: log_snr(last) }.levels(steps)
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
