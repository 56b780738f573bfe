//! Consistency with the low-resolution input: an output, reduced to the input's size, should be the input.
//!
//! D is the reduction that the inputs are thought of as made with: antialiased bicubic (PIL's, a = -0.5), or the area
//! averages that some networks were trained on. Among all
//! images that reduce to y the one next to x is x + Dᵀ(DDᵀ)⁻¹(y - Dx). D is separable and banded, so DDᵀ is a
//! Kronecker product of two narrow band matrices: the whole projection costs less than one convolution of a network.
//!
//! Promises: any size pair with the output at least as large as the input; the same bits for any number of threads;
//! temporaries of two low-resolution images in all and of a few rows a thread. Units are the caller's: everything
//! is linear, errors are in squared units of the pixels.
//! Never: values from outside the two images, an iteration that may not end.

use rayon::prelude::*;

use crate::ops::resize::{Axis, Filter, ResizePlan};

/// Channels of the images here.
const CHANNELS: usize = 3;

/// Why there is no reduction between two sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no reduction from {high:?} to {low:?} (height, width): the first must be at least as large, neither empty"
)]
pub struct ConsistencyError {
    /// Size of the low-resolution image.
    pub low: [usize; 2],
    /// Size of the high-resolution image.
    pub high: [usize; 2],
}

/// The reduction D between two sizes, and the factors of DDᵀ.
#[derive(Clone, Debug)]
pub struct Consistency {
    reduce: ResizePlan,
    /// Dᵀ.
    spread: ResizePlan,
    vertical: BandedCholesky,
    horizontal: BandedCholesky,
}

impl Consistency {
    /// For images of `high` [height, width] that reduce to `low` [height, width].
    ///
    /// # Errors
    /// [`ConsistencyError`] where `low` is larger than `high` in an axis, or empty.
    pub fn new(low: [usize; 2], high: [usize; 2]) -> Result<Self, ConsistencyError> {
        Self::with_reduction(Filter::Bicubic, low, high)
    }

    /// [`new`](Self::new) for images that are thought of as reduced by another filter, whose rows are independent: area averages.
    ///
    /// # Errors
    /// As there.
    pub fn with_reduction(
        filter: Filter,
        low: [usize; 2],
        high: [usize; 2],
    ) -> Result<Self, ConsistencyError> {
        if low[0] > high[0] || low[1] > high[1] || low[0] == 0 || low[1] == 0 {
            return Err(ConsistencyError { low, high });
        }
        let [vertical, horizontal] = [0, 1].map(|i| Axis::new(filter, high[i], low[i]));
        Ok(Self {
            spread: ResizePlan::from_axes(vertical.transposed(), horizontal.transposed()),
            vertical: BandedCholesky::of_gram(&vertical),
            horizontal: BandedCholesky::of_gram(&horizontal),
            reduce: ResizePlan::from_axes(vertical, horizontal),
        })
    }

    /// D x: (H, W, 3) to (h, w, 3), not rounded, not clipped.
    ///
    /// # Panics
    /// Where `x` has not the high-resolution size.
    pub fn reduce(&self, x: &[f32]) -> Vec<f32> {
        let [height, width] = self.reduce.output_size();
        let mut low = vec![0.0; height * width * CHANNELS];
        self.reduce.apply(x, CHANNELS, &mut low);
        low
    }

    /// Dᵀ(DDᵀ)⁻¹ y, the smallest image (H, W, 3) that reduces to `y` (h, w, 3). It may leave the range of `y`.
    ///
    /// # Panics
    /// Where `y` has not the low-resolution size.
    pub fn pseudo_inverse(&self, y: &[f32]) -> Vec<f32> {
        let [height, width] = self.reduce.input_size();
        let mut x = vec![0.0; height * width * CHANNELS];
        self.correct(&mut x, y.iter().map(|&v| f64::from(v)).collect());
        x
    }

    /// Moves `x` (H, W, 3), in place, to the nearest image that reduces to `y` (h, w, 3). Not clamped.
    ///
    /// # Panics
    /// Where a buffer has not its image's size.
    pub fn project(&self, x: &mut [f32], y: &[f32]) {
        self.project_within(x, y, 0.0);
    }

    /// [`project`](Self::project), but only as far as a mean squared error of `error_max` (in squared units of the
    /// pixels) asks: for inputs with noise or JPEG artefacts of their own, which should not be painted into `x`.
    ///
    /// # Panics
    /// Where a buffer has not its image's size.
    pub fn project_within(&self, x: &mut [f32], y: &[f32], error_max: f64) {
        let mut rest = self.rest(x, y);
        let error = mean_square(&rest);
        if error <= error_max || rest.is_empty() {
            return;
        }
        // After a step of length t the rest is (1 - t) of what it was.
        let step = 1.0 - (error_max / error).sqrt();
        rest.iter_mut().for_each(|v| *v *= step);
        self.correct(x, rest);
    }

    /// The mean of (D x - y)² over all pixels and channels, in squared units of the pixels.
    ///
    /// # Panics
    /// Where a buffer has not its image's size.
    pub fn mean_squared_error(&self, x: &[f32], y: &[f32]) -> f64 {
        mean_square(&self.rest(x, y))
    }

    /// y - D x.
    fn rest(&self, x: &[f32], y: &[f32]) -> Vec<f64> {
        let low = self.reduce(x);
        assert_eq!(low.len(), y.len(), "length of the low-resolution image");
        y.iter().zip(low).map(|(&y, d)| f64::from(y) - f64::from(d)).collect()
    }

    /// x += Dᵀ(DDᵀ)⁻¹ rest.
    fn correct(&self, x: &mut [f32], mut rest: Vec<f64>) {
        let [_, width] = self.reduce.output_size();
        rest.par_chunks_mut(width * CHANNELS).for_each(|line| self.horizontal.solve(line, CHANNELS));
        self.vertical.solve(&mut rest, width * CHANNELS);
        let rest: Vec<f32> = rest.into_iter().map(|v| v as f32).collect();
        self.spread.apply_add(&rest, CHANNELS, x);
    }
}

fn mean_square(values: &[f64]) -> f64 {
    let blocks: Vec<f64> =
        values.par_chunks(4096).map(|block| block.iter().map(|v| v * v).sum::<f64>()).collect();
    blocks.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The factor L of DDᵀ = L Lᵀ for one axis. Rows of D are independent at every ratio (a test holds the pivots to it).
#[derive(Clone, Debug)]
struct BandedCholesky {
    /// Entries left of the diagonal.
    band: usize,
    /// Row i holds L[i, i], L[i, i-1] … L[i, i-band]; entries left of the matrix are 0.
    rows: Vec<f64>,
}

impl BandedCholesky {
    fn of_gram(axis: &Axis) -> Self {
        let n = axis.output_len();
        let end = |i: usize| axis.row(i).0 + axis.row(i).1.len();
        let neighbours = |i: usize| (0..i).rev().take_while(|&j| end(j) > axis.row(i).0).count();
        let band = (0..n).map(neighbours).max().unwrap_or(0);
        let mut factor = Self { band, rows: vec![0.0; n * (band + 1)] };
        for i in 0..n {
            for j in i.saturating_sub(band)..=i {
                let inner: f64 = (i.saturating_sub(band)..j)
                    .filter(|&k| k + band >= j)
                    .map(|k| factor.at(i, k) * factor.at(j, k))
                    .sum();
                let rest = gram(axis, i, j) - inner;
                let value = if i == j { rest.sqrt() } else { rest / factor.at(j, j) };
                factor.rows[i * (band + 1) + i - j] = value;
            }
        }
        factor
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.rows[i * (self.band + 1) + i - j]
    }

    /// Solves (L Lᵀ) z = `values` in place; a value is a row of `stride` numbers.
    fn solve(&self, values: &mut [f64], stride: usize) {
        let n = values.len() / stride;
        for i in 0..n {
            let (before, line) = values.split_at_mut(i * stride);
            let line = &mut line[..stride];
            for j in i.saturating_sub(self.band)..i {
                subtract(line, self.at(i, j), &before[j * stride..][..stride]);
            }
            divide(line, self.at(i, i));
        }
        for i in (0..n).rev() {
            let (line, after) = values[i * stride..].split_at_mut(stride);
            for j in i + 1..n.min(i + self.band + 1) {
                subtract(line, self.at(j, i), &after[(j - i - 1) * stride..][..stride]);
            }
            divide(line, self.at(i, i));
        }
    }
}

fn subtract(line: &mut [f64], factor: f64, other: &[f64]) {
    for (value, &other) in line.iter_mut().zip(other) {
        *value -= factor * other;
    }
}

fn divide(line: &mut [f64], by: f64) {
    line.iter_mut().for_each(|value| *value /= by);
}

/// Inner product of rows i and j.
fn gram(axis: &Axis, i: usize, j: usize) -> f64 {
    let ((a, weights_a), (b, weights_b)) = (axis.row(i), axis.row(j));
    let first = a.max(b);
    let [left, right] =
        [(a, weights_a), (b, weights_b)].map(|(start, w)| w.get(first - start..).unwrap_or(&[]));
    left.iter().zip(right).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of a whole ratio share no pixel.
    #[test]
    fn area_averages_of_whole_ratios_are_independent() {
        for (low, ratio) in [(1, 4), (10, 1), (10, 4), (7, 8)] {
            let factor = BandedCholesky::of_gram(&Axis::new(Filter::Area, low * ratio, low));
            assert_eq!(factor.band, 0);
            assert!((0..low).all(|i| (factor.at(i, i).powi(2) * ratio as f64 - 1.0).abs() < 1e-12));
        }
    }

    /// DDᵀ is well conditioned at every ratio, so the factorisation needs no guard.
    #[test]
    fn pivots_stay_far_from_zero() {
        for low in [1, 2, 3, 10, 37] {
            for high in (low..4 * low).chain([8 * low, 9 * low + 1, 100 * low]) {
                let factor = BandedCholesky::of_gram(&Axis::new(Filter::Bicubic, high, low));
                let smallest = (0..low).map(|i| factor.at(i, i).powi(2)).fold(f64::INFINITY, f64::min);
                assert!(smallest * high as f64 / low as f64 > 0.5, "{low} of {high}: {smallest}");
            }
        }
    }
}
