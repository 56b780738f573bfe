//! Convolutions whose weights are used once, as in training: weights are transformed where they are multiplied.

use rayon::prelude::*;

use super::algorithm::Algorithm;
use super::doubled::Doubled;
use super::finish::{Sums, finish_block};
use super::plain::Plain;
use super::tiles::{Grid, padded, window};
use super::transform::{Element, Transformed, share_out, transform_block};
use super::weights::{Pack, Packing};
use crate::ops::conv_shape::{ConvShape, Epilogue};
use crate::ops::matmul::{Left, Right, Size, product};
use crate::ops::precision::Precision;
use crate::ops::scratch::with_scratch;
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, LANES, dispatch};
use crate::ops::source::Source;

/// Tiles that a layer whose weights are used once transforms together, at most.
const FEW_TILES: usize = 128;

/// Floats of working memory of [`forward_packing`]; none if the batch has too many tiles for it.
pub(crate) fn packing_scratch(shape: &ConvShape, batch: usize) -> Option<usize> {
    fn of<A: Algorithm<P, Q, O>, const P: usize, const Q: usize, const O: usize>(
        shape: &ConvShape,
        batch: usize,
    ) -> Option<usize> {
        let tiles = Grid::new::<A, P, Q, O>(shape.out_height(), shape.out_width(), batch).all().tiles();
        (tiles <= FEW_TILES).then(|| P * P * padded(tiles * shape.precision.elements(shape.in_channels)))
    }
    if shape.upsample { of::<Doubled, _, _, _>(shape, batch) } else { of::<Plain, _, _, _>(shape, batch) }
}

/// [`super::forward`] for few tiles and OIHW weights that are used this once, to the same bits: the weights of a few
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
    let (inputs, outputs, precision) = (shape.in_channels, shape.out_channels, packing.precision);
    let elements = precision.elements(inputs);
    let grid = Grid::new::<A, P, Q, O>(height, width, out.len() / (height * width * outputs));
    let all = grid.all();
    let (tiles, v, m) = (all.tiles(), padded(all.tiles() * elements), padded(all.tiles() * LANES));
    if precision == Precision::Bf16 && !inputs.is_multiple_of(2) {
        // The half of a word that no channel writes.
        transformed.fill(0.0);
    }
    let (window, data) = (window(shape), Shared::new(&mut *transformed));
    let element = Element::of_channels(precision);
    share_out::<A, P, Q, O>(&all, element, |block, before, working| {
        let data = &data.from(before * elements);
        let to = Transformed { data, position: v, pitch: elements, element };
        transform_block::<A, P, Q, O>(isa, (&grid, block), &window, source, working, &to);
    });
    let (transformed, out, matrix) = (&*transformed, Shared::new(out), A::weight_matrix());
    let length = precision.elements(INPUTS.min(inputs)) * LANES;
    let product = product(precision);
    (0..outputs.div_ceil(LANES)).into_par_iter().with_max_len(1).for_each(|block| {
        with_scratch(Q * Q * (length + m), |scratch| {
            let (weights, sums) = scratch.split_at_mut(Q * Q * length);
            for first in (0..inputs).step_by(INPUTS) {
                let range = (first, (first + INPUTS).min(inputs));
                let (out, matrix) = (&Shared::new(&mut *weights), &matrix);
                let pack = Pack {
                    oihw,
                    inputs,
                    outputs,
                    packing,
                    block,
                    range,
                    matrix,
                    out,
                    product: length,
                    at: 0,
                };
                dispatch(isa, pack);
                let size =
                    Size { m: tiles, n: LANES, outer: 1, inner: precision.elements(range.1 - range.0) };
                for (at, seen) in A::products() {
                    let data = &weights[at * length..(at + 1) * length];
                    let right = Right { data, block: length, step: LANES, padded: true };
                    let data = &transformed[seen * v + precision.elements(first)..];
                    let left = Left { data, row: elements, outer_step: 0, inner_step: 1 };
                    product(isa, size, left, right, &mut sums[at * m..], LANES, first > 0);
                }
            }
            let (first, channels) = (block * LANES, outputs);
            let n = LANES.min(channels - first);
            let sums = Sums { data: sums, product: m, pitch: LANES, first, n, channels };
            finish_block::<A, P, Q, O>(isa, (&grid, &all), sums, epilogue, &out);
        });
    });
}
