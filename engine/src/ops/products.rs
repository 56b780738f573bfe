//! Inner products in f64 of all pairs of many lines: covariances, kernels and distances of sets of features.
//!
//! Every number is one chain of fused multiply-adds in the order of the elements, starting from zero or from what is
//! there; so neither threads, nor blocks, nor the instruction set changes a bit. x · y and y · x are the same bits.

use rayon::prelude::*;

use super::simd::{Isa, Kernel, Simd, dispatch};

/// Lines of a panel.
const PANEL: usize = 8;

/// Lines of equal length in panels of eight: element k of line i lies at ((i / 8) · length + k) · 8 + i mod 8. The last
/// panel is filled with zeros.
pub(crate) struct Lines {
    data: Vec<f64>,
    count: usize,
    length: usize,
}

impl Lines {
    /// `count` lines of `length` elements, each given by its line and place.
    pub(crate) fn new(count: usize, length: usize, value: impl Fn(usize, usize) -> f64 + Sync) -> Self {
        let mut data = vec![0.0; count.div_ceil(PANEL) * length * PANEL];
        data.par_chunks_mut((length * PANEL).max(1)).enumerate().for_each(|(panel, out)| {
            for (k, out) in out.chunks_exact_mut(PANEL).enumerate() {
                for (lane, out) in out.iter_mut().enumerate().take(count - panel * PANEL) {
                    *out = value(panel * PANEL + lane, k);
                }
            }
        });
        Self { data, count, length }
    }

    /// Lines there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    fn panel(&self, i: usize) -> &[f64] {
        &self.data[i * self.length * PANEL..(i + 1) * self.length * PANEL]
    }
}

/// `out` (a's lines, b's lines), row by row, (+)= a · b.
///
/// # Panics
/// Where the lines differ in length or `out` has another size.
pub(crate) fn products(isa: Isa, a: &Lines, b: &Lines, out: &mut [f64], add: bool) {
    assert!(a.length == b.length && out.len() == a.count * b.count, "lines and products of one size");
    if out.is_empty() {
        return;
    }
    out.par_chunks_mut(PANEL * b.count).enumerate().for_each(|(i, rows)| {
        for j in 0..b.count.div_ceil(PANEL) {
            let (columns, at) = (b.count, j * PANEL);
            dispatch(isa, Tile { a: a.panel(i), b: b.panel(j), rows: &mut *rows, columns, at, add });
        }
    });
}

/// [`products`] of lines with themselves, on the diagonal and left of it; [`mirror`] does the rest, once.
pub(crate) fn squares(isa: Isa, a: &Lines, out: &mut [f64], add: bool) {
    let n = a.count;
    assert!(out.len() == n * n, "lines and products of one size");
    if out.is_empty() {
        return;
    }
    out.par_chunks_mut(PANEL * n).enumerate().for_each(|(i, rows)| {
        for j in 0..=i {
            let at = j * PANEL;
            dispatch(isa, Tile { a: a.panel(i), b: a.panel(j), rows: &mut *rows, columns: n, at, add });
        }
    });
}

/// Copies what lies left of the diagonal of a matrix (n, n) to the right of it.
pub(crate) fn mirror(n: usize, matrix: &mut [f64]) {
    for i in 0..n {
        for j in i + 1..n {
            matrix[i * n + j] = matrix[j * n + i];
        }
    }
}

/// The products of a panel with a panel, to columns `at` and following of some rows.
struct Tile<'a> {
    a: &'a [f64],
    b: &'a [f64],
    rows: &'a mut [f64],
    columns: usize,
    at: usize,
    add: bool,
}

impl Kernel for Tile<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        if S::WIDE {
            self.multiply::<8>();
        } else {
            self.multiply::<4>();
        }
    }
}

impl Tile<'_> {
    /// `R` lines of the first panel at a time: as many sums as there are registers for.
    #[inline(always)]
    fn multiply<const R: usize>(self) {
        let Self { a, b, rows, columns, at, add } = self;
        let (height, width) = (rows.len() / columns, (columns - at).min(PANEL));
        // Which lines of the panel is known to be within it: no index is checked in the sums' loop.
        for part in 0..PANEL / R {
            let first = part * R;
            if first >= height {
                break;
            }
            let mut sums = [[0.0f64; PANEL]; R];
            let mine = &mut rows[first * columns..];
            if add {
                for (sums, row) in sums.iter_mut().zip(mine.chunks(columns)) {
                    sums[..width].copy_from_slice(&row[at..at + width]);
                }
            }
            for (a, b) in a.as_chunks::<PANEL>().0.iter().zip(b.as_chunks::<PANEL>().0) {
                let a = &a.as_chunks::<R>().0[part];
                for r in 0..R {
                    for l in 0..PANEL {
                        sums[r][l] = a[r].mul_add(b[l], sums[r][l]);
                    }
                }
            }
            for (sums, row) in sums.iter().zip(mine.chunks_mut(columns)) {
                row[at..at + width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_are_chains_and_the_same_bits_everywhere(
            n in 1usize..30, m in 1usize..30, length in 0usize..40, cut in 0usize..40, seed: u32,
        ) {
            let value = |i: usize, k: usize| {
                let mixed = (i * 64 + k) as u32 ^ seed;
                f64::from(mixed.wrapping_mul(2_654_435_761)) / 4_294_967_296.0 - 0.5
            };
            let cut = cut.min(length);
            let other = |i, k| value(i + 100, k);
            for isa in Isa::available() {
                let mut out = vec![0.0; n * m];
                // In two parts, the second going on with the first's chains.
                products(isa, &Lines::new(n, cut, value), &Lines::new(m, cut, other), &mut out, false);
                let rest = |of: usize| move |i, k| value(i + of, k + cut);
                let rests = (Lines::new(n, length - cut, rest(0)), Lines::new(m, length - cut, rest(100)));
                products(isa, &rests.0, &rests.1, &mut out, true);
                let mut own = vec![0.0; n * n];
                squares(isa, &Lines::new(n, length, value), &mut own, false);
                mirror(n, &mut own);
                for i in 0..n {
                    for j in 0..m {
                        let chain = (0..length).fold(0.0, |sum, k| value(i, k).mul_add(other(j, k), sum));
                        prop_assert_eq!(out[i * m + j], chain, "{} {},{}", isa, i, j);
                    }
                    for j in 0..n {
                        let chain = (0..length).fold(0.0, |sum, k| value(i, k).mul_add(value(j, k), sum));
                        prop_assert_eq!(own[i * n + j], chain, "{} {},{}", isa, i, j);
                    }
                }
            }
        }
    }
}
