//! The weights' gradient of a Winograd convolution: through the same transforms, turned around.
//!
//! Inputs and the output's gradient are transformed tile by tile; at each of the 36 positions the tiles are summed up by
//! one matrix product, a chain over all tiles of the batch in order; the 36 sums are transformed to the nine weights.
//! Threads share the tiles while transforming and the positions while summing, so no sum depends on them.

use rayon::prelude::*;

use super::transform::{self, OUTPUTS, POINTS, POSITIONS};
use super::{Block, Grid, Shared, transform_block, transform_scratch};
use crate::ops::conv::ConvShape;
use crate::ops::matmul::{Left, Right, Size, matmul};
use crate::ops::scratch::with_scratch;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::ops::source::Source;

/// Tiles that are transformed before they are summed up: what two threads hold of them stays in a third-level cache.
const GROUP: usize = 128;
/// Tiles that one task transforms, nearly: rows are not cut for less, so it may be twice as many.
const TASK: usize = 48;
const _: () = assert!(2 * TASK <= GROUP);

/// Floats between two tiles: a line more than they take, so that many of them do not meet in one cache set.
const fn pitch(channels: usize) -> usize {
    channels.next_multiple_of(LANES) + LANES
}

/// Where the parts of the working memory lie.
struct Layout {
    tiles: usize,
    inputs: usize,
    outputs: usize,
}

impl Layout {
    fn new(shape: &ConvShape, batch: usize) -> Self {
        let grid = Grid::new(shape.out_height(), shape.out_width(), batch);
        let tiles = (grid.rows * batch * grid.columns).min(GROUP);
        Self { tiles, inputs: shape.in_channels, outputs: shape.out_channels }
    }

    const fn of_inputs(&self) -> usize {
        POSITIONS * self.tiles * pitch(self.inputs)
    }

    const fn of_gradient(&self) -> usize {
        POSITIONS * self.tiles * pitch(self.outputs)
    }

    const fn sums(&self) -> usize {
        POSITIONS * self.inputs * self.outputs
    }
}

/// Floats of working memory that [`backward_weights`] needs.
pub(crate) fn backward_weights_scratch(shape: &ConvShape, batch: usize) -> usize {
    let layout = Layout::new(shape, batch);
    layout.of_inputs() + layout.of_gradient() + layout.sums()
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
    let (height, width) = (shape.out_height(), shape.out_width());
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let batch = gradient.len() / (height * width * outputs);
    let grid = Grid::new(height, width, batch);
    let layout = Layout::new(shape, batch);
    let (of_inputs, rest) = scratch.split_at_mut(layout.of_inputs());
    let (of_gradient, rest) = rest.split_at_mut(layout.of_gradient());
    let sums = &mut rest[..layout.sums()];
    sums.fill(0.0);
    let blocks = grid.blocks(TASK, 1);
    let mut next = 0;
    while next < blocks.len() {
        let first = next;
        let mut tiles = 0;
        while next < blocks.len() && (tiles == 0 || tiles + blocks[next].tiles() <= layout.tiles) {
            tiles += blocks[next].tiles();
            next += 1;
        }
        let group = &blocks[first..next];
        let (v, w) = (tiles * pitch(inputs), tiles * pitch(outputs));
        {
            let (of_inputs, of_gradient) = (Shared::new(of_inputs), Shared::new(of_gradient));
            (0..group.len()).into_par_iter().with_max_len(1).for_each(|i| {
                let (block, before) = (&group[i], group[..i].iter().map(Block::tiles).sum::<usize>());
                with_scratch(transform_scratch(&grid, block), |working| {
                    let to = (&of_inputs.from(before * pitch(inputs)), v, pitch(inputs));
                    transform_block(isa, (&grid, block), &shape.window(), &source, working, to);
                });
                let (at, channels) = (before * pitch(outputs), outputs);
                dispatch(
                    isa,
                    TransformGradient {
                        gradient,
                        grid: &grid,
                        block,
                        channels,
                        out: &of_gradient,
                        at,
                        position: w,
                    },
                );
            });
        }
        let (of_inputs, of_gradient) = (&*of_inputs, &*of_gradient);
        // Few channels: a position is a task; many: some rows of its sums.
        let rows = inputs.min(96);
        let parts = inputs.div_ceil(rows);
        let target = Shared::new(sums);
        (0..POSITIONS * parts).into_par_iter().with_max_len(1).for_each(|task| {
            let (p, part) = (task / parts, task % parts);
            let m = rows.min(inputs - part * rows);
            let left = &of_inputs[p * v + part * rows..];
            let left = Left { data: left, row: 1, outer_step: 0, inner_step: pitch(inputs) };
            let right = &of_gradient[p * w..(p + 1) * w];
            let right = Right { data: right, block: LANES, step: pitch(outputs), padded: false };
            // SAFETY: each task has rows of its own.
            let sums = unsafe { target.slice((p * inputs + part * rows) * outputs, m * outputs) };
            matmul(isa, Size { m, n: outputs, outer: 1, inner: tiles }, left, right, sums, outputs, true);
        });
    }
    let (sums, target) = (&*sums, Shared::new(to));
    (0..inputs).into_par_iter().with_min_len(8).for_each(|input| {
        dispatch(isa, Weights { sums, inputs, outputs, input, out: &target });
    });
}

/// The output's gradient at a block's tiles → positions; zero outside the image.
struct TransformGradient<'a> {
    gradient: &'a [f32],
    grid: &'a Grid,
    block: &'a Block,
    channels: usize,
    out: &'a Shared<'a>,
    at: usize,
    position: usize,
}

impl Kernel for TransformGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { gradient, grid, block, channels, out, at, position } = self;
        let row = grid.width * channels;
        let mut tile = 0;
        for (item, first_row, rows) in grid.pieces(block) {
            let image = &gradient[item * grid.height * row..(item + 1) * grid.height * row];
            for (y, x) in (0..rows).flat_map(|y| (0..block.columns).map(move |x| (y, x))) {
                let (y0, x0) = ((first_row + y) * OUTPUTS, (block.first_column + x) * OUTPUTS);
                let (high, wide) = (OUTPUTS.min(grid.height - y0), OUTPUTS.min(grid.width - x0));
                let to = at + tile * pitch(channels);
                assert!(to + (POSITIONS - 1) * position + channels <= out.len);
                for c in (0..channels).step_by(LANES) {
                    let n = LANES.min(channels - c);
                    // SAFETY: `high` and `wide` keep to the image, n channels from c are the pixel's own. What is
                    // written was just checked, and belongs to this task's tiles.
                    unsafe {
                        let mut across = [[S::splat(0.0); OUTPUTS]; POINTS];
                        for j in 0..wide {
                            let mut column = [S::splat(0.0); OUTPUTS];
                            for (i, v) in column.iter_mut().enumerate().take(high) {
                                *v = S::load_n(
                                    image.as_ptr().add((y0 + i) * row + (x0 + j) * channels + c),
                                    n,
                                );
                            }
                            for (i, v) in transform::gradient::<S>(column).into_iter().enumerate() {
                                across[i][j] = v;
                            }
                        }
                        for (i, line) in across.into_iter().enumerate() {
                            for (j, v) in transform::gradient::<S>(line).into_iter().enumerate() {
                                S::store_n(out.data.add(to + (i * POINTS + j) * position + c), v, n);
                            }
                        }
                    }
                }
                tile += 1;
            }
        }
    }
}

/// Gᵀ sums G for one input channel and all output channels, added to OIHW.
struct Weights<'a> {
    sums: &'a [f32],
    inputs: usize,
    outputs: usize,
    input: usize,
    out: &'a Shared<'a>,
}

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { sums, inputs, outputs, input, out } = self;
        let position = inputs * outputs;
        assert!(sums.len() >= POSITIONS * position && out.len >= outputs * inputs * 9 && input < inputs);
        let matrix = transform::weight_matrix();
        for o in (0..outputs).step_by(LANES) {
            let n = LANES.min(outputs - o);
            // SAFETY: n output channels of this input channel lie within each position's sums; the nine weights of
            // each (o, input) lie within `out`, and no other task has this input channel.
            unsafe {
                let from = sums.as_ptr().add(input * outputs + o);
                let mut rows = [[S::splat(0.0); POINTS]; 3];
                for j in 0..POINTS {
                    let mut column = [S::splat(0.0); POINTS];
                    for (i, v) in column.iter_mut().enumerate() {
                        *v = S::load_n(from.add((i * POINTS + j) * position), n);
                    }
                    for (i, v) in combine::<S>(&matrix, column).into_iter().enumerate() {
                        rows[i][j] = v;
                    }
                }
                for (ky, row) in rows.into_iter().enumerate() {
                    for (kx, v) in combine::<S>(&matrix, row).into_iter().enumerate() {
                        let mut lanes = [0.0f32; LANES];
                        S::store(lanes.as_mut_ptr(), v);
                        for (lane, v) in lanes.iter().enumerate().take(n) {
                            *out.data.add(((o + lane) * inputs + input) * 9 + ky * 3 + kx) += v;
                        }
                    }
                }
            }
        }
    }
}

/// Gᵀ v.
///
/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn combine<S: Simd>(matrix: &[[f64; 3]; POINTS], v: [S::V; POINTS]) -> [S::V; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [S::splat(0.0); 3];
        for (k, sum) in sums.iter_mut().enumerate() {
            for (row, v) in matrix.iter().zip(v) {
                *sum = S::fma(S::splat(row[k] as f32), v, *sum);
            }
        }
        sums
    }
}
