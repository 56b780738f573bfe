//! Inception Score (Salimans et al., 2016): how sure a classifier is of each image, and how varied its answers are.

use super::draws::Draws;
use super::features::{FeatureError, Features};
use super::kid::mean_and_deviation;

/// Inception Score over splits.
#[derive(Clone, Debug, PartialEq)]
pub struct InceptionScore {
    /// Mean of the splits' scores.
    pub mean: f64,
    /// Their standard deviation, divisor n.
    pub deviation: f64,
    /// Each split's score, in order.
    pub values: Vec<f64>,
}

/// exp(mean KL(p(y|x) ‖ p(y))) of each split, p the softmax of (N, classes) logits.
///
/// Split i of s holds images i·N/s to (i+1)·N/s, rounded down. `shuffle` is the seed of a permutation of the images that
/// comes first: needed where they lie in the order of their classes. The common tools take ten splits of 5,000 images, and
/// logits without the classifier's bias.
///
/// # Errors
/// [`FeatureError`] where there are no splits, or fewer images than splits.
pub fn inception_score(
    logits: Features<'_>,
    splits: usize,
    shuffle: Option<u64>,
) -> Result<InceptionScore, FeatureError> {
    let count = logits.count();
    if splits == 0 {
        return Err(FeatureError::Option { name: "splits", allowed: "at least 1" });
    }
    if count < splits {
        return Err(FeatureError::TooFew { found: count, needed: splits });
    }
    let order: Vec<usize> = match shuffle {
        Some(seed) => Draws::new(seed, "inception score").subset(count, count, 0),
        None => (0..count).collect(),
    };
    let values: Vec<f64> =
        (0..splits).map(|i| score(logits, &order[i * count / splits..(i + 1) * count / splits])).collect();
    let (mean, deviation) = mean_and_deviation(&values);
    Ok(InceptionScore { mean, deviation, values })
}

fn score(logits: Features<'_>, images: &[usize]) -> f64 {
    let n = images.len() as f64;
    let rows: Vec<Vec<f64>> = images.iter().map(|&image| log_softmax(logits.row(image))).collect();
    let mut shares = vec![0.0; logits.dimensions()];
    for row in &rows {
        shares.iter_mut().zip(row).for_each(|(share, v)| *share += libm::exp(*v));
    }
    let logs: Vec<f64> = shares.iter().map(|share| libm::log(share / n)).collect();
    let mut sum = 0.0;
    for row in &rows {
        // A class of probability 0 adds nothing, whatever its logarithm.
        let terms = row.iter().zip(&logs).map(|(v, log)| (libm::exp(*v), v - log));
        sum += terms.filter(|(p, _)| *p > 0.0).map(|(p, log)| p * log).sum::<f64>();
    }
    libm::exp(sum / n)
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    let shifted: Vec<f64> = logits.iter().map(|v| f64::from(*v) - f64::from(largest)).collect();
    let sum: f64 = shifted.iter().map(|v| libm::exp(*v)).sum();
    let log = libm::log(sum);
    shifted.into_iter().map(|v| v - log).collect()
}
