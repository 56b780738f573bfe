//! From a spec to an order: names to digests, defaults spelt out, and what cannot be found out before anything begins.

use sr3_engine::{
    diffusion::LevelDraw,
    model::{
        Conditioning, CpuUNet, UNetConfig,
        checkpoint::{CheckpointConfig, NoiseSchedule},
        presets,
    },
    ops::Precision,
};
use sr3_proto::Digest;

use super::{
    choice::{DecayName, LevelDrawName, LossName, ObjectiveName, TargetName},
    order::{InitFrom, Recipe, ResumeFrom, TrainOrder},
    spec::{ModelField, NumbersMap, TrainSpec},
};
use crate::{models::Library, upscale::Bits};

/// Version of the order in which gradients are summed up.
const TREE: u32 = 1;
/// So many checkpoints a run has, where nobody says.
const CHECKPOINTS: u64 = 10;

/// What is wrong with a spec: the field, and why.
pub(super) type Wrong = (&'static str, String);

/// What a spec comes to, with these bits. May block.
///
/// # Errors
/// [`Wrong`].
pub(super) fn resolve(spec: &TrainSpec, library: &Library, bits: &Bits) -> Result<TrainOrder, Wrong> {
    let t = &spec.train;
    let init = match &t.init_from {
        Some(reference) => {
            let config = library.config(reference).map_err(|e| ("init_from", e.to_string()))?;
            let sha256 = Digest::try_from(config.sha256.clone()).map_err(|e| ("init_from", e.to_string()))?;
            Some((InitFrom { reference: reference.clone(), sha256 }, config))
        }
        None => None,
    };
    let model = network(spec)?;
    if let Some((_, config)) = &init
        && !same_weights(config, &model)
    {
        let message = "it is another network than `model`: take the model's own configuration".to_string();
        return Err(("init_from", message));
    }
    let resume_from = resume_from(t.resume_from.as_deref(), library, &model)?;
    let told_timesteps = model.layout.conditioning() == Conditioning::Timestep;
    let noise_schedule = match &t.noise_schedule {
        None if told_timesteps => NoiseSchedule::Cosine { timesteps: 1000, s: 0.008 },
        None => NoiseSchedule::Linear { start: 1e-6, end: 0.01, timesteps: 2000 },
        Some(NumbersMap(map)) => serde_json::from_value(serde_json::Value::Object(map.clone()))
            .map_err(|e| ("noise_schedule", e.to_string()))?,
    };
    let steps = t.steps.unwrap_or_else(|| t.samples.unwrap_or(0) / t.batch);
    if steps == 0 {
        return Err(("steps", "it is 0: nothing would be learned".to_string()));
    }
    let grains = spec.grains();
    let fraction = if t.validation_source.is_some() { 0.0 } else { t.validation_fraction.unwrap_or(0.0) };
    let checkpoint_every = t.checkpoint_every.unwrap_or_else(|| steps.div_ceil(CHECKPOINTS)).max(1);
    let loss = loss(t.loss, model.learned_variance)?;
    let recipe = Recipe {
        tree: TREE,
        selection: spec.selection.clone(),
        validation_fraction: fraction,
        high_res: t.high_res,
        low_res: t.low_res.unwrap_or(0),
        labels: t.labels,
        classes: t.classes.unwrap_or(0),
        label_dropout: t.label_dropout,
        crop: t.crop,
        orientations: t.orientations,
        short_side_min: t.short_side_min.unwrap_or(t.high_res).max(t.high_res),
        blur: t.blur,
        resize: t.resize,
        noise: t.noise,
        jpeg: t.jpeg.map(|range| range.map(|quality| quality as u8)),
        model,
        init_from: init.map(|(init, _)| init),
        resume_from,
        objective: t.objective,
        target: t.target,
        residual_scale: if t.target == TargetName::Residual { t.residual_scale } else { 1.0 },
        loss,
        noise_schedule,
        level_draw: match t.level_draw {
            LevelDrawName::Gamma => LevelDraw::Gamma,
            LevelDrawName::NoiseLevel => LevelDraw::NoiseLevel,
        },
        batch: t.batch,
        grains,
        microbatch: t.microbatch.unwrap_or(t.batch / grains),
        learning_rate: t.learning_rate,
        warmup: t.warmup,
        decay: t.decay,
        decay_steps: if t.decay == DecayName::Constant { 0 } else { steps },
        betas: t.betas,
        eps: t.eps,
        weight_decay: t.weight_decay,
        clip: t.clip,
        averages: t.averages.clone(),
        dtype: bits.dtype,
        class: bits.class.clone(),
        gradients: t.gradients,
        seed: t.seed,
        overfit: t.overfit,
    };
    recipe.task().map_err(|e| ("noise_schedule", e.to_string()))?;
    let memory_bytes = memory(&recipe).map_err(|e| ("model", e))?;
    Ok(TrainOrder {
        source: t.source.clone(),
        validation_source: t.validation_source.clone(),
        destination: t.destination.clone(),
        recipe,
        steps,
        validation_every: t.validation_every.unwrap_or(checkpoint_every).max(1),
        validation_pictures: t.validation_pictures,
        // SSIM looks through a window of 11 pixels.
        validation_samples: if t.high_res < 11 { 0 } else { t.validation_samples.min(t.validation_pictures) },
        checkpoint_every,
        keep: t.keep,
        log_every: t.log_every,
        skips_max: t.skips_max,
        audit: t.audit,
        workers: [t.workers_min, t.workers_max.unwrap_or(grains)],
        model_name: t.name.clone().unwrap_or_else(|| {
            t.low_res.map_or(format!("sr3-{}", t.high_res), |low_res| format!("sr3-{low_res}-{}", t.high_res))
        }),
        licence: t.licence.clone(),
        credits: t.credits.clone(),
        memory_bytes,
    })
}

/// The state of another run to go on from: what its own weights are called names them.
fn resume_from(
    reference: Option<&str>,
    library: &Library,
    model: &UNetConfig,
) -> Result<Option<ResumeFrom>, Wrong> {
    let Some(reference) = reference else { return Ok(None) };
    let wrong = |message: String| ("resume_from", message);
    let config = library.config(&format!("{}/weights", reference.trim_end_matches('/')));
    let config = config.map_err(|e| wrong(format!("it is no checkpoint of a training run: {e}")))?;
    if !same_weights(&config, model) {
        return Err(wrong("it is of another network than `model`".to_string()));
    }
    let Some(provenance) = config.provenance else {
        return Err(wrong("its `weights/config.json` does not say where it comes from".to_string()));
    };
    Ok(Some(ResumeFrom { reference: reference.to_string(), weights_sha256: provenance.source_sha256 }))
}

/// The loss that is taken: a learned variance has its own.
fn loss(asked: Option<LossName>, learned_variance: bool) -> Result<LossName, Wrong> {
    match (asked, learned_variance) {
        (Some(LossName::L1), true) => Err((
            "loss",
            "the network learns the variance of its steps, which goes with l2: leave it out, or give the model \
             `learned_variance: false`"
                .to_string(),
        )),
        (asked, true) => Ok(asked.unwrap_or(LossName::L2)),
        (asked, false) => Ok(asked.unwrap_or_default()),
    }
}

/// The network of a spec.
fn network(spec: &TrainSpec) -> Result<UNetConfig, Wrong> {
    let t = &spec.train;
    let wrong = |message: String| ("model", message);
    let mut model = match &t.model {
        ModelField::Preset(name) => {
            let all = presets();
            let names: Vec<_> = all.iter().map(|preset| preset.name).collect();
            let found = all.iter().find(|preset| preset.name == name);
            let unknown = || format!("there is no preset `{name}`: take one of {}", names.join(", "));
            found.ok_or_else(|| wrong(unknown()))?.config.clone()
        }
        ModelField::Inline(NumbersMap(map)) => {
            let mut map = map.clone();
            // What follows from the rest of the spec need not be said again.
            map.entry("in_channel").or_insert(channels(spec).into());
            let learned = map.get("learned_variance").is_some_and(|learned| learned == true);
            map.entry("out_channel").or_insert(if learned { 6 } else { 3 }.into());
            if let Some(classes) = classes(spec) {
                map.entry("classes").or_insert(classes.into());
            }
            map.entry("layout").or_insert("paper".into());
            map.entry("attn_res").or_insert(serde_json::json!([]));
            map.entry("image_size").or_insert(t.high_res.into());
            serde_json::from_value(serde_json::Value::Object(map)).map_err(|e| wrong(e.to_string()))?
        }
    };
    if matches!(t.model, ModelField::Preset(_)) {
        model.in_channel = channels(spec);
        model.classes = classes(spec).unwrap_or(0) as usize;
    }
    model.validate().map_err(|e| wrong(e.to_string()))?;
    let [inputs, outputs] = [channels(spec), if model.learned_variance { 6 } else { 3 }];
    if model.in_channel != inputs || model.out_channel != outputs {
        return Err(wrong(format!(
            "it takes {} channels and makes {}: this objective needs {inputs} and {outputs}",
            model.in_channel, model.out_channel
        )));
    }
    let told = classes(spec).unwrap_or(0);
    if model.classes as u64 != told {
        let any = if t.label_dropout > 0.0 { ", and one more stands for any" } else { "" };
        let labels = t.classes.unwrap_or(0);
        let found = model.classes;
        return Err(wrong(format!("it is told {found} classes: there are {labels} labels{any}")));
    }
    let told_timesteps = model.layout.conditioning() == Conditioning::Timestep;
    if told_timesteps && t.objective == ObjectiveName::Regression {
        return Err(wrong(format!(
            "a regression knows no timesteps, which the layout {} is told",
            model.layout
        )));
    }
    if model.learned_variance && (!told_timesteps || t.objective != ObjectiveName::Noise) {
        let message = "a network learns the variance of its steps in the layouts adm and iddpm, where it predicts noise";
        return Err(wrong(message.to_string()));
    }
    let multiple = model.size_multiple() as u64;
    if !t.high_res.is_multiple_of(multiple) {
        let message = format!(
            "it is {}: the network halves pictures {} times, so it must be a multiple of {multiple}",
            t.high_res,
            model.channel_mults.len() - 1
        );
        return Err(("high_res", message));
    }
    Ok(model)
}

fn channels(spec: &TrainSpec) -> usize {
    let t = &spec.train;
    3 * (usize::from(t.low_res.is_some()) + usize::from(t.objective != ObjectiveName::Regression))
}

/// Classes that the network is told apart: the labels, and one more that stands for any where some are kept from it.
fn classes(spec: &TrainSpec) -> Option<u64> {
    spec.train.classes.map(|classes| classes + u64::from(spec.train.label_dropout > 0.0))
}

/// Whether weights of one network are weights of another: dropout changes none.
fn same_weights(config: &CheckpointConfig, model: &UNetConfig) -> bool {
    let plain = |model: &UNetConfig| UNetConfig { dropout: 0.0, image_size: None, ..model.clone() };
    plain(&config.model) == plain(model)
}

/// Memory that a member takes, in bytes: weights, moments, averages, gradients of a tree, and a call of the network.
fn memory(recipe: &Recipe) -> Result<u64, String> {
    let (parameters, call) = CpuUNet::training_size(
        &recipe.model,
        [recipe.microbatch as usize, recipe.high_res as usize, recipe.high_res as usize],
        if recipe.dtype == crate::Dtype::Bf16 { Precision::Bf16 } else { Precision::F32 },
    )
    .map_err(|e| e.to_string())?;
    let levels = u64::from(recipe.grains.next_power_of_two().trailing_zeros()) + 1;
    // Weights, two moments, the reduced gradient and one on its way, beside those of the tree.
    let lists = 5 + levels + recipe.averages.len() as u64;
    Ok(4 * (lists * parameters as u64 + call as u64))
}

/// The largest microbatch with which a member needs no more than `bytes`.
pub(super) fn microbatch_that_fits(recipe: &Recipe, bytes: u64) -> Option<u64> {
    let fits = |n: &u64| memory(&Recipe { microbatch: *n, ..recipe.clone() }).is_ok_and(|m| m <= bytes);
    (1..recipe.microbatch).rev().filter(|n| recipe.grain().is_multiple_of(*n)).find(fits)
}
