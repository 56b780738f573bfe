//! Mean and covariance of a set's features.
//!
//! In f64, about the mean, summed up in the order of the images: the same bits whoever computes them, on any number of
//! threads. Sets of fewer images than features keep their centred features too, from which distances are exact where the
//! covariance, which is singular then, loses digits.

use rayon::prelude::*;

use super::features::{FeatureError, Features};
use crate::model::tensors::{Dtype, HostTensor, TensorMap};
use crate::ops::Isa;
use crate::ops::products::{Lines, mirror, products, squares};

/// Images whose centred features are held at once, as f64.
const BLOCK: usize = 512;

/// Mean and covariance of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    /// (N, D) centred features over √(N − 1), where N is less than D.
    rows: Option<Vec<f64>>,
}

impl Statistics {
    /// Of a set of at least two images; the covariance's divisor is N − 1.
    ///
    /// # Errors
    /// [`FeatureError::TooFew`].
    pub fn of(features: Features<'_>) -> Result<Self, FeatureError> {
        let (count, dimensions) = (features.count(), features.dimensions());
        if count < 2 {
            return Err(FeatureError::TooFew { found: count, needed: 2 });
        }
        let mean = mean(features);
        let centred = |image: usize, feature: usize| f64::from(features.row(image)[feature]) - mean[feature];
        let mut covariance = vec![0.0; dimensions * dimensions];
        for first in (0..count).step_by(BLOCK) {
            let length = BLOCK.min(count - first);
            let lines = Lines::new(dimensions, length, |feature, k| centred(first + k, feature));
            squares(Isa::detect(), &lines, &mut covariance, first > 0);
        }
        mirror(dimensions, &mut covariance);
        let divisor = (count - 1) as f64;
        covariance.par_iter_mut().for_each(|v| *v /= divisor);
        let rows = (count < dimensions).then(|| {
            let value = |at: usize| centred(at / dimensions, at % dimensions) / divisor.sqrt();
            (0..count * dimensions).into_par_iter().map(value).collect()
        });
        Ok(Self { mean, covariance, rows })
    }

    /// Those that somebody else computed: mean (D) and covariance (D, D).
    ///
    /// # Errors
    /// [`FeatureError::Statistics`] where sizes do not fit, a number is not finite, or the covariance is none.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>) -> Result<Self, FeatureError> {
        let wrong = |reason| Err(FeatureError::Statistics { reason });
        let n = mean.len();
        if n == 0 || n.checked_mul(n) != Some(covariance.len()) {
            return wrong("a covariance has as many rows and columns as there are means");
        }
        if mean.iter().chain(&covariance).any(|v| !v.is_finite()) {
            return wrong("a number is not finite");
        }
        let largest = (0..n).fold(0.0f64, |largest, i| largest.max(covariance[i * n + i]));
        let far = |a: f64, b: f64| (a - b).abs() > 1e-6 * largest;
        if (0..n).any(|i| (0..i).any(|j| far(covariance[i * n + j], covariance[j * n + i]))) {
            return wrong("the covariance is not symmetric");
        }
        Ok(Self { mean, covariance, rows: None })
    }

    /// Of the arrays `mu` (D) and `sigma` (D, D), as FID tools keep them in an `.npz`.
    ///
    /// # Errors
    /// [`FeatureError::Statistics`] where one is missing, or as [`Self::new`].
    pub fn from_arrays(arrays: &TensorMap) -> Result<Self, FeatureError> {
        let (Some(mu), Some(sigma)) = (arrays.get("mu"), arrays.get("sigma")) else {
            return Err(FeatureError::Statistics { reason: "there are no arrays mu and sigma" });
        };
        Self::new(mu.to_f64(), sigma.to_f64())
    }

    /// The arrays that [`Self::from_arrays`] and FID tools take, in f64.
    #[must_use]
    pub fn to_arrays(&self) -> TensorMap {
        let array = |values: &[f64], shape: Vec<usize>| {
            let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            HostTensor { dtype: Dtype::F64, shape, data }
        };
        let n = self.mean.len();
        let (mu, sigma) = (array(&self.mean, vec![n]), array(&self.covariance, vec![n, n]));
        TensorMap::from([("mu".to_string(), mu), ("sigma".to_string(), sigma)])
    }

    /// (D)
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// (D, D)
    #[must_use]
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    pub(super) fn trace(&self) -> f64 {
        self.covariance.iter().step_by(self.mean.len() + 1).sum()
    }

    /// The centred features, if there are fewer images than features.
    pub(super) fn rows(&self) -> Option<&[f64]> {
        self.rows.as_deref()
    }
}

/// (D), each a sum in the order of the images.
fn mean(features: Features<'_>) -> Vec<f64> {
    /// Features that are summed up side by side.
    const WIDTH: usize = 64;
    let mut mean = vec![0.0; features.dimensions()];
    mean.par_chunks_mut(WIDTH).enumerate().for_each(|(block, sums)| {
        for image in 0..features.count() {
            let row = &features.row(image)[block * WIDTH..];
            sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        sums.iter_mut().for_each(|sum| *sum /= features.count() as f64);
    });
    mean
}

/// A (n, length) times the transposed of B (m, length).
pub(super) fn times_transposed(a: &[f64], b: &[f64], length: usize) -> Vec<f64> {
    let lines = |of: &[f64]| Lines::new(of.len() / length, length, |i, k| of[i * length + k]);
    let (a, b) = (lines(a), lines(b));
    let mut out = vec![0.0; a.count() * b.count()];
    products(Isa::detect(), &a, &b, &mut out, false);
    out
}
