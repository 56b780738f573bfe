//! The one matrix kernel under convolutions, linear layers and attention, forward and backward.
//!
//! C[i, j] (+)= Σ A[i, k] · B[k, j] in f32. Every output is one chain of fused multiply-adds in the order of k, starting
//! from zero or from what C holds; so neither the tiling, nor the instruction set, nor how a caller cuts m and n (or
//! cuts k and goes on) changes a bit.
//!
//! The same kernel multiplies pairs of bf16 ([`product`]): then an element of A and B is a pair, and k counts pairs.

use super::precision::Precision;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// The left operand: element (i, o, k) lies at `i * row + o * outer_step + k * inner_step`.
///
/// k runs in two loops, so that the rows of a convolution's window, which lie apart, are one chain.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) outer_step: usize,
    pub(crate) inner_step: usize,
}

/// The right operand: column block p (of [`LANES`] columns) of line k starts at `p * block + k * step`.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) block: usize,
    pub(crate) step: usize,
    /// Whether the last block has [`LANES`] columns in memory even where fewer are asked for.
    pub(crate) padded: bool,
}

/// m, n, and k as `outer` runs of `inner`.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) outer: usize,
    pub(crate) inner: usize,
}

/// C (+)= A · B; row i of C starts at `i * c_row` and has n columns.
///
/// # Panics
/// If an operand is shorter than its strides and sizes ask for.
pub(crate) fn matmul(
    isa: Isa,
    size: Size,
    a: Left<'_>,
    b: Right<'_>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    multiply::<false>(isa, size, a, b, c, c_row, add);
}

/// [`matmul`] of what `precision` multiplies.
pub(crate) const fn product(
    precision: Precision,
) -> fn(Isa, Size, Left<'_>, Right<'_>, &mut [f32], usize, bool) {
    match precision {
        Precision::F32 => multiply::<false>,
        Precision::Bf16 => multiply::<true>,
    }
}

/// [`matmul`], or with `BF16` of operands whose elements are pairs as [`super::bf16`] makes them; sums are f32.
///
/// # Panics
/// As there.
fn multiply<const BF16: bool>(
    isa: Isa,
    size: Size,
    a: Left<'_>,
    b: Right<'_>,
    c: &mut [f32],
    c_row: usize,
    add: bool,
) {
    let Size { m, n, outer, inner } = size;
    if m == 0 || n == 0 {
        return;
    }
    let (k, blocks) = (outer * inner, n.div_ceil(LANES));
    assert!((m - 1) * c_row + n <= c.len(), "C is too short");
    if k > 0 {
        let a_last = (m - 1) * a.row + (outer - 1) * a.outer_step + (inner - 1) * a.inner_step;
        assert!(a_last < a.data.len(), "A is too short");
        let width = if b.padded { LANES } else { n - (blocks - 1) * LANES };
        assert!((blocks - 1) * b.block + (k - 1) * b.step + width <= b.data.len(), "B is too short");
        assert!(blocks == 1 || b.padded || b.block == LANES, "blocks of an unpadded B lie side by side");
    }
    dispatch(isa, MatMul::<'_, BF16> { size, a, b, c: c.as_mut_ptr(), c_row, add });
}

struct MatMul<'a, const BF16: bool> {
    size: Size,
    a: Left<'a>,
    b: Right<'a>,
    c: *mut f32,
    c_row: usize,
    add: bool,
}

impl<const BF16: bool> Kernel for MatMul<'_, BF16> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let blocks = self.size.n.div_ceil(LANES);
        let mut block = 0;
        while block < blocks {
            let left = blocks - block;
            // SAFETY: `matmul` has checked that every index below lies within its operand.
            unsafe {
                if S::WIDE && left >= 4 {
                    self.columns::<S, 4>(block);
                    block += 4;
                } else if S::WIDE && left == 3 {
                    self.columns::<S, 3>(block);
                    block += 3;
                } else if S::WIDE && left == 2 {
                    self.columns::<S, 2>(block);
                    block += 2;
                } else {
                    self.columns::<S, 1>(block);
                    block += 1;
                }
            }
        }
    }
}

impl<const BF16: bool> MatMul<'_, BF16> {
    /// All rows of `NV` blocks of columns.
    ///
    /// # Safety
    /// Sizes checked by [`matmul`]; instructions as [`Simd`] asks.
    #[inline(always)]
    unsafe fn columns<S: Simd, const NV: usize>(&self, block: usize) {
        let whole = self.size.n >= (block + NV) * LANES;
        // SAFETY: passed on.
        unsafe {
            if whole || self.b.padded {
                self.rows::<S, NV, false>(block, whole);
            } else {
                self.rows::<S, NV, true>(block, whole);
            }
        }
    }

    /// # Safety
    /// As [`Self::columns`].
    #[inline(always)]
    unsafe fn rows<S: Simd, const NV: usize, const PART: bool>(&self, block: usize, whole: bool) {
        let m = self.size.m;
        let mut i = 0;
        // SAFETY: i + the tile's rows never passes m.
        unsafe {
            while i < m {
                let left = m - i;
                // The widest tile that the registers hold; a rest in tiles of few sizes.
                i += match (S::WIDE, NV) {
                    (true, 1 | 2) if left >= 12 => self.tile::<S, 12, NV, PART>(i, block, whole),
                    (true, 3) if left >= 8 => self.tile::<S, 8, NV, PART>(i, block, whole),
                    _ if left == 8 || left == 4 => self.tile::<S, 4, NV, PART>(i, block, whole),
                    _ if left >= 6 => self.tile::<S, 6, NV, PART>(i, block, whole),
                    _ if left >= 4 => self.tile::<S, 4, NV, PART>(i, block, whole),
                    _ if left >= 2 => self.tile::<S, 2, NV, PART>(i, block, whole),
                    _ => self.tile::<S, 1, NV, PART>(i, block, whole),
                };
            }
        }
    }

    /// `MR` rows of `NV` blocks: the accumulators stay in registers for the whole chain.
    ///
    /// # Safety
    /// Rows i .. i + MR and the blocks exist; otherwise as [`Self::columns`].
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const PART: bool>(
        &self,
        i: usize,
        block: usize,
        whole: bool,
    ) -> usize {
        let Size { n, outer, inner, .. } = self.size;
        let lanes_last = n - ((block + NV - 1) * LANES).min(n);
        // SAFETY: every address is a checked index of its operand: a at (i + r, o, k), b at (block + v, line), c at
        // (i + r, column). Part loads and stores touch `lanes_last` lanes only.
        unsafe {
            let c = self.c.add(i * self.c_row + block * LANES);
            let mut acc = [[S::splat(0.0); NV]; MR];
            if self.add {
                for (r, acc) in acc.iter_mut().enumerate() {
                    for (v, acc) in acc.iter_mut().enumerate() {
                        let p = c.add(r * self.c_row + v * LANES).cast_const();
                        *acc = if v + 1 == NV && !whole { S::load_part(p, lanes_last) } else { S::load(p) };
                    }
                }
            }
            let a_row = self.a.row;
            let a_tile = self.a.data.as_ptr().add(i * a_row);
            let mut b = self.b.data.as_ptr().add(block * self.b.block);
            for o in 0..outer {
                let mut a = a_tile.add(o * self.a.outer_step);
                for _ in 0..inner {
                    let mut line = [S::splat(0.0); NV];
                    for (v, line) in line.iter_mut().enumerate() {
                        let p = b.add(v * self.b.block);
                        *line = if PART && v + 1 == NV { S::load_part(p, lanes_last) } else { S::load(p) };
                    }
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let left = S::splat(*a.add(r * a_row));
                        for (acc, line) in acc.iter_mut().zip(&line) {
                            *acc =
                                if BF16 { S::dot_bf16(left, *line, *acc) } else { S::fma(left, *line, *acc) };
                        }
                    }
                    a = a.wrapping_add(self.a.inner_step);
                    b = b.wrapping_add(self.b.step);
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    let p = c.add(r * self.c_row + v * LANES);
                    if v + 1 == NV && !whole {
                        S::store_part(p, *acc, lanes_last);
                    } else {
                        S::store(p, *acc);
                    }
                }
            }
        }
        MR
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        (0..n as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 8_388_608.0 - 1.0)
            .collect()
    }

    proptest! {
        #[test]
        fn a_product_is_the_f64_sum_and_the_same_bits_everywhere(
            m in 1usize..30, n in 1usize..100, outer in 1usize..4, inner in 1usize..20, add: bool, seed: u32,
        ) {
            let k = outer * inner;
            let (a, b, c) = (values(m * k, seed), values(k * n, seed ^ 1), values(m * n, seed ^ 2));
            let mut results = Vec::new();
            for isa in Isa::available() {
                let mut out = c.clone();
                let left = Left { data: &a, row: k, outer_step: inner, inner_step: 1 };
                let right = Right { data: &b, block: LANES, step: n, padded: false };
                matmul(isa, Size { m, n, outer, inner }, left, right, &mut out, n, add);
                results.push(out);
            }
            for out in &results[1..] {
                prop_assert_eq!(out, &results[0]);
            }
            for i in 0..m {
                for j in 0..n {
                    let start = if add { f64::from(c[i * n + j]) } else { 0.0 };
                    let sum = (0..k).map(|x| f64::from(a[i * k + x]) * f64::from(b[x * n + j])).sum::<f64>() + start;
                    prop_assert!((f64::from(results[0][i * n + j]) - sum).abs() < 1e-5);
                }
            }
        }
    }
}
