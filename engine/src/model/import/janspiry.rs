//! Checkpoints of the public SR3 implementation (Janspiry's Image-Super-Resolution-via-Iterative-Refinement): which
//! network do these tensors belong to?
//!
//! Its generator checkpoints (`*_gen.pth`) hold the network under `denoise_fn.`, beside the buffers of the noise
//! schedule that was set last. The network's shape follows from names and shapes, except for the number of groups of
//! its norms and the image size that it was trained with: those the caller has to say. The result is checked tensor
//! by tensor against the network that it describes. The buffers are dropped: which schedule was set last, that of
//! training or of validation, is chance.

use std::collections::BTreeMap;

use super::ImportError;
use crate::model::checkpoint::{ShapesError, check_shapes};
use crate::model::tensors::{TensorMap, one_line};
use crate::model::{ConfigError, Heads, Layout, UNetConfig};

const FIRST: &str = "downs.0.weight";
const NETWORK: &str = "denoise_fn.";
const LAST: &str = "final_conv.block.3.weight";
/// Levels beyond this are nothing that [`UNetConfig`] allows.
const LEVELS_MAX: usize = 10;

/// Buffers of the noise schedule, registered beside the network.
const BUFFERS: [&str; 12] = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
];

/// What names and shapes do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferOptions {
    /// Groups of the group norms: `norm_groups` of the training configuration.
    pub norm_groups: usize,
    /// `image_size` of the training configuration; it turns "this level attends" into `attn_res`.
    pub image_size: usize,
}

impl Default for InferOptions {
    /// Those of the published 16→128 configuration: 32 groups, 128 pixels.
    fn default() -> Self {
        Self { norm_groups: 32, image_size: 128 }
    }
}

/// Finds the network that the tensors belong to, and its weights under their names in the network.
///
/// The names may have one prefix in common (`denoise_fn.`, `module.denoise_fn.`, none …). `image_size` of the result
/// is set where a level attends, and not where it would mean nothing.
///
/// # Errors
/// [`ImportError`] where the tensors are not exactly those of one network in this layout: the first tensor that is
/// missing, superfluous or of another shape.
pub fn infer(tensors: TensorMap, options: InferOptions) -> Result<(UNetConfig, TensorMap), ImportError> {
    let tensors = network_tensors(tensors)?;
    let shapes: BTreeMap<&str, &[usize]> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())).collect();
    let config = infer_config(&shapes, options)?;
    check_shapes(&config, &shapes).map_err(|fault| match fault {
        ShapesError::Config(source) => ImportError::Config { source },
        ShapesError::Weights(source) => ImportError::Weights { source },
    })?;
    Ok((config, tensors))
}

/// Strips the prefix of the network's names, and drops the schedule's buffers.
fn network_tensors(tensors: TensorMap) -> Result<TensorMap, ImportError> {
    let is_boundary = |prefix: &&str| prefix.is_empty() || prefix.ends_with('.');
    let prefixes: Vec<_> =
        tensors.keys().filter_map(|name| name.strip_suffix(FIRST)).filter(is_boundary).collect();
    let prefix = match prefixes.as_slice() {
        [] => return Err(ImportError::NotThisLayout { tensors: tensors.len() }),
        [prefix] => prefix.to_string(),
        [first, second, ..] => {
            return Err(ImportError::SeveralNetworks { first: one_line(first), second: one_line(second) });
        }
    };
    let beside = prefix.strip_suffix(NETWORK).unwrap_or(&prefix);
    let mut network = TensorMap::new();
    for (name, tensor) in tensors {
        if let Some(buffer) = name.strip_prefix(beside)
            && BUFFERS.contains(&buffer)
        {
            continue;
        }
        match name.strip_prefix(&prefix) {
            Some(inner) => drop(network.insert(inner.to_string(), tensor)),
            None => return Err(ImportError::Beside { name: one_line(&name), prefix: one_line(&prefix) }),
        }
    }
    Ok(network)
}

type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// What the levels on the way down have in common, and what each has.
struct Levels {
    widths: Vec<usize>,
    attends: Vec<bool>,
    res_blocks: usize,
}

fn infer_config(shapes: &Shapes<'_>, options: InferOptions) -> Result<UNetConfig, ImportError> {
    let axes = |name: &str| -> Result<[usize; 2], ImportError> {
        match shapes.get(name) {
            Some([out, into, ..]) => Ok([*out, *into]),
            Some(other) => {
                Err(ImportError::Unlike { name: name.to_string(), shape: one_line(&format!("{other:?}")) })
            }
            None => Err(ImportError::Lacks { name: name.to_string() }),
        }
    };
    let [inner_channel, in_channel] = axes(FIRST)?;
    let [out_channel, _] = axes(LAST)?;
    let levels = infer_levels(shapes)?;
    let mut channel_mults = Vec::new();
    for &width in &levels.widths {
        if inner_channel == 0 || !width.is_multiple_of(inner_channel) {
            return Err(ImportError::Width { width, inner_channel });
        }
        channel_mults.push(width / inner_channel);
    }
    // With scale and shift, a block's embedding has twice its width.
    let [embedding, _] = axes("downs.1.res_block.noise_func.noise_func.0.weight")?;
    let use_affine_level = Some(embedding) == levels.widths.first().map(|width| 2 * width);
    let size_at = |level: usize| options.image_size >> level;
    let attn_res: Vec<_> =
        (0..levels.attends.len()).filter(|&level| levels.attends[level]).map(size_at).collect();
    let config = UNetConfig {
        layout: Layout::Janspiry,
        in_channel,
        out_channel,
        inner_channel,
        norm_groups: options.norm_groups,
        channel_mults,
        image_size: (!attn_res.is_empty()).then_some(options.image_size),
        attn_res,
        res_blocks: levels.res_blocks,
        dropout: 0.0,
        use_affine_level,
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    };
    config.validate().map_err(|source| ImportError::Config { source })?;
    // The first norm splits the input's convolution, whatever the multipliers are.
    if !inner_channel.is_multiple_of(options.norm_groups) {
        let source = ConfigError::Groups { groups: options.norm_groups, width: inner_channel };
        return Err(ImportError::Config { source });
    }
    if !options.image_size.is_multiple_of(config.size_multiple()) || options.image_size == 0 {
        let (image_size, multiple) = (options.image_size, config.size_multiple());
        return Err(ImportError::ImageSize { image_size, multiple });
    }
    Ok(config)
}

/// Walks `downs.1`, `downs.2`, …: a residual block, or a convolution that begins the next level.
fn infer_levels(shapes: &Shapes<'_>) -> Result<Levels, ImportError> {
    let mut blocks: Vec<Vec<(usize, bool)>> = vec![vec![]];
    for index in 1.. {
        let has = |part: &str| shapes.get(format!("downs.{index}.{part}").as_str()).copied();
        if let Some(shape) = has("res_block.block1.block.3.weight") {
            let width = shape.first().copied().unwrap_or(0);
            if let Some(level) = blocks.last_mut() {
                level.push((width, has("attn.qkv.weight").is_some()));
            }
        } else if has("conv.weight").is_some() && blocks.len() < LEVELS_MAX {
            blocks.push(vec![]);
        } else {
            break;
        }
    }
    // Blocks within a level that differ come out as a tensor that is missing or of another shape.
    let first = |level: &Vec<(usize, bool)>| level.first().copied();
    let levels: Option<Vec<_>> = blocks.iter().map(first).collect();
    let levels =
        levels.ok_or_else(|| ImportError::Lacks { name: "a residual block in every level".to_string() })?;
    let (widths, attends) = levels.into_iter().unzip();
    Ok(Levels { widths, attends, res_blocks: blocks[0].len() })
}
