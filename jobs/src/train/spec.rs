//! What a person writes to have a network trained.
//!
//! Fields have the names that trainers give them; what other tools call them is known too, and said where it is used. Every
//! default is spelt out in the order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sr3_proto::{
    Location, SpecError,
    job_spec::{Document, check, fields_of},
};

use super::cascade;
use super::choice::{
    CropName, DecayName, GradientsName, LabelsName, LevelDrawName, LossName, ObjectiveName, OrientationsName,
    TargetName,
};
use crate::{
    Dtype, Selection, numbers,
    wish::{self, ranges},
};

/// Train a network.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TrainSpec {
    /// On what, what, and how.
    #[serde(flatten)]
    pub train: TrainFields,
    /// On which pictures.
    #[serde(flatten)]
    pub selection: Selection,
}

/// The fields that are this kind's alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainFields {
    /// A name for people; shown in lists, never used to find anything.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_name")]
    #[schemars(length(min = 1, max = check::NAME_CHARS_MAX))]
    pub name: Option<String>,
    /// The pictures to learn from: a folder, taken at any depth, or a URL such as s3://bucket/prefix.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub source: String,
    /// Where checkpoints, the curve and grids of samples go: a folder or a URL. A run that lies there is gone on with.
    #[serde(deserialize_with = "check::text")]
    #[schemars(length(min = 1))]
    pub destination: String,
    /// Pictures to validate with [default: none, or a share of the source].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub validation_source: Option<String>,
    /// Share of the source's pictures that are never learned from, and validated with: chosen by their names.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_real")]
    pub validation_fraction: Option<f64>,
    /// Steps between validations [default: as between checkpoints].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub validation_every: Option<u64>,
    /// Pictures of a validation: more are slower, and noisier numbers come from fewer.
    #[serde(default = "default_validation_pictures", deserialize_with = "numbers::count")]
    pub validation_pictures: u64,
    /// Pictures of a validation that are sampled, measured, and shown as a grid; each costs as many evaluations as the sampler
    /// has steps.
    #[serde(default = "default_validation_samples", deserialize_with = "numbers::count")]
    pub validation_samples: u64,

    /// Side of the pictures that the network makes, in pixels.
    #[serde(deserialize_with = "numbers::count")]
    pub high_res: u64,
    /// Side of those that it makes them from [default: none, it makes pictures of noise alone, the first stage of a cascade].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub low_res: Option<u64>,
    /// What says what a picture shows, so that the network can be told: `folders`, the name of the folder that it lies in;
    /// `cls`, the text of the file of its name that ends in .cls, in its shard or beside it; `list`, the source's
    /// metadata.jsonl, a line {"file_name": …, "label": …} each [default: nothing].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsName>,
    /// How many labels there are.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub classes: Option<u64>,
    /// Share of the samples whose label is kept from the network, so that guidance can be used when it is sampled from.
    #[serde(default, deserialize_with = "numbers::real")]
    pub label_dropout: f64,
    /// `centre`: the largest square in the middle, reduced (the paper); `random`: a square of `high_res` pixels anywhere.
    #[serde(default)]
    pub crop: CropName,
    /// `one`, `flip` (mirrored or not), or `eight` (turned as well).
    #[serde(default)]
    pub orientations: OrientationsName,
    /// Pictures whose shorter side is below are left out [default: `high_res`].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub short_side_min: Option<u64>,
    /// Standard deviations, from and to, of a Gaussian blur before the reduction, in pixels of the large picture: makes a
    /// later stage of a cascade robust.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_range")]
    pub blur: Option<[f64; 2]>,
    /// Sizes, from and to, that the small picture is resized to on its way, as factors of its own, each time by a filter
    /// drawn from area, bilinear and bicubic: [0.5, 1.5] makes a network that takes pictures of unknown history.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_range")]
    pub resize: Option<[f64; 2]>,
    /// Standard deviations, from and to, of noise on the small picture, of 255.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_range")]
    pub noise: Option<[f64; 2]>,
    /// Qualities, from and to, of a JPEG that the small picture was stored as: makes a network that takes such pictures.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_range")]
    pub jpeg: Option<[f64; 2]>,

    /// The network: a preset's name (`sr3 models list`), or its configuration.
    #[schemars(with = "Value")]
    pub model: ModelField,
    /// A checkpoint whose weights it begins with: a name, a folder or a URL [default: drawn by the seed].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub init_from: Option<String>,
    /// A checkpoint of another run that it goes on from, with its moments and averages: its folder, such as
    /// `runs/a/checkpoints/step-000000001000`. `steps` counts what was done there [default: none].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "check::some_text")]
    pub resume_from: Option<String>,
    /// What it predicts: `noise` (the paper), `image`, `v`, or `regression`: the image from the small one alone, in one go (the
    /// paper's baseline).
    #[serde(default)]
    pub objective: ObjectiveName,
    /// What is denoised: `image` (the paper), or `residual`: its difference from the enlarged input, scaled.
    #[serde(default)]
    pub target: TargetName,
    /// What the residual is multiplied by, so that its variance is about one.
    #[serde(default = "default_residual_scale", deserialize_with = "numbers::real")]
    pub residual_scale: f64,
    /// `l1` or `l2` [default: l1; l2 of a network that learns the variance of its steps, whose loss has another term beside it].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossName>,
    /// The noise levels of training [default: linear, 1e-6 to 0.01 in 2000 timesteps; of a network that is told timesteps, cosine
    /// in 1000].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub noise_schedule: Option<NumbersMap>,
    /// What is uniform between two timesteps: `gamma` (the paper) or `noise_level` (the public implementation).
    #[serde(default)]
    pub level_draw: LevelDrawName,

    /// Steps of the optimizer, of the whole run. Give this or `samples`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub steps: Option<u64>,
    /// Samples of the whole run: steps times batch.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub samples: Option<u64>,
    /// Samples of a step, over all workers.
    #[serde(deserialize_with = "numbers::count")]
    pub batch: u64,
    /// Parts of the batch that are summed up in a fixed order; no more workers can take part. Smaller parts cost throughput
    /// [default: 8, or fewer, so that a part has 8 samples].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub grains: Option<u64>,
    /// Samples of a grain that are computed at once: fewer take less memory and are slower [default: all].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub microbatch: Option<u64>,
    /// Of Adam, at its highest.
    #[serde(default = "default_learning_rate", deserialize_with = "numbers::real")]
    pub learning_rate: f64,
    /// Steps over which the learning rate rises.
    #[serde(default, deserialize_with = "numbers::count")]
    pub warmup: u64,
    /// How it falls then: `constant`, `cosine` or `linear`.
    #[serde(default)]
    pub decay: DecayName,
    /// Of Adam.
    #[serde(default = "default_betas", deserialize_with = "numbers::range")]
    pub betas: [f64; 2],
    /// Of Adam.
    #[serde(default = "default_eps", deserialize_with = "numbers::real")]
    pub eps: f64,
    /// Of AdamW; 0 is Adam.
    #[serde(default, deserialize_with = "numbers::real")]
    pub weight_decay: f64,
    /// A longer gradient is shortened to this [default: never].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_real")]
    pub clip: Option<f64>,
    /// Half-lives of the weights' moving averages, in samples; early on they are shorter. The first is the model that is
    /// validated. Each takes the memory of the weights.
    #[serde(default = "default_averages", deserialize_with = "numbers::counts")]
    pub averages: Vec<u64>,
    /// What convolutions multiply: `f32` gives the same bits everywhere, `bf16` only on one kind of CPU.
    #[serde(default = "default_dtype")]
    pub dtype: Dtype,
    /// What gradients are added up and sent in: `bf16` halves the traffic and rounds every sum.
    #[serde(default)]
    pub gradients: GradientsName,

    /// Steps between checkpoints [default: a tenth of the run].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub checkpoint_every: Option<u64>,
    /// So many checkpoints are kept, and the best.
    #[serde(default = "default_keep", deserialize_with = "numbers::count")]
    pub keep: u64,
    /// Steps between lines of the curve.
    #[serde(default = "default_log_every", deserialize_with = "numbers::count")]
    pub log_every: u64,
    /// Steps in a row that are left out because their gradient is no number or their loss explodes; one more ends the run.
    #[serde(default, deserialize_with = "numbers::count")]
    pub skips_max: u64,
    /// One part of the batch a step is computed by a second worker as well, and compared: a machine that computes wrongly is
    /// found and named. Costs one part's time a step.
    #[serde(default)]
    pub audit: bool,
    /// Fewest workers with which it goes on; below, it waits.
    #[serde(default = "one", deserialize_with = "numbers::count")]
    pub workers_min: u64,
    /// Most workers that it takes [default: as many as grains].
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub workers_max: Option<u64>,
    /// Of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Learn so many pictures by heart, each with one noise level and noise: a check that the network can learn at all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "numbers::some_count")]
    pub overfit: Option<u64>,
    /// What one may do with the weights; written into the models.
    #[serde(default = "default_licence", deserialize_with = "check::text")]
    pub licence: String,
    /// Whom to name; written into the models.
    #[serde(default)]
    pub credits: Vec<String>,
    /// Weight of the job's share among running jobs: one of 2 gets twice the workers of one of 1.
    #[serde(default = "wish::default_priority", deserialize_with = "wish::priority")]
    #[schemars(range(min = *ranges::PRIORITY.start(), max = *ranges::PRIORITY.end()))]
    pub priority: u8,
}

/// A preset's name, or a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelField {
    /// Of a preset.
    Preset(String),
    /// As checkpoints have it.
    Inline(NumbersMap),
}

/// A map whose numbers are read as numbers, whatever they are for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NumbersMap(pub serde_json::Map<String, Value>);

impl<'de> Deserialize<'de> for NumbersMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::<String, Value>::deserialize(deserializer)?;
        Ok(Self(map.into_iter().map(|(name, value)| (name, with_numbers(value))).collect()))
    }
}

/// Texts that are numbers become numbers: a spec keeps how they are spelt.
fn with_numbers(value: Value) -> Value {
    match value {
        Value::String(text) => match text.parse::<f64>() {
            // A count may be wanted, which takes no fraction, not even one of nothing.
            Ok(number) if number.fract() == 0.0 && (0.0..1e15).contains(&number) => {
                Value::from(number as u64)
            }
            Ok(number) => serde_json::Number::from_f64(number).map_or(Value::String(text), Value::Number),
            Err(_) => Value::String(text),
        },
        Value::Array(all) => Value::Array(all.into_iter().map(with_numbers).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, value)| (name, with_numbers(value))).collect())
        }
        other => other,
    }
}

/// What other trainers call our fields.
const ALIASES: &[(&[&str], &str)] = &[
    (&["lr", "optimizer_lr", "base_learning_rate"], "learning_rate"),
    (&["batch_size", "global_batch_size", "train_batch_size"], "batch"),
    (&["micro_batch_size", "microbatch_size", "batch_gpu", "batch-gpu"], "microbatch"),
    (&["gradient_accumulation_steps", "accumulate_grad_batches"], "microbatch"),
    (&["n_iter", "max_steps", "train_steps", "iterations", "lr_anneal_steps", "max_iter"], "steps"),
    (&["duration", "kimg", "mimg", "num_samples"], "samples"),
    (&["ema", "ema_rate", "ema_decay", "ema_scheduler", "ema_halflife", "halflife"], "averages"),
    (&["max_grad_norm", "grad_clip", "gradient_clip_val", "clip_grad_norm"], "clip"),
    (&["warmup_steps", "warmup_iters", "warmup_ratio"], "warmup"),
    (&["lr_scheduler", "lr_schedule", "scheduler"], "decay"),
    (&["val_freq", "eval_every", "val_check_interval", "eval_steps"], "validation_every"),
    (&["data_len", "limit_val_batches", "max_eval_samples"], "validation_pictures"),
    (&["split_valid_fraction", "val_fraction", "val_split"], "validation_fraction"),
    (&["save_checkpoint_freq", "save_interval", "save_steps", "snap", "dump"], "checkpoint_every"),
    (&["save_total_limit", "max_checkpoints_keep", "save_top_k"], "keep"),
    (&["print_freq", "log_every_n_steps", "log_interval", "logging_steps", "tick"], "log_every"),
    (&["transfer", "pretrained"], "init_from"),
    (&["resume_state", "resume_checkpoint", "resume", "resume_from_checkpoint"], "resume_from"),
    (&["overfit_batches", "overfit_one_batch"], "overfit"),
    (&["image_size", "r_resolution", "resolution", "hr_size"], "high_res"),
    (&["l_resolution", "lr_size", "small_size"], "low_res"),
    (&["num_classes", "n_classes"], "classes"),
    (&["class_cond", "label", "cond"], "labels"),
    (&["cond_drop_prob", "class_dropout_prob", "uncond_prob", "p_uncond"], "label_dropout"),
    (&["xflip", "use_flip", "random_flip", "augment"], "orientations"),
    (&["dataroot", "data_dir", "data", "train_data_dir", "dataset"], "source"),
    (&["out", "output_dir", "outdir", "logdir", "results_folder"], "destination"),
    (&["beta_schedule", "noise_scheduler"], "noise_schedule"),
    (&["precision", "fp16", "use_fp16", "mixed_precision", "amp"], "dtype"),
    (&["loss_type", "criterion"], "loss"),
    (&["pred_type", "prediction_type", "parameterization", "predict_xstart"], "objective"),
    (&["workers", "num_processes", "nproc_per_node", "world_size", "gpus", "gpu_ids"], "workers_max"),
    (&["manual_seed", "random_seed"], "seed"),
];

impl TrainSpec {
    /// Reads a spec of this kind.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(document: &Document) -> Result<Self, SpecError> {
        for (names, ours) in ALIASES {
            if let Some(theirs) = names.iter().find(|name| document.line_of(name).is_some()) {
                let line = document.line_of(theirs);
                return Err(SpecError {
                    line,
                    message: format!("unknown field `{theirs}`; here it is called `{ours}`"),
                });
            }
        }
        if let Some(line) = document.line_of(cascade::STAGES) {
            let message = "one run is taken here: give the spec to `sr3 submit` or `sr3 train`, which take its `stages` apart";
            return Err(SpecError { line: Some(line), message: message.to_string() });
        }
        document.only(&[fields_of::<TrainFields>(), fields_of::<Selection>()])?;
        let spec = Self { train: document.part()?, selection: document.part()? };
        match spec.contradiction() {
            Some((field, message)) => Err(document.wrong(field, &message)),
            None => Ok(spec),
        }
    }

    /// A field that does not go with another, or is out of its range, and why.
    pub fn contradiction(&self) -> Option<(&'static str, String)> {
        let t = &self.train;
        let range = |field, value: f64, low: f64, high: f64| {
            let ok = (low..=high).contains(&value);
            (!ok).then(|| (field, format!("it is {value}: it must be from {low} to {high}")))
        };
        let places = [
            ("source", Some(&t.source)),
            ("destination", Some(&t.destination)),
            ("validation_source", t.validation_source.as_ref()),
            ("resume_from", t.resume_from.as_ref()),
        ];
        for (field, place) in places {
            if let Some(Err(error)) = place.map(|place| place.parse::<Location>()) {
                return Some((field, error.to_string()));
            }
        }
        if t.init_from.is_some() && t.resume_from.is_some() {
            let message = "it begins with another run's state, weights included: leave init_from out";
            return Some(("resume_from", message.to_string()));
        }
        if t.validation_source.is_some() && t.validation_fraction.is_some() {
            let message = "there is a validation_source already: leave one of them out";
            return Some(("validation_fraction", message.to_string()));
        }
        if let Some(wrong) = self.without_low_res() {
            return Some(wrong);
        }
        let [high, low] = [t.high_res, t.low_res.unwrap_or(t.high_res)];
        let checks = [
            range("high_res", high as f64, 4.0, 4096.0),
            range("label_dropout", t.label_dropout, 0.0, 0.9),
            range("low_res", low as f64, 1.0, high as f64),
            (!high.is_multiple_of(low.max(1)))
                .then(|| ("low_res", format!("it is {low}: it must divide high_res, {high}"))),
            range("low_res", (high / low.max(1)) as f64, 1.0, 16.0).map(|_| {
                (
                    "low_res",
                    format!("high_res is {} times as large: at most 16 can be learned", high / low.max(1)),
                )
            }),
            t.validation_fraction.and_then(|f| range("validation_fraction", f, 0.0, 0.5)),
            t.blur.and_then(|[a, b]| rising("blur", a, b, 100.0)),
            t.resize.and_then(|[a, b]| {
                let ok = 0.1 <= a && a <= b && b <= 16.0;
                let message = "two numbers from 0.1 to 16, the first not above the second";
                (!ok).then(|| ("resize", format!("it is [{a}, {b}]: {message}")))
            }),
            t.noise.and_then(|[a, b]| rising("noise", a, b, 255.0)),
            t.jpeg.and_then(|[a, b]| {
                let ok = a.fract() == 0.0 && b.fract() == 0.0 && 1.0 <= a && a <= b && b <= 100.0;
                let message = "two whole numbers from 1 to 100, the first not above the second";
                (!ok).then(|| ("jpeg", format!("it is [{a}, {b}]: {message}")))
            }),
            range("residual_scale", t.residual_scale, 1e-3, 1e3),
            range("batch", t.batch as f64, 1.0, 1e6),
            range("learning_rate", t.learning_rate, 0.0, 10.0),
            range("betas", t.betas[0], 0.0, 0.999_999),
            range("betas", t.betas[1], 0.0, 0.999_999_999),
            range("eps", t.eps, 1e-30, 1.0),
            range("weight_decay", t.weight_decay, 0.0, 10.0),
            t.clip.and_then(|c| range("clip", c, 1e-12, 1e12)),
            range("keep", t.keep as f64, 1.0, 1e6),
            range("log_every", t.log_every as f64, 1.0, 1e9),
            range("averages", t.averages.len() as f64, 0.0, 8.0),
            t.overfit.and_then(|n| range("overfit", n as f64, 1.0, 1e6)),
        ];
        if let Some(wrong) = checks.into_iter().flatten().next() {
            return Some(wrong);
        }
        if t.steps.is_some() == t.samples.is_some() {
            return Some(("steps", "give either `steps` or `samples`: how long the run is".to_string()));
        }
        if t.samples.is_some_and(|samples| !samples.is_multiple_of(t.batch)) {
            return Some(("samples", format!("it must be a multiple of the batch, {}", t.batch)));
        }
        let grains = self.grains();
        if grains == 0 || !t.batch.is_multiple_of(grains) || grains > 1024 {
            return Some((
                "grains",
                format!("the batch of {} cannot be cut into {grains} equal parts", t.batch),
            ));
        }
        let size = t.batch / grains;
        if t.microbatch.is_some_and(|m| m == 0 || !size.is_multiple_of(m)) {
            let message = format!("a grain has {size} samples: it must be cut into equal parts");
            return Some(("microbatch", message));
        }
        let most = t.workers_max.unwrap_or(grains);
        if t.workers_min == 0 || t.workers_min > most {
            return Some(("workers_min", format!("it must be from 1 to the most workers, {most}")));
        }
        if most > grains {
            let message =
                format!("{most} workers cannot share {grains} grains: raise `grains`, or take fewer");
            return Some(("workers_max", message));
        }
        None
    }

    /// What asks for a small picture where there is none, and what asks for labels.
    fn without_low_res(&self) -> Option<(&'static str, String)> {
        let t = &self.train;
        let needs_low_res = [
            ("blur", t.blur.is_some()),
            ("resize", t.resize.is_some()),
            ("noise", t.noise.is_some()),
            ("jpeg", t.jpeg.is_some()),
            ("target", t.target == TargetName::Residual),
            ("objective", t.objective == ObjectiveName::Regression),
        ];
        if let Some((field, _)) = needs_low_res.iter().find(|(_, asked)| *asked && t.low_res.is_none()) {
            return Some((field, "it is of a small picture, and there is none: give `low_res`".to_string()));
        }
        match (t.labels, t.classes) {
            (Some(_), None) => Some(("labels", "say how many there are: give `classes`".to_string())),
            (None, Some(_)) => Some((
                "classes",
                "nothing says what pictures show: give `labels`, such as `labels: folders`".to_string(),
            )),
            (_, Some(classes)) if !(1..=65_535).contains(&classes) => {
                Some(("classes", format!("it is {classes}: it must be from 1 to 65535")))
            }
            (None, _) if t.label_dropout != 0.0 => Some((
                "label_dropout",
                "there are no labels: give `labels`, such as `labels: folders`".to_string(),
            )),
            _ => None,
        }
    }

    /// Grains of a batch.
    pub(super) fn grains(&self) -> u64 {
        /// Samples of a grain that keep a device as busy as many do.
        const GRAIN: u64 = 8;
        let default = || {
            let most = (self.train.batch / GRAIN).clamp(1, 8);
            // The most that cut it evenly.
            (1..=most).rev().find(|grains| self.train.batch.is_multiple_of(*grains)).unwrap_or(1)
        };
        self.train.grains.unwrap_or_else(default)
    }
}

fn rising(field: &'static str, from: f64, to: f64, most: f64) -> Option<(&'static str, String)> {
    let ok = 0.0 <= from && from <= to && to <= most;
    (!ok).then(|| {
        (field, format!("it is [{from}, {to}]: two numbers from 0 to {most}, the first not above the second"))
    })
}

fn default_validation_pictures() -> u64 {
    64
}

fn default_validation_samples() -> u64 {
    8
}

fn default_residual_scale() -> f64 {
    4.0
}

fn default_learning_rate() -> f64 {
    1e-4
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

fn default_averages() -> Vec<u64> {
    vec![500_000]
}

fn default_dtype() -> Dtype {
    Dtype::F32
}

fn default_keep() -> u64 {
    3
}

fn default_log_every() -> u64 {
    10
}

fn one() -> u64 {
    1
}

fn default_licence() -> String {
    "unknown".to_string()
}
