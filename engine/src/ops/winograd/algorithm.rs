//! What the ways of computing a tile have in common.

use crate::ops::simd::Simd;

/// Taps of a window in one direction.
pub(super) const TAPS: usize = 3;

/// How a tile is computed in one direction: from `POINTS` inputs by `PRODUCTS` products to `OUTPUTS` outputs. In two
/// directions each number is squared: a tile of POINTS² inputs is transformed, its PRODUCTS² products (each over all
/// input channels) are transformed back to OUTPUTS² outputs.
pub(super) trait Algorithm<const POINTS: usize, const PRODUCTS: usize, const OUTPUTS: usize> {
    /// Input pixels from one tile to the next.
    const STEP: usize;
    /// Outputs of the first tile that lie before the image.
    const BEFORE: usize;
    /// The transformed input that each product takes.
    const POINT_OF: [usize; PRODUCTS];

    /// Inputs → what they are at the points.
    ///
    /// # Safety
    /// Instructions as [`Simd`] asks.
    unsafe fn input<S: Simd>(d: [S::V; POINTS]) -> [S::V; POINTS];

    /// Products → outputs.
    ///
    /// # Safety
    /// Instructions as [`Simd`] asks.
    unsafe fn output<S: Simd>(m: [S::V; PRODUCTS]) -> [S::V; OUTPUTS];

    /// A tile's products, in order: each one's number, and that of the transformed input that it takes.
    fn products() -> impl Iterator<Item = (usize, usize)> {
        (0..PRODUCTS * PRODUCTS).map(|at| {
            let (row, column) = (at / PRODUCTS, at % PRODUCTS);
            (at, Self::POINT_OF[row] * POINTS + Self::POINT_OF[column])
        })
    }

    /// The weights of each product as a combination of the window's, in f64.
    fn weight_matrix() -> [[f64; TAPS]; PRODUCTS];
}

/// N vectors, `step` floats apart.
///
/// # Safety
/// They must be readable; instructions as [`Simd`] asks.
#[inline(always)]
pub(super) unsafe fn load<S: Simd, const N: usize>(from: *const f32, step: usize) -> [S::V; N] {
    // SAFETY: the caller's promise. A loop, not a closure: that would be compiled without the instructions.
    unsafe {
        let mut v = [S::splat(0.0); N];
        for (i, v) in v.iter_mut().enumerate() {
            *v = S::load(from.add(i * step));
        }
        v
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ops::simd::{LANES, Portable};

    type V = <Portable as Simd>::V;

    pub(in crate::ops::winograd) fn splat(v: f32) -> V {
        [v; LANES]
    }

    /// One tile of one channel, window `g` over inputs `d`.
    pub(in crate::ops::winograd) fn tile<A, const P: usize, const Q: usize, const O: usize>(
        d: [f32; P],
        g: [f64; TAPS],
    ) -> [f32; O]
    where
        A: Algorithm<P, Q, O>,
    {
        let weights =
            A::weight_matrix().map(|row| row.iter().zip(&g).map(|(w, g)| w * g).sum::<f64>() as f32);
        // SAFETY: plain Rust.
        unsafe {
            let d = A::input::<Portable>(d.map(splat));
            let products = std::array::from_fn(|i| Portable::mul(d[A::POINT_OF[i]], splat(weights[i])));
            A::output::<Portable>(products).map(|out| out[0])
        }
    }
}
