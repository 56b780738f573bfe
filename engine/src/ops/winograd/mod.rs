//! 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3): 36 products where the direct sum has 144.
//!
//! An image is cut into tiles of 4×4 outputs. The 6×6 inputs of a tile are transformed, each of the 36 positions is one
//! matrix product over the channels, and the sums are transformed back. Each output is one fixed sequence of
//! operations that the tile's place in its image decides; blocks, threads and batches only decide who computes it.

#![allow(clippy::needless_range_loop, reason = "indices are the rows and columns of small matrices")]

mod gradient;
mod transform;

use rayon::prelude::*;

use super::conv::{ConvShape, Epilogue};
use super::matmul::{Left, Right, Size, matmul};
use super::scratch::with_scratch;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::{Patch, Source, Window, pack_slice};
pub(crate) use gradient::{backward_weights, backward_weights_scratch};
use transform::{OUTPUTS, POINTS, POSITIONS};

/// Whether a convolution is computed this way: a matter of its channels and window alone.
pub(crate) const fn applies(in_channels: usize, kernel: usize, stride: usize) -> bool {
    const CHANNELS_MIN: usize = 16;
    kernel == 3 && stride == 1 && in_channels >= CHANNELS_MIN
}

/// Floats of all transformed weights of one position.
const fn position_len(inputs: usize, outputs: usize) -> usize {
    outputs.div_ceil(LANES) * inputs * LANES
}

/// Transforms OIHW weights, in f64, rounded once: (36, O / LANES, I, LANES), the last block filled with zeros.
pub(crate) fn pack_weights(oihw: &[f32], [o, i, _, _]: [usize; 4], out: &mut Vec<f32>) {
    pack(o, i, out, |oc, ic, ky, kx| oihw[((oc * i + ic) * 3 + ky) * 3 + kx]);
}

/// The same for the convolution that carries a gradient back: input and output exchanged, the window turned around.
pub(crate) fn pack_weights_transposed(oihw: &[f32], [o, i, _, _]: [usize; 4], out: &mut Vec<f32>) {
    pack(i, o, out, |ic, oc, ky, kx| oihw[((oc * i + ic) * 3 + 2 - ky) * 3 + 2 - kx]);
}

fn pack(
    outputs: usize,
    inputs: usize,
    out: &mut Vec<f32>,
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
) {
    let matrix = transform::weight_matrix();
    let position = position_len(inputs, outputs);
    out.clear();
    out.resize(POSITIONS * position, 0.0);
    let target = Shared::new(out);
    (0..outputs.div_ceil(LANES)).into_par_iter().for_each(|block| {
        let lanes = LANES.min(outputs - block * LANES);
        for input in 0..inputs {
            let mut window = [[[0.0f64; LANES]; 3]; 3];
            for (ky, row) in window.iter_mut().enumerate() {
                for (kx, cell) in row.iter_mut().enumerate() {
                    for (lane, value) in cell.iter_mut().enumerate().take(lanes) {
                        *value = f64::from(weight(block * LANES + lane, input, ky, kx));
                    }
                }
            }
            let combine = |coefficients: [f64; 3], of: [[f64; LANES]; 3]| -> [f64; LANES] {
                std::array::from_fn(|l| {
                    coefficients[0] * of[0][l] + coefficients[1] * of[1][l] + coefficients[2] * of[2][l]
                })
            };
            for (p, vertical) in matrix.iter().enumerate() {
                let columns = std::array::from_fn(|kx| {
                    combine(*vertical, [window[0][kx], window[1][kx], window[2][kx]])
                });
                for (q, horizontal) in matrix.iter().enumerate() {
                    let values = combine(*horizontal, columns);
                    let at = (p * POINTS + q) * position + (block * inputs + input) * LANES;
                    // SAFETY: each task writes the lines of its own block of outputs alone.
                    let line = unsafe { target.slice(at, LANES) };
                    for (to, value) in line.iter_mut().zip(values) {
                        *to = value as f32;
                    }
                }
            }
        }
    });
}

/// A buffer that several tasks write, each its own part.
struct Shared<'a> {
    data: *mut f32,
    len: usize,
    _borrow: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by `slice` alone, whose callers promise that they do not overlap.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(data: &'a mut [f32]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), _borrow: std::marker::PhantomData }
    }

    /// What follows `at`.
    fn from(&self, at: usize) -> Self {
        assert!(at <= self.len, "outside the buffer");
        // SAFETY: within the buffer or just past it.
        Self { data: unsafe { self.data.add(at) }, len: self.len - at, _borrow: self._borrow }
    }

    /// # Safety
    /// No other slice that is alive may overlap this one.
    #[allow(clippy::mut_from_ref, reason = "the caller's promise stands in for the borrow")]
    unsafe fn slice(&self, at: usize, len: usize) -> &mut [f32] {
        assert!(at <= self.len && len <= self.len - at, "outside the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), len) }
    }
}

/// The tiles of a batch of images.
#[derive(Clone, Copy)]
struct Grid {
    /// Of one image.
    height: usize,
    width: usize,
    /// Rows of tiles of one image.
    rows: usize,
    /// Tiles of a row.
    columns: usize,
    batch: usize,
}

/// Tiles that are computed together: some whole rows of tiles (of all images, counted through), or part of one.
#[derive(Clone, Copy)]
struct Block {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
}

impl Block {
    const fn tiles(&self) -> usize {
        self.rows * self.columns
    }
}

impl Grid {
    const fn new(height: usize, width: usize, batch: usize) -> Self {
        Self { height, width, rows: height.div_ceil(OUTPUTS), columns: width.div_ceil(OUTPUTS), batch }
    }

    /// Cuts all tiles into blocks of about `tiles`, `multiple` times n of them.
    fn blocks(&self, tiles: usize, multiple: usize) -> Vec<Block> {
        let rows = self.rows * self.batch;
        let total = rows * self.columns;
        let wanted = total.div_ceil(tiles).next_multiple_of(multiple);
        if wanted <= rows {
            return (0..wanted)
                .map(|i| {
                    let (first_row, end) = (i * rows / wanted, (i + 1) * rows / wanted);
                    Block { first_row, rows: end - first_row, first_column: 0, columns: self.columns }
                })
                .collect();
        }
        let parts = wanted.div_ceil(rows).min(self.columns);
        (0..rows)
            .flat_map(|first_row| {
                (0..parts).map(move |part| {
                    let (first, end) = (part * self.columns / parts, (part + 1) * self.columns / parts);
                    Block { first_row, rows: 1, first_column: first, columns: end - first }
                })
            })
            .collect()
    }

    /// The parts of a block that lie in one image: image, first row of tiles in it, their number.
    fn pieces(&self, block: &Block) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (rows, end) = (self.rows, block.first_row + block.rows);
        let mut row = block.first_row;
        std::iter::from_fn(move || {
            (row < end).then(|| {
                let (item, first) = (row / rows, row % rows);
                let count = (rows - first).min(end - row);
                row += count;
                (item, first, count)
            })
        })
    }
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
