//! What a training job does, resolved: every default spelt out.
//!
//! The [`Recipe`] is what decides the weights, to the bit. All else (how often something is written, how many workers) may
//! change between one part of a run and the next.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::{
    diffusion::{LevelDraw, Loss, Objective, Target},
    model::{
        Conditioning, UNetConfig,
        checkpoint::{Degradation, NoiseSchedule},
    },
    ops::Precision,
    train::{
        AdamConfig, Crop, Decay, LearningRate, Noise, Orientations, Preprocessing, Task, TrainingLevels,
        TrainingLevelsError,
    },
};
use sr3_proto::{
    Digest, Head, Location, Needs, Order, StoreError,
    order::{ModelName, Place},
};

use super::choice::{
    CropName, DecayName, GradientsName, LabelsName, LossName, ObjectiveName, OrientationsName, TargetName,
};
use crate::{Dtype, Selection, envelope};

/// Version of the order's canonical form.
const VERSION: u32 = 1;

/// Train a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainOrder {
    /// Where the pictures lie, as the user named it.
    pub source: String,
    /// Where those lie that are only validated with.
    pub validation_source: Option<String>,
    /// Where everything goes.
    pub destination: String,
    /// What decides the weights.
    pub recipe: Recipe,
    /// Steps of the run.
    pub steps: u64,
    /// Steps between validations, and pictures and samples of each.
    pub validation_every: u64,
    /// Pictures whose loss is taken.
    pub validation_pictures: u64,
    /// Pictures that are sampled.
    pub validation_samples: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// So many are kept.
    pub keep: u64,
    /// Steps between lines of the curve.
    pub log_every: u64,
    /// Steps in a row that may be left out.
    pub skips_max: u64,
    /// Whether a grain a step is computed twice.
    #[serde(default)]
    pub audit: bool,
    /// Fewest and most workers.
    pub workers: [u64; 2],
    /// What the model is called.
    pub model_name: String,
    /// Written into the models.
    pub licence: String,
    /// Written into the models.
    pub credits: Vec<String>,
    /// Memory that a member takes, in bytes, estimated.
    pub memory_bytes: u64,
}

/// What decides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Of the order in which gradients are summed up.
    pub tree: u32,
    /// Which pictures.
    pub selection: Selection,
    /// Share of the source that is not learned from.
    pub validation_fraction: f64,
    /// Side of what is made.
    pub high_res: u64,
    /// Side of what it is made from; 0 where it is made of noise alone.
    pub low_res: u64,
    /// What a picture shows. Recipes without have the digest that they had before there was such a thing, here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsName>,
    /// How many labels there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub classes: u64,
    /// Share of the samples whose label is kept from the network.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub label_dropout: f64,
    /// Which square.
    pub crop: CropName,
    /// Turned how.
    pub orientations: OrientationsName,
    /// Shorter sides are left out.
    pub short_side_min: u64,
    /// Blur before the reduction.
    pub blur: Option<[f64; 2]>,
    /// Sizes on the way to the reduction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<[f64; 2]>,
    /// Noise after it.
    pub noise: Option<[f64; 2]>,
    /// JPEG qualities after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg: Option<[u8; 2]>,
    /// The network.
    pub model: UNetConfig,
    /// What it begins with; drawn where there is none.
    pub init_from: Option<InitFrom>,
    /// State to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<ResumeFrom>,
    /// What is predicted.
    pub objective: ObjectiveName,
    /// What is denoised.
    pub target: TargetName,
    /// Factor of the residual.
    pub residual_scale: f64,
    /// How far a prediction is off.
    pub loss: LossName,
    /// At which noise levels.
    pub noise_schedule: NoiseSchedule,
    /// Drawn how.
    pub level_draw: LevelDraw,
    /// Samples of a step.
    pub batch: u64,
    /// Parts that are summed up.
    pub grains: u64,
    /// Samples that are computed at once.
    pub microbatch: u64,
    /// Adam's.
    pub learning_rate: f64,
    /// Steps of its rise.
    pub warmup: u64,
    /// Its fall.
    pub decay: DecayName,
    /// Steps over which it falls; 0 where it does not.
    pub decay_steps: u64,
    /// Adam's.
    pub betas: [f64; 2],
    /// Adam's.
    pub eps: f64,
    /// AdamW's.
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip: Option<f64>,
    /// Half-lives, in samples.
    pub averages: Vec<u64>,
    /// What convolutions multiply.
    pub dtype: Dtype,
    /// The class of bits.
    pub class: String,
    /// What gradients are summed up in.
    pub gradients: GradientsName,
    /// Of everything that is drawn.
    pub seed: u64,
    /// Pictures to be learned by heart.
    pub overfit: Option<u64>,
}

/// What a network makes of what, for people.
pub fn sizes(low_res: Option<u64>, high_res: u64) -> String {
    match low_res {
        Some(low_res) => format!("{low_res}→{high_res}"),
        None => format!("{high_res} from noise"),
    }
}

/// Weights to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFrom {
    /// As the user named them.
    pub reference: String,
    /// Digest of their file.
    pub sha256: Digest,
}

/// A state to go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeFrom {
    /// The checkpoint's folder, as the user named it.
    pub reference: String,
    /// Digest of its weights.
    pub weights_sha256: String,
}

impl TrainOrder {
    /// Its envelope.
    ///
    /// # Errors
    /// Its places cannot be places.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, StoreError> {
        let mut places = Vec::new();
        for (what, location, writes) in [
            ("source", Some(&self.source), false),
            ("validation_source", self.validation_source.as_ref(), false),
            ("destination", Some(&self.destination), true),
            ("resume_from", self.recipe.resume_from.as_ref().map(|from| &from.reference), false),
        ] {
            if let Some(location) = location {
                places.push(Place { what: what.into(), location: location.parse::<Location>()?, writes });
            }
        }
        let init = self.recipe.init_from.iter();
        let head = Head {
            name,
            priority,
            places,
            models: init.map(|i| ModelName { name: i.reference.clone(), sha256: i.sha256.clone() }).collect(),
            needs: Needs { class: self.recipe.class.clone(), memory_bytes: self.memory_bytes },
            bad_items_max: None,
        };
        let payload = Bytes::from(envelope::write(VERSION, self));
        Ok(Order { kind: super::NAME.into(), head, payload })
    }

    /// What an envelope of this kind holds.
    ///
    /// # Errors
    /// One line: it is of another version.
    pub fn read(order: &Order) -> Result<Self, String> {
        envelope::read(super::NAME, VERSION, &order.payload)
    }

    /// The learning rate of every step.
    pub fn learning_rate(&self) -> LearningRate {
        let Recipe { learning_rate, warmup, decay, decay_steps, .. } = self.recipe;
        let decay = match decay {
            DecayName::Constant => Decay::Constant,
            DecayName::Cosine => Decay::Cosine,
            DecayName::Linear => Decay::Linear,
        };
        LearningRate { peak: learning_rate, warmup, decay, steps: decay_steps }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_nothing(value: &f64) -> bool {
    *value == 0.0
}

impl Recipe {
    /// Names it among others: runs of one recipe, on the same pictures, have the same weights after as many steps.
    pub fn digest(&self) -> Digest {
        // Strings, numbers and lists of them always have a JSON form.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Samples of a grain.
    pub const fn grain(&self) -> u64 {
        self.batch / self.grains
    }

    /// What is done to every picture.
    pub fn preprocessing(&self) -> Preprocessing {
        Preprocessing {
            high_res: self.high_res as usize,
            low_res: Some(self.low_res as usize).filter(|side| *side > 0),
            crop: match self.crop {
                CropName::Centre => Crop::Centre,
                CropName::Random => Crop::Random,
            },
            orientations: match self.orientations {
                OrientationsName::One => Orientations::One,
                OrientationsName::Flip => Orientations::Flip,
                OrientationsName::Eight => Orientations::Eight,
            },
            degradation: self.degradation(),
        }
    }

    /// What the small pictures may look like.
    pub fn degradation(&self) -> Degradation {
        let Self { blur, resize, noise, jpeg, .. } = *self;
        Degradation { blur, resize, noise, jpeg, ..Degradation::PAPER }
    }

    /// What is learned.
    ///
    /// # Errors
    /// Training does not know its schedule.
    pub fn task(&self) -> Result<Task, TrainingLevelsError> {
        let noise = match self.model.layout.conditioning() {
            Conditioning::NoiseLevel => {
                Noise::Levels(TrainingLevels::new(&self.noise_schedule, self.level_draw)?)
            }
            Conditioning::Timestep => {
                let process = self.noise_schedule.process();
                Noise::Timesteps(Arc::new(process.ok_or(TrainingLevelsError::NoTimesteps)?))
            }
        };
        Ok(Task {
            low_res: self.low_res > 0,
            objective: self.objective(),
            target: self.target(),
            loss: match self.loss {
                LossName::L1 => Loss::L1,
                LossName::L2 => Loss::L2,
            },
            noise,
            classes: self.model.classes,
            label_dropout: self.label_dropout,
            learned_variance: self.model.learned_variance,
        })
    }

    /// What is made of what, for people.
    pub fn sizes(&self) -> String {
        sizes(Some(self.low_res).filter(|side| *side > 0), self.high_res)
    }

    /// What is predicted; none by a regression.
    pub fn objective(&self) -> Option<Objective> {
        match self.objective {
            ObjectiveName::Noise => Some(Objective::Noise),
            ObjectiveName::Image => Some(Objective::Image),
            ObjectiveName::V => Some(Objective::V),
            ObjectiveName::Regression => None,
        }
    }

    /// What x_0 is.
    pub fn target(&self) -> Target {
        match self.target {
            TargetName::Image => Target::Image,
            TargetName::Residual => Target::Residual { scale: self.residual_scale as f32 },
        }
    }

    /// A loss beyond this is of a network that has come apart: what it should say is of the order of one, or of the residual's
    /// scale.
    pub fn loss_max(&self) -> f64 {
        let size = match self.target() {
            Target::Image => 1.0,
            Target::Residual { scale } => f64::from(scale).max(1.0),
        };
        1e3 * size * size
    }

    /// How Adam steps.
    pub fn adam(&self) -> AdamConfig {
        AdamConfig {
            betas: self.betas,
            eps: self.eps,
            weight_decay: self.weight_decay,
            gradient_norm_max: self.clip,
            half_lives: self.averages.iter().map(|samples| *samples as f64).collect(),
        }
    }

    /// What convolutions multiply.
    pub fn precision(&self) -> Precision {
        if self.dtype == Dtype::Bf16 { Precision::Bf16 } else { Precision::F32 }
    }
}
