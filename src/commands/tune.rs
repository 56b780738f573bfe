//! `sr3 tune MODEL --source HELDOUT --out PLACE`: how a checkpoint is best sampled, searched on pictures it has not learned from.
//!
//! At PLACE lie `model/`, which is MODEL with every candidate as a preset; `candidates/NAME/`, the evaluation of each; and
//! `tune.json` and `tune.svg`, written last. What is measured is not measured again, so the same command goes on.

use clap::{ArgAction, Args, value_parser};
use serde_json::json;
use sr3_engine::{
    device::Device,
    model::checkpoint::{Checkpoint, CheckpointConfig, Encoded},
};
use sr3_jobs::{
    ClassChoice, Dtype, Selection, Wish,
    evaluate::{EvaluateFields, EvaluateSpec, Summary, report::summary_key},
    models::Library,
};
use sr3_proto::{
    Cancel, Key, Location, Store, StoreError, off_thread,
    store::PutMode,
    words::{counted, printable},
};

use super::{
    evaluate::{Measured, measure, measure_by, open_to_write},
    follow::Show,
    model_args::{ModelArgs, device},
    remote_args::{CallArgs, block_on},
    table::table,
    upscale_remote::place,
};
use crate::{
    chart,
    client::{self, local, remote::Client},
    exit::{self, CommandError, Ending},
    signals,
    tune::{Candidate, Found, Metric, Question, SamplerName, Search, Shape, Space, search_key},
};

/// What is asked, as it lies at the place of a search.
fn question_key() -> Key {
    Key::literal("question.json")
}

/// Arguments of `sr3 tune`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP, allow_negative_numbers = true)]
pub struct TuneArgs {
    /// Model in the box, folder of a checkpoint, or its URL.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Pictures that it has not learned from: a folder, taken at any depth, or a URL. Each is reduced and enlarged again.
    #[arg(long, value_name = "HELDOUT")]
    pub source: String,
    /// Where the search lies; the same command goes on there. A folder or a URL.
    #[arg(long, value_name = "PLACE")]
    pub out: String,
    /// What decides: the most psnr, psnr_y, ssim or ssim_y, or the least st_lpips (`sr3 weights import`). PSNR prefers few steps,
    /// which blur: compare at one number of them.
    #[arg(long, default_value = "psnr_y", hide_possible_values = true)]
    pub(crate) metric: Metric,
    /// Samplers: ddim, dpmpp_2m, ancestral, ancestral_posterior.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["ddim", "dpmpp_2m"], hide_possible_values = true)]
    pub(crate) sampler: Vec<SamplerName>,
    /// Shares of the ancestral noise that DDIM adds, 0 to 1.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["0"], value_parser = share)]
    pub eta: Vec<f64>,
    /// Numbers of steps.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["4", "8", "16"], value_parser = value_parser!(u32).range(1..=10_000))]
    pub steps: Vec<u32>,
    /// How levels are spread: log_snr (evenly, from --first to --last) or cosine (from --first on).
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["log_snr", "cosine"], hide_possible_values = true)]
    pub(crate) shape: Vec<Shape>,
    /// log-SNRs of the noisiest level.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["-7"], value_parser = log_snr)]
    pub first: Vec<f64>,
    /// log-SNRs of the cleanest level.
    #[arg(long, num_args = 1.., value_delimiter = ',', default_values = ["5", "7", "9"], value_parser = log_snr)]
    pub last: Vec<f64>,
    /// Put the winner into MODEL's config.json as a preset of this name. MODEL must be a folder or a URL.
    #[arg(long, value_name = "NAME")]
    pub write: Option<String>,
    /// Only the middle square of this side of each picture, in pixels [default: all].
    #[arg(long, value_name = "PIXELS")]
    pub crop: Option<u32>,
    /// Shared options.
    #[command(flatten)]
    pub selection: Selection,
    /// What pictures show, for models that are told: a class's number for all, folder, or auto, as `sr3 upscale` takes it
    /// [default: none].
    #[arg(long, value_name = "N|folder|auto")]
    pub class: Option<ClassChoice>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Do not project results so that, reduced, they are their inputs.
    #[arg(long = "no-projection", action = ArgAction::SetFalse)]
    pub projection: bool,
    /// What convolutions are computed in: f32, bf16 or auto.
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
    /// What computes: cpu, candle-cpu, or cuda:0; see `sr3 devices` [default: cpu; for a cluster, any].
    #[arg(long, value_parser = device)]
    pub device: Option<Device>,
    /// Tiles computed at once; changes speed and memory, never the result [default: 2].
    #[arg(long, value_parser = value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,
    /// Threads that compute [default: one per core].
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Let a cluster measure: its coordinators, such as http://10.0.0.1:7070. They and the workers must see all places under
    /// the same path or URL.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    pub coordinator: Vec<String>,
    /// Shared options.
    #[command(flatten)]
    pub call: CallArgs,
    /// One JSON object a candidate, the best first.
    #[arg(long)]
    pub json: bool,
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("a number from {least} to {most} is wanted"))
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1.0)
}

fn log_snr(text: &str) -> Result<f64, String> {
    number(text, -30.0, 30.0)
}

/// Runs it.
pub fn run(arguments: &TuneArgs) -> Result<Ending, CommandError> {
    let model = ModelArgs {
        wish: Wish {
            class: arguments.class,
            seed: arguments.seed,
            projection: arguments.projection,
            dtype: arguments.dtype,
            ..Wish::default()
        },
        batch: arguments.batch,
        device: arguments.device,
        threads: arguments.threads,
    };
    let space = Space {
        samplers: arguments.sampler.clone(),
        etas: arguments.eta.clone(),
        steps: arguments.steps.clone(),
        shapes: arguments.shape.clone(),
        firsts: arguments.first.clone(),
        lasts: arguments.last.clone(),
    };
    let candidates = space.candidates().map_err(CommandError::usage)?;
    if arguments.write.is_some() {
        writable(&arguments.model)?;
    }
    let by = match arguments.coordinator.is_empty() {
        true => {
            model.start_threads();
            None
        }
        false => Some(arguments.call.client(client::addresses(&arguments.coordinator)?)?),
    };
    block_on(search(arguments, &model, &candidates, by.as_ref()))
}

/// The place of a model whose configuration can be changed.
fn writable(model: &str) -> Result<Location, CommandError> {
    if sr3_engine::model::bundled::Bundled::find(model).is_some() {
        return Err(CommandError::usage(format!(
            "--write changes a model's config.json, and `{model}` lies in the box: name the folder of a copy"
        )));
    }
    Ok(model.parse()?)
}

async fn search(
    arguments: &TuneArgs,
    model: &ModelArgs,
    candidates: &[Candidate],
    by: Option<&Client>,
) -> Result<Ending, CommandError> {
    let interrupt = Cancel::new();
    tokio::spawn(signals::watch(interrupt.clone(), Some("stopping; once more to stop at once")));
    // As whoever measures sees them, from whatever folder the command goes on.
    let (source, out) = (place(&arguments.source)?, place(&arguments.out)?);
    let reference = arguments.model.clone();
    let read = off_thread(move || Library::of_process().checkpoint(&reference)).await;
    let checkpoint = read.map_err(|e| CommandError::failed(e.to_string()))??;
    let question = Question {
        weights_sha256: checkpoint.digest.clone(),
        source: source.clone(),
        selection: arguments.selection.clone(),
        crop: arguments.crop,
        seed: arguments.seed,
        class: arguments.class,
        projection: arguments.projection,
        dtype: arguments.dtype,
    };
    let store = open_to_write(&arguments.out)?;
    store.check().await?;
    ask(&store, &question, &out).await?;
    lay_down(&store, &checkpoint, candidates).await?;
    let (mut found, mut earlier) = (Vec::new(), 0);
    for (number, candidate) in (1..).zip(candidates) {
        // By this metric; a search by another one may lie there.
        let known = measured_earlier(&store, candidate).await?;
        let (summary, is_new) = match known.filter(|summary| arguments.metric.of(summary).is_some()) {
            Some(summary) => (summary, false),
            None => {
                if !arguments.json {
                    tell!("sr3: {} ({number} of {})", candidate.name, candidates.len());
                }
                let spec = spec(arguments, model, &source, &out, candidate, by.is_some())?;
                let measured = match by {
                    None => {
                        let show = local::Show { json: arguments.json, quiet: false };
                        measure(spec, model.machine()?, show, &interrupt).await?
                    }
                    Some(client) => {
                        let show = if arguments.json { Show::Nothing } else { Show::Progress };
                        measure_by(client, spec, show, &interrupt).await?
                    }
                };
                match measured {
                    None => return Ok(Ending::Interrupted),
                    Some(Measured { failure: Some(reason), .. }) => return Err(CommandError::failed(reason)),
                    Some(Measured { summary, .. }) => (summary, true),
                }
            }
        };
        earlier += u32::from(!is_new);
        found.extend(result(arguments.metric, candidate, &summary));
    }
    if earlier > 0 && !arguments.json {
        tell!("sr3: {} measured by an earlier run", counted(u64::from(earlier), "candidate"));
    }
    let search = Search::new(&arguments.model, arguments.metric, question, found);
    let Some(best) = search.found.first() else {
        return Err(CommandError::failed("no picture could be measured: see the candidates' evaluations"));
    };
    let drawn = chart::svg(&[search.panel()]).map_err(|e| CommandError::failed(e.to_string()))?;
    let text = serde_json::to_vec_pretty(&search).map_err(|e| CommandError::failed(e.to_string()))?;
    store.put(&Key::literal("tune.svg"), drawn.into_bytes().into(), PutMode::Replace).await?;
    store.put(&search_key(), text.into(), PutMode::Replace).await?;
    print(&search, arguments.json);
    if let Some(name) = &arguments.write {
        write(arguments, name, best).await?;
    }
    Ok(Ending::Done)
}

/// Refuses a place where another question was asked; else it is asked there now.
async fn ask(store: &Store, question: &Question, out: &str) -> Result<(), CommandError> {
    let key = question_key();
    let asked = match store.get(&key).await {
        Ok((_, bytes)) => serde_json::from_slice::<Question>(&bytes).ok(),
        Err(StoreError::NotFound { .. }) => {
            let text =
                serde_json::to_vec_pretty(question).map_err(|e| CommandError::failed(e.to_string()))?;
            return Ok(store.put(&key, text.into(), PutMode::Create).await?);
        }
        Err(error) => return Err(error.into()),
    };
    match asked.as_ref() == Some(question) {
        true => Ok(()),
        false => Err(CommandError::usage(format!(
            "`{}` holds a search with other weights, pictures or settings: choose another place as --out",
            printable(out)
        ))),
    }
}

/// Puts the model there, with every candidate as a preset. The weights are written once.
async fn lay_down(
    store: &Store,
    checkpoint: &Checkpoint,
    candidates: &[Candidate],
) -> Result<(), CommandError> {
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(e.to_string());
    let mut config = checkpoint.config.clone();
    config.presets = candidates.iter().map(|c| (c.name.clone(), c.preset.clone())).collect();
    config.default_preset = candidates.first().map(|c| c.name.clone()).unwrap_or_default();
    let laid = Checkpoint { config, weights: checkpoint.weights.clone(), digest: checkpoint.digest.clone() };
    let encoded = off_thread(move || laid.encode()).await.map_err(|e| failed(&e))?;
    let Encoded { files, .. } = encoded.map_err(|e| failed(&e))?;
    for (name, bytes) in files {
        let key = Key::new(format!("model/{name}")).map_err(|e| failed(&e))?;
        let there = store.head(&key).await?;
        if name.ends_with(".json") || there.is_none_or(|there| there.bytes != bytes.len() as u64) {
            store.put(&key, bytes.into(), PutMode::Replace).await?;
        }
    }
    Ok(())
}

fn folder(candidate: &Candidate) -> String {
    format!("candidates/{}", candidate.name)
}

/// What an earlier run found out about a candidate.
async fn measured_earlier(store: &Store, candidate: &Candidate) -> Result<Option<Summary>, CommandError> {
    let key = Key::new(format!("{}/{}", folder(candidate), summary_key()));
    let key = key.map_err(|e| CommandError::failed(e.to_string()))?;
    match store.get(&key).await {
        // One that cannot be read is measured again.
        Ok((_, bytes)) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn spec(
    arguments: &TuneArgs,
    model: &ModelArgs,
    source: &str,
    out: &str,
    candidate: &Candidate,
    by_cluster: bool,
) -> Result<EvaluateSpec, CommandError> {
    let out = out.trim_end_matches('/');
    let wish = if by_cluster { model.for_cluster()? } else { model.wish.clone() };
    let job = EvaluateFields {
        name: Some(format!("tune {}", candidate.name)).filter(|_| by_cluster),
        source: source.to_string(),
        reference: None,
        destination: Some(format!("{out}/{}", folder(candidate))),
        metrics: arguments.metric.measures(),
        pictures: false,
        crop: arguments.crop,
        max_bad_items: None,
        priority: 1,
    };
    let wish = Wish { model: format!("{out}/model"), preset: Some(candidate.name.clone()), ..wish };
    Ok(EvaluateSpec { job, wish, selection: arguments.selection.clone() })
}

fn result(metric: Metric, candidate: &Candidate, summary: &Summary) -> Option<Found> {
    let reached = metric.of(summary)?;
    let consistency = summary.methods.last().and_then(|(_, numbers)| numbers.get("consistency")?.mean);
    let Candidate { name, family, steps, preset } = candidate.clone();
    Some(Found {
        name,
        family,
        steps,
        preset,
        pictures: summary.pictures,
        mean: reached.mean?,
        ci95: reached.ci95,
        consistency,
    })
}

fn print(search: &Search, json: bool) {
    if json {
        for found in &search.found {
            say!("{}", json!(found));
        }
        return;
    }
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_string(), |value| format!("{value:.4}"));
    let rows: Vec<[String; 5]> = search
        .found
        .iter()
        .map(|found| {
            let consistency = found.consistency.map_or_else(|| "–".to_string(), |c| format!("{c:.1e}"));
            [
                found.name.clone(),
                found.steps.to_string(),
                shown(Some(found.mean)),
                shown(found.ci95),
                consistency,
            ]
        })
        .collect();
    crate::say::print(&table(["candidate", "steps", search.metric.name(), "± (95 %)", "consistency"], &rows));
}

/// Puts the winner into the model's configuration.
async fn write(arguments: &TuneArgs, name: &str, best: &Found) -> Result<(), CommandError> {
    let store = Store::at(&writable(&arguments.model)?)?;
    let key = Key::literal("config.json");
    let (_, bytes) = store.get(&key).await?;
    let usage = |e: &dyn std::fmt::Display| CommandError::usage(e.to_string());
    let mut config = CheckpointConfig::from_json(&bytes, key.as_str()).map_err(|e| usage(&e))?;
    config.presets.insert(name.to_string(), best.preset.clone());
    let mut text = serde_json::to_vec_pretty(&config).map_err(|e| usage(&e))?;
    text.push(b'\n');
    // A name that is none is told before anything is written.
    CheckpointConfig::from_json(&text, key.as_str()).map_err(|e| usage(&e))?;
    store.put(&key, text.into(), PutMode::Replace).await?;
    tell!("sr3: {} is preset `{}` of {}", best.name, printable(name), printable(&arguments.model));
    Ok(())
}
