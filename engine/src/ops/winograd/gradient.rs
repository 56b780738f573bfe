//! The weights' gradient of a Winograd convolution: through the same transforms, turned around.
//!
//! Inputs and the output's gradient are transformed tile by tile; at each of the 36 positions the tiles are summed up by
//! one matrix product; the 36 sums are transformed to the nine weights. The tiles of a batch make a few chains, cut by
//! the images' size and number alone, summed up in order and joined in order: no sum depends on threads.
//!
//! With as many chains as threads each thread transforms and sums up its own. Sharing every chain out instead cost a
//! third more on a machine whose two cores have separate caches: what one writes the other reads at a quarter of the
//! speed.

use std::ops::Range;

use rayon::prelude::*;

use super::algorithm::Algorithm;
use super::plain::{self, OUTPUTS, POINTS, POSITIONS, Plain};
use super::tiles::{Block, Grid};
use super::transform::{Element, Transformed, share_out, transform_block, transform_scratch};
use crate::ops::conv_shape::ConvShape;
use crate::ops::matmul::{Left, Right, Size, product};
use crate::ops::precision::Precision;
use crate::ops::scratch::with_scratch;
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::ops::source::{Source, Window};

/// Tiles of a chain, at least: fewer would make more sums to join than there are tiles to sum up.
const CHAIN: usize = 256;
/// Chains, at most.
const CHAINS_MAX: usize = 16;
/// Tiles that are transformed before they are summed up: more would not stay in the cache.
const GROUP: usize = 64;

/// Input channels whose weights are written together: so many that those of an output channel fill cache lines, and
/// their sums at all positions a second-level cache. A multiple of the matrix kernel's rows.
const INPUTS: usize = 12;

/// Floats between two tiles: a line more than they take, so that many of them do not meet in one cache set.
const fn pitch(channels: usize) -> usize {
    channels.next_multiple_of(LANES) + LANES
}

/// What is summed up: the tiles of a batch, in chains that the images' size and number decide.
struct Sums {
    grid: Grid,
    inputs: usize,
    outputs: usize,
    chains: usize,
    /// What is multiplied.
    precision: Precision,
}

impl Sums {
    fn new(shape: &ConvShape, batch: usize) -> Self {
        let grid = Grid::new::<Plain, _, _, _>(shape.out_height(), shape.out_width(), batch);
        let rows = grid.rows * batch;
        let chains = (rows * grid.columns / CHAIN).clamp(1, CHAINS_MAX).min(rows);
        let precision = shape.precision;
        Self { grid, inputs: shape.in_channels, outputs: shape.out_channels, chains, precision }
    }

    /// Floats from one position of a chain's sums to the next: a line more than they take, so that those of all
    /// positions do not meet in one cache set.
    const fn position(&self) -> usize {
        self.inputs * self.outputs + LANES
    }

    /// Floats of a chain's sums.
    const fn chain_len(&self) -> usize {
        POSITIONS * self.position()
    }

    /// The tiles of a chain: whole rows of them.
    const fn chain(&self, chain: usize) -> Block {
        let rows = self.grid.rows * self.grid.batch;
        let (first_row, end) = (chain * rows / self.chains, (chain + 1) * rows / self.chains);
        Block { first_row, rows: end - first_row, first_column: 0, columns: self.grid.columns }
    }

    /// A chain's tiles as they are shared out where there are fewer chains than threads.
    fn groups(&self, chain: usize) -> Vec<Block> {
        self.chain(chain).cut(2 * GROUP)
    }

    /// All tiles, where they are so few that all are transformed before any is summed up.
    fn one_group(&self) -> Option<Block> {
        let groups = self.groups(0);
        (self.chains == 1 && groups.len() == 1).then(|| groups[0])
    }

    /// Floats of all chains' sums that are kept until the last tile.
    fn kept(&self) -> usize {
        if self.one_group().is_some() { 0 } else { self.chains * self.chain_len() }
    }

    /// What transformed numbers are kept as.
    const fn element(&self) -> Element {
        Element::of_tiles(self.precision)
    }

    /// Lines of the longest of some blocks.
    fn lines(&self, blocks: &[Block]) -> usize {
        blocks.iter().map(|block| self.element().lines(block)).max().unwrap_or(0)
    }

    /// Floats of so many lines of transformed inputs and of transformed gradients.
    const fn transformed(&self, lines: usize) -> [usize; 2] {
        [POSITIONS * lines * pitch(self.inputs), POSITIONS * lines * pitch(self.outputs)]
    }
}

/// Floats of working memory that [`backward_weights`] needs.
pub(crate) fn backward_weights_scratch(shape: &ConvShape, batch: usize) -> usize {
    let sums = Sums::new(shape, batch);
    let groups: Vec<_> = (0..sums.chains).flat_map(|chain| sums.groups(chain)).collect();
    sums.kept() + sums.transformed(sums.lines(&groups)).iter().sum::<usize>()
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
    let batch = gradient.len() / (shape.out_height() * shape.out_width() * shape.out_channels);
    let sums = Sums::new(shape, batch);
    let (scratch, transformed) = scratch.split_at_mut(sums.kept());
    let work = Work { isa, window: shape.window(), sums: &sums, source: &source, gradient };
    if let Some(group) = sums.one_group() {
        return work.at_once(&group, transformed, to);
    }
    if sums.chains >= rayon::current_num_threads() {
        // A chain a task: what a thread has transformed it sums up itself.
        scratch.par_chunks_exact_mut(sums.chain_len()).with_max_len(1).enumerate().for_each(
            |(chain, out)| {
                let blocks = sums.chain(chain).cut(GROUP);
                let [v, w] = sums.transformed(sums.lines(&blocks));
                let working = blocks.iter().map(transform_scratch::<Plain, _, _, _>).max().unwrap_or(0);
                out.fill(0.0);
                with_scratch(v + w + working, |memory| {
                    let (transformed, working) = memory.split_at_mut(v + w);
                    let (of_inputs, of_gradient) = transformed.split_at_mut(v);
                    for block in &blocks {
                        let lines = sums.element().lines(block);
                        let (to_inputs, to_gradient) = (Shared::new(of_inputs), Shared::new(of_gradient));
                        work.transform(block, lines, (&to_inputs, &to_gradient), working);
                        for (position, out) in out.chunks_exact_mut(sums.position()).enumerate() {
                            work.sum_up(position, 0..sums.inputs, lines, (of_inputs, of_gradient), out, true);
                        }
                    }
                });
            },
        );
    } else {
        work.chains_together(scratch, transformed);
    }
    let (scratch, target) = (&*scratch, Shared::new(to));
    (0..sums.inputs.div_ceil(INPUTS)).into_par_iter().for_each(|part| {
        let (first, position) = (part * INPUTS, sums.position());
        let values = &scratch[first * sums.outputs..];
        dispatch(isa, Weights { sums: &sums, values, position, first, out: &target });
    });
}

/// What the sums are made of.
struct Work<'w, F> {
    isa: Isa,
    window: Window,
    sums: &'w Sums,
    source: &'w F,
    gradient: &'w [f32],
}

impl<'s, F: Fn(usize) -> Source<'s> + Sync> Work<'_, F> {
    /// Transforms inputs and gradients of a block; `lines` are those of the group that it is part of.
    fn transform(
        &self,
        block: &Block,
        lines: usize,
        (of_inputs, of_gradient): (&Shared<'_>, &Shared<'_>),
        working: &mut [f32],
    ) {
        let Sums { grid, inputs, outputs, .. } = self.sums;
        let (v, w) = (lines * pitch(*inputs), lines * pitch(*outputs));
        let element = self.sums.element();
        transform_block::<Plain, _, _, _>(
            self.isa,
            (grid, block),
            &self.window,
            self.source,
            working,
            &Transformed { data: of_inputs, position: v, pitch: pitch(*inputs), element },
        );
        let (gradient, channels) = (self.gradient, *outputs);
        dispatch(
            self.isa,
            TransformGradient { gradient, grid, block, channels, out: of_gradient, position: w, element },
        );
    }

    /// Sums up (or adds) a group's products at one position, for some of the input channels: `out` is (I, O) of those.
    fn sum_up(
        &self,
        position: usize,
        inputs: Range<usize>,
        lines: usize,
        (of_inputs, of_gradient): (&[f32], &[f32]),
        out: &mut [f32],
        add: bool,
    ) {
        let Sums { inputs: all, outputs, precision, .. } = *self.sums;
        let data = &of_inputs[position * lines * pitch(all) + inputs.start..];
        let left = Left { data, row: 1, outer_step: 0, inner_step: pitch(all) };
        let data = &of_gradient[position * lines * pitch(outputs)..(position + 1) * lines * pitch(outputs)];
        let right = Right { data, block: LANES, step: pitch(outputs), padded: false };
        let size = Size { m: inputs.len(), n: outputs, outer: 1, inner: lines };
        product(precision)(self.isa, size, left, right, out, outputs, add);
    }

    /// Transforms all tiles of a group, shared out.
    fn transform_group(&self, group: &Block, of_inputs: &mut [f32], of_gradient: &mut [f32]) {
        let (sums, lines) = (self.sums, self.sums.element().lines(group));
        let (to_inputs, to_gradient) = (Shared::new(of_inputs), Shared::new(of_gradient));
        share_out::<Plain, _, _, _>(group, sums.element(), |part, before, working| {
            let of_inputs = &to_inputs.from(before * pitch(sums.inputs));
            let of_gradient = &to_gradient.from(before * pitch(sums.outputs));
            self.transform(part, lines, (of_inputs, of_gradient), working);
        });
    }

    /// Where there are few tiles: some input channels after the other, whose sums go from the cache into the weights. To
    /// keep all sums, four times the weights' memory, and read them back takes longer than the products.
    fn at_once(&self, group: &Block, transformed: &mut [f32], to: &mut [f32]) {
        let (sums, lines) = (self.sums, self.sums.element().lines(group));
        let (of_inputs, of_gradient) = transformed.split_at_mut(sums.transformed(lines)[0]);
        self.transform_group(group, of_inputs, of_gradient);
        let (of_inputs, of_gradient, target) = (&*of_inputs, &*of_gradient, Shared::new(to));
        let position = INPUTS * sums.outputs + LANES;
        (0..sums.inputs.div_ceil(INPUTS)).into_par_iter().with_max_len(1).for_each(|part| {
            let first = part * INPUTS;
            let inputs = first..(first + INPUTS).min(sums.inputs);
            with_scratch(POSITIONS * position, |values| {
                for (p, out) in values.chunks_exact_mut(position).enumerate() {
                    self.sum_up(p, inputs.clone(), lines, (of_inputs, of_gradient), out, false);
                }
                dispatch(self.isa, Weights { sums, values, position, first, out: &target });
            });
        });
    }

    /// One chain after the other, shared out: tiles while transforming, positions and channels while summing up.
    fn chains_together(&self, scratch: &mut [f32], transformed: &mut [f32]) {
        /// Input channels of a task.
        const ROWS: usize = 96;
        let sums = self.sums;
        for (chain, out) in scratch.chunks_exact_mut(sums.chain_len()).enumerate() {
            out.par_chunks_mut(1 << 16).for_each(|part| part.fill(0.0));
            for group in sums.groups(chain) {
                let lines = sums.element().lines(&group);
                let [v, _] = sums.transformed(lines);
                let (of_inputs, of_gradient) = transformed.split_at_mut(v);
                self.transform_group(&group, of_inputs, of_gradient);
                let parts = sums.inputs.div_ceil(ROWS);
                let (of_inputs, of_gradient, out) = (&*of_inputs, &*of_gradient, Shared::new(out));
                (0..POSITIONS * parts).into_par_iter().with_max_len(1).for_each(|task| {
                    let (position, part) = (task / parts, task % parts);
                    let rows = part * ROWS..((part + 1) * ROWS).min(sums.inputs);
                    let (at, len) =
                        (position * sums.position() + rows.start * sums.outputs, rows.len() * sums.outputs);
                    // SAFETY: each task has its own positions and input channels.
                    let out = unsafe { out.slice(at, len) };
                    self.sum_up(position, rows, lines, (of_inputs, of_gradient), out, true);
                });
            }
        }
    }
}

/// The output's gradient at a block's tiles → positions; zero outside the image.
struct TransformGradient<'a> {
    gradient: &'a [f32],
    grid: &'a Grid,
    block: &'a Block,
    channels: usize,
    out: &'a Shared<'a>,
    position: usize,
    /// No pair of channels.
    element: Element,
}

impl Kernel for TransformGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { grid, block, channels, out, position, element, .. } = self;
        let mut line = 0;
        for (item, first_row, rows) in grid.pieces(block) {
            let columns = (0..block.columns).step_by(element.tiles());
            for (y, x) in (0..rows).flat_map(|y| columns.clone().map(move |x| (y, x))) {
                let (row, column) = (first_row + y, block.first_column + x);
                let to = line * pitch(channels);
                assert!(to + (POSITIONS - 1) * position + channels <= out.len);
                for c in (0..channels).step_by(LANES) {
                    let n = LANES.min(channels - c);
                    // SAFETY: what is written was just checked, and belongs to this task's tiles.
                    unsafe {
                        let down = self.down::<S>([item, row, column], c, n);
                        let to = out.data.add(to + c);
                        if element != Element::TilePair {
                            for (i, line) in down.into_iter().enumerate() {
                                for (j, v) in plain::gradient::<S>(line).into_iter().enumerate() {
                                    S::store_n(to.add((i * POINTS + j) * position), v, n);
                                }
                            }
                            continue;
                        }
                        let mut next = [[S::splat(0.0); OUTPUTS]; POINTS];
                        if x + 1 < block.columns {
                            next = self.down::<S>([item, row, column + 1], c, n);
                        }
                        for (i, (line, next)) in down.into_iter().zip(next).enumerate() {
                            let (line, next) = (plain::gradient::<S>(line), plain::gradient::<S>(next));
                            for (j, (v, next)) in line.into_iter().zip(next).enumerate() {
                                S::store_n(to.add((i * POINTS + j) * position), S::pair_bf16(v, next), n);
                            }
                        }
                    }
                }
                line += 1;
            }
        }
    }
}

impl TransformGradient<'_> {
    /// A tile's outputs, n channels from c, transformed down their columns.
    ///
    /// # Safety
    /// The tile is one of the grid's, the channels are the gradient's; instructions as [`Simd`] asks.
    #[inline(always)]
    unsafe fn down<S: Simd>(
        &self,
        [item, row, column]: [usize; 3],
        c: usize,
        n: usize,
    ) -> [[S::V; OUTPUTS]; POINTS] {
        let Grid { height, width, .. } = *self.grid;
        let (y0, x0) = (row * OUTPUTS, column * OUTPUTS);
        let (high, wide) = (OUTPUTS.min(height - y0), OUTPUTS.min(width - x0));
        let line = width * self.channels;
        let image = &self.gradient[item * height * line..(item + 1) * height * line];
        // SAFETY: `high` and `wide` keep to the image, n channels from c are the pixel's own.
        unsafe {
            let mut down = [[S::splat(0.0); OUTPUTS]; POINTS];
            for j in 0..wide {
                let mut column = [S::splat(0.0); OUTPUTS];
                for (i, v) in column.iter_mut().enumerate().take(high) {
                    let at = (y0 + i) * line + (x0 + j) * self.channels + c;
                    *v = S::load_n(image.as_ptr().add(at), n);
                }
                for (i, v) in plain::gradient::<S>(column).into_iter().enumerate() {
                    down[i][j] = v;
                }
            }
            down
        }
    }
}

/// Gᵀ sums G for some input channels and all output channels, the chains joined in order, added to OIHW.
struct Weights<'a> {
    sums: &'a Sums,
    /// The chains' sums, from input channel `first` on.
    values: &'a [f32],
    /// Floats from one position to the next.
    position: usize,
    /// Of [`INPUTS`] input channels, or what is left.
    first: usize,
    out: &'a Shared<'a>,
}

impl Kernel for Weights<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { sums: Sums { inputs, outputs, chains, .. }, values, position, first, out } = self;
        let (inputs, outputs) = (*inputs, *outputs);
        let (chain, count) = (POSITIONS * position, INPUTS.min(inputs - first));
        assert!(values.len() >= (chains * POSITIONS - 1) * position + count * outputs && first < inputs);
        let matrix = Plain::weight_matrix();
        let mut weights = [[0.0f32; 9 * INPUTS]; LANES];
        for o in (0..outputs).step_by(LANES) {
            let n = LANES.min(outputs - o);
            for i in 0..count {
                // SAFETY: n output channels of an input channel lie within each position's sums of each chain.
                unsafe {
                    let from = values.as_ptr().add(i * outputs + o);
                    let mut rows = [[S::splat(0.0); POINTS]; 3];
                    for q in 0..POINTS {
                        let mut column = [S::splat(0.0); POINTS];
                        for (p, v) in column.iter_mut().enumerate() {
                            let from = from.add((p * POINTS + q) * position);
                            *v = S::load_n(from, n);
                            for k in 1..*chains {
                                *v = S::add(*v, S::load_n(from.add(k * chain), n));
                            }
                        }
                        for (ky, v) in combine::<S>(&matrix, column).into_iter().enumerate() {
                            rows[ky][q] = v;
                        }
                    }
                    for (ky, row) in rows.into_iter().enumerate() {
                        for (kx, v) in combine::<S>(&matrix, row).into_iter().enumerate() {
                            let mut lanes = [0.0f32; LANES];
                            S::store(lanes.as_mut_ptr(), v);
                            for (weights, v) in weights.iter_mut().zip(lanes) {
                                weights[9 * i + 3 * ky + kx] = v;
                            }
                        }
                    }
                }
            }
            for (lane, weights) in weights.iter().enumerate().take(n) {
                // SAFETY: no other task has these input channels.
                let to = unsafe { out.slice(((o + lane) * inputs + first) * 9, 9 * count) };
                for (to, v) in to.iter_mut().zip(weights) {
                    *to += v;
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
