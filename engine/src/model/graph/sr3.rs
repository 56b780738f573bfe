//! The layouts of SR3: the public implementation's, and the paper's.

use super::builder::{Builder, Resample};
use super::{NodeId, Op};
use crate::model::config::Layout;

pub(super) fn unet(b: &mut Builder<'_>) {
    let config = b.config;
    let (inner, widths) = (config.inner_channel, config.widths());
    let input = b.image(Op::Input, &[], config.in_channel, 0);
    let level = noise_level_embedding(b, inner);

    let mut x = b.conv("downs.0", input, inner, 3, 1, false);
    let mut skips = vec![x];
    let mut index = 1;
    for (depth, &width) in widths.iter().enumerate() {
        if depth > 0 {
            x = halve(b, &format!("downs.{index}"), x, level);
            skips.push(x);
            index += 1;
        }
        for _ in 0..config.res_blocks {
            x = stage(b, &format!("downs.{index}"), x, width, config.attends(depth), level);
            skips.push(x);
            index += 1;
        }
    }
    let width = b.channels(x);
    x = stage(b, "mid.0", x, width, true, level);
    x = stage(b, "mid.1", x, width, false, level);

    index = 0;
    for (depth, &width) in widths.iter().enumerate().rev() {
        for _ in 0..=config.res_blocks {
            let skip = skips.pop().unwrap_or(input);
            let joined = b.concat(x, skip);
            x = stage(b, &format!("ups.{index}"), joined, width, config.attends(depth), level);
            index += 1;
        }
        if depth > 0 {
            x = double(b, &format!("ups.{index}"), x, level);
            index += 1;
        }
    }
    let h = b.norm("final_conv.block.0", x, true);
    b.conv("final_conv.block.3", h, config.out_channel, 3, 1, false);
}

fn noise_level_embedding(b: &mut Builder<'_>, inner: usize) -> NodeId {
    let level = b.vector(Op::NoiseLevel, &[], 1);
    let encoding = b.vector(Op::Encoding { cosines_first: false, scale: 1.0 }, &[level], inner);
    let hidden = b.linear("noise_level_mlp.1", encoding, 4 * inner);
    let active = b.vector(Op::Silu, &[hidden], 4 * inner);
    b.linear("noise_level_mlp.3", active, inner)
}

/// A residual block, and attention after it where the configuration asks for it.
fn stage(b: &mut Builder<'_>, name: &str, x: NodeId, width: usize, attend: bool, level: NodeId) -> NodeId {
    let y = res_block(b, &format!("{name}.res_block"), x, width, Resample::Keep, level);
    if attend { attention(b, &format!("{name}.attn"), y) } else { y }
}

fn halve(b: &mut Builder<'_>, name: &str, x: NodeId, level: NodeId) -> NodeId {
    let width = b.channels(x);
    if b.config.layout == Layout::Paper {
        return res_block(b, &format!("{name}.res_block"), x, width, Resample::Halve, level);
    }
    b.conv(&format!("{name}.conv"), x, width, 3, 2, false)
}

fn double(b: &mut Builder<'_>, name: &str, x: NodeId, level: NodeId) -> NodeId {
    let width = b.channels(x);
    if b.config.layout == Layout::Paper {
        return res_block(b, &format!("{name}.res_block"), x, width, Resample::Double, level);
    }
    b.conv(&format!("{name}.conv"), x, width, 3, 1, true)
}

fn res_block(
    b: &mut Builder<'_>,
    name: &str,
    x: NodeId,
    width: usize,
    resample: Resample,
    level: NodeId,
) -> NodeId {
    let affine = b.config.use_affine_level;
    let values = if affine { 2 * width } else { width };
    let embedded = b.linear(&format!("{name}.noise_func.noise_func.0"), level, values);

    let mut h = b.norm(&format!("{name}.block1.block.0"), x, true);
    if resample == Resample::Halve {
        h = b.pool(h);
    }
    h = b.conv(&format!("{name}.block1.block.3"), h, width, 3, 1, resample == Resample::Double);
    let depth = b.level(h);
    h = b.image(if affine { Op::Affine } else { Op::Shift }, &[h, embedded], width, depth);

    h = b.norm(&format!("{name}.block2.block.0"), h, true);
    h = b.dropout(h);
    h = b.conv(&format!("{name}.block2.block.3"), h, width, 3, 1, false);
    let skip = b.skip(&format!("{name}.res_conv"), x, width, resample);
    add(b, h, skip)
}

fn attention(b: &mut Builder<'_>, name: &str, x: NodeId) -> NodeId {
    let (width, depth) = (b.channels(x), b.level(x));
    let h = b.norm(&format!("{name}.norm"), x, false);
    let qkv = b.conv_without_bias(&format!("{name}.qkv"), h, 3 * width);
    let heads = b.config.heads.of(width);
    let mixed = b.image(Op::Attention { heads }, &[qkv], width, depth);
    let out = b.conv(&format!("{name}.out"), mixed, width, 1, 1, false);
    add(b, out, x)
}

fn add(b: &mut Builder<'_>, h: NodeId, skip: NodeId) -> NodeId {
    let scale = if b.config.layout == Layout::Paper { std::f32::consts::FRAC_1_SQRT_2 } else { 1.0 };
    b.add(h, skip, scale)
}
