//! Improved precision and recall (Kynkäänniemi et al., 2019): what share of one set lies within the other's neighbourhoods.

use super::distances::squared_distances;
use super::features::{FeatureError, Features};

/// Shares in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Of generated images, those that look real.
    pub precision: f64,
    /// Of real images, those that could be generated.
    pub recall: f64,
}

/// The distance of every image to the k-th nearest other image of its set.
///
/// # Errors
/// [`FeatureError`] where k is 0 or the set has no more than k images.
pub fn neighbour_radii(features: Features<'_>, k: usize) -> Result<Vec<f64>, FeatureError> {
    Ok(squared_radii(features, k)?.into_iter().map(f64::sqrt).collect())
}

fn squared_radii(features: Features<'_>, k: usize) -> Result<Vec<f64>, FeatureError> {
    if k == 0 {
        return Err(FeatureError::Option { name: "neighbours", allowed: "at least 1" });
    }
    if features.count() <= k {
        return Err(FeatureError::TooFew { found: features.count(), needed: k + 1 });
    }
    let mut radii = Vec::with_capacity(features.count());
    squared_distances(features, features, |image, row| {
        // Itself, at the end.
        row[image] = f64::INFINITY;
        radii.push(*row.select_nth_unstable_by(k - 1, f64::total_cmp).1);
    });
    Ok(radii)
}

/// Precision: the share of generated images inside any real image's ball to its k-th neighbour; recall: the share of real
/// ones inside any generated image's ball. k is 3 in the paper and in published tables.
///
/// # Errors
/// [`FeatureError`] where the features differ, k is 0, or a set has no more than k images.
pub fn precision_recall(
    generated: Features<'_>,
    real: Features<'_>,
    k: usize,
) -> Result<PrecisionRecall, FeatureError> {
    generated.check(&real, 1)?;
    let (generated_radii, real_radii) = (squared_radii(generated, k)?, squared_radii(real, k)?);
    let mut recalled = vec![false; real.count()];
    let mut precise = 0;
    squared_distances(generated, real, |image, row| {
        precise += usize::from(row.iter().zip(&real_radii).any(|(d, radius)| d <= radius));
        let radius = generated_radii[image];
        recalled.iter_mut().zip(row).for_each(|(recalled, d)| *recalled |= *d <= radius);
    });
    let recalled = recalled.into_iter().filter(|v| *v).count();
    let share = |of: usize, all: usize| of as f64 / all as f64;
    Ok(PrecisionRecall {
        precision: share(precise, generated.count()),
        recall: share(recalled, real.count()),
    })
}
