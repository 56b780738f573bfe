//! Euclidean distances between the images of sets, block of rows by block, so that no matrix of all pairs exists.

use rayon::prelude::*;

use super::features::Features;
use crate::ops::Isa;
use crate::ops::products::{Lines, products};

/// Rows whose distances exist at once.
const ROWS: usize = 512;
/// Images that they are compared with at once.
const COLUMNS: usize = 4096;

/// A whole set as lines of f64.
pub(super) fn lines(features: Features<'_>) -> Lines {
    block(features, 0, features.count())
}

/// `count` images from `first` on.
fn block(features: Features<'_>, first: usize, count: usize) -> Lines {
    let value = |image: usize, k: usize| f64::from(features.row(first + image)[k]);
    Lines::new(count, features.dimensions(), value)
}

/// x · x of every image, by the chain that [`products`] takes.
fn norms(features: Features<'_>) -> Vec<f64> {
    let norm =
        |image| features.row(image).iter().fold(0.0, |sum, v| f64::from(*v).mul_add(f64::from(*v), sum));
    (0..features.count()).into_par_iter().map(norm).collect()
}

/// Calls `each` with every image of `from` in order, and its squared distances to all of `to`, in order. The distance from
/// x to y has the bits of that from y to x.
pub(super) fn squared_distances(
    from: Features<'_>,
    to: Features<'_>,
    mut each: impl FnMut(usize, &mut [f64]),
) {
    let (to_norms, from_norms) = (norms(to), norms(from));
    for first in (0..from.count()).step_by(ROWS) {
        let count = ROWS.min(from.count() - first);
        let rows = block(from, first, count);
        let mut distances = vec![0.0; count * to.count()];
        for column in (0..to.count()).step_by(COLUMNS) {
            let width = COLUMNS.min(to.count() - column);
            let mut made = vec![0.0; count * width];
            products(Isa::detect(), &rows, &block(to, column, width), &mut made, false);
            let made = made.par_chunks_exact(width);
            distances.par_chunks_exact_mut(to.count()).zip(made).enumerate().for_each(|(i, (out, made))| {
                let (out, own) = (&mut out[column..column + width], from_norms[first + i]);
                for ((out, product), other) in out.iter_mut().zip(made).zip(&to_norms[column..]) {
                    // Rounding may leave a little less than nothing between equal images.
                    *out = ((own + other) - 2.0 * product).max(0.0);
                }
            });
        }
        for (i, row) in distances.chunks_exact_mut(to.count()).enumerate() {
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
