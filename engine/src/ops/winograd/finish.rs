//! Sums of products → outputs of the convolution.

use std::marker::PhantomData;

use super::algorithm::{Algorithm, load};
use super::tiles::{Block, Grid};
use crate::ops::conv_shape::Epilogue;
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Sums of a block → outputs.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    /// Product p, tile t, channel c of the block's: at `p * product + t * pitch + c`.
    pub(super) data: &'a [f32],
    pub(super) product: usize,
    pub(super) pitch: usize,
    /// Output channels from `first`, `n` of them, of `channels`.
    pub(super) first: usize,
    pub(super) n: usize,
    pub(super) channels: usize,
}

/// Transforms the sums of a block back and writes its outputs.
pub(super) fn finish_block<'e, A, const P: usize, const Q: usize, const O: usize>(
    isa: Isa,
    (grid, block): (&Grid, &Block),
    sums: Sums<'_>,
    epilogue: &(impl Fn(usize) -> Epilogue<'e> + Sync),
    out: &Shared<'_>,
) where
    A: Algorithm<P, Q, O>,
{
    let mut tile = 0;
    for (item, first_row, rows) in grid.pieces(block) {
        let sums = Sums { data: &sums.data[tile * sums.pitch..], ..sums };
        let (epilogue, algorithm) = (epilogue(item), PhantomData);
        let finish =
            Finish::<A, P, Q, O> { sums, grid, block, item, first_row, rows, epilogue, out, algorithm };
        dispatch(isa, finish);
        tile += rows * block.columns;
    }
}

/// A piece of a block, within one image.
struct Finish<'a, A, const P: usize, const Q: usize, const O: usize> {
    sums: Sums<'a>,
    grid: &'a Grid,
    block: &'a Block,
    item: usize,
    first_row: usize,
    rows: usize,
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
        let Self { grid, block, epilogue, .. } = self;
        let Sums { data: sums, product, pitch, first, n, channels } = self.sums;
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
