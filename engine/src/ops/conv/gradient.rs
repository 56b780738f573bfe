//! The weights' gradient of a direct convolution.
//!
//! The output pixels of a batch make a few chains, cut by the images' size and number alone, summed up in order and
//! joined in order: no sum depends on threads.

use rayon::prelude::*;

use crate::ops::conv_shape::{BAND_FLOATS, ConvShape};
use crate::ops::matmul::{Left, Right, Size, matmul};
use crate::ops::scratch::with_scratch;
use crate::ops::simd::{Isa, LANES};
use crate::ops::source::{Source, pack};
use crate::ops::winograd;

/// Floats of working memory that [`backward_weights`] needs.
pub(crate) fn backward_weights_scratch(shape: &ConvShape, batch: usize) -> usize {
    if winograd::applies(shape.in_channels, shape.kernel, shape.stride) {
        return winograd::backward_weights_scratch(shape, batch);
    }
    let products = Products::new(shape, batch);
    products.chains * products.len() + shape.packed_len()
}

/// Adds the gradient of OIHW weights to `to`, from that of the output, (N, H', W', O).
pub(crate) fn backward_weights<'a>(
    isa: Isa,
    shape: &ConvShape,
    source: impl Fn(usize) -> Source<'a> + Sync,
    gradient: &[f32],
    scratch: &mut [f32],
    to: &mut [f32],
) {
    if winograd::applies(shape.in_channels, shape.kernel, shape.stride) {
        return winograd::backward_weights(isa, shape, source, gradient, scratch, to);
    }
    let item = shape.out_height() * shape.out_width() * shape.out_channels;
    let products = Products::new(shape, gradient.len() / item);
    let (sums, packed) = scratch.split_at_mut(products.chains * products.len());
    if products.chains >= rayon::current_num_threads() {
        sums.par_chunks_exact_mut(products.len()).with_max_len(1).enumerate().for_each(|(chain, sums)| {
            sums.fill(0.0);
            for band in products.bands(chain) {
                let gradient = products.gradient(&band, gradient);
                products.with_packed(isa, &source(band.item), &band, |offset, channels, seen| {
                    let (row, taps) = (seen.len() / products.seen(&band), shape.kernel * channels);
                    for ky in 0..shape.kernel {
                        let first = ky * shape.kernel * shape.in_channels + offset;
                        let out = &mut sums[first * shape.out_channels..(first + taps) * shape.out_channels];
                        products.add(isa, &seen[ky * row..], row, channels, gradient, out);
                    }
                });
            }
        });
    } else {
        products.chains_together(isa, &source, gradient, packed, sums);
    }
    add_weight_gradient(sums, &products, to);
}

/// The products of inputs and gradients that a convolution's weights sum up, in chains that the images' size and number
/// decide.
struct Products<'a> {
    shape: &'a ConvShape,
    rows: usize,
    chains: usize,
}

/// Output rows of one image.
#[derive(Clone, Copy)]
struct Band {
    item: usize,
    first: usize,
    rows: usize,
}

impl<'a> Products<'a> {
    fn new(shape: &'a ConvShape, batch: usize) -> Self {
        /// Output pixels of a chain, at least, and chains, at most.
        const PIXELS: usize = 2048;
        const CHAINS: usize = 16;
        let rows = shape.out_height() * batch;
        let chains = (rows * shape.out_width() / PIXELS).clamp(1, CHAINS).min(rows);
        Self { shape, rows, chains }
    }

    /// Floats of a chain's sums, (K, K·I, O).
    const fn len(&self) -> usize {
        self.shape.kernel * self.shape.kernel * self.shape.in_channels * self.shape.out_channels
    }

    /// The rows of a chain, in order, in bands that fit a cache.
    fn bands(&self, chain: usize) -> Vec<Band> {
        let height = self.shape.out_height();
        let widest = self.shape.window().padded_width() * self.shape.in_channels * self.shape.stride;
        let most = (BAND_FLOATS / 4 / widest.max(self.shape.out_width() * self.shape.out_channels)).max(1);
        let (mut row, end) = (chain * self.rows / self.chains, (chain + 1) * self.rows / self.chains);
        let mut bands = Vec::new();
        while row < end {
            let (item, first) = (row / height, row % height);
            let rows = most.min(height - first).min(end - row);
            bands.push(Band { item, first, rows });
            row += rows;
        }
        bands
    }

    fn gradient<'g>(&self, band: &Band, gradient: &'g [f32]) -> &'g [f32] {
        let row = self.shape.out_width() * self.shape.out_channels;
        let from = (band.item * self.shape.out_height() + band.first) * row;
        &gradient[from..from + band.rows * row]
    }

    /// Rows of packed input that a band sees.
    const fn seen(&self, band: &Band) -> usize {
        (band.rows - 1) * self.shape.stride + self.shape.kernel
    }

    /// Calls `work` with what a band sees: first channel, channels, rows of them. Images that are read as they are need
    /// no packing.
    fn with_packed(
        &self,
        isa: Isa,
        source: &Source<'_>,
        band: &Band,
        mut work: impl FnMut(usize, usize, &[f32]),
    ) {
        let shape = self.shape;
        if shape.sees_pixels_alone() && source.prologue.is_none() {
            let mut offset = 0;
            for segment in source.segments.iter().filter(|s| s.channels > 0) {
                let row = shape.width * segment.channels;
                work(
                    offset,
                    segment.channels,
                    &segment.data[band.first * row..(band.first + band.rows) * row],
                );
                offset += segment.channels;
            }
            return;
        }
        let rows = self.seen(band);
        with_scratch(rows * shape.window().padded_width() * shape.in_channels, |packed| {
            pack(isa, source, &shape.window(), band.first * shape.stride, rows, packed);
            work(0, shape.in_channels, packed);
        });
    }

    /// Adds the products of some inputs that a band's first row sees, from the first of `data` on, and a band's gradient.
    fn add(&self, isa: Isa, data: &[f32], row: usize, channels: usize, gradient: &[f32], out: &mut [f32]) {
        let ConvShape { stride, out_channels: o, .. } = *self.shape;
        let width = self.shape.out_width();
        let left = Left { data, row: 1, outer_step: stride * row, inner_step: stride * channels };
        let right = Right { data: gradient, block: LANES, step: o, padded: false };
        let size = Size { m: out.len() / o, n: o, outer: gradient.len() / (width * o), inner: width };
        matmul(isa, size, left, right, out, o, true);
    }

    /// One chain after the other, its inputs shared out.
    fn chains_together<'s>(
        &self,
        isa: Isa,
        source: &(impl Fn(usize) -> Source<'s> + Sync),
        gradient: &[f32],
        packed: &mut [f32],
        sums: &mut [f32],
    ) {
        /// Weights of a task, times output channels.
        const ROWS: usize = 12;
        let (shape, window) = (self.shape, self.shape.window());
        let (c, k, o) = (shape.in_channels, shape.kernel, shape.out_channels);
        let row = window.padded_width() * c;
        for (chain, sums) in sums.chunks_exact_mut(self.len()).enumerate() {
            sums.fill(0.0);
            for band in self.bands(chain) {
                let seen = &mut packed[..self.seen(&band) * row];
                let source = source(band.item);
                seen.par_chunks_mut(row).enumerate().for_each(|(y, out)| {
                    pack(isa, &source, &window, band.first * shape.stride + y, 1, out);
                });
                let (seen, gradient) = (&*seen, self.gradient(&band, gradient));
                sums.par_chunks_mut(k * c * o).enumerate().for_each(|(ky, sums)| {
                    sums.par_chunks_mut(ROWS * o).enumerate().for_each(|(block, out)| {
                        let data = &seen[ky * row + block * ROWS..];
                        self.add(isa, data, row, c, gradient, out);
                    });
                });
            }
        }
    }
}

/// Joins the chains of (K, K·I, O) sums in order and adds them to an OIHW gradient.
fn add_weight_gradient(sums: &[f32], products: &Products<'_>, to: &mut [f32]) {
    let ConvShape { in_channels: i, out_channels: o, kernel, .. } = *products.shape;
    let taps = kernel * kernel;
    to.par_chunks_exact_mut(i * taps).with_min_len(4).enumerate().for_each(|(oc, to)| {
        for (ic, to) in to.chunks_exact_mut(taps).enumerate() {
            for (tap, to) in to.iter_mut().enumerate() {
                let at = (tap * i + ic) * o + oc;
                let chains = sums.chunks_exact(products.len()).map(|sums| sums[at]);
                *to += chains.reduce(|a, b| a + b).unwrap_or(0.0);
            }
        }
    });
}
