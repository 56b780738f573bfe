//! What a checkpoint of guided-diffusion or improved-diffusion is in the own format.
//!
//! Both predict noise in the image itself. Their upsamplers see the input enlarged by bilinear interpolation, and were
//! trained on area averages, not rounded.

use std::collections::BTreeMap;

use super::adm::{AdmNetwork, AdmSchedule};
use crate::diffusion::{NoiseSchedule as Process, Objective, Respacing, Tile};
use crate::model::checkpoint::{
    Checkpoint, CheckpointConfig, CheckpointError, Degradation, FORMAT, NoiseSchedule, Provenance,
    ResizeFilter, SamplerPreset, Target, Upsample,
};

/// Betas of the linear schedule at 1,000 timesteps; they shrink as there are more.
const BETA_START: f64 = 1e-4;
const BETA_END: f64 = 2e-2;
/// Offset of the cosine schedule.
const COSINE_OFFSET: f64 = 0.008;

/// The checkpoint of a network; `source_sha256` is the digest of its file.
pub(super) fn convert_adm(
    network: AdmNetwork,
    name: String,
    source_sha256: String,
) -> Result<Checkpoint, CheckpointError> {
    let AdmNetwork { published, config: model, flags, weights } = network;
    let timesteps = flags.diffusion_steps;
    let shrink = 1000.0 / timesteps as f64;
    let noise_schedule = match flags.noise_schedule {
        AdmSchedule::Linear => {
            NoiseSchedule::Linear { start: BETA_START * shrink, end: BETA_END * shrink, timesteps }
        }
        AdmSchedule::Cosine => NoiseSchedule::Cosine { timesteps, s: COSINE_OFFSET },
    };
    let learned = model.learned_variance;
    let presets = noise_schedule.process().map(|process| presets(&process, learned)).unwrap_or_default();
    let size = flags.image_size;
    let config = CheckpointConfig {
        format: FORMAT.to_string(),
        name,
        scale: flags.scale,
        model,
        objective: Objective::Noise,
        target: Target::Image,
        residual_scale: 1.0,
        upsample: Upsample { filter: ResizeFilter::Bilinear, a: 0.0, clamp: Some([-1.0, 1.0]) },
        degradation: Degradation {
            downsample: ResizeFilter::Area,
            a: 0.0,
            rounded_to: None,
            ..Degradation::PAPER
        },
        noise_schedule,
        tile: Some(Tile { size, overlap: size / 4 }),
        presets,
        default_preset: "default".to_string(),
        class_names: Vec::new(),
        any_class: false,
        licence: match published {
            Some(_) => "MIT; the model card limits the intended use to research".to_string(),
            None => "unknown: as the source".to_string(),
        },
        credits: vec![],
        sha256: String::new(),
        provenance: Some(Provenance {
            source: match published {
                Some(preset) => format!("the published weights of {preset}"),
                None => "a checkpoint of guided-diffusion or improved-diffusion".to_string(),
            },
            source_sha256,
        }),
    };
    Checkpoint::new(config, weights)
}

/// By the spacing of timesteps that the reference would take; of a short schedule, all of them.
fn presets(process: &Process, learned: bool) -> BTreeMap<String, SamplerPreset> {
    let levels = |count: usize| {
        let all = process.timesteps();
        let kept = Respacing::Sections(vec![count.min(all)]).timesteps(all).unwrap_or_default();
        kept.iter().rev().map(|t| process.sqrt_alphas_cumprod[*t]).collect::<Vec<_>>()
    };
    let ddim = |count| SamplerPreset::Ddim { eta: 0.0, noise_levels: levels(count) };
    let fine = match learned {
        true => SamplerPreset::AncestralLearned { noise_levels: levels(250) },
        false => SamplerPreset::Ancestral { noise_levels: levels(250) },
    };
    [("fast", ddim(25)), ("default", ddim(50)), ("fine", fine)]
        .map(|(name, preset)| (name.to_string(), preset))
        .into()
}
