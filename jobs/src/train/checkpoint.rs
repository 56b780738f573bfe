//! Checkpoints: whole before they are named, one set each.
//!
//! ```text
//! checkpoints/step-000000001000/state.safetensors         what a run goes on from
//! checkpoints/step-000000001000/weights/                  the model: config.json, model.safetensors
//! checkpoints/step-000000001000/average-500000/           the same of an average, for `sr3 upscale --model`
//! checkpoints/step-000000001000/checkpoint.json           written last: names all of them with their digests
//! ```
//!
//! Without its `checkpoint.json` a folder is no checkpoint. A member that is missing or is not what that names is an error
//! that says which. Nothing is read off names of files, and no number that is none is ever written.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sr3_engine::{
    diffusion::{LevelSpacing, Objective, Respacing},
    model::{
        Conditioning, Graph, UNetConfig, Weights,
        checkpoint::{
            Checkpoint, CheckpointConfig, FORMAT, Provenance, ResizeFilter, SamplerPreset, Target, Upsample,
        },
    },
    train::TrainingState,
};
use sr3_proto::{
    Digest, Key, Store, StoreError, off_thread,
    store::{ListEntry, PutMode},
};

use super::{
    curve::{self, History, Sums},
    index::{Pictures, key},
    order::{Recipe, TrainOrder},
    tensorboard,
};

const VERSION: u32 = 1;
const FOLDER: &str = "checkpoints";
const MANIFEST: &str = "checkpoint.json";
const STATE: &str = "state.safetensors";
/// Steps of the preset that a trained model has.
const SAMPLER_STEPS: usize = 50;

/// A checkpoint, as its manifest names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    version: u32,
    /// Steps done.
    pub step: u64,
    /// Samples done.
    pub samples: u64,
    /// sha256 of the weights.
    pub weights_sha256: String,
    /// Digest of the recipe.
    pub recipe: Digest,
    /// Digest of the index.
    pub index: Digest,
    /// Loss of the last validation, if there was one: the lowest is the best.
    pub validation_loss: Option<f64>,
    /// What the next row of the curve is made of.
    #[serde(default)]
    pub(super) sums: Sums,
    /// All files, by their names in its folder.
    pub members: Vec<MemberFile>,
}

/// A file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A member is not there.
    #[error(
        "checkpoint of step {step}: `{name}` is missing: remove the checkpoint's folder to go on from the one before"
    )]
    Missing {
        /// Of which step.
        step: u64,
        /// Which.
        name: String,
    },
    /// A member is not what the manifest names.
    #[error(
        "checkpoint of step {step}: `{name}` is damaged: {reason}; remove the checkpoint's folder to go on from the one before"
    )]
    Damaged {
        /// Of which step.
        step: u64,
        /// Which.
        name: String,
        /// How.
        reason: String,
    },
    /// It is of another run.
    #[error("checkpoint of step {step}: it is of another {what}: choose another destination")]
    Foreign {
        /// Of which step.
        step: u64,
        /// What differs.
        what: &'static str,
    },
    /// What was to be written is not fit for it.
    #[error("step {step}: {reason}")]
    Unfit {
        /// Of which step.
        step: u64,
        /// Why.
        reason: String,
    },
}

impl CheckpointInfo {
    /// Its folder at the destination.
    pub fn folder(&self) -> String {
        folder(self.step)
    }

    /// Folders of the models in it, the first the one to use.
    pub fn models(&self) -> Vec<String> {
        let config = |m: &&MemberFile| m.name.ends_with("/config.json");
        let mut models: Vec<_> = self
            .members
            .iter()
            .filter(config)
            .filter_map(|m| Some(format!("{}/{}", self.folder(), m.name.strip_suffix("/config.json")?)))
            .collect();
        models.sort_by_key(|model| !model.contains("/average-"));
        models
    }
}

fn folder(step: u64) -> String {
    format!("{FOLDER}/step-{step:012}")
}

/// Writes the checkpoint of a state, with what the run has to tell since the one before. Yields what names it.
pub(super) async fn write(
    store: &Store,
    order: &TrainOrder,
    pictures: &Pictures,
    state: TrainingState,
    History { rows, sums }: &History,
) -> Result<CheckpointInfo, CheckpointError> {
    let step = state.moments.step;
    let loss = rows.iter().rev().find_map(|row| row.validation.as_ref()).map(|v| v.loss_averaged);
    let (of, classes, samples) = (order.clone(), Arc::clone(&pictures.classes), state.moments.samples);
    let encoded = off_thread(move || encode(&of, &classes, &state)).await;
    let unfit = |reason: String| CheckpointError::Unfit { step, reason };
    let (weights_sha256, files) =
        encoded.map_err(|_| unfit("internal error while it was encoded".into()))?.map_err(unfit)?;
    let mut members = Vec::new();
    for (name, bytes) in files {
        let member = MemberFile { bytes: bytes.len() as u64, sha256: Digest::of(&bytes), name };
        store.put(&key(&format!("{}/{}", folder(step), member.name)), bytes, PutMode::Replace).await?;
        members.push(member);
    }
    // Somebody else may have written down some of it before he was lost.
    let before =
        checkpoints(store).await?.iter().map(|info| info.step).filter(|s| *s < step).max().unwrap_or(0);
    let new: Vec<_> = rows.iter().filter(|row| row.step > before).cloned().collect();
    curve::write(store, step, &new).await?;
    tensorboard::write(store, step, &new).await?;
    let info = CheckpointInfo {
        version: VERSION,
        step,
        samples,
        weights_sha256,
        recipe: order.recipe.digest(),
        index: pictures.index.clone(),
        validation_loss: loss,
        sums: *sums,
        members,
    };
    let manifest = key(&format!("{}/{MANIFEST}", folder(step)));
    let text = Bytes::from(serde_json::to_vec_pretty(&info).unwrap_or_default());
    match store.put(&manifest, text, PutMode::Create).await {
        // Somebody came to the same step before: the same weights, or one of the two is wrong.
        Err(StoreError::AlreadyExists { .. }) => match find(store, step).await? {
            Some(there) if there.weights_sha256 == info.weights_sha256 => Ok(there),
            _ => Err(unfit("another run has written this step's checkpoint, with other weights".into())),
        },
        other => Ok(other.map(|()| info)?),
    }
}

/// The state's file and those of its models; the weights' digest.
fn encode(
    order: &TrainOrder,
    classes: &[String],
    state: &TrainingState,
) -> Result<(String, Vec<(String, Bytes)>), String> {
    let weights_sha256 = state.weights_sha256();
    let graph = Graph::build(&order.recipe.model).map_err(|e| e.to_string())?;
    let mut files = vec![(STATE.to_string(), Bytes::from(state.encode().map_err(|e| e.to_string())?))];
    let lists = std::iter::once(("weights".to_string(), &state.weights)).chain(
        order
            .recipe
            .averages
            .iter()
            .zip(&state.moments.averages)
            .map(|(half_life, list)| (format!("average-{half_life}"), list)),
    );
    for (name, list) in lists {
        let config = model_config(order, classes, &name, state, &weights_sha256);
        let checkpoint = Checkpoint::new(config, named(&graph, list)).map_err(|e| e.to_string())?;
        for (file, bytes) in checkpoint.encode().map_err(|e| e.to_string())?.files {
            files.push((format!("{name}/{file}"), bytes.into()));
        }
    }
    Ok((weights_sha256, files))
}

/// Flat weights by their names.
pub(super) fn named(graph: &Graph, list: &[f32]) -> Weights {
    let mut at = 0;
    let mut take = |count: usize| {
        at += count;
        list[at - count..at].to_vec()
    };
    let of = |param: &sr3_engine::model::Param| {
        let values = take(param.shape.iter().product());
        (param.name.clone(), (param.shape.clone(), values))
    };
    graph.params.iter().map(of).collect()
}

/// What is written beside a model's weights.
fn model_config(
    order: &TrainOrder,
    classes: &[String],
    which: &str,
    state: &TrainingState,
    sha256: &str,
) -> CheckpointConfig {
    let recipe = &order.recipe;
    // How large its pictures are, nothing but this says.
    let size = (recipe.low_res == 0).then_some(recipe.high_res as usize);
    let presets = [("default".to_string(), preset(recipe, SAMPLER_STEPS))];
    CheckpointConfig {
        format: FORMAT.to_string(),
        name: printable_name(&order.model_name),
        // What makes pictures of noise enlarges none.
        scale: recipe.high_res.checked_div(recipe.low_res).unwrap_or(1) as usize,
        model: UNetConfig { image_size: recipe.model.image_size.or(size), ..recipe.model.clone() },
        objective: recipe.objective().unwrap_or(Objective::Image),
        target: match recipe.target() {
            sr3_engine::diffusion::Target::Image => Target::Image,
            sr3_engine::diffusion::Target::Residual { .. } => Target::Residual,
        },
        residual_scale: recipe.residual_scale,
        upsample: Upsample { filter: ResizeFilter::Bicubic, a: -0.5, clamp: Some([-1.0, 1.0]) },
        degradation: recipe.degradation(),
        noise_schedule: recipe.noise_schedule.clone(),
        tile: None,
        presets: presets.into_iter().collect(),
        default_preset: "default".to_string(),
        class_names: classes.to_vec(),
        any_class: recipe.label_dropout > 0.0,
        licence: order.licence.clone(),
        credits: order.credits.clone(),
        sha256: String::new(),
        provenance: Some(Provenance {
            source: format!(
                "{which} after {} steps ({} samples) of recipe {}",
                state.moments.step,
                state.moments.samples,
                recipe.digest().short()
            ),
            source_sha256: sha256.to_string(),
        }),
    }
}

/// How a trained model is sampled from where nobody says: levels even in log-SNR, or timesteps evenly apart of the process
/// whose timesteps it was told.
pub(super) fn preset(recipe: &Recipe, steps: usize) -> SamplerPreset {
    let process = match recipe.model.layout.conditioning() {
        Conditioning::Timestep => recipe.noise_schedule.process(),
        Conditioning::NoiseLevel => None,
    };
    if let Some(process) = process {
        let steps = steps.min(process.timesteps());
        // As many as are asked for of all of them always are.
        let kept = Respacing::Sections(vec![steps]).timesteps(process.timesteps()).unwrap_or_default();
        let noise_levels = kept.iter().rev().map(|timestep| process.noise_level(timestep + 1)).collect();
        return match recipe.model.learned_variance {
            true => SamplerPreset::AncestralLearned { noise_levels },
            false => SamplerPreset::Ddim { eta: 0.0, noise_levels },
        };
    }
    // A regression looks once.
    let steps = if recipe.objective().is_some() { steps } else { 1 };
    let levels = LevelSpacing::LogSnr { first: -7.0, last: 9.0 }.levels(steps);
    SamplerPreset::Ddim { eta: 0.0, noise_levels: levels.unwrap_or_else(|_| vec![0.5]) }
}

fn printable_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ') { c } else { '-' };
    name.chars().take(100).map(plain).collect()
}

/// The checkpoint of a step, if there is one.
pub(super) async fn find(store: &Store, step: u64) -> Result<Option<CheckpointInfo>, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { step, name: MANIFEST.to_string(), reason };
    match store.get(&key(&format!("{}/{MANIFEST}", folder(step)))).await {
        Ok((_, bytes)) => {
            let info: CheckpointInfo = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
            if info.version != VERSION {
                return Err(damaged(format!(
                    "it has version {}, and version {VERSION} is read",
                    info.version
                )));
            }
            Ok(Some(info))
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// All checkpoints at a destination, the oldest first. What has no manifest is none.
///
/// # Errors
/// The store's.
pub async fn checkpoints(store: &Store) -> Result<Vec<CheckpointInfo>, StoreError> {
    let entries: Vec<ListEntry> = store.list_under(&key(FOLDER)).try_collect().await?;
    let mut found = Vec::new();
    for entry in entries {
        if let ListEntry::Object(info) = entry
            && info.key.name() == MANIFEST
        {
            let (_, bytes) = store.get(&info.key).await?;
            found.extend(serde_json::from_slice::<CheckpointInfo>(&bytes).ok());
        }
    }
    found.sort_by_key(|info| info.step);
    Ok(found)
}

/// The state of a checkpoint, verified.
pub(super) async fn load(
    store: &Store,
    info: &CheckpointInfo,
    order: &TrainOrder,
    index: &Digest,
) -> Result<TrainingState, CheckpointError> {
    let step = info.step;
    for (what, same) in
        [("recipe", info.recipe == order.recipe.digest()), ("set of pictures", info.index == *index)]
    {
        if !same {
            return Err(CheckpointError::Foreign { step, what });
        }
    }
    let mut state = None;
    for member in &info.members {
        let bytes = match store.get(&key(&format!("{}/{}", folder(step), member.name))).await {
            Ok((_, bytes)) => bytes,
            Err(StoreError::NotFound { .. }) => {
                return Err(CheckpointError::Missing { step, name: member.name.clone() });
            }
            Err(error) => return Err(error.into()),
        };
        if Digest::of(&bytes) != member.sha256 {
            let reason = format!("its sha256 is not {}", member.sha256.short());
            return Err(CheckpointError::Damaged { step, name: member.name.clone(), reason });
        }
        if member.name == STATE {
            state = Some(bytes);
        }
    }
    let bytes = state.ok_or_else(|| CheckpointError::Missing { step, name: STATE.to_string() })?;
    decode(&bytes, &order.recipe, step, &info.weights_sha256)
}

/// The state of another run's checkpoint, verified; `store` is its folder.
pub(super) async fn load_of_another(
    store: &Store,
    recipe: &Recipe,
    weights_sha256: &str,
) -> Result<TrainingState, CheckpointError> {
    let (_, bytes) = store.get(&key(MANIFEST)).await?;
    let damaged = |step: u64, name: &str, reason: String| CheckpointError::Damaged {
        step,
        name: name.to_string(),
        reason,
    };
    let info: CheckpointInfo =
        serde_json::from_slice(&bytes).map_err(|e| damaged(0, MANIFEST, e.to_string()))?;
    let step = info.step;
    let (_, bytes) = store.get(&key(STATE)).await?;
    let named = info.members.iter().any(|member| member.name == STATE && member.sha256 == Digest::of(&bytes));
    if !named || info.weights_sha256 != weights_sha256 {
        return Err(damaged(step, STATE, "it is not what it was when the job was submitted".into()));
    }
    decode(&bytes, recipe, step, weights_sha256)
}

/// A checkpoint's state from its bytes.
fn decode(bytes: &[u8], recipe: &Recipe, step: u64, sha256: &str) -> Result<TrainingState, CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged { step, name: STATE.to_string(), reason };
    let graph = Graph::build(&recipe.model).map_err(|e| damaged(e.to_string()))?;
    let (parameters, averages) = (graph.parameter_count(), recipe.averages.len());
    let state = TrainingState::decode(bytes, parameters, averages).map_err(|e| damaged(e.to_string()))?;
    match state.moments.step == step && state.weights_sha256() == sha256 {
        true => Ok(state),
        false => Err(damaged("it is of another step".into())),
    }
}

/// Removes old checkpoints: the newest `keep` stay, and the best.
pub(super) async fn prune(store: &Store, keep: u64) -> Result<(), StoreError> {
    let all = checkpoints(store).await?;
    let loss = |info: &&CheckpointInfo| info.validation_loss.filter(|loss| loss.is_finite());
    let best = all
        .iter()
        .filter(|info| loss(info).is_some())
        .min_by(|a, b| loss(a).unwrap_or(f64::MAX).total_cmp(&loss(b).unwrap_or(f64::MAX)))
        .map(|info| info.step);
    let old = all.len().saturating_sub(keep as usize);
    for info in all[..old].iter().filter(|info| Some(info.step) != best) {
        remove(store, info).await?;
    }
    Ok(())
}

/// Removes the checkpoints after a step: what they hold is not to be trusted.
pub(super) async fn take_back(store: &Store, step: u64) -> Result<(), StoreError> {
    for info in checkpoints(store).await?.iter().filter(|info| info.step > step) {
        tracing::warn!("checkpoint {} may hold wrong sums: it is removed", info.folder());
        remove(store, info).await?;
    }
    Ok(())
}

async fn remove(store: &Store, info: &CheckpointInfo) -> Result<(), StoreError> {
    // What names it first: what is left then is no checkpoint.
    store.delete(&key(&format!("{}/{MANIFEST}", info.folder()))).await?;
    for member in &info.members {
        // What is no key names nothing.
        if let Ok(name) = Key::new(format!("{}/{}", info.folder(), member.name)) {
            store.delete(&name).await?;
        }
    }
    Ok(())
}
