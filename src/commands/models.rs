//! `sr3 models`: what is in the box, and the networks of the paper.

use clap::Subcommand;
use serde_json::json;
use sr3_engine::model::bundled::BUNDLED;
use sr3_engine::model::checkpoint::Checkpoint;
use sr3_engine::model::{Graph, UNetConfig, presets};
use sr3_jobs::models::Library;
use sr3_proto::words::counted;

use crate::exit::{CommandError, Ending};

/// What to show.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models in the box and the published networks.
    List,
    /// Show a model in the box, a checkpoint folder, or a published network.
    Info {
        /// Its name, or the folder.
        model: String,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it.
pub fn run(command: &ModelsCommand) -> Result<Ending, CommandError> {
    match command {
        ModelsCommand::List => list(),
        ModelsCommand::Info { model, json } => info(model, *json)?,
    }
    Ok(Ending::Done)
}

fn list() {
    say!("models in the box (sr3 upscale --model NAME):");
    for bundled in BUNDLED {
        say!("  {:<18} {}", bundled.name, bundled.about);
    }
    say!("published networks (architectures without weights; sr3 models info NAME):");
    for preset in presets() {
        say!("  {:<18} {}", preset.name, preset.task);
    }
}

fn info(model: &str, json: bool) -> Result<(), CommandError> {
    if let Some(preset) = presets().into_iter().find(|preset| preset.name == model) {
        let parameters = parameters(&preset.config)?;
        if json {
            let published = preset.published_millions;
            say!(
                "{}",
                json!({ "name": model, "task": preset.task, "parameters": parameters,
                "published_millions": published, "model": preset.config })
            );
        } else {
            say!("{model}: {}", preset.task);
            say!("parameters: {}", grouped(parameters));
            if let Some(published) = preset.published_millions {
                say!("published: {published} million");
            }
            print_network(&preset.config);
        }
        return Ok(());
    }
    let checkpoint = Library::of_process().checkpoint(model)?;
    print_checkpoint(&checkpoint, json)
}

fn print_checkpoint(checkpoint: &Checkpoint, json: bool) -> Result<(), CommandError> {
    let config = &checkpoint.config;
    let parameters = parameters(&config.model)?;
    if json {
        say!(
            "{}",
            json!({ "name": config.name, "parameters": parameters, "digest": checkpoint.digest,
            "config": config })
        );
        return Ok(());
    }
    say!("{}: {}×", config.name, config.scale);
    say!("parameters: {}", grouped(parameters));
    print_network(&config.model);
    for (name, preset) in &config.presets {
        let default = if *name == config.default_preset { " (default)" } else { "" };
        let (sampler, levels) = (preset.sampler(), preset.noise_levels());
        say!("preset {name}: {sampler}, {}{default}", counted(levels.len() as u64, "evaluation"));
    }
    if let Some(tile) = config.tile {
        say!("tiles: {} pixels, {} overlapping", tile.size, tile.overlap);
    }
    say!("licence: {}", config.licence);
    if !config.credits.is_empty() {
        say!("credits: {}", config.credits.join("; "));
    }
    say!("sha256: {}", checkpoint.digest);
    Ok(())
}

fn print_network(config: &UNetConfig) {
    let mults: Vec<_> = config.channel_mults.iter().map(ToString::to_string).collect();
    say!(
        "network: {} layout, {} channels × {}, {} residual blocks a level, {} norm groups",
        config.layout,
        config.inner_channel,
        mults.join(","),
        config.res_blocks,
        config.norm_groups
    );
}

fn parameters(config: &UNetConfig) -> Result<usize, CommandError> {
    Graph::build(config).map(|graph| graph.parameter_count()).map_err(|e| CommandError::failed(e.to_string()))
}

/// 97,807,491.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<_> =
        digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join(",")
}
