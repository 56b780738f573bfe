//! Kernel Inception Distance (Bińkowski et al., 2018): the unbiased squared maximum mean discrepancy with a cubic kernel.

use super::distances::lines;
use super::draws::Draws;
use super::features::{FeatureError, Features};
use crate::ops::Isa;
use crate::ops::products::{mirror, products, squares};

/// How KID is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KidOptions {
    /// Pairs of subsets.
    pub subsets: usize,
    /// Images of a subset.
    pub size: usize,
    /// Decides which.
    pub seed: u64,
}

impl Default for KidOptions {
    /// 100 subsets of 1,000 images, as the common tools have it.
    fn default() -> Self {
        Self { subsets: 100, size: 1000, seed: 0 }
    }
}

/// KID over subsets.
#[derive(Clone, Debug, PartialEq)]
pub struct Kid {
    /// Mean of the subsets' values.
    pub mean: f64,
    /// Their standard deviation, divisor n.
    pub deviation: f64,
    /// Each subset's value.
    pub values: Vec<f64>,
}

/// The squared maximum mean discrepancy of two whole sets with the kernel (x · y / D + 1)³, unbiased: it may be negative.
///
/// # Errors
/// [`FeatureError`] where the features differ or a set has fewer than two images.
pub fn mmd(a: Features<'_>, b: Features<'_>) -> Result<f64, FeatureError> {
    a.check(&b, 2)?;
    let (x, y, d) = (lines(a), lines(b), a.dimensions() as f64);
    let (n, m) = (a.count(), b.count());
    let kernel = |v: &f64| {
        let base = v / d + 1.0;
        base * base * base
    };
    let mut within = 0.0;
    for (lines, n) in [(&x, n), (&y, m)] {
        let mut all = vec![0.0; n * n];
        squares(Isa::detect(), lines, &mut all, false);
        mirror(n, &mut all);
        let pairs = all.iter().enumerate().filter(|(at, _)| at / n != at % n);
        within += pairs.map(|(_, v)| kernel(v)).sum::<f64>() / (n as f64 * (n - 1) as f64);
    }
    let mut all = vec![0.0; n * m];
    products(Isa::detect(), &x, &y, &mut all, false);
    Ok(within - 2.0 * all.iter().map(kernel).sum::<f64>() / (n as f64 * m as f64))
}

/// The mean of [`mmd`] over pairs of subsets, drawn without replacement.
///
/// # Errors
/// [`FeatureError`] as [`mmd`], or where a set is smaller than a subset.
pub fn kid(a: Features<'_>, b: Features<'_>, options: &KidOptions) -> Result<Kid, FeatureError> {
    if options.subsets == 0 || options.size < 2 {
        let (name, allowed) = ("kid", "at least one subset of at least two images");
        return Err(FeatureError::Option { name, allowed });
    }
    a.check(&b, options.size)?;
    let draws = ["kid, first set", "kid, second set"].map(|purpose| Draws::new(options.seed, purpose));
    let subset = |of: Features<'_>, draws: &Draws, round| -> Vec<f32> {
        let images = draws.subset(of.count(), options.size, round);
        images.into_iter().flat_map(|image| of.row(image)).copied().collect()
    };
    let mut values = Vec::with_capacity(options.subsets);
    for round in 0..options.subsets {
        let (x, y) = (subset(a, &draws[0], round), subset(b, &draws[1], round));
        values.push(mmd(Features::new(&x, a.dimensions())?, Features::new(&y, b.dimensions())?)?);
    }
    let (mean, deviation) = mean_and_deviation(&values);
    Ok(Kid { mean, deviation, values })
}

/// Mean, and standard deviation with divisor n.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / n).sqrt())
}
