//! The Fréchet distance between two sets' Gaussians: FID where the features are Inception's.

use std::borrow::Cow;

use faer::{MatRef, Side};

use super::features::FeatureError;
use super::statistics::{Statistics, times_transposed};

/// |mean difference|² + tr S₁ + tr S₂ − 2 tr (S₁ S₂)^½ (Heusel et al., 2017, equation 6).
///
/// With Sᵢ = Rᵢᵀ Rᵢ the last trace is the sum of the singular values of R₁ R₂ᵀ: a real number by construction, without the
/// root of a matrix that is nearly singular. Rᵢ are the centred features where the set has fewer images than features,
/// else the covariance's eigenvectors times the roots of its eigenvalues. Differences of the last digits (1e-12 of the
/// traces) are left between kinds of processors, none between threads. Equal statistics are at distance 0.
///
/// # Errors
/// [`FeatureError`] where the statistics are of different features, or their numbers beyond what can be decomposed.
pub fn frechet_distance(a: &Statistics, b: &Statistics) -> Result<f64, FeatureError> {
    let dimensions = a.mean().len();
    if dimensions != b.mean().len() {
        return Err(FeatureError::DimensionsDiffer { found: dimensions, other: b.mean().len() });
    }
    if a.mean() == b.mean() && a.covariance() == b.covariance() {
        return Ok(0.0);
    }
    let cross = times_transposed(&root(a)?, &root(b)?, dimensions);
    let columns = b.rows().map_or(dimensions, |rows| rows.len() / dimensions);
    let matrix = MatRef::from_row_major_slice(&cross, cross.len() / columns, columns);
    let values = matrix.singular_values().map_err(|_| beyond())?;
    let trace: f64 = values.iter().sum();
    let between: f64 = a.mean().iter().zip(b.mean()).map(|(a, b)| (a - b) * (a - b)).sum();
    let distance = between + a.trace() + b.trace() - 2.0 * trace;
    if distance.is_finite() { Ok(distance) } else { Err(beyond()) }
}

/// R with S = Rᵀ R, rows of D.
fn root(statistics: &Statistics) -> Result<Cow<'_, [f64]>, FeatureError> {
    if let Some(rows) = statistics.rows() {
        return Ok(rows.into());
    }
    let n = statistics.mean().len();
    let matrix = MatRef::from_row_major_slice(statistics.covariance(), n, n);
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| beyond())?;
    let (vectors, values) = (eigen.U(), eigen.S().column_vector());
    let mut rows = Vec::with_capacity(n * n);
    for k in 0..n {
        // Below zero only by rounding: a covariance has no such directions.
        let scale = values[k].max(0.0).sqrt();
        rows.extend(vectors.col(k).iter().map(|v| v * scale));
    }
    Ok(rows.into())
}

const fn beyond() -> FeatureError {
    FeatureError::Statistics { reason: "their numbers are beyond what can be decomposed" }
}
