//! Self-attention over all positions of an image: softmax(Q Kᵀ / sqrt c) V of each head's c channels, forward and backward.
//!
//! Queries are taken in blocks, so the scores of all pairs never exist at once. The backward pass computes scores anew,
//! by query blocks for dQ and by key blocks for dK and dV: every sum has one order.

use rayon::prelude::*;

use super::matmul::{Left, Right, Size, matmul};
use super::scratch::with_scratch;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Queries (or keys) of a block.
const BLOCK: usize = 32;

/// One item's queries, keys and values: (positions, 3·C). Each of the three is cut evenly among the heads.
#[derive(Clone, Copy)]
pub(crate) struct Qkv<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) channels: usize,
    pub(crate) heads: usize,
}

impl<'a> Qkv<'a> {
    const fn positions(&self) -> usize {
        self.data.len() / (3 * self.channels)
    }

    /// Channels of a head.
    const fn width(&self) -> usize {
        self.channels / self.heads
    }

    /// Queries, keys or values (0, 1, 2) of positions from `first` on, from channel `at` of them on, as the left operand.
    fn left(&self, part: usize, at: usize, first: usize) -> Left<'a> {
        let row = 3 * self.channels;
        Left {
            data: &self.data[first * row + part * self.channels + at..],
            row,
            outer_step: 0,
            inner_step: 1,
        }
    }

    /// The same for all positions as the right operand, a line a position.
    fn right(&self, part: usize, at: usize) -> Right<'a> {
        let data = &self.data[part * self.channels + at..];
        Right { data, block: LANES, step: 3 * self.channels, padded: false }
    }

    fn score_scale(&self) -> f32 {
        1.0 / (self.width() as f32).sqrt()
    }
}

/// Floats of working memory that [`forward`] needs, and of each of the four that [`backward`] needs.
pub(crate) const fn transposed_len(positions: usize, channels: usize) -> usize {
    positions.div_ceil(LANES) * LANES * channels
}

/// Positions × channels, lines `step` apart, as blocks of [`LANES`] positions: (P / LANES, C, LANES).
fn transpose(data: &[f32], step: usize, positions: usize, channels: usize, out: &mut [f32]) {
    out.par_chunks_mut(LANES * channels).enumerate().for_each(|(block, out)| {
        out.fill(0.0);
        for lane in 0..LANES.min(positions - block * LANES) {
            let line = &data[(block * LANES + lane) * step..][..channels];
            line.iter().enumerate().for_each(|(c, v)| out[c * LANES + lane] = *v);
        }
    });
}

/// What [`transpose`] made, from channel `at` on.
fn transposed_right(data: &[f32], channels: usize, at: usize) -> Right<'_> {
    Right { data: &data[at * LANES..], block: channels * LANES, step: LANES, padded: true }
}

/// One item's attention: `out` is (positions, C), `transposed` working memory.
pub(crate) fn forward(isa: Isa, qkv: Qkv<'_>, transposed: &mut [f32], out: &mut [f32]) {
    let (p, c, width) = (qkv.positions(), qkv.channels, qkv.width());
    transpose(&qkv.data[c..], 3 * c, p, c, transposed);
    let transposed = &*transposed;
    out.par_chunks_mut(BLOCK * c).enumerate().for_each(|(block, out)| {
        let m = out.len() / c;
        with_scratch(m * p, |scores| {
            for at in (0..c).step_by(width) {
                let (size, keys) =
                    (Size { m, n: p, outer: 1, inner: width }, transposed_right(transposed, c, at));
                matmul(isa, size, qkv.left(0, at, block * BLOCK), keys, scores, p, false);
                for row in scores.chunks_exact_mut(p) {
                    dispatch(isa, Softmax { row, scale: qkv.score_scale() });
                }
                let left = Left { data: scores, row: p, outer_step: 0, inner_step: 1 };
                let size = Size { m, n: width, outer: 1, inner: p };
                matmul(isa, size, left, qkv.right(2, at), &mut out[at..], c, false);
            }
        });
    });
}

/// softmax(scale · row) in place; yields ln Σ exp(scale · row).
struct Softmax<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    /// The largest scaled score, and the sum of exponentials after it is taken away.
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self { row, scale } = self;
        // A NaN anywhere must reach the result, so it is not left to comparisons.
        let largest = row.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m || v.is_nan() { v } else { m });
        let largest = largest * scale;
        let mut lanes = [0.0f32; LANES];
        // SAFETY: chunks have as many lanes as are asked for.
        unsafe {
            let mut sums = S::splat(0.0);
            for chunk in row.chunks_mut(LANES) {
                let x = S::load_n(chunk.as_ptr(), chunk.len());
                let e = S::exp(S::fma(x, S::splat(scale), S::splat(-largest)));
                S::store_n(chunk.as_mut_ptr(), e, chunk.len());
                // Lanes past the end were loaded as zeros: they are read back as what was stored, zeros again.
                sums = S::add(sums, S::load_n(chunk.as_ptr(), chunk.len()));
            }
            S::store(lanes.as_mut_ptr(), sums);
            let sum = tree_sum(&lanes);
            for chunk in row.chunks_mut(LANES) {
                let x = S::load_n(chunk.as_ptr(), chunk.len());
                S::store_n(chunk.as_mut_ptr(), S::div(x, S::splat(sum)), chunk.len());
            }
            (largest, sum)
        }
    }
}

/// Halves folded onto each other: one order of addition for sixteen lanes.
fn tree_sum(lanes: &[f32; LANES]) -> f32 {
    let mut sum = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sum[i] += sum[i + half];
        }
        half /= 2;
    }
    sum[0]
}

/// Working memory of [`backward`]: keys, values, queries and the gradient transposed, and three numbers a position.
pub(crate) struct BackwardScratch<'a> {
    pub(crate) transposed: [&'a mut [f32]; 4],
    /// (positions, 3): of one head, the row's largest score, its sum, and Σ gradient · output.
    pub(crate) rows: &'a mut [f32],
}

/// The gradient of one item's queries, keys and values, (positions, 3·C), from its output's.
pub(crate) fn backward(
    isa: Isa,
    qkv: Qkv<'_>,
    gradient: &[f32],
    scratch: BackwardScratch<'_>,
    out: &mut [f32],
) {
    let (p, c) = (qkv.positions(), qkv.channels);
    let BackwardScratch { transposed: [keys, values, queries, gradients], rows } = scratch;
    transpose(&qkv.data[c..], 3 * c, p, c, keys);
    transpose(&qkv.data[2 * c..], 3 * c, p, c, values);
    transpose(qkv.data, 3 * c, p, c, queries);
    transpose(gradient, c, p, c, gradients);
    let transposed = [&*keys, values, queries, gradients];
    for at in (0..c).step_by(qkv.width()) {
        let head = HeadBackward { isa, qkv, at, gradient, transposed };
        head.queries(rows, out);
        head.keys_and_values(rows, out);
    }
}

/// The backward pass of one head: that from channel `at` on.
struct HeadBackward<'a> {
    isa: Isa,
    qkv: Qkv<'a>,
    at: usize,
    gradient: &'a [f32],
    /// Keys, values, queries and the gradient, of all heads.
    transposed: [&'a [f32]; 4],
}

impl HeadBackward<'_> {
    /// m rows' products with all positions, over the head's channels.
    const fn scores(&self, m: usize) -> Size {
        Size { m, n: self.qkv.positions(), outer: 1, inner: self.qkv.width() }
    }

    /// m rows' sums over all positions, of the head's channels.
    const fn sums(&self, m: usize) -> Size {
        Size { m, n: self.qkv.width(), outer: 1, inner: self.qkv.positions() }
    }

    fn right(&self, which: usize) -> Right<'_> {
        transposed_right(self.transposed[which], self.qkv.channels, self.at)
    }

    /// By query blocks: dQ, and what the other pass needs of every row.
    fn queries(&self, rows: &mut [f32], out: &mut [f32]) {
        let Self { isa, qkv, at, gradient, .. } = *self;
        let (p, c, scale) = (qkv.positions(), qkv.channels, qkv.score_scale());
        let blocks = out.par_chunks_mut(BLOCK * 3 * c).zip(rows.par_chunks_mut(BLOCK * 3)).enumerate();
        blocks.for_each(|(block, (out, rows))| {
            let (m, first) = (out.len() / (3 * c), block * BLOCK);
            let of_gradient =
                Left { data: &gradient[first * c + at..], row: c, outer_step: 0, inner_step: 1 };
            with_scratch(2 * m * p, |memory| {
                let (weights, change) = memory.split_at_mut(m * p);
                matmul(isa, self.scores(m), qkv.left(0, at, first), self.right(0), weights, p, false);
                matmul(isa, self.scores(m), of_gradient, self.right(1), change, p, false);
                for ((weights, change), row) in
                    weights.chunks_exact_mut(p).zip(change.chunks_exact_mut(p)).zip(rows.chunks_exact_mut(3))
                {
                    let (largest, sum) = dispatch(isa, Softmax { row: weights, scale });
                    let product = weights.iter().zip(&*change).map(|(w, d)| f64::from(*w) * f64::from(*d));
                    let mean = product.sum::<f64>() as f32;
                    change.iter_mut().zip(weights).for_each(|(d, w)| *d = *w * (*d - mean) * scale);
                    row.copy_from_slice(&[largest, sum, mean]);
                }
                let left = Left { data: change, row: p, outer_step: 0, inner_step: 1 };
                matmul(isa, self.sums(m), left, qkv.right(1, at), &mut out[at..], 3 * c, false);
            });
        });
    }

    /// By key blocks: dK and dV.
    fn keys_and_values(&self, rows: &[f32], out: &mut [f32]) {
        let Self { isa, qkv, at, gradient, .. } = *self;
        let (p, c, scale) = (qkv.positions(), qkv.channels, qkv.score_scale());
        let of_gradient = Right { data: &gradient[at..], block: LANES, step: c, padded: false };
        out.par_chunks_mut(BLOCK * 3 * c).enumerate().for_each(|(block, out)| {
            let (m, first) = (out.len() / (3 * c), block * BLOCK);
            with_scratch(2 * m * p, |memory| {
                let (weights, change) = memory.split_at_mut(m * p);
                matmul(isa, self.scores(m), qkv.left(1, at, first), self.right(2), weights, p, false);
                matmul(isa, self.scores(m), qkv.left(2, at, first), self.right(3), change, p, false);
                for (weights, change) in weights.chunks_exact_mut(p).zip(change.chunks_exact_mut(p)) {
                    dispatch(isa, KeyWeights { weights, change, rows, scale });
                }
                let left = |data| Left { data, row: p, outer_step: 0, inner_step: 1 };
                let (to_keys, to_values) = (c + at, 2 * c + at);
                matmul(isa, self.sums(m), left(change), qkv.right(0, at), &mut out[to_keys..], 3 * c, false);
                matmul(isa, self.sums(m), left(weights), of_gradient, &mut out[to_values..], 3 * c, false);
            });
        });
    }
}

/// A key's raw scores under all queries → their weights, and the change of the raw scores.
struct KeyWeights<'a> {
    weights: &'a mut [f32],
    change: &'a mut [f32],
    rows: &'a [f32],
    scale: f32,
}

impl Kernel for KeyWeights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { weights, change, rows, scale } = self;
        let chunks = weights.chunks_mut(LANES).zip(change.chunks_mut(LANES)).zip(rows.chunks(3 * LANES));
        for ((weights, change), rows) in chunks {
            let n = weights.len();
            let mut columns = [[0.0f32; LANES]; 3];
            for (lane, row) in rows.chunks_exact(3).enumerate() {
                for (column, value) in columns.iter_mut().zip(row) {
                    column[lane] = *value;
                }
            }
            // SAFETY: chunks and columns have at least n lanes.
            unsafe {
                let [largest, sum, mean] = columns.map(|column| S::load(column.as_ptr()));
                let minus = S::sub(S::splat(0.0), largest);
                let e = S::exp(S::fma(S::load_n(weights.as_ptr(), n), S::splat(scale), minus));
                let w = S::div(e, sum);
                let d = S::sub(S::load_n(change.as_ptr(), n), mean);
                S::store_n(weights.as_mut_ptr(), w, n);
                S::store_n(change.as_mut_ptr(), S::mul(S::mul(w, d), S::splat(scale)), n);
            }
        }
    }
}
