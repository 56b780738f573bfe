//! The layouts of openai/guided-diffusion (Dhariwal and Nichol, 2021) and of openai/improved-diffusion (Nichol and
//! Dhariwal, 2021), with the names of their checkpoints.
//!
//! Two things differ from a checkpoint's tensors, for the sake of one convention in all layouts: the input's channels
//! are the condition's, then the noisy image's; and `qkv` yields the queries of all heads, then their keys, then their values.
//! Whoever imports puts them in this order.

use super::builder::{Builder, Resample};
use super::{NodeId, Op};
use crate::model::config::Layout;

pub(super) fn unet(b: &mut Builder<'_>) {
    let config = b.config;
    let (inner, widths) = (config.inner_channel, config.widths());
    let input = b.image(Op::Input, &[], config.in_channel, 0);
    let emb = embedding(b, inner);

    let mut x = b.conv("input_blocks.0.0", input, inner, 3, 1, false);
    let mut skips = vec![x];
    for (depth, &width) in widths.iter().enumerate() {
        if depth > 0 {
            x = halve(b, &format!("input_blocks.{}.0", skips.len()), x, emb);
            skips.push(x);
        }
        for _ in 0..config.res_blocks {
            (x, _) = stage(b, &format!("input_blocks.{}", skips.len()), x, width, config.attends(depth), emb);
            skips.push(x);
        }
    }
    let width = b.channels(x);
    x = res_block(b, "middle_block.0", x, width, Resample::Keep, emb);
    x = attention(b, "middle_block.1", x);
    x = res_block(b, "middle_block.2", x, width, Resample::Keep, emb);

    let mut index = 0;
    for (depth, &width) in widths.iter().enumerate().rev() {
        for block in 0..=config.res_blocks {
            let skip = skips.pop().unwrap_or(input);
            let (name, joined) = (format!("output_blocks.{index}"), b.concat(x, skip));
            let modules;
            (x, modules) = stage(b, &name, joined, width, config.attends(depth), emb);
            if depth > 0 && block == config.res_blocks {
                x = double(b, &format!("{name}.{modules}"), x, emb);
            }
            index += 1;
        }
    }
    let h = b.norm("out.0", x, true);
    b.conv("out.2", h, config.out_channel, 3, 1, false);
}

/// What every block is told, after the SiLU that each of them begins with.
fn embedding(b: &mut Builder<'_>, inner: usize) -> NodeId {
    let (length, scale) = (4 * inner, b.config.timestep_scale);
    let timestep = b.vector(Op::NoiseLevel, &[], 1);
    let encoding = b.vector(Op::Encoding { cosines_first: true, scale }, &[timestep], inner);
    let hidden = b.linear("time_embed.0", encoding, length);
    let active = b.vector(Op::Silu, &[hidden], length);
    let mut emb = b.linear("time_embed.2", active, length);
    if b.config.classes > 0 {
        let label = b.vector(Op::Label, &[], 1);
        let weight = b.param("label_emb", "weight", vec![b.config.classes, length]);
        let of_label = b.vector(Op::Embedding { weight }, &[label], length);
        emb = b.vector(Op::Add { scale: 1.0 }, &[emb, of_label], length);
    }
    b.vector(Op::Silu, &[emb], length)
}

/// A residual block, and attention after it where asked for: the image, and how many modules that were.
fn stage(
    b: &mut Builder<'_>,
    name: &str,
    x: NodeId,
    width: usize,
    attend: bool,
    emb: NodeId,
) -> (NodeId, usize) {
    let y = res_block(b, &format!("{name}.0"), x, width, Resample::Keep, emb);
    if attend { (attention(b, &format!("{name}.1"), y), 2) } else { (y, 1) }
}

fn halve(b: &mut Builder<'_>, name: &str, x: NodeId, emb: NodeId) -> NodeId {
    let width = b.channels(x);
    if b.config.layout == Layout::Adm {
        return res_block(b, name, x, width, Resample::Halve, emb);
    }
    b.conv(&format!("{name}.op"), x, width, 3, 2, false)
}

fn double(b: &mut Builder<'_>, name: &str, x: NodeId, emb: NodeId) -> NodeId {
    let width = b.channels(x);
    if b.config.layout == Layout::Adm {
        return res_block(b, name, x, width, Resample::Double, emb);
    }
    b.conv(&format!("{name}.conv"), x, width, 3, 1, true)
}

fn res_block(
    b: &mut Builder<'_>,
    name: &str,
    x: NodeId,
    width: usize,
    resample: Resample,
    emb: NodeId,
) -> NodeId {
    let mut h = b.norm(&format!("{name}.in_layers.0"), x, true);
    if resample == Resample::Halve {
        h = b.pool(h);
    }
    h = b.conv(&format!("{name}.in_layers.2"), h, width, 3, 1, resample == Resample::Double);
    let affine = b.config.use_affine_level;
    let values = if affine { 2 * width } else { width };
    let embedded = b.linear(&format!("{name}.emb_layers.1"), emb, values);

    let norm = format!("{name}.out_layers.0");
    h = if affine {
        b.modulated_norm(&norm, h, embedded)
    } else {
        let shifted = b.image(Op::Shift, &[h, embedded], width, b.level(h));
        b.norm(&norm, shifted, true)
    };
    h = b.dropout(h);
    h = b.conv(&format!("{name}.out_layers.3"), h, width, 3, 1, false);
    let skip = b.skip(&format!("{name}.skip_connection"), x, width, resample);
    b.add(h, skip, 1.0)
}

fn attention(b: &mut Builder<'_>, name: &str, x: NodeId) -> NodeId {
    let (width, depth) = (b.channels(x), b.level(x));
    let h = b.norm(&format!("{name}.norm"), x, false);
    let qkv = b.conv(&format!("{name}.qkv"), h, 3 * width, 1, 1, false);
    let heads = b.config.heads.of(width);
    let mixed = b.image(Op::Attention { heads }, &[qkv], width, depth);
    let out = b.conv(&format!("{name}.proj_out"), mixed, width, 1, 1, false);
    b.add(out, x, 1.0)
}
