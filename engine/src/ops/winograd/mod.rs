//! 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): 36 products where the direct sum has 144.
//!
//! An image is cut into tiles of 4×4 outputs. The 6×6 inputs of a tile are transformed, each of the 36 positions is one
//! matrix product over the channels, and the sums are transformed back. Each output is one fixed sequence of
//! operations that the tile's place in its image decides; blocks, threads and batches only decide who computes it.

#![allow(clippy::needless_range_loop, reason = "indices are the rows and columns of small matrices")]

mod gradient;
mod tiles;
mod transform;
mod weights;

use rayon::prelude::*;

use super::conv::{ConvShape, Epilogue};
use super::matmul::{Left, Right, Size, matmul};
use super::scratch::with_scratch;
use super::shared::Shared;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::{Patch, Source, Window, pack_slice};
pub(crate) use gradient::{backward_weights, backward_weights_scratch};
use tiles::{Block, Grid};
use transform::{OUTPUTS, POINTS, POSITIONS};
use weights::position_len;
pub(crate) use weights::{pack_weights, weights_len};

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
fn cut(inputs: usize, outputs: usize) -> Cut {
    /// Floats of the transformed inputs of a block, within the tiles below: most of a second-level cache.
    const TRANSFORMED: usize = 96 * 1024;
    let tiles = (TRANSFORMED / (POSITIONS * inputs)).clamp(48, 96);
    Cut { tiles, outputs: outputs.next_multiple_of(LANES).min(4 * LANES) }
}

/// Floats between two positions: a line more than they take, so that 36 of them do not meet in one cache set.
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
    let (height, width) = (shape.out_height(), shape.out_width());
    let batch = out.len() / (height * width * shape.out_channels);
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let grid = Grid::new(height, width, batch);
    let cut = cut(inputs, outputs);
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
        task.run(&source, &epilogue, &target);
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
    fn run<'s>(
        &self,
        source: &(impl Fn(usize) -> Source<'s> + Sync),
        epilogue: &(impl Fn(usize) -> Epilogue<'s> + Sync),
        out: &Shared<'_>,
    ) {
        let (inputs, tiles) = (self.shape.in_channels, self.block.tiles());
        let (v, m) = (padded(tiles * inputs), padded(tiles * self.cut.outputs));
        let working = transform_scratch(&self.grid, self.block);
        with_scratch(working + POSITIONS * (v + m), |scratch| {
            let (working, scratch) = scratch.split_at_mut(working);
            let (transformed, sums) = scratch.split_at_mut(POSITIONS * v);
            let to = (&Shared::new(transformed), v, inputs);
            transform_block(self.isa, (&self.grid, self.block), &self.shape.window(), source, working, to);
            let mut first = self.outputs.0;
            while first < self.outputs.1 {
                let n = self.cut.outputs.min(self.outputs.1 - first);
                for p in 0..POSITIONS {
                    let position = position_len(inputs, self.shape.out_channels);
                    let data = &self.weights[p * position + first * inputs..(p + 1) * position];
                    let right = Right { data, block: inputs * LANES, step: LANES, padded: true };
                    let left =
                        Left { data: &transformed[p * v..], row: inputs, outer_step: 0, inner_step: 1 };
                    let size = Size { m: tiles, n, outer: 1, inner: inputs };
                    matmul(self.isa, size, left, right, &mut sums[p * m..], self.cut.outputs, false);
                }
                let mut tile = 0;
                for (item, row, rows) in self.grid.pieces(self.block) {
                    dispatch(
                        self.isa,
                        Finish {
                            sums: &sums[tile * self.cut.outputs..],
                            position: m,
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
                        },
                    );
                    tile += rows * self.block.columns;
                }
                first += n;
            }
        });
    }
}

/// Floats of working memory that [`transform_block`] needs.
fn transform_scratch(grid: &Grid, block: &Block) -> usize {
    let rows = OUTPUTS * block.rows.min(grid.rows) + 2;
    (rows + POINTS) * (OUTPUTS * block.columns + 2) * LANES
}

/// Transforms what the tiles of a block see: channel c of tile t at position p goes to `p * position + t * pitch + c`.
fn transform_block<'s>(
    isa: Isa,
    (grid, block): (&Grid, &Block),
    window: &Window,
    source: &(impl Fn(usize) -> Source<'s> + Sync),
    scratch: &mut [f32],
    (out, position, pitch): (&Shared<'_>, usize, usize),
) {
    let strip_len = POINTS * (OUTPUTS * block.columns + 2) * LANES;
    let (strip, patch) = scratch.split_at_mut(strip_len);
    let mut tile = 0;
    for (item, first_row, rows) in grid.pieces(block) {
        let source = source(item);
        let region = Patch {
            first_row: first_row * OUTPUTS,
            rows: rows * OUTPUTS + 2,
            first_column: block.first_column * OUTPUTS,
            columns: block.columns * OUTPUTS + 2,
        };
        for slice in source.slices() {
            pack_slice(isa, &source, window, &region, &slice, patch);
            for row in 0..rows {
                let from = row * OUTPUTS * region.columns * LANES;
                let at = (tile + row * block.columns) * pitch + slice.channel;
                dispatch(
                    isa,
                    TransformRow {
                        patch: &patch[from..from + POINTS * region.columns * LANES],
                        columns: region.columns,
                        strip: &mut *strip,
                        tiles: block.columns,
                        out,
                        at,
                        position,
                        pitch,
                        lanes: slice.lanes,
                    },
                );
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
struct TransformRow<'a> {
    /// (6, columns, LANES)
    patch: &'a [f32],
    columns: usize,
    /// Working memory of the same size.
    strip: &'a mut [f32],
    tiles: usize,
    out: &'a Shared<'a>,
    /// Where the first tile's first position goes.
    at: usize,
    position: usize,
    pitch: usize,
    lanes: usize,
}

impl Kernel for TransformRow<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { patch, columns, strip, tiles, out, at, position, pitch, lanes } = self;
        assert!(patch.len() >= POINTS * columns * LANES && strip.len() >= POINTS * columns * LANES);
        assert!(tiles * OUTPUTS + 2 <= columns && tiles > 0);
        assert!(at + (POSITIONS - 1) * position + (tiles - 1) * pitch + lanes <= out.len);
        let row = columns * LANES;
        // SAFETY: the lengths were just checked; every index below lies within them. Each task has tiles of its own,
        // so nobody else writes here.
        unsafe {
            for x in 0..columns {
                let from = patch.as_ptr().add(x * LANES);
                let to = strip.as_mut_ptr().add(x * LANES);
                let down = transform::input::<S>(load::<S, POINTS>(from, row));
                for (i, v) in down.into_iter().enumerate() {
                    S::store(to.add(i * row), v);
                }
            }
            for tile in 0..tiles {
                let from = strip.as_ptr().add(tile * OUTPUTS * LANES);
                let to = out.data.add(at + tile * pitch);
                for i in 0..POINTS {
                    let from = from.add(i * row);
                    let across = transform::input::<S>(load::<S, POINTS>(from, LANES));
                    for (j, v) in across.into_iter().enumerate() {
                        S::store_n(to.add((i * POINTS + j) * position), v, lanes);
                    }
                }
            }
        }
    }
}

/// Sums of a piece of a block → outputs.
struct Finish<'a> {
    /// Position p, tile t, channel c of the block's: at `p * position + t * pitch + c`.
    sums: &'a [f32],
    position: usize,
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
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { sums, position, pitch, grid, block, first, n, channels, epilogue, .. } = self;
        let row = grid.width * channels;
        let image = self.item * grid.height * row;
        let add = !epilogue.add.is_empty();
        for tile_row in 0..self.rows {
            let y0 = (self.first_row + tile_row) * OUTPUTS;
            for column in 0..block.columns {
                let x0 = (block.first_column + column) * OUTPUTS;
                let (high, wide) = (OUTPUTS.min(grid.height - y0), OUTPUTS.min(grid.width - x0));
                let from = &sums[(tile_row * block.columns + column) * pitch..];
                for c in (0..n).step_by(LANES) {
                    let lanes = LANES.min(n - c);
                    assert!(from.len() >= (POSITIONS - 1) * position + c + LANES);
                    let o = first + c;
                    // SAFETY: the sums were just checked (a pitch is a multiple of LANES). Every output pixel is one
                    // of the image (high and wide see to it), and `slice` checks the address; no other task has this
                    // tile and these channels. Bias and shift have `channels` values or none, sliced here.
                    unsafe {
                        let from = from.as_ptr().add(c);
                        let mut columns = [[S::splat(0.0); POINTS]; OUTPUTS];
                        for j in 0..POINTS {
                            let down = transform::output::<S>(load::<S, POINTS>(
                                from.add(j * position),
                                POINTS * position,
                            ));
                            for (i, v) in down.into_iter().enumerate() {
                                columns[i][j] = v;
                            }
                        }
                        let optional = |values: &[f32]| match values.get(o..o + lanes) {
                            Some(values) => S::load_n(values.as_ptr(), lanes),
                            None => S::splat(0.0),
                        };
                        let (bias, shift) = (optional(epilogue.bias), optional(epilogue.shift));
                        for (i, line) in columns.into_iter().enumerate().take(high) {
                            let across = transform::output::<S>(line);
                            for (j, v) in across.into_iter().enumerate().take(wide) {
                                let at = (y0 + i) * row + (x0 + j) * channels + o;
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

    /// One layer: rms errors of Winograd and of the direct chain against f64, relative to the rms output.
    fn errors(channels: usize) -> (f64, f64) {
        const SIDE: usize = 24;
        const OUTPUTS: usize = 16;
        let image = normal(SIDE * SIDE * channels, 1);
        let weights = normal(OUTPUTS * channels * 9, 2);
        let shape = ConvShape {
            in_channels: channels,
            out_channels: OUTPUTS,
            kernel: 3,
            stride: 1,
            upsample: false,
            height: SIDE,
            width: SIDE,
            precision: Precision::F32,
        };
        let mut packed = vec![0.0; weights_len(channels, OUTPUTS)];
        pack_weights(Isa::detect(), &weights, [OUTPUTS, channels], false, &mut packed);
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
                        image[(y * SIDE + x) * channels + c],
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
        for channels in [64, 128, 512] {
            let (winograd, direct) = errors(channels);
            println!("{channels} channels: rms error {winograd:.2e}, direct chain {direct:.2e}");
            assert!(winograd <= 2.0 * direct, "{channels} channels: {winograd:e} against {direct:e}");
        }
    }
}
