//! From a `.pth` of the public SR3 implementation to a checkpoint of the own format.

use std::collections::BTreeMap;

use super::adm::{self, AdmFlags, infer_adm};
use super::convert_adm::convert_adm;
use super::janspiry::{InferOptions, infer};
use super::{ImportError, read_pth};
use crate::diffusion::{Objective, Tile};
use crate::model::Weights;
use crate::model::checkpoint::{
    Checkpoint, CheckpointConfig, Degradation, FORMAT, NoiseSchedule, Provenance, ResizeFilter,
    SamplerPreset, Target, Upsample, WeightsError, sha256_hex,
};
use crate::model::tensors::{ReadLimits, one_line};

/// The schedule that the public configurations train with.
const BETA_START: f64 = 1e-6;
const BETA_END: f64 = 1e-2;
const TIMESTEPS: usize = 2000;

/// What the file does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertOptions {
    /// Groups of the group norms: `norm_groups` of the training configuration.
    pub norm_groups: usize,
    /// `image_size` of the training configuration. Also the tile size, as group norm and attention saw images of it.
    pub image_size: usize,
    /// Output size over input size.
    pub scale: usize,
    /// The model's name.
    pub name: String,
    /// For a network of guided-diffusion or improved-diffusion that is none of the published ones, in place of all above.
    pub adm: Option<AdmFlags>,
}

impl Default for ConvertOptions {
    /// Those of the published 16→128 configuration.
    fn default() -> Self {
        let InferOptions { norm_groups, image_size } = InferOptions::default();
        Self { norm_groups, image_size, scale: 8, name: "imported".to_string(), adm: None }
    }
}

/// Converts the contents of a `*_gen.pth`, or of a `.pt` of guided-diffusion or improved-diffusion: the names of the
/// tensors tell which.
///
/// The public implementation predicts the noise in the image itself, trained with beta linear from 1e-6 to 1e-2 in
/// 2000 steps, on images reduced and enlarged by PIL's bicubic. Presets, from the levels of that schedule:
///
/// | preset | sampler | levels | why |
/// |---|---|---|---|
/// | `fast` | DDIM | 20 | what its users try first |
/// | `default` | DDIM | 50 | the usual compromise for a schedule of this length |
/// | `fine` | clipped posterior | 100 | the paper's bound on steps, with the sampler that the network was validated with |
/// | `reference` | clipped posterior | 2000 | every level: what the public implementation itself does, and as slow |
///
/// Levels are spread evenly over the timesteps, first and last included. One evaluation is no preset: at the noisiest
/// level a prediction of noise says next to nothing of the image.
///
/// Networks of guided-diffusion and improved-diffusion have presets of their timesteps: `fast` (DDIM, 25), `default` (DDIM,
/// 50), `fine` (the learned variance, 250: what their authors sample with).
///
/// # Errors
/// [`ImportError`] where the file is not such a checkpoint or an option does not fit it.
pub fn convert(pth: &[u8], options: &ConvertOptions) -> Result<Checkpoint, ImportError> {
    let tensors = read_pth(pth, &ReadLimits::default())?;
    if tensors.contains_key(adm::FIRST) {
        let network = infer_adm(tensors, options.adm.as_ref())?;
        return Ok(convert_adm(network, options.name.clone(), sha256_hex(pth))?);
    }
    let infer_options = InferOptions { norm_groups: options.norm_groups, image_size: options.image_size };
    let (model, tensors) = infer(tensors, infer_options)?;
    let mut weights = Weights::new();
    for (name, tensor) in tensors {
        if !tensor.dtype.is_float() {
            let source = WeightsError::Dtype { name: one_line(&name), dtype: tensor.dtype.name() };
            return Err(ImportError::Weights { source });
        }
        let values = tensor.to_f32();
        weights.insert(name, (tensor.shape, values));
    }
    let size = options.image_size;
    let config = CheckpointConfig {
        format: FORMAT.to_string(),
        name: options.name.clone(),
        scale: options.scale,
        model,
        objective: Objective::Noise,
        target: Target::Image,
        residual_scale: 1.0,
        upsample: Upsample { filter: ResizeFilter::Bicubic, a: -0.5, clamp: Some([-1.0, 1.0]) },
        degradation: Degradation::PAPER,
        noise_schedule: NoiseSchedule::Linear { start: BETA_START, end: BETA_END, timesteps: TIMESTEPS },
        tile: Some(Tile { size, overlap: size / 4 }),
        presets: presets(),
        default_preset: "default".to_string(),
        class_names: Vec::new(),
        any_class: false,
        licence: "unknown: as the source".to_string(),
        credits: vec![],
        sha256: String::new(),
        provenance: Some(Provenance {
            source: "a .pth checkpoint of the public SR3 implementation".to_string(),
            source_sha256: sha256_hex(pth),
        }),
    };
    Ok(Checkpoint::new(config, weights)?)
}

fn presets() -> BTreeMap<String, SamplerPreset> {
    let levels = training_levels();
    let ddim = |count| SamplerPreset::Ddim { eta: 0.0, noise_levels: spread(&levels, count) };
    let posterior = |count| SamplerPreset::AncestralPosterior { noise_levels: spread(&levels, count) };
    [("fast", ddim(20)), ("default", ddim(50)), ("fine", posterior(100)), ("reference", posterior(TIMESTEPS))]
        .map(|(name, preset)| (name.to_string(), preset))
        .into()
}

/// sqrt(alphas_cumprod) of the training schedule, noisy to clean.
fn training_levels() -> Vec<f64> {
    let step = (BETA_END - BETA_START) / (TIMESTEPS - 1) as f64;
    let mut gamma = 1.0;
    let mut levels: Vec<f64> = (0..TIMESTEPS)
        .map(|t| {
            gamma *= 1.0 - (BETA_START + step * t as f64);
            gamma.sqrt()
        })
        .collect();
    levels.reverse();
    levels
}

/// `count` of the levels, evenly by position, first and last included.
fn spread(levels: &[f64], count: usize) -> Vec<f64> {
    let (last, steps) = (levels.len() - 1, count - 1);
    (0..count).map(|k| levels[(k * last + steps / 2) / steps]).collect()
}
