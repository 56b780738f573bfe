//! 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): 36 products where the direct sum has 144; and such
//! convolutions of doubled pixels by 49 where it has 324.
//!
//! An image is cut into tiles of 4×4 (6×6) outputs. The 6×6 (4×4) inputs of a tile are transformed, each of the products
//! is one matrix product over the channels, and the sums are transformed back. Each output is one fixed sequence of
//! operations that the tile's place in its image decides; blocks, threads and batches only decide who computes it.

#![allow(clippy::needless_range_loop, reason = "indices are the rows and columns of small matrices")]

mod algorithm;
mod doubled;
mod gradient;
mod plain;
mod tiles;
mod weights;

use std::marker::PhantomData;

use rayon::prelude::*;

use super::bf16;
use super::conv::{ConvShape, Epilogue};
use super::matmul::{Left, Right, Size, matmul, product};
use super::precision::Precision;
use super::scratch::with_scratch;
use super::shared::Shared;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::{Patch, Source, Window, pack_slice};
use algorithm::Algorithm;
use doubled::Doubled;
pub(crate) use gradient::{backward_weights, backward_weights_scratch};
use plain::Plain;
use tiles::{Block, Grid};
use weights::{Pack, product_len};
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

/// Floats between two positions: a line more than they take, so that they do not meet in one cache set.
const fn padded(length: usize) -> usize {
    length.next_multiple_of(LANES) + LANES
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
        // Tiles of doubled pixels are of the source's own, and see one around it as others do.
        let window = Window { repeat: 1, ..self.shape.window() };
        with_scratch(working + P * P * v + Q * Q * m, |scratch| {
            let (working, scratch) = scratch.split_at_mut(working);
            let (transformed, sums) = scratch.split_at_mut(P * P * v);
            if precision == Precision::Bf16 && !self.shape.in_channels.is_multiple_of(2) {
                // The half of a word that no channel writes.
                transformed.fill(0.0);
            }
            let to = Transformed { data: &Shared::new(transformed), position: v, pitch: elements, precision };
            transform_block::<A, P, Q, O>(self.isa, (&self.grid, self.block), &window, source, working, &to);
            let mut first = self.outputs.0;
            while first < self.outputs.1 {
                let n = self.cut.outputs.min(self.outputs.1 - first);
                let weights = product_len(self.shape.in_channels, self.shape.out_channels, precision);
                let size = Size { m: tiles, n, outer: 1, inner: elements };
                for (row, column) in (0..Q).flat_map(|row| (0..Q).map(move |column| (row, column))) {
                    let (at, seen) = (row * Q + column, A::POINT_OF[row] * P + A::POINT_OF[column]);
                    let data = &self.weights[at * weights + first * elements..(at + 1) * weights];
                    let right = Right { data, block: elements * LANES, step: LANES, padded: true };
                    let data = &transformed[seen * v..];
                    let left = Left { data, row: elements, outer_step: 0, inner_step: 1 };
                    product(self.isa, size, left, right, &mut sums[at * m..], self.cut.outputs, false);
                }
                let mut tile = 0;
                for (item, row, rows) in self.grid.pieces(self.block) {
                    let finish = Finish::<A, P, Q, O> {
                        sums: &sums[tile * self.cut.outputs..],
                        product: m,
                        pitch: self.cut.outputs,
                        grid: &self.grid,
                        block: self.block,
                        item,
                        first_row: row,
                        rows,
                        first,
                        n,
                        channels: self.shape.out_channels,
                        epilogue: epilogue(item),
                        out,
                        algorithm: PhantomData,
                    };
                    dispatch(self.isa, finish);
                    tile += rows * self.block.columns;
                }
                first += n;
            }
        });
    }
}

/// Tiles that a layer whose weights are used once transforms together, at most.
const FEW_TILES: usize = 128;

/// Floats of working memory of [`forward_packing`]; none if the batch has too many tiles for it.
pub(crate) fn packing_scratch(shape: &ConvShape, batch: usize) -> Option<usize> {
    fn of<A: Algorithm<P, Q, O>, const P: usize, const Q: usize, const O: usize>(
        shape: &ConvShape,
        batch: usize,
    ) -> Option<usize> {
        let tiles = Grid::new::<A, P, Q, O>(shape.out_height(), shape.out_width(), batch).all().tiles();
        (tiles <= FEW_TILES).then(|| P * P * padded(tiles * shape.in_channels))
    }
    if shape.upsample { of::<Doubled, _, _, _>(shape, batch) } else { of::<Plain, _, _, _>(shape, batch) }
}

/// [`forward`] in f32 for few tiles and OIHW weights that are used this once, to the same bits: the weights of a few
/// channels at a time are transformed and multiplied while they are in the cache. All of them take several times the
/// memory of the weights; to write and read that takes longer than the products of few tiles.
pub(crate) fn forward_packing<'a>(
    isa: Isa,
    shape: &ConvShape,
    source: impl Fn(usize) -> Source<'a> + Sync,
    (oihw, packing): (&[f32], &Packing),
    scratch: &mut [f32],
    epilogue: impl Fn(usize) -> Epilogue<'a> + Sync,
    out: &mut [f32],
) {
    if shape.upsample {
        convolve_packing::<Doubled, _, _, _>(isa, shape, &source, (oihw, packing), scratch, &epilogue, out);
    } else {
        convolve_packing::<Plain, _, _, _>(isa, shape, &source, (oihw, packing), scratch, &epilogue, out);
    }
}

fn convolve_packing<'a, A, const P: usize, const Q: usize, const O: usize>(
    isa: Isa,
    shape: &ConvShape,
    source: &(impl Fn(usize) -> Source<'a> + Sync),
    (oihw, packing): (&[f32], &Packing),
    transformed: &mut [f32],
    epilogue: &(impl Fn(usize) -> Epilogue<'a> + Sync),
    out: &mut [f32],
) where
    A: Algorithm<P, Q, O>,
{
    /// Input channels whose weights, for LANES output channels at all products, stay in a second-level cache.
    const INPUTS: usize = 256;
    let (height, width) = (shape.out_height(), shape.out_width());
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let grid = Grid::new::<A, P, Q, O>(height, width, out.len() / (height * width * outputs));
    let all = grid.all();
    let (tiles, v, m) = (all.tiles(), padded(all.tiles() * inputs), padded(all.tiles() * LANES));
    let (window, data) = (Window { repeat: 1, ..shape.window() }, Shared::new(&mut *transformed));
    let blocks = all.cut(tiles.div_ceil(rayon::current_num_threads()).max(4));
    (0..blocks.len()).into_par_iter().with_max_len(1).for_each(|i| {
        let before = blocks[..i].iter().map(Block::tiles).sum::<usize>();
        let data = &data.from(before * inputs);
        let to = Transformed { data, position: v, pitch: inputs, precision: Precision::F32 };
        with_scratch(transform_scratch::<A, P, Q, O>(&blocks[i]), |working| {
            transform_block::<A, P, Q, O>(isa, (&grid, &blocks[i]), &window, source, working, &to);
        });
    });
    let (transformed, out, matrix) = (&*transformed, Shared::new(out), A::weight_matrix());
    let product = INPUTS.min(inputs) * LANES;
    (0..outputs.div_ceil(LANES)).into_par_iter().with_max_len(1).for_each(|block| {
        with_scratch(Q * Q * (product + m), |scratch| {
            let (weights, sums) = scratch.split_at_mut(Q * Q * product);
            for first in (0..inputs).step_by(INPUTS) {
                let range = (first, (first + INPUTS).min(inputs));
                let (to, matrix) = (&Shared::new(&mut *weights), &matrix);
                let pack =
                    Pack { oihw, inputs, outputs, packing, block, range, matrix, out: to, product, at: 0 };
                dispatch(isa, pack);
                let size = Size { m: tiles, n: LANES, outer: 1, inner: range.1 - range.0 };
                for (row, column) in (0..Q).flat_map(|row| (0..Q).map(move |column| (row, column))) {
                    let (at, seen) = (row * Q + column, A::POINT_OF[row] * P + A::POINT_OF[column]);
                    let data = &weights[at * product..(at + 1) * product];
                    let right = Right { data, block: product, step: LANES, padded: true };
                    let data = &transformed[seen * v + first..];
                    let left = Left { data, row: inputs, outer_step: 0, inner_step: 1 };
                    matmul(isa, size, left, right, &mut sums[at * m..], LANES, first > 0);
                }
            }
            let mut tile = 0;
            for (item, first_row, rows) in grid.pieces(&all) {
                let finish = Finish::<A, P, Q, O> {
                    sums: &sums[tile * LANES..],
                    product: m,
                    pitch: LANES,
                    grid: &grid,
                    block: &all,
                    item,
                    first_row,
                    rows,
                    first: block * LANES,
                    n: LANES.min(outputs - block * LANES),
                    channels: outputs,
                    epilogue: epilogue(item),
                    out: &out,
                    algorithm: PhantomData,
                };
                dispatch(isa, finish);
                tile += rows * all.columns;
            }
        });
    });
}

/// Rows (or columns) of the padded source that so many tiles see.
const fn seen<A, const P: usize, const Q: usize, const O: usize>(tiles: usize) -> usize
where
    A: Algorithm<P, Q, O>,
{
    A::STEP * tiles + P - A::STEP
}

/// Floats of working memory that [`transform_block`] needs.
fn transform_scratch<A, const P: usize, const Q: usize, const O: usize>(block: &Block) -> usize
where
    A: Algorithm<P, Q, O>,
{
    (seen::<A, P, Q, O>(block.rows) + P) * seen::<A, P, Q, O>(block.columns) * LANES
}

/// Where transformed inputs go: element e of tile t at position p to `p * position + t * pitch + e`. An element is a
/// channel, or in bf16 a pair of them.
struct Transformed<'a> {
    data: &'a Shared<'a>,
    position: usize,
    pitch: usize,
    precision: Precision,
}

/// Transforms what the tiles of a block see.
fn transform_block<'s, A, const P: usize, const Q: usize, const O: usize>(
    isa: Isa,
    (grid, block): (&Grid, &Block),
    window: &Window,
    source: &(impl Fn(usize) -> Source<'s> + Sync),
    scratch: &mut [f32],
    to: &Transformed<'_>,
) where
    A: Algorithm<P, Q, O>,
{
    let columns = seen::<A, P, Q, O>(block.columns);
    let (strip, patch) = scratch.split_at_mut(P * columns * LANES);
    let mut tile = 0;
    for (item, first_row, rows) in grid.pieces(block) {
        let source = source(item);
        let region = Patch {
            first_row: first_row * A::STEP,
            rows: seen::<A, P, Q, O>(rows),
            first_column: block.first_column * A::STEP,
            columns,
        };
        for slice in source.slices() {
            pack_slice(isa, &source, window, &region, &slice, patch);
            for row in 0..rows {
                let from = row * A::STEP * columns * LANES;
                let transform = TransformRow::<A, P, Q, O> {
                    patch: &patch[from..from + P * columns * LANES],
                    columns,
                    strip: &mut *strip,
                    tiles: block.columns,
                    to,
                    tile: tile + row * block.columns,
                    channel: slice.channel,
                    lanes: slice.lanes,
                    algorithm: PhantomData,
                };
                dispatch(isa, transform);
            }
        }
        tile += rows * block.columns;
    }
}

/// N vectors, `step` floats apart.
///
/// # Safety
/// They must be readable; instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn load<S: Simd, const N: usize>(from: *const f32, step: usize) -> [S::V; N] {
    // SAFETY: the caller's promise. A loop, not a closure: that would be compiled without the instructions.
    unsafe {
        let mut v = [S::splat(0.0); N];
        for (i, v) in v.iter_mut().enumerate() {
            *v = S::load(from.add(i * step));
        }
        v
    }
}

/// A row of tiles, one slice of channels.
struct TransformRow<'a, A, const P: usize, const Q: usize, const O: usize> {
    /// (P, columns, LANES)
    patch: &'a [f32],
    columns: usize,
    /// Working memory of the same size.
    strip: &'a mut [f32],
    tiles: usize,
    to: &'a Transformed<'a>,
    /// The first tile and channel of this row.
    tile: usize,
    channel: usize,
    lanes: usize,
    algorithm: PhantomData<A>,
}

impl<A, const P: usize, const Q: usize, const O: usize> Kernel for TransformRow<'_, A, P, Q, O>
where
    A: Algorithm<P, Q, O>,
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { patch, columns, strip, tiles, tile: first, channel, lanes, .. } = self;
        let Transformed { data: out, position, pitch, precision } = *self.to;
        assert!(patch.len() >= P * columns * LANES && strip.len() >= P * columns * LANES);
        assert!(tiles > 0 && seen::<A, P, Q, O>(tiles) <= columns);
        let end = match precision {
            Precision::F32 => channel + lanes,
            Precision::Bf16 => bf16::words(channel + lanes),
        };
        assert!((P * P - 1) * position + (first + tiles - 1) * pitch + end <= out.len);
        let row = columns * LANES;
        // SAFETY: the lengths were just checked; every index below lies within them. Each task has tiles of its own,
        // so nobody else writes here.
        unsafe {
            for x in 0..columns {
                let from = patch.as_ptr().add(x * LANES);
                let to = strip.as_mut_ptr().add(x * LANES);
                let down = A::input::<S>(load::<S, P>(from, row));
                for (i, v) in down.into_iter().enumerate() {
                    S::store(to.add(i * row), v);
                }
            }
            for tile in 0..tiles {
                let from = strip.as_ptr().add(tile * A::STEP * LANES);
                let to = out.data.add((first + tile) * pitch);
                for i in 0..P {
                    let from = from.add(i * row);
                    let across = A::input::<S>(load::<S, P>(from, LANES));
                    for (j, v) in across.into_iter().enumerate() {
                        let to = to.add((i * P + j) * position);
                        match precision {
                            Precision::F32 => S::store_n(to.add(channel), v, lanes),
                            Precision::Bf16 => S::store_bf16_n(to.cast::<u16>().add(channel), v, lanes),
                        }
                    }
                }
            }
        }
    }
}

/// Sums of a piece of a block → outputs.
struct Finish<'a, A, const P: usize, const Q: usize, const O: usize> {
    /// Product p, tile t, channel c of the block's: at `p * product + t * pitch + c`.
    sums: &'a [f32],
    product: usize,
    pitch: usize,
    grid: &'a Grid,
    block: &'a Block,
    item: usize,
    first_row: usize,
    rows: usize,
    /// Output channels from `first`, `n` of them.
    first: usize,
    n: usize,
    channels: usize,
    epilogue: Epilogue<'a>,
    out: &'a Shared<'a>,
    algorithm: PhantomData<A>,
}

/// The outputs of a tile that are the image's, of a row (or column) of tiles: from, to.
const fn inside<A, const P: usize, const Q: usize, const O: usize>(tile: usize, image: usize) -> [usize; 2]
where
    A: Algorithm<P, Q, O>,
{
    let left = image + A::BEFORE - tile * O;
    [if tile == 0 { A::BEFORE } else { 0 }, if left < O { left } else { O }]
}

impl<A, const P: usize, const Q: usize, const O: usize> Kernel for Finish<'_, A, P, Q, O>
where
    A: Algorithm<P, Q, O>,
{
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { sums, product, pitch, grid, block, first, n, channels, epilogue, .. } = self;
        let row = grid.width * channels;
        let image = self.item * grid.height * row;
        let add = !epilogue.add.is_empty();
        for tile_row in 0..self.rows {
            let [top, bottom] = inside::<A, P, Q, O>(self.first_row + tile_row, grid.height);
            let y0 = (self.first_row + tile_row) * O;
            for column in 0..block.columns {
                let [left, right] = inside::<A, P, Q, O>(block.first_column + column, grid.width);
                let x0 = (block.first_column + column) * O;
                let from = &sums[(tile_row * block.columns + column) * pitch..];
                for c in (0..n).step_by(LANES) {
                    let lanes = LANES.min(n - c);
                    assert!(from.len() >= (Q * Q - 1) * product + c + LANES);
                    let o = first + c;
                    // SAFETY: the sums were just checked (a pitch is a multiple of LANES). Every output pixel is one
                    // of the image (`inside` sees to it), and `slice` checks the address; no other task has this
                    // tile and these channels. Bias and shift have `channels` values or none, sliced here.
                    unsafe {
                        let from = from.as_ptr().add(c);
                        let mut columns = [[S::splat(0.0); Q]; O];
                        for j in 0..Q {
                            let down = A::output::<S>(load::<S, Q>(from.add(j * product), Q * product));
                            for (i, v) in down.into_iter().enumerate() {
                                columns[i][j] = v;
                            }
                        }
                        let optional = |values: &[f32]| match values.get(o..o + lanes) {
                            Some(values) => S::load_n(values.as_ptr(), lanes),
                            None => S::splat(0.0),
                        };
                        let (bias, shift) = (optional(epilogue.bias), optional(epilogue.shift));
                        for (i, line) in columns.into_iter().enumerate().take(bottom).skip(top) {
                            let across = A::output::<S>(line);
                            for (j, v) in across.into_iter().enumerate().take(right).skip(left) {
                                let at = (y0 + i - A::BEFORE) * row + (x0 + j - A::BEFORE) * channels + o;
                                let mut v = S::add(S::add(v, bias), shift);
                                if add {
                                    let other = S::load_n(epilogue.add[at..at + lanes].as_ptr(), lanes);
                                    v = S::mul(S::add(v, other), S::splat(epilogue.scale));
                                }
                                let to = self.out.slice(image + at, lanes);
                                S::store_n(to.as_mut_ptr(), v, lanes);
                            }
                        }
                    }
                }
            }
        }
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
