//! Checkpoints of openai/guided-diffusion and openai/improved-diffusion: which network do these tensors belong to?
//!
//! Their files hold a network alone, under its own names. Its layout follows from names and shapes; what does not
//! ([`AdmFlags`]) is known of the published networks, and has to be said of any other. The result is checked tensor by
//! tensor against the network that it describes, and put in the order of this engine: the condition's channels before
//! the noisy image's, the queries of all heads before their keys and values, convolutions of a line as of an image.

use std::collections::BTreeMap;

use super::ImportError;
use crate::model::checkpoint::{ShapesError, WeightsError, check_shapes};
use crate::model::tensors::{HostTensor, TensorMap, one_line};
use crate::model::{Heads, Layout, UNetConfig, Weights, presets};

/// The tensor by which such a checkpoint is known.
pub(super) const FIRST: &str = "input_blocks.0.0.weight";
const LAST: &str = "out.2.weight";
const LABELS: &str = "label_emb.weight";
/// Groups of every group norm there.
const NORM_GROUPS: usize = 32;
/// Channels of an image.
const RGB: usize = 3;
/// Levels beyond this are nothing that [`UNetConfig`] allows.
const LEVELS_MAX: usize = 10;

/// How beta runs over the timesteps of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmSchedule {
    /// Evenly, from 0.1/T to 20/T.
    Linear,
    /// As a squared cosine asks for.
    Cosine,
}

/// Those flags of the reference's scripts that names and shapes do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmFlags {
    /// `image_size`, of an upsampler `large_size`.
    pub image_size: usize,
    /// Of an upsampler, `large_size` over `small_size`.
    pub scale: usize,
    /// `num_head_channels` where that is set, else `num_heads`.
    pub heads: Heads,
    /// `use_new_attention_order`: `qkv` yields all queries, then all keys, then all values, not the three head by head.
    pub new_attention_order: bool,
    /// `noise_schedule`.
    pub noise_schedule: AdmSchedule,
    /// `diffusion_steps`.
    pub diffusion_steps: usize,
    /// `rescale_timesteps`: the network is told timesteps as if there were 1,000.
    pub rescale_timesteps: bool,
}

/// A network that was found in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmNetwork {
    /// The published network that it is, by the name of its preset.
    pub published: Option<&'static str>,
    /// Its shape.
    pub config: UNetConfig,
    /// What was known of it, or given.
    pub flags: AdmFlags,
    /// Its weights, in the order of this engine.
    pub weights: Weights,
}

/// Finds the network that the tensors belong to. `flags` are needed where it is none of the published ones, and count before
/// what is known where it is.
///
/// # Errors
/// [`ImportError`] where the tensors are not exactly those of one network in this layout: the first tensor that is
/// missing, superfluous or of another shape; [`ImportError::Flags`] where the network is not known and nothing is said of it.
pub fn infer_adm(tensors: TensorMap, flags: Option<&AdmFlags>) -> Result<AdmNetwork, ImportError> {
    let shapes: Shapes<'_> = tensors.iter().map(|(name, t)| (name.as_str(), t.shape.as_slice())).collect();
    let found = Found::of(&shapes)?;
    let known = found.published();
    let published = known.as_ref().map(|(name, ..)| *name);
    let (config, flags) = match (flags, known) {
        (None, Some((_, config, flags))) => (config, flags),
        (Some(flags), _) => (found.config(flags)?, *flags),
        (None, None) => return Err(ImportError::Flags),
    };
    config.validate().map_err(|source| ImportError::Config { source })?;
    // Ahead of the values, whose order is a matter of their shapes.
    let shapes: BTreeMap<_, _> =
        tensors.iter().map(|(name, t)| (name.as_str(), own_shape(name, t))).collect();
    let shapes = shapes.iter().map(|(name, shape)| (*name, shape.as_slice())).collect();
    check_shapes(&config, &shapes).map_err(|fault| match fault {
        ShapesError::Config(source) => ImportError::Config { source },
        ShapesError::Weights(source) => ImportError::Weights { source },
    })?;
    let mut weights = Weights::new();
    for (name, tensor) in tensors {
        let values = in_own_order(&name, &tensor, &config, flags.new_attention_order)?;
        weights.insert(name.clone(), (own_shape(&name, &tensor), values));
    }
    Ok(AdmNetwork { published, config, flags, weights })
}

/// A tensor's shape as this engine has it: convolutions of a line are those of an image.
fn own_shape(name: &str, tensor: &HostTensor) -> Vec<usize> {
    let mut shape = tensor.shape.clone();
    let of_line = name.ends_with(".qkv.weight") || name.ends_with(".proj_out.weight");
    if of_line && shape.len() == 3 {
        shape.push(1);
    }
    shape
}

type Shapes<'a> = BTreeMap<&'a str, &'a [usize]>;

/// What names and shapes tell.
struct Found {
    layout: Layout,
    in_channel: usize,
    out_channel: usize,
    inner_channel: usize,
    channel_mults: Vec<usize>,
    /// Whether each level attends.
    attends: Vec<bool>,
    res_blocks: usize,
    use_affine_level: bool,
    classes: usize,
}

impl Found {
    fn of(shapes: &Shapes<'_>) -> Result<Self, ImportError> {
        let axis = |name: &str, axis: usize| -> Result<usize, ImportError> {
            let shape = shapes.get(name).ok_or_else(|| ImportError::Lacks { name: one_line(name) })?;
            shape.get(axis).copied().ok_or_else(|| ImportError::Unlike {
                name: one_line(name),
                shape: one_line(&format!("{shape:?}")),
            })
        };
        let (inner_channel, in_channel) = (axis(FIRST, 0)?, axis(FIRST, 1)?);
        let (layout, blocks, res_blocks) = walk(shapes)?;
        let (mut channel_mults, mut attends) = (Vec::new(), Vec::new());
        // From the top level down: the first block of each.
        for index in (0..blocks).step_by(res_blocks + 1).collect::<Vec<_>>().into_iter().rev() {
            let width = axis(&format!("output_blocks.{index}.0.out_layers.3.weight"), 0)?;
            if inner_channel == 0 || !width.is_multiple_of(inner_channel) {
                return Err(ImportError::Width { width, inner_channel });
            }
            channel_mults.push(width / inner_channel);
            attends.push(shapes.contains_key(format!("output_blocks.{index}.1.qkv.weight").as_str()));
        }
        let embedded = axis("input_blocks.1.0.emb_layers.1.weight", 0)?;
        Ok(Self {
            layout,
            in_channel,
            out_channel: axis(LAST, 0)?,
            inner_channel,
            // With scale and shift, a block's embedding has twice its width.
            use_affine_level: Some(embedded) == channel_mults.first().map(|mult| 2 * mult * inner_channel),
            channel_mults,
            attends,
            res_blocks,
            classes: if shapes.contains_key(LABELS) { axis(LABELS, 0)? } else { 0 },
        })
    }

    fn config(&self, flags: &AdmFlags) -> Result<UNetConfig, ImportError> {
        let levels = self.attends.len();
        let (image_size, multiple) = (flags.image_size, 1 << (levels - 1));
        if image_size == 0 || !image_size.is_multiple_of(multiple) {
            return Err(ImportError::ImageSize { image_size, multiple });
        }
        let attn_res = (0..levels).filter(|level| self.attends[*level]).map(|level| image_size >> level);
        let scale = if flags.rescale_timesteps { 1000.0 / flags.diffusion_steps as f64 } else { 1.0 };
        Ok(UNetConfig {
            layout: self.layout,
            in_channel: self.in_channel,
            out_channel: self.out_channel,
            inner_channel: self.inner_channel,
            norm_groups: NORM_GROUPS,
            channel_mults: self.channel_mults.clone(),
            attn_res: attn_res.collect(),
            res_blocks: self.res_blocks,
            dropout: 0.0,
            use_affine_level: self.use_affine_level,
            image_size: Some(image_size),
            heads: flags.heads,
            classes: self.classes,
            learned_variance: self.out_channel == 2 * RGB,
            timestep_scale: scale,
        })
    }

    /// The published network of this shape: its preset's name, its configuration, and its flags.
    fn published(&self) -> Option<(&'static str, UNetConfig, AdmFlags)> {
        presets().into_iter().find_map(|preset| {
            let flags = published_flags(preset.name, &preset.config)?;
            let config = UNetConfig { dropout: preset.config.dropout, ..self.config(&flags).ok()? };
            (config == preset.config).then_some((preset.name, config, flags))
        })
    }
}

/// Layout, number of output blocks, and residual blocks a level. A level's last output block, but for the top level's, ends in
/// one that doubles the size.
fn walk(shapes: &Shapes<'_>) -> Result<(Layout, usize, usize), ImportError> {
    let has = |index: usize, module: usize, part: &str| {
        shapes.contains_key(format!("output_blocks.{index}.{module}.{part}").as_str())
    };
    let blocks = (0..).take_while(|index| has(*index, 0, "in_layers.2.weight")).count();
    let doubles =
        |part: &str| (0..blocks).filter(|i| has(*i, 1, part) || has(*i, 2, part)).collect::<Vec<_>>();
    let (as_blocks, as_convs) = (doubles("in_layers.2.weight"), doubles("conv.weight"));
    let layout = if as_convs.is_empty() { Layout::Adm } else { Layout::Iddpm };
    let ends = if as_convs.is_empty() { as_blocks } else { as_convs };
    let levels = ends.len() + 1;
    let regular = |a_level: usize| a_level > 1 && (1..levels).all(|l| ends[l - 1] + 1 == l * a_level);
    if levels > LEVELS_MAX || !blocks.is_multiple_of(levels) || !regular(blocks / levels) {
        return Err(ImportError::Lacks { name: "a residual block in every level".to_string() });
    }
    Ok((layout, blocks, blocks / levels - 1))
}

/// How the published networks were trained, by the name of their preset.
fn published_flags(preset: &str, config: &UNetConfig) -> Option<AdmFlags> {
    let (noise_schedule, diffusion_steps) = match preset {
        "adm-64" => (AdmSchedule::Cosine, 1000),
        "adm-64-256" | "adm-128-512" => (AdmSchedule::Linear, 1000),
        "iddpm-64-cond" | "iddpm-64-uncond" => (AdmSchedule::Cosine, 4000),
        "iddpm-64-256" => (AdmSchedule::Linear, 4000),
        _ => return None,
    };
    Some(AdmFlags {
        image_size: config.image_size?,
        scale: if config.in_channel == RGB { 1 } else { 4 },
        heads: config.heads,
        new_attention_order: preset == "adm-64",
        noise_schedule,
        diffusion_steps,
        rescale_timesteps: config.timestep_scale != 1.0,
    })
}

/// The values of a tensor whose shape is the network's, in the order of this engine.
fn in_own_order(
    name: &str,
    tensor: &HostTensor,
    config: &UNetConfig,
    new_attention_order: bool,
) -> Result<Vec<f32>, ImportError> {
    if !tensor.dtype.is_float() {
        let source = WeightsError::Dtype { name: one_line(name), dtype: tensor.dtype.name() };
        return Err(ImportError::Weights { source });
    }
    let values = tensor.to_f32();
    if name == FIRST && config.in_channel == 2 * RGB {
        let of_filter = values.len() / config.inner_channel;
        let swapped = |filter: &[f32]| {
            let (noisy, condition) = filter.split_at(of_filter / 2);
            [condition, noisy].concat()
        };
        return Ok(values.chunks_exact(of_filter).flat_map(swapped).collect());
    }
    if !name.contains(".qkv.") || new_attention_order {
        return Ok(values);
    }
    let width = tensor.shape[0] / 3;
    Ok(parts_first(&values, config.heads.of(width)))
}

/// Rows of (heads, 3, c) as rows of (3, heads, c).
fn parts_first(values: &[f32], heads: usize) -> Vec<f32> {
    let length = values.len() / (3 * heads);
    let starts = (0..3).flat_map(|part| (0..heads).map(move |head| (3 * head + part) * length));
    starts.flat_map(|start| &values[start..start + length]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Graph;

    #[test]
    fn every_published_network_is_known_by_its_names_and_shapes() {
        let mut known = 0;
        for preset in presets() {
            let graph = Graph::build(&preset.config).unwrap();
            let shapes: Shapes<'_> =
                graph.params.iter().map(|param| (param.name.as_str(), param.shape.as_slice())).collect();
            let Ok(found) = Found::of(&shapes) else { continue };
            let (name, config, flags) = found.published().unwrap();
            assert_eq!((name, config), (preset.name, preset.config));
            assert_eq!(flags.new_attention_order, name == "adm-64");
            known += 1;
        }
        assert_eq!(known, 6);
    }

    #[test]
    fn rows_of_heads_become_rows_of_parts() {
        // Two heads of one channel, rows of two values: queries are 0 and 3, keys 1 and 4, values 2 and 5.
        let rows = |order: [u8; 6]| order.iter().flat_map(|r| [f32::from(*r); 2]).collect::<Vec<f32>>();
        assert_eq!(parts_first(&rows([0, 1, 2, 3, 4, 5]), 2), rows([0, 3, 1, 4, 2, 5]));
    }
}
