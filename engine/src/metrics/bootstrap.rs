//! Confidence intervals by the bootstrap (Efron, 1979): the spread of a number over sets drawn anew from the set.

use rayon::prelude::*;

use super::draws::Draws;
use super::features::FeatureError;

/// The middle 95 % of a number's replicates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// 2.5 % lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

/// The interval of `number`, a function of which items are in a set of `items`, over `replicates` sets of as many items,
/// drawn with replacement. A replicate is a function of the seed and its own place.
///
/// # Errors
/// [`FeatureError`] where there are no items, or fewer than 40 replicates: these have no outermost 2.5 %.
pub fn bootstrap(
    items: usize,
    replicates: usize,
    seed: u64,
    number: impl Fn(&[usize]) -> f64 + Sync,
) -> Result<Interval, FeatureError> {
    if items == 0 {
        return Err(FeatureError::TooFew { found: 0, needed: 1 });
    }
    if replicates < 40 {
        return Err(FeatureError::Option { name: "replicates", allowed: "at least 40" });
    }
    let draws = Draws::new(seed, "bootstrap");
    let replicate = |round| {
        let drawn: Vec<usize> = (0..items).map(|i| draws.below(items, i, round)).collect();
        number(&drawn)
    };
    let mut values: Vec<f64> = (0..replicates).into_par_iter().map(replicate).collect();
    values.sort_unstable_by(f64::total_cmp);
    Ok(Interval { low: quantile(&values, 0.025), high: quantile(&values, 0.975) })
}

/// Of sorted values, linear between neighbours.
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = share * (values.len() - 1) as f64;
    let (low, rest) = (at as usize, at - libm::floor(at));
    let high = (low + 1).min(values.len() - 1);
    values[low] + rest * (values[high] - values[low])
}
