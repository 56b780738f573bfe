//! 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): 36 products where the direct sum has 144; and such
//! convolutions of doubled pixels by 49 where it has 324.
//!
//! An image is cut into tiles of 4×4 (6×6) outputs. The 6×6 (4×4) inputs of a tile are transformed, each of the products
//! is one matrix product over the channels, and the sums are transformed back. Each output is one fixed sequence of
//! operations that the tile's place in its image decides; blocks, threads and batches only decide who computes it.

#![allow(clippy::needless_range_loop, reason = "indices are the rows and columns of small matrices")]

mod algorithm;
mod doubled;
mod finish;
mod gradient;
mod packing;
mod plain;
mod tiles;
mod transform;
mod weights;

use rayon::prelude::*;

use super::conv_shape::{ConvShape, Epilogue};
use super::matmul::{Left, Right, Size, product};
use super::precision::Precision;
use super::scratch::with_scratch;
use super::shared::Shared;
use super::simd::{Isa, LANES};
use super::source::Source;
use algorithm::Algorithm;
use doubled::Doubled;
use finish::{Sums, finish_block};
pub(crate) use gradient::{backward_weights, backward_weights_scratch};
pub(crate) use packing::{forward_packing, packing_scratch};
use plain::Plain;
use tiles::{Block, Grid, padded, window};
use transform::{Element, Transformed, transform_block, transform_scratch};
use weights::product_len;
pub(crate) use weights::{Packing, pack_weights};

/// Whether a convolution is computed this way: a matter of its channels and window alone.
pub(crate) const fn applies(in_channels: usize, kernel: usize, stride: usize) -> bool {
    const CHANNELS_MIN: usize = 16;
    kernel == 3 && stride == 1 && in_channels >= CHANNELS_MIN
}

/// How a convolution is cut: any choice gives the same bits.
#[derive(Clone, Copy)]
struct Cut {
    /// Tiles of a block.
    tiles: usize,
    /// Output channels that are summed up together, a multiple of [`LANES`].
    outputs: usize,
}

/// Measured on two cores of an AVX2 machine: from half to twice these the time changes by 3 %.
fn cut(points: usize, elements: usize, outputs: usize) -> Cut {
    /// Floats of the transformed inputs of a block, within the tiles below: most of a second-level cache.
    const TRANSFORMED: usize = 96 * 1024;
    let tiles = (TRANSFORMED / (points * points * elements)).clamp(48, 96);
    Cut { tiles, outputs: outputs.next_multiple_of(LANES).min(4 * LANES) }
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
    if shape.upsample {
        convolve::<Doubled, _, _, _>(isa, shape, &source, weights, &epilogue, out);
    } else {
        convolve::<Plain, _, _, _>(isa, shape, &source, weights, &epilogue, out);
    }
}

fn convolve<'a, A, const P: usize, const Q: usize, const O: usize>(
    isa: Isa,
    shape: &ConvShape,
    source: &(impl Fn(usize) -> Source<'a> + Sync),
    weights: &[f32],
    epilogue: &(impl Fn(usize) -> Epilogue<'a> + Sync),
    out: &mut [f32],
) where
    A: Algorithm<P, Q, O>,
{
    let (height, width) = (shape.out_height(), shape.out_width());
    let batch = out.len() / (height * width * shape.out_channels);
    let outputs = shape.out_channels;
    let grid = Grid::new::<A, P, Q, O>(height, width, batch);
    let cut = cut(P, shape.precision.elements(shape.in_channels), outputs);
    let threads = rayon::current_num_threads();
    let blocks = grid.blocks(cut.tiles, threads);
    // Few tiles: threads share the output channels instead, each transforming the inputs for itself.
    let shares = if blocks.len() < threads { threads.div_ceil(blocks.len()) } else { 1 };
    let vectors = outputs.div_ceil(LANES);
    let shares = shares.min(vectors);
    let target = Shared::new(out);
    (0..blocks.len() * shares).into_par_iter().with_max_len(1).for_each(|task| {
        let (block, share) = (&blocks[task / shares], task % shares);
        let range = (share * vectors / shares * LANES, ((share + 1) * vectors / shares * LANES).min(outputs));
        let task = Task { isa, shape, grid, block, outputs: range, cut, weights };
        task.run::<A, P, Q, O>(source, epilogue, &target);
    });
}

/// Output channels of a block of tiles.
struct Task<'a> {
    isa: Isa,
    shape: &'a ConvShape,
    grid: Grid,
    block: &'a Block,
    /// From, to.
    outputs: (usize, usize),
    cut: Cut,
    weights: &'a [f32],
}

impl Task<'_> {
    fn run<'s, A, const P: usize, const Q: usize, const O: usize>(
        &self,
        source: &(impl Fn(usize) -> Source<'s> + Sync),
        epilogue: &(impl Fn(usize) -> Epilogue<'s> + Sync),
        out: &Shared<'_>,
    ) where
        A: Algorithm<P, Q, O>,
    {
        let (precision, tiles) = (self.shape.precision, self.block.tiles());
        let elements = precision.elements(self.shape.in_channels);
        let product = product(precision);
        let (v, m) = (padded(tiles * elements), padded(tiles * self.cut.outputs));
        let working = transform_scratch::<A, P, Q, O>(self.block);
        let window = window(self.shape);
        with_scratch(working + P * P * v + Q * Q * m, |scratch| {
            let (working, scratch) = scratch.split_at_mut(working);
            let (transformed, sums) = scratch.split_at_mut(P * P * v);
            if precision == Precision::Bf16 && !self.shape.in_channels.is_multiple_of(2) {
                // The half of a word that no channel writes.
                transformed.fill(0.0);
            }
            let element = Element::of_channels(precision);
            let to = Transformed { data: &Shared::new(transformed), position: v, pitch: elements, element };
            transform_block::<A, P, Q, O>(self.isa, (&self.grid, self.block), &window, source, working, &to);
            let mut first = self.outputs.0;
            while first < self.outputs.1 {
                let n = self.cut.outputs.min(self.outputs.1 - first);
                let weights = product_len(self.shape.in_channels, self.shape.out_channels, precision);
                let size = Size { m: tiles, n, outer: 1, inner: elements };
                for (at, seen) in A::products() {
                    let data = &self.weights[at * weights + first * elements..(at + 1) * weights];
                    let right = Right { data, block: elements * LANES, step: LANES, padded: true };
                    let data = &transformed[seen * v..];
                    let left = Left { data, row: elements, outer_step: 0, inner_step: 1 };
                    product(self.isa, size, left, right, &mut sums[at * m..], self.cut.outputs, false);
                }
                let (pitch, channels) = (self.cut.outputs, self.shape.out_channels);
                let sums = Sums { data: sums, product: m, pitch, first, n, channels };
                finish_block::<A, P, Q, O>(self.isa, (&self.grid, self.block), sums, epilogue, out);
                first += n;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Precision;

    /// Numbers of about the normal distribution, of variance 1, that a seed decides.
    fn normal(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..n).map(|_| ((0..12).map(|_| uniform()).sum::<f64>() - 6.0) as f32).collect()
    }

    /// One layer: rms errors of Winograd and of the direct chain in f32 against f64, relative to the rms output.
    fn errors(channels: usize, upsample: bool, precision: Precision) -> (f64, f64) {
        const SIDE: usize = 24;
        let repeat = if upsample { 2 } else { 1 };
        const OUTPUTS: usize = 16;
        let side = SIDE / repeat;
        let image = normal(side * side * channels, 1);
        let weights = normal(OUTPUTS * channels * 9, 2);
        let shape = ConvShape {
            in_channels: channels,
            out_channels: OUTPUTS,
            kernel: 3,
            stride: 1,
            upsample,
            height: side,
            width: side,
            precision,
        };
        let packing = Packing { doubled: upsample, turned: false, precision };
        let mut packed = vec![0.0; packing.len(channels, OUTPUTS)];
        pack_weights(Isa::detect(), &weights, [OUTPUTS, channels], &packing, &mut packed);
        let mut out = vec![0.0; SIDE * SIDE * OUTPUTS];
        let epilogue = Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
        forward(Isa::detect(), &shape, |_| Source::plain(&image, channels), &packed, |_| epilogue, &mut out);
        let (mut of_winograd, mut of_direct, mut power) = (0.0, 0.0, 0.0);
        for (at, found) in out.iter().enumerate() {
            let (pixel, o) = (at / OUTPUTS, at % OUTPUTS);
            let (y, x) = (pixel / SIDE, pixel % SIDE);
            let (mut exact, mut chain) = (0.0f64, 0.0f32);
            for (ky, kx) in (0..3).flat_map(|ky| (0..3).map(move |kx| (ky, kx))) {
                let (Some(y), Some(x)) = ((y + ky).checked_sub(1), (x + kx).checked_sub(1)) else { continue };
                if y >= SIDE || x >= SIDE {
                    continue;
                }
                for c in 0..channels {
                    let (a, b) = (
                        image[(y / repeat * side + x / repeat) * channels + c],
                        weights[((o * channels + c) * 3 + ky) * 3 + kx],
                    );
                    exact += f64::from(a) * f64::from(b);
                    chain = a.mul_add(b, chain);
                }
            }
            of_winograd += (f64::from(*found) - exact).powi(2);
            of_direct += (f64::from(chain) - exact).powi(2);
            power += exact * exact;
        }
        ((of_winograd / power).sqrt(), (of_direct / power).sqrt())
    }

    #[test]
    fn it_loses_at_most_twice_what_the_direct_chain_loses() {
        for (channels, upsample) in [64, 128, 512].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let (winograd, direct) = errors(channels, upsample, Precision::F32);
            let layer = format!("{channels} channels, doubled {upsample}");
            println!("{layer}: rms error {winograd:.2e}, direct chain {direct:.2e}");
            // Over doubled pixels the sums are shorter than the direct chain's.
            let most = if upsample { 1.0 } else { 2.0 };
            assert!(winograd <= most * direct, "{layer}: {winograd:e} against {direct:e}");
        }
    }

    #[test]
    fn in_bf16_a_layer_is_right_to_about_a_hundredth() {
        for (upsample, most) in [(false, 0.013), (true, 0.005)] {
            let (error, _) = errors(64, upsample, Precision::Bf16);
            println!("doubled {upsample}: rms error {error:.2e}");
            assert!(error < most, "doubled {upsample}: {error:e}");
        }
    }
}
