//! What each kind of node computes, composed of candle operations.
//!
//! Every operation used has a correct gradient: candle 0.11.1 refuses some (softmax over the last axis as one
//! kernel) and gets one wrong (nearest upsampling may forget what other readers of its input sent back), so these are
//! composed of simpler ones. Images are (N, C, H, W), vectors (N, length). Nothing here looks at a device.

use candle_core::{D, Result, Tensor};

use crate::model::graph::NORM_EPS;

/// Level (N, 1) → (N, length): sin and cos of scale · level · exp(-ln(1e4) · k / count), count = length / 2.
pub(super) fn encoding(level: &Tensor, length: usize, cosines_first: bool, scale: f64) -> Result<Tensor> {
    let count = length / 2;
    let frequency = |k: usize| scale * libm::exp(-libm::log(1e4) * k as f64 / count as f64);
    let frequencies: Vec<f64> = (0..count).map(frequency).collect();
    let frequencies = Tensor::from_vec(frequencies, (1, count), level.device())?.to_dtype(level.dtype())?;
    let angles = level.broadcast_mul(&frequencies)?;
    let (sines, cosines) = (angles.sin()?, angles.cos()?);
    if cosines_first { Tensor::cat(&[cosines, sines], 1) } else { Tensor::cat(&[sines, cosines], 1) }
}

/// Vector (N, in), weight (out, in), bias (out) → (N, out).
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)?.broadcast_add(bias)
}

/// Convolution with zero padding of half the kernel, of the image or of the image doubled.
pub(super) fn conv(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    doubled: bool,
) -> Result<Tensor> {
    let padding = weight.dim(D::Minus1)? / 2;
    let y = if doubled {
        upsample(x)?.conv2d(weight, padding, stride, 1, 1)?
    } else {
        x.conv2d(weight, padding, stride, 1, 1)?
    };
    match bias {
        Some(bias) => y.broadcast_add(&per_channel(bias)?),
        None => Ok(y),
    }
}

/// Group norm with biased variance. Scale and deviation are joined per channel first: one pass less over the image.
pub(super) fn norm(x: &Tensor, weight: &Tensor, bias: &Tensor, groups: usize) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let width = c / groups;
    let grouped = x.reshape((n, groups, width * h * w))?;
    let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(2)? + f64::from(NORM_EPS))?.sqrt()?;
    let scale = weight.reshape((1, groups, width))?.broadcast_div(&deviation)?.reshape((n, c, 1, 1))?;
    centred.reshape((n, c, h, w))?.broadcast_mul(&scale)?.broadcast_add(&per_channel(bias)?)
}

/// Image (N, C, H, W) and vector (N, C) → their sum at every pixel.
pub(super) fn shift(x: &Tensor, by: &Tensor) -> Result<Tensor> {
    x.broadcast_add(&by.reshape((x.dim(0)?, x.dim(1)?, 1, 1))?)
}

/// Image (N, C, H, W) and vector (N, 2·C) → (1 + first half) · image + second half.
pub(super) fn affine(x: &Tensor, by: &Tensor) -> Result<Tensor> {
    let c = x.dim(1)?;
    let scale = (by.narrow(1, 0, c)? + 1.0)?.reshape((x.dim(0)?, c, 1, 1))?;
    shift(&x.broadcast_mul(&scale)?, &by.narrow(1, c, c)?.contiguous()?)
}

/// scale · (a + b).
pub(super) fn add(a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
    let sum = (a + b)?;
    if scale == 1.0 { Ok(sum) } else { sum * f64::from(scale) }
}

/// Over all positions: (N, 3·C, H, W), queries, keys, values, each cut into heads → (N, C, H, W), softmax(qᵀk / sqrt c)
/// of each head's c channels.
pub(super) fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (n, triple, h, w) = qkv.dims4()?;
    let (all, c) = (triple / 3, triple / 3 / heads);
    let part = |i: usize| qkv.narrow(1, i * all, all)?.contiguous()?.reshape((n * heads, c, h * w));
    let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
    // On the queries, C·P products instead of P².
    let queries = (queries.transpose(1, 2)?.contiguous()? * (1.0 / (c as f64).sqrt()))?;
    let weights = softmax(&queries.matmul(&keys)?)?;
    values.matmul(&weights.transpose(1, 2)?)?.reshape((n, all, h, w))
}

/// Softmax over the last axis. The maximum cancels out of the result, so it needs no gradient.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let largest = scores.max_keepdim(D::Minus1)?.detach();
    let exponentials = scores.broadcast_sub(&largest)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)
}

/// Every pixel four times, as a broadcast. Candle's own `upsample_nearest2d` overwrites the gradient that its input
/// already has from other readers, which the paper's blocks have: right only where it is walked back first. It is no
/// faster.
pub(super) fn upsample(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    x.reshape((n, c, h, 1, w, 1))?.broadcast_as((n, c, h, 2, w, 2))?.reshape((n, c, 2 * h, 2 * w))
}

fn per_channel(values: &Tensor) -> Result<Tensor> {
    values.reshape((1, values.elem_count(), 1, 1))
}
