//! `sr3 convert IN.pth OUT`: a checkpoint of the public SR3 implementation, of guided-diffusion or of improved-diffusion
//! becomes one of ours. The names of its tensors tell which it is.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use sr3_engine::model::{
    Heads,
    checkpoint::{Checkpoint, Encoded},
    import::{AdmFlags, AdmSchedule, ConvertOptions, convert},
};
use sr3_proto::{Key, Location, Store, store::PutMode};

use super::remote_args::block_on;
use crate::exit::{CommandError, Ending};

/// Arguments of `sr3 convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// Generator checkpoint of the public SR3 implementation (`I…_E…_gen.pth`), or network of guided-diffusion or
    /// improved-diffusion (`.pt`). Nothing in it is executed.
    #[arg(value_name = "IN.pth")]
    pub input: PathBuf,
    /// Place for model.safetensors and config.json: a folder, or a URL such as s3://bucket/models/x.
    #[arg(value_name = "OUT")]
    pub output: String,
    /// Groups of the group norms in the training configuration.
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=1024))]
    pub norm_groups: u32,
    /// Image size in the training configuration; of an upsampler, of its output.
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=4096))]
    pub image_size: u32,
    /// Output size over input size: 8 for 16→128 and 64→512, 4 for 64→256, 1 for a network that enlarges nothing.
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=16))]
    pub scale: u32,
    /// Of other networks of guided-diffusion and improved-diffusion than the published.
    #[command(flatten)]
    pub diffusion: DiffusionArgs,
    /// Name of the model [default: the file's].
    #[arg(long)]
    pub name: Option<String>,
}

/// Of a network of guided-diffusion or improved-diffusion that is none of the published ones: the flags it was trained with.
/// The published ones are known.
#[derive(Clone, Debug, Args)]
#[command(
    next_help_heading = "Networks of guided-diffusion and improved-diffusion, beside the published ones"
)]
pub struct DiffusionArgs {
    /// Its noise_schedule.
    #[arg(long, value_enum, requires_all = ["image_size", "scale"])]
    pub noise_schedule: Option<ScheduleName>,
    /// Its diffusion_steps.
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(2..=100_000), requires = "noise_schedule")]
    pub diffusion_steps: u32,
    /// Its num_heads.
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(1..=1024), requires = "noise_schedule")]
    pub heads: u32,
    /// Its num_head_channels, where they were set.
    #[arg(long, value_parser = value_parser!(u32).range(1..=4096), requires = "noise_schedule", conflicts_with = "heads")]
    pub head_channels: Option<u32>,
    /// It was trained with use_new_attention_order.
    #[arg(long, requires = "noise_schedule")]
    pub new_attention_order: bool,
    /// It was trained with rescale_timesteps.
    #[arg(long, requires = "noise_schedule")]
    pub rescale_timesteps: bool,
}

/// A noise schedule by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleName {
    /// beta rises evenly.
    Linear,
    /// alphas_cumprod falls like a squared cosine.
    Cosine,
}

impl ConvertArgs {
    fn adm(&self) -> Option<AdmFlags> {
        let diffusion = &self.diffusion;
        Some(AdmFlags {
            image_size: self.image_size as usize,
            scale: self.scale as usize,
            heads: match diffusion.head_channels {
                Some(channels) => Heads::Channels(channels as usize),
                None => Heads::Count(diffusion.heads as usize),
            },
            new_attention_order: diffusion.new_attention_order,
            noise_schedule: match diffusion.noise_schedule? {
                ScheduleName::Linear => AdmSchedule::Linear,
                ScheduleName::Cosine => AdmSchedule::Cosine,
            },
            diffusion_steps: diffusion.diffusion_steps as usize,
            rescale_timesteps: diffusion.rescale_timesteps,
        })
    }
}

/// The largest file that is read: the published networks take 2.5 GB.
const FILE_BYTES_MAX: u64 = 8 << 30;

/// Runs it.
pub fn run(arguments: &ConvertArgs) -> Result<Ending, CommandError> {
    let shown = arguments.input.display();
    let unreadable = |e: std::io::Error| CommandError::usage(format!("cannot read `{shown}`: {e}"));
    let about = fs::metadata(&arguments.input).map_err(unreadable)?;
    if !about.is_file() || about.len() > FILE_BYTES_MAX {
        return Err(CommandError::usage(format!(
            "`{shown}` is not a checkpoint: expected a file of at most 8 GiB"
        )));
    }
    let bytes = fs::read(&arguments.input).map_err(unreadable)?;
    let stem = arguments.input.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let options = ConvertOptions {
        norm_groups: arguments.norm_groups as usize,
        image_size: arguments.image_size as usize,
        scale: arguments.scale as usize,
        name: arguments.name.clone().or(stem).unwrap_or_else(|| "imported".into()),
        adm: arguments.adm(),
    };
    let checkpoint = convert(&bytes, &options).map_err(|e| CommandError::usage(format!("`{shown}`: {e}")))?;
    let location: Location = arguments.output.parse()?;
    let digest = match location.path() {
        Some(folder) => checkpoint.write_folder(folder).map_err(|e| CommandError::failed(e.to_string()))?,
        None => upload(&checkpoint, &location)?,
    };
    let parameters: usize = checkpoint.weights.values().map(|(_, values)| values.len()).sum();
    say!("{location}: {parameters} parameters, sha256 {digest}");
    Ok(Ending::Done)
}

/// Writes the weights, and then the configuration that names them.
fn upload(checkpoint: &Checkpoint, location: &Location) -> Result<String, CommandError> {
    let Encoded { files, digest } = checkpoint.encode().map_err(|e| CommandError::failed(e.to_string()))?;
    let store = Store::at(location)?;
    block_on(async {
        store.check().await?;
        for (name, bytes) in files {
            store.put(&Key::literal(name), bytes.into(), PutMode::Replace).await?;
        }
        Ok(Ending::Done)
    })?;
    Ok(digest)
}
