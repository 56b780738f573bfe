//! Euclidean distances between the images of sets, block of rows by block, so that no matrix of all pairs exists.

use super::features::Features;
use crate::ops::Isa;
use crate::ops::products::{Lines, products};

/// Rows whose distances exist at once.
const BLOCK: usize = 256;

pub(super) fn lines(features: Features<'_>) -> Lines {
    let value = |image: usize, k: usize| f64::from(features.row(image)[k]);
    Lines::new(features.count(), features.dimensions(), value)
}

/// x · x of every image, by the chain that [`products`] takes.
fn norms(features: Features<'_>) -> Vec<f64> {
    let norm =
        |image| features.row(image).iter().fold(0.0, |sum, v| f64::from(*v).mul_add(f64::from(*v), sum));
    (0..features.count()).map(norm).collect()
}

/// Calls `each` with every image of `from` in order, and its squared distances to all of `to`, in order. The distance from
/// x to y has the bits of that from y to x.
pub(super) fn squared_distances(
    from: Features<'_>,
    to: Features<'_>,
    mut each: impl FnMut(usize, &mut [f64]),
) {
    let (columns, to_norms, from_norms) = (lines(to), norms(to), norms(from));
    for first in (0..from.count()).step_by(BLOCK) {
        let count = BLOCK.min(from.count() - first);
        let value = |image: usize, k: usize| f64::from(from.row(first + image)[k]);
        let rows = Lines::new(count, from.dimensions(), value);
        let mut block = vec![0.0; count * to.count()];
        products(Isa::detect(), &rows, &columns, &mut block, false);
        for (i, row) in block.chunks_exact_mut(to.count()).enumerate() {
            let own = from_norms[first + i];
            for (v, other) in row.iter_mut().zip(&to_norms) {
                // Rounding may leave a little less than nothing between equal images.
                *v = ((own + other) - 2.0 * *v).max(0.0);
            }
            each(first + i, row);
        }
    }
}

/// The distance of every image of `from` to the nearest of `to`.
pub(super) fn nearest(from: Features<'_>, to: Features<'_>) -> Vec<f64> {
    let mut distances = Vec::with_capacity(from.count());
    squared_distances(from, to, |_, row| {
        distances.push(row.iter().fold(f64::INFINITY, |least, v| least.min(*v)).sqrt());
    });
    distances
}
