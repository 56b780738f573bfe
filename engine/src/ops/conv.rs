//! Convolutions, 1×1 and 3×3, on channels-last images: forward, and backward for the input and the weights.
//!
//! The input is packed band by band (padded, normalised, joined from two images) into a thread's own memory and
//! multiplied from there by packed weights, so no padded or normalised image is ever stored. Each output is one chain
//! over the window's rows, columns and channels; the bands and threads only decide who computes it.

mod gradient;

use rayon::prelude::*;

use super::bf16;
use super::conv_shape::{BAND_FLOATS, ConvShape, Epilogue, Way, WeightShape};
use super::matmul::{Left, Right, Size, matmul, product};
use super::pair_up::pair_up;
use super::precision::Precision;
use super::scratch::with_scratch;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::{Source, Window, pack};
use super::winograd;
pub(crate) use gradient::{backward_weights, backward_weights_scratch};

impl ConvShape {
    /// The convolution of stride 1 that carries a gradient back.
    const fn back(&self) -> Self {
        Self {
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            upsample: false,
            height: self.out_height(),
            width: self.out_width(),
            precision: self.weights().precision(Way::Back),
            ..*self
        }
    }
}

impl WeightShape {
    const fn is_winograd(&self, way: Way) -> bool {
        winograd::applies(self.channels(way)[1], self.oihw[2], self.stride)
    }

    /// What is multiplied.
    const fn precision(&self, way: Way) -> Precision {
        match way {
            Way::Back if !self.is_winograd(way) => Precision::F32,
            _ => self.precision,
        }
    }

    /// How Winograd's weights are packed.
    const fn packing(&self, way: Way) -> winograd::Packing {
        let (doubled, turned) = match way {
            Way::Forward => (self.upsample, false),
            Way::Back => (false, true),
        };
        winograd::Packing { doubled, turned, precision: self.precision(way) }
    }

    /// Floats of the packed weights.
    pub(crate) const fn packed_len(&self, way: Way) -> usize {
        let ([o, i], k) = (self.channels(way), self.oihw[2]);
        if self.is_winograd(way) {
            self.packing(way).len(i, o)
        } else {
            o.next_multiple_of(LANES) * k * k * self.precision(way).elements(i)
        }
    }
}

/// Packs OIHW weights for [`forward`] or [`backward_input`]: transformed, or as blocks of [`LANES`] output channels,
/// (O / LANES, K, K, I, LANES), the last block filled with zeros; of bf16 as (…, I / 2, LANES) pairs.
pub(crate) fn pack_weights(isa: Isa, values: &[f32], shape: &WeightShape, way: Way, out: &mut [f32]) {
    let ([o, i], k) = (shape.channels(way), shape.oihw[2]);
    if shape.is_winograd(way) {
        let [o, i, ..] = shape.oihw;
        return winograd::pack_weights(isa, values, [o, i], &shape.packing(way), out);
    }
    let (taps, precision) = (k * k, shape.precision(way));
    let (line, bf16) = (precision.elements(i), precision == Precision::Bf16);
    out.par_chunks_mut(taps * line * LANES).enumerate().for_each(|(block, out)| {
        out.fill(0.0);
        for oc in block * LANES..((block + 1) * LANES).min(o) {
            for ic in 0..i {
                let (from, turned) = match way {
                    Way::Forward => (oc * i + ic, false),
                    Way::Back => (ic * o + oc, true),
                };
                for (tap, value) in values[from * taps..(from + 1) * taps].iter().enumerate() {
                    let tap = if turned { taps - 1 - tap } else { tap };
                    if bf16 {
                        let word = &mut out[(tap * line + ic / 2) * LANES + oc % LANES];
                        *word = f32::from_bits(word.to_bits() | bf16::round(*value) << (16 * (ic % 2)));
                    } else {
                        out[(tap * line + ic) * LANES + oc % LANES] = *value;
                    }
                }
            }
        }
    });
}

/// A convolution of every item: `out` is (N, H', W', O).
pub(crate) fn forward<'a>(
    isa: Isa,
    shape: &ConvShape,
    source: impl Fn(usize) -> Source<'a> + Sync,
    weights: &[f32],
    epilogue: impl Fn(usize) -> Epilogue<'a> + Sync,
    out: &mut [f32],
) {
    if shape.weights().is_winograd(Way::Forward) {
        return winograd::forward(isa, shape, source, weights, epilogue, out);
    }
    let task = Correlate {
        precision: shape.precision,
        window: shape.window(),
        kernel: shape.kernel,
        stride: shape.stride,
        out_width: shape.out_width(),
        in_channels: shape.in_channels,
        out_channels: shape.out_channels,
        weights,
    };
    let item_len = shape.out_height() * shape.out_width() * shape.out_channels;
    out.par_chunks_mut(item_len).enumerate().for_each(|(n, item)| {
        task.run(isa, &source(n), &epilogue(n), item);
    });
}

/// Floats of working memory of [`forward_packing`] ([`Way::Forward`]) and [`backward_input_packing`].
pub(crate) fn packing_scratch(shape: &ConvShape, batch: usize, way: Way) -> usize {
    let seen = if way == Way::Back { shape.back() } else { *shape };
    let few = shape.weights().is_winograd(way).then(|| winograd::packing_scratch(&seen, batch));
    few.flatten().unwrap_or_else(|| shape.weights().packed_len(way))
}

/// [`forward`] with OIHW weights that are used this once.
pub(crate) fn forward_packing<'a>(
    isa: Isa,
    shape: &ConvShape,
    source: impl Fn(usize) -> Source<'a> + Sync,
    oihw: &[f32],
    scratch: &mut [f32],
    epilogue: impl Fn(usize) -> Epilogue<'a> + Sync,
    out: &mut [f32],
) {
    let batch = out.len() / (shape.out_height() * shape.out_width() * shape.out_channels);
    let weights = shape.weights();
    if weights.is_winograd(Way::Forward) && winograd::packing_scratch(shape, batch).is_some() {
        let packing = weights.packing(Way::Forward);
        return winograd::forward_packing(isa, shape, source, (oihw, &packing), scratch, epilogue, out);
    }
    pack_weights(isa, oihw, &weights, Way::Forward, scratch);
    forward(isa, shape, source, scratch, epilogue, out);
}

/// [`backward_input`] with OIHW weights that are used this once.
pub(crate) fn backward_input_packing(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[f32],
    oihw: &[f32],
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let item = shape.out_height() * shape.out_width() * shape.out_channels;
    let (weights, back) = (shape.weights(), shape.back());
    if weights.is_winograd(Way::Back) && winograd::packing_scratch(&back, gradient.len() / item).is_some() {
        let source = |n: usize| Source::plain(&gradient[n * item..(n + 1) * item], shape.out_channels);
        let epilogue = |_| Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
        let packing = weights.packing(Way::Back);
        return winograd::forward_packing(isa, &back, source, (oihw, &packing), scratch, epilogue, out);
    }
    pack_weights(isa, oihw, &weights, Way::Back, scratch);
    backward_input(isa, shape, gradient, scratch, out);
}

/// The gradient of the (padded-away, normalised) input: `out` is (N, H·r, W·r, I), r 2 where the source is doubled.
pub(crate) fn backward_input(
    isa: Isa,
    shape: &ConvShape,
    gradient: &[f32],
    transposed: &[f32],
    out: &mut [f32],
) {
    let item = shape.out_height() * shape.out_width() * shape.out_channels;
    let source = |n: usize| Source::plain(&gradient[n * item..(n + 1) * item], shape.out_channels);
    let epilogue = Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
    if shape.weights().is_winograd(Way::Back) {
        return winograd::forward(isa, &shape.back(), source, transposed, |_| epilogue, out);
    }
    let out_item = shape.height * shape.width * shape.in_channels * shape.repeat() * shape.repeat();
    if shape.stride == 2 {
        return out.par_chunks_mut(out_item).enumerate().for_each(|(n, out)| {
            backward_strided(isa, shape, &source(n), transposed, out);
        });
    }
    let task = Correlate {
        precision: Precision::F32,
        window: shape.gradient_window(),
        kernel: shape.kernel,
        stride: 1,
        out_width: shape.width * shape.repeat(),
        in_channels: shape.out_channels,
        out_channels: shape.in_channels,
        weights: transposed,
    };
    out.par_chunks_mut(out_item).enumerate().for_each(|(n, out)| task.run(isa, &source(n), &epilogue, out));
}

/// One item's gradient of the input of a 3×3 convolution of stride 2, each input pixel from the one, two or four outputs
/// that saw it: `gradient` is (H/2, W/2, O), `out` (H, W, I).
fn backward_strided(isa: Isa, shape: &ConvShape, gradient: &Source<'_>, transposed: &[f32], out: &mut [f32]) {
    /// Of an even or odd row (or column) of the input: rows of the turned window, and how far on what they meet lies.
    const TAPS: [&[(usize, usize)]; 2] = [&[(1, 0)], &[(0, 0), (2, 1)]];
    let (i, o, width) = (shape.in_channels, shape.out_channels, shape.out_width());
    assert!(
        shape.height == 2 * shape.out_height() && shape.width == 2 * width,
        "a stride of 2 halves even sizes"
    );
    let window = shape.gradient_window();
    let (row, out_row, block) = (window.padded_width() * o, 2 * width * i, 9 * o * LANES);
    let band = (BAND_FLOATS / row).clamp(2, shape.out_height().div_ceil(4).max(2)) - 1;
    out.par_chunks_mut(2 * band * out_row).enumerate().for_each(|(b, out)| {
        let count = out.len() / (2 * out_row);
        with_scratch((count + 1) * row, |packed| {
            pack(isa, gradient, &window, b * band + window.pad, count + 1, packed);
            for (group, first) in (0..i).step_by(4 * LANES).enumerate() {
                let n = (i - first).min(4 * LANES);
                for (y, x) in (0..2 * count).flat_map(|y| (0..2).map(move |x| (y, x))) {
                    let to = &mut out[y * out_row + x * i + first..];
                    let taps = TAPS[y % 2].iter().flat_map(|ty| TAPS[x].iter().map(move |tx| (ty, tx)));
                    for (at, ((ty, down), (tx, right))) in taps.enumerate() {
                        let data = &packed[(y / 2 + down) * row + (window.pad + right) * o..];
                        let left = Left { data, row: o, outer_step: 0, inner_step: 1 };
                        let data = &transposed[group * 4 * block + (ty * 3 + tx) * o * LANES..];
                        let right = Right { data, block, step: LANES, padded: true };
                        let size = Size { m: width, n, outer: 1, inner: o };
                        matmul(isa, size, left, right, to, 2 * i, at > 0);
                    }
                }
            }
        });
    });
}

/// A convolution of stride 1 or 2 over a padded window.
struct Correlate<'a> {
    precision: Precision,
    window: Window,
    kernel: usize,
    stride: usize,
    out_width: usize,
    in_channels: usize,
    out_channels: usize,
    weights: &'a [f32],
}

impl Correlate<'_> {
    fn run(&self, isa: Isa, source: &Source<'_>, epilogue: &Epilogue<'_>, item: &mut [f32]) {
        let row_len = self.out_width * self.out_channels;
        let rows = item.len() / row_len;
        let packed_row = self.window.padded_width() * self.in_channels;
        let most = (BAND_FLOATS / packed_row).saturating_sub(self.kernel - self.stride) / self.stride;
        // Four bands at least, so that two threads end together.
        let band = most.clamp(1, rows.div_ceil(4).max(1));
        item.par_chunks_mut(band * row_len).enumerate().for_each(|(b, out)| {
            let first = b * band;
            let count = out.len() / row_len;
            self.band(isa, source, first, count, out);
            let (epilogue, at, channels) = (*epilogue, first * row_len, self.out_channels);
            dispatch(isa, ApplyEpilogue { epilogue, at, channels, out });
        });
    }

    fn band(&self, isa: Isa, source: &Source<'_>, first: usize, count: usize, out: &mut [f32]) {
        if self.kernel == 1
            && self.stride == 1
            && self.window.repeat == 1
            && source.prologue.is_none()
            && self.precision == Precision::F32
        {
            return self.pixels(isa, source, first * self.out_width, count * self.out_width, out);
        }
        let rows = (count - 1) * self.stride + self.kernel;
        let pixels = rows * self.window.padded_width();
        let length = pixels * self.in_channels;
        let words =
            if self.precision == Precision::Bf16 { pixels * bf16::words(self.in_channels) } else { 0 };
        with_scratch(length + words, |scratch| {
            let (packed, words) = scratch.split_at_mut(length);
            pack(isa, source, &self.window, first * self.stride, rows, packed);
            if self.precision == Precision::Bf16 {
                pair_up(isa, packed, self.in_channels, words);
                self.multiply(isa, words, count, out);
            } else {
                self.multiply(isa, packed, count, out);
            }
        });
    }

    /// Pixels that are read where they lie, each by itself: one image's channels, then the other's, go on with each chain.
    fn pixels(&self, isa: Isa, source: &Source<'_>, first: usize, count: usize, out: &mut [f32]) {
        let block = self.in_channels * LANES;
        for (group, column) in (0..self.out_channels).step_by(4 * LANES).enumerate() {
            let n = (self.out_channels - column).min(4 * LANES);
            let mut channel = 0;
            for segment in source.segments.iter().filter(|s| s.channels > 0) {
                let inputs = segment.channels;
                let data = &self.weights[group * 4 * block + channel * LANES..];
                let right = Right { data, block, step: LANES, padded: true };
                let left =
                    Left { data: &segment.data[first * inputs..], row: inputs, outer_step: 0, inner_step: 1 };
                let size = Size { m: count, n, outer: 1, inner: inputs };
                matmul(isa, size, left, right, &mut out[column..], self.out_channels, channel > 0);
                channel += inputs;
            }
        }
    }

    fn multiply(&self, isa: Isa, packed: &[f32], count: usize, out: &mut [f32]) {
        let product = product(self.precision);
        let (c, k) = (self.precision.elements(self.in_channels), self.kernel);
        let row = self.window.padded_width() * c;
        let block = k * k * c * LANES;
        // Four blocks of weights at a time stay in the cache for all rows of the band.
        for (group, first) in (0..self.out_channels).step_by(4 * LANES).enumerate() {
            let n = (self.out_channels - first).min(4 * LANES);
            let right = Right { data: &self.weights[group * 4 * block..], block, step: LANES, padded: true };
            for y in 0..count {
                let data = &packed[y * self.stride * row..];
                let left = Left { data, row: self.stride * c, outer_step: row, inner_step: 1 };
                let size = Size { m: self.out_width, n, outer: k, inner: k * c };
                let at = y * self.out_width * self.out_channels + first;
                product(isa, size, left, right, &mut out[at..], self.out_channels, false);
            }
        }
    }
}

/// An epilogue of some pixels, from value `at` of the item on.
struct ApplyEpilogue<'a> {
    epilogue: Epilogue<'a>,
    at: usize,
    channels: usize,
    out: &'a mut [f32],
}

impl Kernel for ApplyEpilogue<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Epilogue { bias, shift, add, scale } = self.epilogue;
        let add = if add.is_empty() { add } else { &add[self.at..self.at + self.out.len()] };
        for values in [bias, shift].into_iter().filter(|values| !values.is_empty()) {
            for pixel in self.out.chunks_exact_mut(self.channels) {
                for (x, v) in pixel.iter_mut().zip(values) {
                    *x += v;
                }
            }
        }
        for (x, a) in self.out.iter_mut().zip(add) {
            *x = (*x + a) * scale;
        }
    }
}

/// Adds 2×2 blocks: the backward of doubling. `fine` is (N, 2H, 2W, C), `out` (N, H, W, C).
pub(crate) fn fold_doubled(fine: &[f32], width: usize, channels: usize, out: &mut [f32]) {
    let (row, fine_row) = (width * channels, 2 * width * channels);
    out.par_chunks_mut(row).enumerate().for_each(|(y, out)| {
        let upper = &fine[2 * y * fine_row..(2 * y + 1) * fine_row];
        let lower = &fine[(2 * y + 1) * fine_row..(2 * y + 2) * fine_row];
        for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let at = 2 * x * channels;
            for (c, value) in pixel.iter_mut().enumerate() {
                let (a, b) = (at + c, at + channels + c);
                *value = (upper[a] + upper[b]) + (lower[a] + lower[b]);
            }
        }
    });
}

/// The sum over all pixels of one item, per channel: f32 chains over some rows, joined in f64.
pub(crate) fn sum_pixels(isa: Isa, image: &[f32], width: usize, channels: usize) -> Vec<f64> {
    /// Pixels of a chain.
    const CHAIN: usize = 256;
    let chunk = CHAIN.div_ceil(width) * width * channels;
    let chains = image.par_chunks(chunk).map(|pixels| {
        let mut sums = vec![0.0; channels];
        dispatch(isa, SumPixels { pixels, sums: &mut sums });
        sums
    });
    let mut total = vec![0.0; channels];
    for chain in chains.collect::<Vec<_>>() {
        total.iter_mut().zip(chain).for_each(|(total, sum)| *total += f64::from(sum));
    }
    total
}

struct SumPixels<'a> {
    pixels: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for SumPixels<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.sums.len();
        for c in (0..channels).step_by(LANES) {
            let n = channels - c;
            // SAFETY: n lanes from c lie within a pixel and within the sums.
            unsafe {
                let mut sum = S::splat(0.0);
                for pixel in self.pixels.chunks_exact(channels) {
                    sum = S::add(sum, S::load_n(pixel.as_ptr().add(c), n));
                }
                S::store_n(self.sums.as_mut_ptr().add(c), sum, n);
            }
        }
    }
}
