//! Small operations: vectors of the noise level's embedding, and images where no convolution takes the work over.

use rayon::prelude::*;

/// Frequencies of the noise level's encoding: exp(-ln(1e4) · k / count).
fn frequency(k: usize, count: usize) -> f64 {
    libm::exp(-libm::log(1e4) * k as f64 / count as f64)
}

/// How a noise level or a timestep is encoded: waves of `scale` times it, the cosines first or last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Waves {
    pub(crate) cosines_first: bool,
    pub(crate) scale: f64,
}

impl Waves {
    /// Sines and cosines at geometric frequencies.
    pub(crate) fn encode(self, level: f32, out: &mut [f32]) {
        let count = out.len() / 2;
        let (first, last) = out.split_at_mut(count);
        let (sines, cosines) = if self.cosines_first { (last, first) } else { (first, last) };
        for k in 0..count {
            let angle = f64::from(level) * self.scale * frequency(k, count);
            sines[k] = libm::sin(angle) as f32;
            cosines[k] = libm::cos(angle) as f32;
        }
    }

    /// d loss / d level.
    pub(crate) fn backward(self, level: f32, gradient: &[f32]) -> f32 {
        let count = gradient.len() / 2;
        let (first, last) = gradient.split_at(count);
        let (sines, cosines) = if self.cosines_first { (last, first) } else { (first, last) };
        let mut sum = 0.0;
        for k in 0..count {
            let f = self.scale * frequency(k, count);
            let angle = f64::from(level) * f;
            sum += f * (f64::from(sines[k]) * libm::cos(angle) - f64::from(cosines[k]) * libm::sin(angle));
        }
        sum as f32
    }
}

/// weight (O, I) · x + bias, one item. Sums in f64: these are few, and every activation depends on them.
pub(crate) fn linear(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let rows = weight.par_chunks_exact(x.len()).zip(bias).with_min_len(1 << 6);
    out.par_iter_mut().zip(rows).for_each(|(out, (row, bias))| {
        let sum: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        *out = (sum + f64::from(*bias)) as f32;
    });
}

/// Adds the gradients of weight and bias of one item, and writes or adds that of x.
pub(crate) fn linear_backward(
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    (to_weight, to_bias): (&mut [f32], &mut [f32]),
    to: &mut [f32],
    add: bool,
) {
    if !add {
        to.fill(0.0);
    }
    let rows = weight.chunks_exact(x.len()).zip(to_weight.chunks_exact_mut(x.len()));
    for ((g, (row, to_row)), to_bias) in gradient.iter().zip(rows).zip(to_bias) {
        *to_bias += g;
        to_row.iter_mut().zip(x).for_each(|(t, x)| *t += g * x);
        to.iter_mut().zip(row).for_each(|(t, w)| *t += g * w);
    }
}

fn sigmoid(x: f32) -> f64 {
    1.0 / (1.0 + libm::exp(-f64::from(x)))
}

/// x · sigmoid(x) of a vector.
pub(crate) fn silu(x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out = (f64::from(*x) * sigmoid(*x)) as f32);
}

/// Its gradient.
pub(crate) fn silu_backward(x: &[f32], gradient: &[f32], to: &mut [f32], add: bool) {
    for ((to, x), g) in to.iter_mut().zip(x).zip(gradient) {
        let s = sigmoid(*x);
        let value = (f64::from(*g) * s * f64::from(*x).mul_add(1.0 - s, 1.0)) as f32;
        *to = if add { *to + value } else { value };
    }
}

/// `to` (+)= factor · from.
pub(crate) fn accumulate(from: &[f32], factor: f32, to: &mut [f32], add: bool) {
    const CHUNK: usize = 1 << 16;
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| {
        if add {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f * factor);
        } else {
            to.iter_mut().zip(from).for_each(|(t, f)| *t = f * factor);
        }
    });
}

/// Values that one block of a mask stands for.
const MASKED: usize = 8;

/// Writes (or adds) `from` with some values dropped, each with probability `rate`, and the others enlarged by as much as
/// keeps the mean. Eight values share the four words of `mask` at their block: 16 bits decide about each.
pub(crate) fn dropout(
    from: &[f32],
    mask: impl Fn(u32) -> [u32; 4] + Sync,
    rate: f32,
    to: &mut [f32],
    add: bool,
) {
    const BLOCKS: usize = 1 << 10;
    let dropped = (f64::from(rate) * 65_536.0).round().min(65_535.0) as u32;
    let factor = (65_536.0 / f64::from(65_536 - dropped)) as f32;
    let chunks = to.par_chunks_mut(MASKED * BLOCKS).zip(from.par_chunks(MASKED * BLOCKS)).enumerate();
    chunks.for_each(|(chunk, (to, from))| {
        for (block, (to, from)) in to.chunks_mut(MASKED).zip(from.chunks(MASKED)).enumerate() {
            let words = mask((chunk * BLOCKS + block) as u32);
            for (i, (to, from)) in to.iter_mut().zip(from).enumerate() {
                let bits = words[i / 2] >> (16 * (i % 2)) & 0xffff;
                let value = if bits < dropped { 0.0 } else { from * factor };
                *to = if add { *to + value } else { value };
            }
        }
    });
}

/// Channels `offset ..` of every pixel, as many as `width`, written or added to an image of their own.
pub(crate) fn take_channels(
    from: &[f32],
    channels: usize,
    offset: usize,
    width: usize,
    to: &mut [f32],
    add: bool,
) {
    const PIXELS: usize = 1 << 10;
    to.par_chunks_mut(PIXELS * width).zip(from.par_chunks(PIXELS * channels)).for_each(|(to, from)| {
        for (to, pixel) in to.chunks_exact_mut(width).zip(from.chunks_exact(channels)) {
            let pixel = &pixel[offset..offset + width];
            if add {
                to.iter_mut().zip(pixel).for_each(|(to, g)| *to += g);
            } else {
                to.copy_from_slice(pixel);
            }
        }
    });
}

/// (a + b) · scale.
pub(crate) fn add(a: &[f32], b: &[f32], scale: f32, out: &mut [f32]) {
    out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = (a + b) * scale);
}

/// One item's image times (1 + scale) plus shift, or plus shift alone: `vector` is (2·C), scale first, or (C).
pub(crate) fn modulate(image: &[f32], vector: &[f32], channels: usize, out: &mut [f32]) {
    let (scale, shift) = vector.split_at(vector.len() - channels);
    for (out, pixel) in out.chunks_exact_mut(channels).zip(image.chunks_exact(channels)) {
        for (c, (out, x)) in out.iter_mut().zip(pixel).enumerate() {
            *out = scale.get(c).map_or(*x, |s| (1.0 + s) * x) + shift[c];
        }
    }
}

/// Gradients of [`modulate`] for one item: of the image, and of the vector.
pub(crate) fn modulate_backward(
    image: &[f32],
    vector: &[f32],
    gradient: &[f32],
    channels: usize,
    (to, add): (&mut [f32], bool),
    (to_vector, add_vector): (&mut [f32], bool),
) {
    let scale = &vector[..vector.len() - channels];
    let mut sums = vec![0.0f64; vector.len()];
    let (scale_sums, shift_sums) = sums.split_at_mut(scale.len());
    let pixels = image.chunks_exact(channels).zip(gradient.chunks_exact(channels));
    for ((x, g), to) in pixels.zip(to.chunks_exact_mut(channels)) {
        for c in 0..channels {
            shift_sums[c] += f64::from(g[c]);
            if let Some(sum) = scale_sums.get_mut(c) {
                *sum += f64::from(g[c]) * f64::from(x[c]);
            }
            let value = scale.get(c).map_or(g[c], |s| (1.0 + s) * g[c]);
            to[c] = if add { to[c] + value } else { value };
        }
    }
    for (to, sum) in to_vector.iter_mut().zip(sums) {
        *to = if add_vector { *to + sum as f32 } else { sum as f32 };
    }
}

/// Means of 2×2 pixels of one item; `width` is the source's.
pub(crate) fn avg_pool(image: &[f32], width: usize, channels: usize, out: &mut [f32]) {
    let (row, fine) = (width / 2 * channels, width * channels);
    for (y, out) in out.chunks_exact_mut(row).enumerate() {
        let (upper, lower) = (&image[2 * y * fine..][..fine], &image[(2 * y + 1) * fine..][..fine]);
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let at = 2 * x * channels;
            for (c, out) in out.iter_mut().enumerate() {
                let (a, b) = (at + c, at + channels + c);
                *out = 0.25 * ((upper[a] + upper[b]) + (lower[a] + lower[b]));
            }
        }
    }
}

/// Every pixel of one item four times, times `factor`: doubling, and the backward of [`avg_pool`] with 1/4.
pub(crate) fn double(image: &[f32], width: usize, channels: usize, factor: f32, out: &mut [f32], add: bool) {
    let (row, coarse) = (2 * width * channels, width * channels);
    for (y, out) in out.chunks_exact_mut(row).enumerate() {
        let line = &image[y / 2 * coarse..][..coarse];
        for (x, out) in out.chunks_exact_mut(channels).enumerate() {
            let pixel = &line[x / 2 * channels..][..channels];
            for (out, v) in out.iter_mut().zip(pixel) {
                *out = if add { *out + v * factor } else { v * factor };
            }
        }
    }
}
