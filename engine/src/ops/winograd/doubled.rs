//! A window of three over pixels that were doubled (nearest upsampling), without doubling them.
//!
//! Every second output sees two source pixels, by the weights (w₀, w₁ + w₂), the others by (w₀ + w₁, w₂). From four
//! source pixels both find three outputs each, by F(3, 2) at the points 0, ±1 and ∞; at 1 both windows are
//! w₀ + w₁ + w₂, so that product serves both. 49 products stand for 36 outputs, where F(4×4, 3×3) on doubled pixels has 81.
//! The transforms are sums, and a layer loses less than the direct chain does.
//!
//! Of the pixels in the middle of a tile's four, the outputs of the first kind come after, those of the other before; so
//! a tile's six outputs are neighbours, and the first tile begins one output before the image.

use super::algorithm::{Algorithm, TAPS};
use crate::ops::simd::Simd;

/// The way of a convolution over doubled pixels.
pub(super) struct Doubled;

/// Inputs of a tile in one direction: pixels of the source.
const POINTS: usize = 4;
/// Products of a tile in one direction: at 0, 1, -1 and ∞, for outputs of the first and of the second kind.
pub(super) const PRODUCTS: usize = 7;
/// Outputs of a tile in one direction: second kind, first kind, and so on.
const OUTPUTS: usize = 6;

impl Algorithm<POINTS, PRODUCTS, OUTPUTS> for Doubled {
    const STEP: usize = 3;
    const BEFORE: usize = 1;
    const POINT_OF: [usize; PRODUCTS] = [0, 0, 1, 2, 2, 3, 3];

    #[inline(always)]
    unsafe fn input<S: Simd>(d: [S::V; POINTS]) -> [S::V; POINTS] {
        // SAFETY: the caller's promise.
        unsafe { [S::sub(d[0], d[2]), S::add(d[1], d[2]), S::sub(d[2], d[1]), S::sub(d[3], d[1])] }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: [S::V; PRODUCTS]) -> [S::V; OUTPUTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let (sum, difference) = (S::add(m[2], m[3]), S::sub(m[2], m[3]));
            let (other_sum, other_difference) = (S::add(m[2], m[4]), S::sub(m[2], m[4]));
            [
                S::add(other_sum, m[1]),
                S::add(sum, m[0]),
                other_difference,
                difference,
                S::add(other_sum, m[6]),
                S::add(sum, m[5]),
            ]
        }
    }

    fn weight_matrix() -> [[f64; TAPS]; PRODUCTS] {
        [
            [1.0, 0.0, 0.0],
            [1.0, 1.0, 0.0],
            [0.5, 0.5, 0.5],
            [0.5, -0.5, -0.5],
            [0.5, 0.5, -0.5],
            [0.0, 1.0, 1.0],
            [0.0, 0.0, 1.0],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::tests::tile;
    use super::*;

    #[test]
    fn a_tile_is_the_window_over_doubled_pixels() {
        let (d, g) = ([3.0f32, -1.0, 4.0, 1.5], [2.0f64, -7.0, 1.0]);
        // The first output is the second of the two that the tile's first pixel makes.
        let seen = |at: usize| f64::from(d[at / 2]);
        for (i, out) in tile::<Doubled, _, _, _>(d, g).into_iter().enumerate() {
            let expected: f64 = (0..TAPS).map(|k| seen(i + k) * g[k]).sum();
            assert!((f64::from(out) - expected).abs() < 1e-5, "{i}: {out} against {expected}");
        }
    }
}
