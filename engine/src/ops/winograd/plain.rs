//! F(4, 3): the transforms of its inputs, outputs, weights, and of the outputs' gradient.
//!
//! Four outputs of a window of three are found from six inputs with six products, at the points 0, ±5/8, ±3/2 and ∞.
//! These points are exact in f32, as are the transforms of inputs and outputs, and they lose less than the textbook's
//! ±1, ±2: at 512 channels the result of a layer is hardly worse than the direct chain's.

use super::algorithm::{Algorithm, TAPS};
use crate::ops::simd::Simd;

/// F(4, 3).
pub(super) struct Plain;

/// Inputs of a tile in one direction, and products.
pub(super) const POINTS: usize = 6;
/// Outputs of a tile in one direction.
pub(super) const OUTPUTS: usize = 4;
/// Products of a tile.
pub(super) const POSITIONS: usize = POINTS * POINTS;

const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const A3: f32 = A2 * A;
const B3: f32 = B2 * B;

impl Algorithm<POINTS, POINTS, OUTPUTS> for Plain {
    const STEP: usize = OUTPUTS;
    const BEFORE: usize = 0;
    const POINT_OF: [usize; POINTS] = [0, 1, 2, 3, 4, 5];

    #[inline(always)]
    unsafe fn input<S: Simd>(d: [S::V; POINTS]) -> [S::V; POINTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, minus_a, b, minus_b) = (S::splat(A), S::splat(-A), S::splat(B), S::splat(-B));
            let (minus_a2, minus_b2) = (S::splat(-A2), S::splat(-B2));
            let (product, minus_sum) = (S::splat(A2 * B2), S::splat(-(A2 + B2)));
            let even_a = S::fma(minus_b2, d[2], d[4]);
            let odd_a = S::fma(minus_b2, d[1], d[3]);
            let even_b = S::fma(minus_a2, d[2], d[4]);
            let odd_b = S::fma(minus_a2, d[1], d[3]);
            [
                S::fma(minus_sum, d[2], S::fma(product, d[0], d[4])),
                S::fma(a, odd_a, even_a),
                S::fma(minus_a, odd_a, even_a),
                S::fma(b, odd_b, even_b),
                S::fma(minus_b, odd_b, even_b),
                S::fma(minus_sum, d[3], S::fma(product, d[1], d[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: [S::V; POINTS]) -> [S::V; OUTPUTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let (sum_a, difference_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (sum_b, difference_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            [
                S::add(S::add(sum_a, sum_b), m[0]),
                S::fma(S::splat(A), difference_a, S::mul(S::splat(B), difference_b)),
                S::fma(S::splat(A2), sum_a, S::mul(S::splat(B2), sum_b)),
                S::fma(S::splat(A3), difference_a, S::fma(S::splat(B3), difference_b, m[5])),
            ]
        }
    }

    fn weight_matrix() -> [[f64; TAPS]; POINTS] {
        let points = [0.0, f64::from(A), -f64::from(A), f64::from(B), -f64::from(B)];
        let mut rows = [[0.0, 0.0, 1.0]; POINTS];
        for (row, &x) in rows.iter_mut().zip(&points) {
            let norm: f64 = points.iter().filter(|&&other| other != x).map(|other| x - other).product();
            *row = [1.0 / norm, x / norm, x * x / norm];
        }
        rows
    }
}

/// A g: what the gradient of four outputs is at the points.
///
/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
pub(super) unsafe fn gradient<S: Simd>(g: [S::V; OUTPUTS]) -> [S::V; POINTS] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::fma(S::splat(A2), g[2], g[0]);
        let odd_a = S::fma(S::splat(A3), g[3], S::mul(S::splat(A), g[1]));
        let even_b = S::fma(S::splat(B2), g[2], g[0]);
        let odd_b = S::fma(S::splat(B3), g[3], S::mul(S::splat(B), g[1]));
        [
            g[0],
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            g[3],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::tests::{splat, tile};
    use super::*;
    use crate::ops::simd::Portable;

    #[test]
    fn a_tile_is_the_window_over_its_pixels() {
        let (d, g) = ([3.0f32, -1.0, 4.0, 1.0, -5.0, 9.0], [2.0f64, -7.0, 1.0]);
        for (y, out) in tile::<Plain, _, _, _>(d, g).into_iter().enumerate() {
            let expected: f64 = (0..TAPS).map(|k| f64::from(d[y + k]) * g[k]).sum();
            assert!((f64::from(out) - expected).abs() < 1e-4, "{y}: {out} against {expected}");
        }
    }

    #[test]
    fn the_gradients_transform_is_the_outputs_turned_around() {
        for point in 0..POINTS {
            for y in 0..OUTPUTS {
                // SAFETY: plain Rust.
                let (forward, backward) = unsafe {
                    let m = std::array::from_fn(|i| splat(f32::from(u8::from(i == point))));
                    let g = std::array::from_fn(|i| splat(f32::from(u8::from(i == y))));
                    (Plain::output::<Portable>(m)[y][0], gradient::<Portable>(g)[point][0])
                };
                assert_eq!(forward, backward, "point {point}, output {y}");
            }
        }
    }
}
