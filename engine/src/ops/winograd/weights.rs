//! Weights at the 36 positions.

use rayon::prelude::*;

use super::transform::{self, POINTS, POSITIONS};
use crate::ops::shared::Shared;
use crate::ops::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Floats of all transformed weights of one position.
pub(super) const fn position_len(inputs: usize, outputs: usize) -> usize {
    outputs.next_multiple_of(LANES) * inputs
}

/// Floats of transformed weights.
pub(crate) const fn weights_len(inputs: usize, outputs: usize) -> usize {
    POSITIONS * position_len(inputs, outputs)
}

/// Transforms OIHW weights, in f64, rounded once: (36, O / LANES, I, LANES), the last block filled with zeros.
///
/// `turned` asks for those of the convolution that carries a gradient back: input and output exchanged, the window
/// turned around.
pub(crate) fn pack_weights(isa: Isa, oihw: &[f32], [o, i]: [usize; 2], turned: bool, out: &mut [f32]) {
    /// Inputs of a task.
    const INPUTS: usize = 32;
    let (outputs, inputs) = if turned { (i, o) } else { (o, i) };
    assert!(oihw.len() == o * i * 9 && out.len() == weights_len(inputs, outputs), "weights of their shape");
    let out = Shared::new(out);
    let matrix = transform::weight_matrix();
    let parts = inputs.div_ceil(INPUTS);
    (0..outputs.div_ceil(LANES) * parts).into_par_iter().for_each(|task| {
        let (block, first) = (task / parts, task % parts * INPUTS);
        let range = (first, (first + INPUTS).min(inputs));
        dispatch(isa, Pack { oihw, inputs, outputs, turned, block, range, matrix: &matrix, out: &out });
    });
}

struct Pack<'a> {
    oihw: &'a [f32],
    inputs: usize,
    outputs: usize,
    turned: bool,
    block: usize,
    range: (usize, usize),
    matrix: &'a [[f64; 3]; POINTS],
    out: &'a Shared<'a>,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { oihw, inputs, outputs, turned, block, range, matrix, out } = self;
        let position = position_len(inputs, outputs);
        let lanes = LANES.min(outputs - block * LANES);
        for input in range.0..range.1 {
            let mut window = [[0.0f64; LANES]; 9];
            for lane in 0..lanes {
                let output = block * LANES + lane;
                let at = if turned { input * outputs + output } else { output * inputs + input };
                for (tap, weight) in oihw[9 * at..9 * at + 9].iter().enumerate() {
                    window[if turned { 8 - tap } else { tap }][lane] = f64::from(*weight);
                }
            }
            for (p, vertical) in matrix.iter().enumerate() {
                let columns = [
                    combine(vertical, [&window[0], &window[3], &window[6]]),
                    combine(vertical, [&window[1], &window[4], &window[7]]),
                    combine(vertical, [&window[2], &window[5], &window[8]]),
                ];
                for (q, horizontal) in matrix.iter().enumerate() {
                    let values = combine(horizontal, [&columns[0], &columns[1], &columns[2]]);
                    let at = (p * POINTS + q) * position + (block * inputs + input) * LANES;
                    // SAFETY: each task has its own block of outputs and range of inputs.
                    let line = unsafe { out.slice(at, LANES) };
                    for l in 0..LANES {
                        line[l] = values[l] as f32;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn combine(coefficients: &[f64; 3], of: [&[f64; LANES]; 3]) -> [f64; LANES] {
    let mut sum = [0.0; LANES];
    for l in 0..LANES {
        sum[l] = coefficients[0] * of[0][l] + coefficients[1] * of[1][l] + coefficients[2] * of[2][l];
    }
    sum
}
