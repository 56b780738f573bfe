//! Whether generated images are copies: how near they lie to the training set, against images that it never saw.

use super::distances::nearest;
use super::features::{FeatureError, Features};

/// Distances to the nearest training image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memorisation {
    /// Median over generated images.
    pub generated: f64,
    /// Median over held-out images.
    pub held_out: f64,
    /// The probability that a generated image lies nearer to the training set than a held-out one, ties counting half: 0.5
    /// where nothing is copied, 1 where everything is.
    pub nearer: f64,
}

/// Compares generated images with held-out ones of the same source as the training set (Meehan et al., 2020, "A
/// Non-Parametric Test to Detect Data-Copying in Generative Models": the Mann-Whitney statistic of these distances).
///
/// # Errors
/// [`FeatureError`] where the features differ or a set is empty.
pub fn memorisation(
    generated: Features<'_>,
    held_out: Features<'_>,
    training: Features<'_>,
) -> Result<Memorisation, FeatureError> {
    generated.check(&training, 1)?;
    held_out.check(&training, 1)?;
    let [mut generated, mut held_out] = [generated, held_out].map(|set| nearest(set, training));
    generated.sort_unstable_by(f64::total_cmp);
    held_out.sort_unstable_by(f64::total_cmp);
    let mut wins = 0;
    for distance in &generated {
        let below = held_out.partition_point(|other| other < distance);
        let not_above = held_out.partition_point(|other| other <= distance);
        // In halves: two for each that lies farther, one for each as far.
        wins += 2 * (held_out.len() - not_above) + (not_above - below);
    }
    let pairs = 2.0 * generated.len() as f64 * held_out.len() as f64;
    Ok(Memorisation {
        generated: median(&generated),
        held_out: median(&held_out),
        nearer: wins as f64 / pairs,
    })
}

/// Of sorted values.
fn median(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}
