//! Monge Inception Distance (Berthet et al., 2026, arXiv 2605.06797): the sliced Wasserstein distance of features.

use rayon::prelude::*;

use super::draws::Draws;
use super::features::{FeatureError, Features};
use crate::ops::Isa;
use crate::ops::products::{Lines, products};

/// Directions that features are projected on at once.
const BLOCK: usize = 64;

/// 3 D / (n M) · Σ over M random directions of the squared differences between both sets' n sorted projections.
///
/// Of sets that differ in size the larger one is cut to a random subset, as torch-fidelity does; both draws are functions
/// of `seed`. The usual number of directions is 1,000; 5,000 images do where FID asks for 50,000.
///
/// # Errors
/// [`FeatureError`] where the features differ, a set is empty, or there are no directions.
pub fn monge_distance(
    a: Features<'_>,
    b: Features<'_>,
    directions: usize,
    seed: u64,
) -> Result<f64, FeatureError> {
    a.check(&b, 1)?;
    if directions == 0 {
        return Err(FeatureError::Option { name: "directions", allowed: "at least 1" });
    }
    let (count, dimensions) = (a.count().min(b.count()), a.dimensions());
    let sets = [(a, "mind, first set"), (b, "mind, second set")].map(|(set, purpose)| {
        let images = if set.count() > count {
            Draws::new(seed, purpose).subset(set.count(), count, 0)
        } else {
            (0..count).collect()
        };
        Lines::new(count, dimensions, |i, k| f64::from(set.row(images[i])[k]))
    });
    let draws = Draws::new(seed, "mind, directions");
    let mut sum = 0.0;
    for first in (0..directions).step_by(BLOCK) {
        let number = BLOCK.min(directions - first);
        let units: Vec<Vec<f64>> =
            (first..first + number).into_par_iter().map(|i| direction(&draws, dimensions, i)).collect();
        let units = Lines::new(number, dimensions, |i, k| units[i][k]);
        let [x, y] = sets.each_ref().map(|set| {
            let mut projected = vec![0.0; number * count];
            products(Isa::detect(), &units, set, &mut projected, false);
            projected.par_chunks_mut(count).for_each(|line| line.sort_unstable_by(f64::total_cmp));
            projected
        });
        sum += x.iter().zip(&y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    }
    Ok(3.0 * dimensions as f64 * sum / (count as f64 * directions as f64))
}

/// A point of the unit sphere, each as likely as the others.
fn direction(draws: &Draws, dimensions: usize, number: usize) -> Vec<f64> {
    let mut unit: Vec<f64> = (0..dimensions).map(|k| draws.normal(k, number)).collect();
    let length = unit.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    unit.iter_mut().for_each(|v| *v /= length);
    unit
}
