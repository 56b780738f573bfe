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

/// Shares a block out among threads: calls `work` with each part, the number of tiles before it, and working memory for
/// [`transform_block`].
pub(super) fn share_out<A, const P: usize, const Q: usize, const O: usize>(
    block: &Block,
    work: impl Fn(&Block, usize, &mut [f32]) + Sync,
) where
    A: Algorithm<P, Q, O>,
{
    let parts = block.cut(block.tiles().div_ceil(rayon::current_num_threads()).max(4));
    (0..parts.len()).into_par_iter().with_max_len(1).for_each(|i| {
        let before = parts[..i].iter().map(Block::tiles).sum();
        let length = transform_scratch::<A, P, Q, O>(&parts[i]);
        with_scratch(length, |working| work(&parts[i], before, working));
    });
}

/// Where transformed inputs go: element e of tile t at position p to `p * position + t * pitch + e`. An element is a
/// channel, or in bf16 a pair of them.
pub(super) struct Transformed<'a> {
    pub(super) data: &'a Shared<'a>,
    pub(super) position: usize,
    pub(super) pitch: usize,
    pub(super) precision: Precision,
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
