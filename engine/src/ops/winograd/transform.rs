//! What the tiles of a block see, transformed: from an image's channels to the left operands of the products.

use std::marker::PhantomData;

use rayon::prelude::*;

use super::algorithm::{Algorithm, load};
use super::tiles::{Block, Grid};
use crate::ops::bf16;
use crate::ops::precision::Precision;
use crate::ops::scratch::with_scratch;
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};
use crate::ops::source::{Patch, Source, Window, pack_slice};

/// Rows (or columns) of the padded source that so many tiles see.
const fn seen<A, const P: usize, const Q: usize, const O: usize>(tiles: usize) -> usize
where
    A: Algorithm<P, Q, O>,
{
    A::STEP * tiles + P - A::STEP
}

/// Floats of working memory that [`transform_block`] needs.
pub(super) fn transform_scratch<A, const P: usize, const Q: usize, const O: usize>(block: &Block) -> usize
where
    A: Algorithm<P, Q, O>,
{
    (seen::<A, P, Q, O>(block.rows) + P) * seen::<A, P, Q, O>(block.columns) * LANES
}

/// Shares a block out among threads: calls `work` with each part, the number of lines before it, and working memory for
/// [`transform_block`].
pub(super) fn share_out<A, const P: usize, const Q: usize, const O: usize>(
    block: &Block,
    element: Element,
    work: impl Fn(&Block, usize, &mut [f32]) + Sync,
) where
    A: Algorithm<P, Q, O>,
{
    let parts = block.cut(block.tiles().div_ceil(rayon::current_num_threads()).max(4));
    (0..parts.len()).into_par_iter().with_max_len(1).for_each(|i| {
        let before = parts[..i].iter().map(|part| element.lines(part)).sum();
        let length = transform_scratch::<A, P, Q, O>(&parts[i]);
        with_scratch(length, |working| work(&parts[i], before, working));
    });
}

/// What a transformed number is kept as. A line of them is a tile's, or that of two tiles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// f32.
    Channel,
    /// A word of bf16: two channels.
    ChannelPair,
    /// A word of bf16: a channel of two tiles that are neighbours in a row. The last of an odd number meets zero.
    TilePair,
}

impl Element {
    /// For products over channels.
    pub(super) const fn of_channels(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Channel,
            Precision::Bf16 => Self::ChannelPair,
        }
    }

    /// For products over tiles.
    pub(super) const fn of_tiles(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Channel,
            Precision::Bf16 => Self::TilePair,
        }
    }

    /// Tiles of a row that a line holds.
    pub(super) const fn tiles(self) -> usize {
        if matches!(self, Self::TilePair) { 2 } else { 1 }
    }

    /// Lines of a block.
    pub(super) const fn lines(self, block: &Block) -> usize {
        block.rows * block.columns.div_ceil(self.tiles())
    }
}

/// Where transformed inputs go: number e of line l at position p to `p * position + l * pitch + e`.
pub(super) struct Transformed<'a> {
    pub(super) data: &'a Shared<'a>,
    pub(super) position: usize,
    pub(super) pitch: usize,
    pub(super) element: Element,
}

/// Transforms what the tiles of a block see.
pub(super) fn transform_block<'s, A, const P: usize, const Q: usize, const O: usize>(
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
    let lines = block.columns.div_ceil(to.element.tiles());
    let mut line = 0;
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
                    line: line + row * lines,
                    channel: slice.channel,
                    lanes: slice.lanes,
                    algorithm: PhantomData,
                };
                dispatch(isa, transform);
            }
        }
        line += rows * lines;
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
    /// The first line and channel of this row.
    line: usize,
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
        let Self { patch, columns, tiles, line: first, channel, lanes, .. } = self;
        let Transformed { data: out, position, pitch, element } = *self.to;
        assert!(patch.len() >= P * columns * LANES && self.strip.len() >= P * columns * LANES);
        assert!(tiles > 0 && seen::<A, P, Q, O>(tiles) <= columns);
        let end = match element {
            Element::Channel | Element::TilePair => channel + lanes,
            Element::ChannelPair => bf16::words(channel + lanes),
        };
        let lines = tiles.div_ceil(element.tiles());
        assert!((P * P - 1) * position + (first + lines - 1) * pitch + end <= out.len);
        let row = columns * LANES;
        // SAFETY: the lengths were just checked; every index below lies within them. Each task has tiles of its own,
        // so nobody else writes here.
        unsafe {
            for x in 0..columns {
                let from = patch.as_ptr().add(x * LANES);
                let to = self.strip.as_mut_ptr().add(x * LANES);
                let down = A::input::<S>(load::<S, P>(from, row));
                for (i, v) in down.into_iter().enumerate() {
                    S::store(to.add(i * row), v);
                }
            }
            // A loop for each, so that none pays for another.
            match element {
                Element::Channel => {
                    for tile in 0..tiles {
                        let to = out.data.add((first + tile) * pitch + channel);
                        for i in 0..P {
                            let across = self.across::<S>(tile, i);
                            for (j, v) in across.into_iter().enumerate() {
                                S::store_n(to.add((i * P + j) * position), v, lanes);
                            }
                        }
                    }
                }
                Element::ChannelPair => {
                    for tile in 0..tiles {
                        let to = out.data.add((first + tile) * pitch);
                        for i in 0..P {
                            let across = self.across::<S>(tile, i);
                            for (j, v) in across.into_iter().enumerate() {
                                let to = to.add((i * P + j) * position).cast::<u16>();
                                S::store_bf16_n(to.add(channel), v, lanes);
                            }
                        }
                    }
                }
                Element::TilePair => {
                    for line in 0..lines {
                        let to = out.data.add((first + line) * pitch + channel);
                        for i in 0..P {
                            let across = self.across::<S>(2 * line, i);
                            let mut next = [S::splat(0.0); P];
                            if 2 * line + 1 < tiles {
                                next = self.across::<S>(2 * line + 1, i);
                            }
                            for (j, (v, next)) in across.into_iter().zip(next).enumerate() {
                                S::store_n(to.add((i * P + j) * position), S::pair_bf16(v, next), lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl<A, const P: usize, const Q: usize, const O: usize> TransformRow<'_, A, P, Q, O>
where
    A: Algorithm<P, Q, O>,
{
    /// A row of a tile, transformed down already, across.
    ///
    /// # Safety
    /// The tile is one of this row's, i less than P, the strip long enough; instructions as [`Simd`] asks.
    #[inline(always)]
    unsafe fn across<S: Simd>(&self, tile: usize, i: usize) -> [S::V; P] {
        // SAFETY: the caller's promise.
        unsafe {
            let from = self.strip.as_ptr().add((i * self.columns + tile * A::STEP) * LANES);
            A::input::<S>(load::<S, P>(from, LANES))
        }
    }
}
