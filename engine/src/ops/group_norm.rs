//! Group norm with SiLU: statistics forward, gradient backward. The normalising itself happens where a convolution reads.
//!
//! Statistics are taken per channel, in chunks of rows whose size depends on the image alone; chunks are joined in f64
//! in order. So no thread count and no instruction set changes them.

use rayon::prelude::*;

use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::{Prologue, Segment};

/// Pixels that a chunk of rows has at least.
const CHUNK_PIXELS: usize = 256;

/// Rows of a chunk.
fn chunk_rows(width: usize) -> usize {
    CHUNK_PIXELS.div_ceil(width)
}

/// Floats that [`moments`] and [`backward`] need for partial sums of one item.
pub(crate) fn partials_len(height: usize, width: usize, channels: usize) -> usize {
    height.div_ceil(chunk_rows(width)) * 2 * channels
}

/// Mean and mean squared deviation per channel of one item (H, W, C): `out` is (C, 2).
pub(crate) fn moments(
    isa: Isa,
    image: &[f32],
    width: usize,
    channels: usize,
    partials: &mut [f32],
    out: &mut [f32],
) {
    let chunk = chunk_rows(width) * width * channels;
    image.par_chunks(chunk).zip(partials.par_chunks_mut(2 * channels)).for_each(|(chunk, partial)| {
        let (mean, deviation) = partial.split_at_mut(channels);
        dispatch(isa, ChunkMoments { pixels: chunk, channels, mean, deviation });
    });
    let total = (image.len() / channels) as f64;
    for c in 0..channels {
        // Chan's rule: chunks of known mean and squared deviation, joined in order.
        let (mut count, mut mean, mut deviation) = (0.0, 0.0, 0.0);
        for (chunk, partial) in image.chunks(chunk).zip(partials.chunks(2 * channels)) {
            let n = (chunk.len() / channels) as f64;
            let delta = f64::from(partial[c]) - mean;
            count += n;
            mean += delta * n / count;
            deviation += f64::from(partial[channels + c]) + delta * delta * n * (count - n) / count;
        }
        out[2 * c] = mean as f32;
        out[2 * c + 1] = (deviation / total) as f32;
    }
}

struct ChunkMoments<'a> {
    pixels: &'a [f32],
    channels: usize,
    mean: &'a mut [f32],
    deviation: &'a mut [f32],
}

impl Kernel for ChunkMoments<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { pixels, channels, mean, deviation } = self;
        let count = pixels.len() / channels;
        let mut c = 0;
        while c < channels {
            let n = channels - c;
            // SAFETY: every pixel has `channels` values, `mean` and `deviation` too; n lanes from c lie within.
            unsafe {
                let mut sum = S::splat(0.0);
                for i in 0..count {
                    sum = S::add(sum, S::load_n(pixels.as_ptr().add(i * channels + c), n));
                }
                let middle = S::div(sum, S::splat(count as f32));
                let mut squares = S::splat(0.0);
                for i in 0..count {
                    let d = S::sub(S::load_n(pixels.as_ptr().add(i * channels + c), n), middle);
                    squares = S::fma(d, d, squares);
                }
                S::store_n(mean.as_mut_ptr().add(c), middle, n);
                S::store_n(deviation.as_mut_ptr().add(c), squares, n);
            }
            c += LANES;
        }
    }
}

/// A norm's parameters.
#[derive(Clone, Copy)]
pub(crate) struct NormWeights<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) groups: usize,
    pub(crate) eps: f32,
}

/// Mean and 1 / sqrt(variance + eps) of the group that each channel is in, from moments of one or two images.
fn group_statistics<'a>(
    moments: [&'a [f32]; 2],
    channels: usize,
    norm: &NormWeights<'_>,
) -> impl Iterator<Item = (f64, f64)> + use<'a> {
    let size = channels / norm.groups;
    let eps = f64::from(norm.eps);
    let at = move |c: usize| {
        let first = moments[0].len() / 2;
        let (of, c) = if c < first { (moments[0], c) } else { (moments[1], c - first) };
        (f64::from(of[2 * c]), f64::from(of[2 * c + 1]))
    };
    (0..norm.groups).flat_map(move |group| {
        let members = group * size..(group + 1) * size;
        let mean = members.clone().map(|c| at(c).0).sum::<f64>() / size as f64;
        let variance = members
            .map(|c| {
                let (m, v) = at(c);
                v + (m - mean) * (m - mean)
            })
            .sum::<f64>()
            / size as f64;
        std::iter::repeat_n((mean, 1.0 / (variance + eps).sqrt()), size)
    })
}

/// What an item's conditions make of its norm's output: factor and shift of channel c; 1 and 0 where there are none.
fn modulation_at(modulation: &[f32], c: usize) -> (f64, f64) {
    let channels = modulation.len() / 2;
    if channels == 0 {
        (1.0, 0.0)
    } else {
        (1.0 + f64::from(modulation[c]), f64::from(modulation[channels + c]))
    }
}

/// The norm of one item as scale and shift per channel: `out` is (2, C). `modulation`, (2, C) or empty, is a scale, to
/// which 1 is added, and a shift, both after the norm's own.
pub(crate) fn prologue(moments: [&[f32]; 2], norm: &NormWeights<'_>, modulation: &[f32], out: &mut [f32]) {
    let (scale, shift) = out.split_at_mut(norm.weight.len());
    for (c, (mean, rstd)) in group_statistics(moments, norm.weight.len(), norm).enumerate() {
        let (factor, beyond) = modulation_at(modulation, c);
        let s = f64::from(norm.weight[c]) * rstd;
        scale[c] = (s * factor) as f32;
        shift[c] = ((f64::from(norm.bias[c]) - mean * s) * factor + beyond) as f32;
    }
}

/// One item's norm, as its backward reads it.
pub(crate) struct Backward<'a> {
    /// The norm's raw input.
    pub(crate) segments: [Segment<'a>; 2],
    pub(crate) moments: [&'a [f32]; 2],
    pub(crate) norm: NormWeights<'a>,
    /// As [`prologue`] took it.
    pub(crate) modulation: &'a [f32],
    pub(crate) prologue: Prologue<'a>,
    pub(crate) width: usize,
}

/// Where the gradients of a norm go. Those of its images and of its modulation are added where the flag says so, else
/// written; those of its parameters are added.
pub(crate) struct Gradients<'a> {
    /// Each (N, H, W, C of the image); empty for none.
    pub(crate) images: [(&'a mut [f32], bool); 2],
    pub(crate) weight: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
    /// (N, 2, C); empty for none.
    pub(crate) modulation: (&'a mut [f32], bool),
}

/// The backward of a norm over a batch. `gradient` (N, H, W, C) is used up; `partials` is working memory, equal parts
/// per item. The parameters' gradient is summed item by item.
pub(crate) fn backward<'a>(
    isa: Isa,
    batch: usize,
    item: impl Fn(usize) -> Backward<'a> + Sync,
    gradient: &mut [f32],
    partials: &mut [f32],
    out: Gradients<'_>,
) {
    let (length, partials_len) = (gradient.len() / batch, partials.len() / batch);
    let items = gradient.par_chunks_exact_mut(length).zip(partials.par_chunks_exact_mut(partials_len));
    let coefficients: Vec<_> = items
        .enumerate()
        .map(|(n, (gradient, partials))| item(n).through_silu(isa, gradient, partials))
        .collect();
    for of_item in &coefficients {
        out.weight.iter_mut().zip(&of_item.weight).for_each(|(to, g)| *to += g);
        out.bias.iter_mut().zip(&of_item.bias).for_each(|(to, g)| *to += g);
    }
    let (to, add) = out.modulation;
    for (to, g) in to.iter_mut().zip(coefficients.iter().flat_map(|of_item| &of_item.modulation)) {
        *to = if add { *to + g } else { *g };
    }
    for (index, (out, add)) in out.images.into_iter().enumerate().filter(|(_, (out, _))| !out.is_empty()) {
        let of_segment = out.len() / batch;
        out.par_chunks_exact_mut(of_segment).enumerate().for_each(|(n, out)| {
            let gradient = &gradient[n * length..(n + 1) * length];
            item(n).input_gradient(isa, gradient, &coefficients[n].input, index, add, out);
        });
    }
}

/// What the second pass of an item's backward needs of the first.
struct Coefficients {
    /// (3, C): of dz, of x, constant.
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// (2, C), or empty.
    modulation: Vec<f32>,
}

impl Backward<'_> {
    fn coefficients(&self, sums: &[f64], pixels: usize) -> Coefficients {
        let channels = self.norm.weight.len();
        let statistics: Vec<_> = group_statistics(self.moments, channels, &self.norm).collect();
        let mut found = Coefficients {
            input: vec![0.0; 3 * channels],
            weight: vec![0.0; channels],
            bias: vec![0.0; channels],
            modulation: vec![0.0; self.modulation.len()],
        };
        let size = channels / self.norm.groups;
        let count = (pixels * size) as f64;
        for group in 0..self.norm.groups {
            let members = group * size..(group + 1) * size;
            let (mut mean_gradient, mut mean_product) = (0.0, 0.0);
            for c in members.clone() {
                let (mean, rstd) = statistics[c];
                // Σ dz and Σ dz times the normalised input.
                let normalised = (sums[2 * c + 1] - mean * sums[2 * c]) * rstd;
                let (factor, _) = modulation_at(self.modulation, c);
                let weight = f64::from(self.norm.weight[c]);
                found.weight[c] = (factor * normalised) as f32;
                found.bias[c] = (factor * sums[2 * c]) as f32;
                if !found.modulation.is_empty() {
                    let output = weight * normalised + f64::from(self.norm.bias[c]) * sums[2 * c];
                    found.modulation[c] = output as f32;
                    found.modulation[channels + c] = sums[2 * c] as f32;
                }
                mean_gradient += factor * weight * sums[2 * c];
                mean_product += factor * weight * normalised;
            }
            mean_gradient /= count;
            mean_product /= count;
            for c in members {
                let (mean, rstd) = statistics[c];
                let (factor, _) = modulation_at(self.modulation, c);
                found.input[c] = (rstd * (factor * f64::from(self.norm.weight[c]))) as f32;
                found.input[channels + c] = (-rstd * rstd * mean_product) as f32;
                found.input[2 * channels + c] = (rstd * (rstd * mean_product * mean - mean_gradient)) as f32;
            }
        }
        found
    }

    fn input_gradient(
        &self,
        isa: Isa,
        gradient: &[f32],
        coefficients: &[f32],
        index: usize,
        add: bool,
        out: &mut [f32],
    ) {
        let channels = self.norm.weight.len();
        let segment = &self.segments[index];
        let (width, offset) = (segment.channels, if index == 0 { 0 } else { self.segments[0].channels });
        let rows = chunk_rows(self.width);
        let (chunk, gradient_chunk) = (rows * self.width * width, rows * self.width * channels);
        let sources = gradient.par_chunks(gradient_chunk).zip(segment.data.par_chunks(chunk));
        out.par_chunks_mut(chunk).zip(sources).for_each(|(out, (dz, x))| {
            dispatch(isa, InputGradient { dz, x, coefficients, channels, offset, width, add, out });
        });
    }

    /// Turns the output's gradient into that of z = scale · x + shift, in place.
    fn through_silu(&self, isa: Isa, gradient: &mut [f32], partials: &mut [f32]) -> Coefficients {
        let channels = self.norm.weight.len();
        let chunk_rows = chunk_rows(self.width);
        let chunk = chunk_rows * self.width * channels;
        gradient.par_chunks_mut(chunk).zip(partials.par_chunks_mut(2 * channels)).enumerate().for_each(
            |(i, (gradient, partial))| {
                partial.fill(0.0);
                let pixels = gradient.len() / channels;
                let mut offset = 0;
                for segment in self.segments.iter().filter(|s| s.channels > 0) {
                    let from = i * chunk_rows * self.width * segment.channels;
                    let x = &segment.data[from..from + pixels * segment.channels];
                    let (prologue, width) = (self.prologue, segment.channels);
                    let gradient = &mut *gradient;
                    let partial = &mut *partial;
                    dispatch(isa, ThroughSilu { x, prologue, channels, offset, width, gradient, partial });
                    offset += segment.channels;
                }
            },
        );
        // Per channel: Σ dz and Σ dz · x.
        let mut sums = vec![0.0; 2 * channels];
        for partial in partials.chunks(2 * channels).take(gradient.len().div_ceil(chunk)) {
            for c in 0..channels {
                sums[2 * c] += f64::from(partial[c]);
                sums[2 * c + 1] += f64::from(partial[channels + c]);
            }
        }
        self.coefficients(&sums, gradient.len() / channels)
    }
}

struct ThroughSilu<'a> {
    x: &'a [f32],
    prologue: Prologue<'a>,
    channels: usize,
    offset: usize,
    width: usize,
    gradient: &'a mut [f32],
    partial: &'a mut [f32],
}

impl Kernel for ThroughSilu<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, prologue, channels, offset, width, gradient, partial } = self;
        let pixels = x.len() / width;
        let mut c = 0;
        while c < width {
            let (n, at) = (width - c, offset + c);
            // SAFETY: x has `width` values a pixel, gradient, scale, shift and both halves of partial `channels`;
            // n ≤ width - c lanes from c (in x) and from at = offset + c (elsewhere) lie within.
            unsafe {
                let scale = S::load_n(prologue.scale.as_ptr().add(at), n);
                let shift = S::load_n(prologue.shift.as_ptr().add(at), n);
                let (mut sum, mut product) = (S::splat(0.0), S::splat(0.0));
                for i in 0..pixels {
                    let x = S::load_n(x.as_ptr().add(i * width + c), n);
                    let p = gradient.as_mut_ptr().add(i * channels + at);
                    let mut dz = S::load_n(p, n);
                    if prologue.silu {
                        let z = S::fma(x, scale, shift);
                        let s = S::sigmoid(z);
                        let rest = S::mul(S::mul(z, s), S::sub(S::splat(1.0), s));
                        dz = S::mul(dz, S::add(s, rest));
                        S::store_n(p, dz, n);
                    }
                    sum = S::add(sum, dz);
                    product = S::fma(dz, x, product);
                }
                S::store_n(partial.as_mut_ptr().add(at), sum, n);
                S::store_n(partial.as_mut_ptr().add(channels + at), product, n);
            }
            c += LANES;
        }
    }
}

struct InputGradient<'a> {
    dz: &'a [f32],
    x: &'a [f32],
    /// (3, C): of dz, of x, constant.
    coefficients: &'a [f32],
    channels: usize,
    offset: usize,
    width: usize,
    add: bool,
    out: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { dz, x, coefficients, channels, offset, width, add, out } = self;
        let mut c = 0;
        while c < width {
            let (n, at) = (width - c, offset + c);
            // SAFETY: x and out have `width` values a pixel, dz and each third of the coefficients `channels`.
            unsafe {
                let of_dz = S::load_n(coefficients.as_ptr().add(at), n);
                let of_x = S::load_n(coefficients.as_ptr().add(channels + at), n);
                let constant = S::load_n(coefficients.as_ptr().add(2 * channels + at), n);
                for i in 0..x.len() / width {
                    let p = out.as_mut_ptr().add(i * width + c);
                    let value = S::fma(of_x, S::load_n(x.as_ptr().add(i * width + c), n), constant);
                    let value = S::fma(of_dz, S::load_n(dz.as_ptr().add(i * channels + at), n), value);
                    let value = if add { S::add(S::load_n(p, n), value) } else { value };
                    S::store_n(p, value, n);
                }
            }
            c += LANES;
        }
    }
}
