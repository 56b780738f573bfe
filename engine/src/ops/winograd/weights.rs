//! Weights of the products of a tile.

use rayon::prelude::*;

use super::algorithm::{Algorithm, TAPS};
use super::doubled::{self, Doubled};
use super::plain::{self, Plain};
use crate::ops::precision::Precision;
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Floats of all transformed weights of one product: of bf16 each holds a pair of inputs.
pub(super) const fn product_len(inputs: usize, outputs: usize, precision: Precision) -> usize {
    outputs.next_multiple_of(LANES) * precision.elements(inputs)
}

/// How weights are transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Whether the pixels are doubled first.
    pub(crate) doubled: bool,
    /// For the convolution that carries a gradient back: input and output exchanged, the window turned around.
    pub(crate) turned: bool,
    pub(crate) precision: Precision,
}

impl Packing {
    /// Floats of the transformed weights of a convolution of so many channels.
    pub(crate) const fn len(&self, inputs: usize, outputs: usize) -> usize {
        let products = if self.doubled { doubled::PRODUCTS * doubled::PRODUCTS } else { plain::POSITIONS };
        products * product_len(inputs, outputs, self.precision)
    }
}

/// Transforms OIHW weights, in f64 (for bf16 in f32): (products, O / LANES, I, LANES), the last block filled
/// with zeros; of bf16 (products, O / LANES, I / 2, LANES) pairs.
pub(crate) fn pack_weights(isa: Isa, oihw: &[f32], oi: [usize; 2], packing: &Packing, out: &mut [f32]) {
    if packing.doubled {
        pack::<Doubled, _, _, _>(isa, oihw, oi, packing, out);
    } else {
        pack::<Plain, _, _, _>(isa, oihw, oi, packing, out);
    }
}

fn pack<A, const P: usize, const Q: usize, const O: usize>(
    isa: Isa,
    oihw: &[f32],
    [o, i]: [usize; 2],
    packing: &Packing,
    out: &mut [f32],
) where
    A: Algorithm<P, Q, O>,
{
    /// Inputs of a task: whole pairs.
    const INPUTS: usize = 32;
    let (outputs, inputs) = if packing.turned { (i, o) } else { (o, i) };
    assert!(
        oihw.len() == o * i * TAPS * TAPS && out.len() == packing.len(inputs, outputs),
        "weights of their shape"
    );
    let out = Shared::new(out);
    let matrix = A::weight_matrix();
    let parts = inputs.div_ceil(INPUTS);
    (0..outputs.div_ceil(LANES) * parts).into_par_iter().for_each(|task| {
        let (block, first) = (task / parts, task % parts * INPUTS);
        let range = (first, (first + INPUTS).min(inputs));
        let line = packing.precision.elements(inputs);
        let (product, at) = (
            product_len(inputs, outputs, packing.precision),
            (block * line + packing.precision.elements(first)) * LANES,
        );
        let matrix = &matrix;
        dispatch(isa, Pack { oihw, inputs, outputs, packing, block, range, matrix, out: &out, product, at });
    });
}

/// Transforms the weights of [`LANES`] output channels and some input channels.
pub(super) struct Pack<'a, const Q: usize> {
    pub(super) oihw: &'a [f32],
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) packing: &'a Packing,
    /// Of output channels.
    pub(super) block: usize,
    /// Input channels: from (an even one), to.
    pub(super) range: (usize, usize),
    pub(super) matrix: &'a [[f64; TAPS]; Q],
    /// Product p, channel (or pair) i of the range: at `p * product + at + i * LANES`.
    pub(super) out: &'a Shared<'a>,
    pub(super) product: usize,
    pub(super) at: usize,
}

impl<const Q: usize> Kernel for Pack<'_, Q> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        match self.packing.precision {
            Precision::F32 => self.numbers(),
            // SAFETY: passed on.
            Precision::Bf16 => unsafe { self.pairs::<S>() },
        }
    }
}

impl<const Q: usize> Pack<'_, Q> {
    /// The windows of an input channel, turned where asked; zero past the last output channel.
    #[inline(always)]
    fn window(&self, input: usize) -> [[f32; LANES]; TAPS * TAPS] {
        let mut taps = [[0.0f32; LANES]; TAPS * TAPS];
        let turned = self.packing.turned;
        for lane in 0..LANES.min(self.outputs - self.block * LANES) {
            let output = self.block * LANES + lane;
            let at = if turned { input * self.outputs + output } else { output * self.inputs + input };
            for (tap, weight) in self.oihw[9 * at..9 * at + 9].iter().enumerate() {
                taps[if turned { 8 - tap } else { tap }][lane] = *weight;
            }
        }
        taps
    }

    /// Where a channel (or pair) of the range goes, of a product.
    #[inline(always)]
    const fn place(&self, product: usize, channel: usize) -> usize {
        product * self.product + self.at + channel * LANES
    }

    #[inline(always)]
    fn numbers(&self) {
        for input in self.range.0..self.range.1 {
            let taps = self.window(input);
            let mut window = [[0.0f64; LANES]; TAPS * TAPS];
            for (wide, tap) in window.iter_mut().zip(&taps) {
                for l in 0..LANES {
                    wide[l] = f64::from(tap[l]);
                }
            }
            for (p, vertical) in self.matrix.iter().enumerate() {
                let columns = [
                    combine(vertical, [&window[0], &window[3], &window[6]]),
                    combine(vertical, [&window[1], &window[4], &window[7]]),
                    combine(vertical, [&window[2], &window[5], &window[8]]),
                ];
                for (q, horizontal) in self.matrix.iter().enumerate() {
                    let values = combine(horizontal, [&columns[0], &columns[1], &columns[2]]);
                    let at = self.place(p * Q + q, input - self.range.0);
                    // SAFETY: each task has its own block of outputs and range of inputs.
                    let line = unsafe { self.out.slice(at, LANES) };
                    for l in 0..LANES {
                        line[l] = values[l] as f32;
                    }
                }
            }
        }
    }

    /// Two input channels at a time, in f32: what that loses is less than a hundredth of what rounding to bf16 does.
    ///
    /// # Safety
    /// Instructions as [`Simd`] asks.
    #[inline(always)]
    unsafe fn pairs<S: Simd>(&self) {
        let matrix = self.matrix.map(|row| row.map(|v| v as f32));
        for (pair, first) in (self.range.0..self.range.1).step_by(2).enumerate() {
            // SAFETY: windows and lines have LANES numbers; each task has its own block of outputs and range of inputs,
            // and ranges are of whole pairs.
            unsafe {
                let mut windows = [[S::splat(0.0); TAPS * TAPS]; 2];
                for (window, input) in windows.iter_mut().zip(first..self.range.1) {
                    for (to, tap) in window.iter_mut().zip(&self.window(input)) {
                        *to = S::load(tap.as_ptr());
                    }
                }
                for (p, vertical) in matrix.iter().enumerate() {
                    let mut columns = [[S::splat(0.0); TAPS]; 2];
                    for (columns, w) in columns.iter_mut().zip(&windows) {
                        for (x, column) in columns.iter_mut().enumerate() {
                            *column = combine_f32::<S>(vertical, [w[x], w[3 + x], w[6 + x]]);
                        }
                    }
                    for (q, horizontal) in matrix.iter().enumerate() {
                        let lower = combine_f32::<S>(horizontal, columns[0]);
                        let upper = combine_f32::<S>(horizontal, columns[1]);
                        let line = self.out.slice(self.place(p * Q + q, pair), LANES);
                        S::store(line.as_mut_ptr(), S::pair_bf16(lower, upper));
                    }
                }
            }
        }
    }
}

/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn combine_f32<S: Simd>(coefficients: &[f32; TAPS], of: [S::V; TAPS]) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let last = S::mul(S::splat(coefficients[2]), of[2]);
        let two = S::fma(S::splat(coefficients[1]), of[1], last);
        S::fma(S::splat(coefficients[0]), of[0], two)
    }
}

#[inline(always)]
fn combine(coefficients: &[f64; TAPS], of: [&[f64; LANES]; TAPS]) -> [f64; LANES] {
    let mut sum = [0.0; LANES];
    for l in 0..LANES {
        let last = coefficients[2] * of[2][l];
        sum[l] = coefficients[0].mul_add(of[0][l], coefficients[1].mul_add(of[1][l], last));
    }
    sum
}
