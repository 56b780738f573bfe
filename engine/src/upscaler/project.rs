//! Making an enlarged picture reduce to its input, whoever enlarged it.
//!
//! The closed form of [`Consistency`] and what pictures need besides: values stay in [-1, 1], an input that was stored with
//! loss is met to within its own error, and the mean brightness of regions survives clamping.

use rayon::prelude::*;

use super::canvas;
use super::picture::{LowRes, RGB};
use crate::diffusion::{Consistency, ConsistencyError};
use crate::ops::resize::{Filter, resize};

/// Mean squared error, in [0, 1] units, that a lossy input's own artefacts are allowed to explain.
const LOSSY_ERROR_MAX: f64 = 4e-5;
/// Mean squared error, in [-1, 1], from which clamping has kept a picture from reducing to its input: 8 levels of 255.
const INCONSISTENT: f64 = 4e-3;
/// Input pixels along a region whose mean is kept.
const REGION: usize = 16;
/// How far a region's mean may be off, in [-1, 1]: half a level of 255.
const REGION_ERROR: f32 = 1.0 / 255.0;
/// Each round leaves the share of pixels that have no room.
const REGION_ROUNDS: usize = 8;

/// Passes that upscaling makes: the second takes most of what clamping left after the first.
pub(super) const PASSES: usize = 2;
/// Passes at most for a picture that nobody made with its input in mind: clamping may cut off more of it.
const PASSES_MAX: usize = 16;
/// A pixel of the input counts as met at a quarter of a level of 255, in [-1, 1].
const MET: f32 = 0.5 / 255.0;

/// Moves `rgb` (H, W, 3) in [-1, 1], whose `size` is [height, width], to the nearest picture whose reduction by `reduction`
/// is the input, as far as values from -1 to 1 can.
///
/// # Errors
/// [`ConsistencyError`] where the picture is smaller than its input.
///
/// # Panics
/// Where a buffer has not its picture's size.
pub fn project(
    image: &LowRes<'_>,
    rgb: &mut [f32],
    size: [usize; 2],
    reduction: Filter,
) -> Result<(), ConsistencyError> {
    let consistency = Consistency::with_reduction(reduction, [image.height, image.width], size)?;
    project_by(&consistency, image, rgb, size, PASSES_MAX);
    Ok(())
}

/// [`project`], with what is known of the two sizes, in so many passes at most.
pub(super) fn project_by(
    consistency: &Consistency,
    image: &LowRes<'_>,
    rgb: &mut [f32],
    size: [usize; 2],
    passes: usize,
) {
    // Values are in [-1, 1] here: errors are four times those in [0, 1] units.
    let error_max = if image.lossy { 4.0 * LOSSY_ERROR_MAX } else { 0.0 };
    let is_met = |rgb: &[f32]| {
        let reduced = consistency.reduce(rgb);
        reduced.iter().zip(image.rgb).all(|(reduced, y)| (reduced - y).abs() <= MET)
    };
    for pass in 0..passes {
        if pass >= PASSES && (image.lossy || is_met(rgb)) {
            break;
        }
        consistency.project_within(rgb, image.rgb, error_max);
        canvas::clamp(rgb);
    }
    keep_means(consistency, rgb, image, size);
}

/// Corrects what clamping has done to the mean brightness of regions: where a picture swings between black and white from
/// pixel to pixel (a dithered scan), an enlargement that reduces to it would have to swing further, and is cut off on
/// one side more than on the other. What is left is added again, region by region, to the pixels that have room for it.
/// Other pictures are consistent already and stay as they are, and so do those that are smaller than a region.
fn keep_means(consistency: &Consistency, rgb: &mut [f32], image: &LowRes<'_>, size: [usize; 2]) {
    if consistency.mean_squared_error(rgb, image.rgb) <= INCONSISTENT {
        return;
    }
    let low = [image.height, image.width];
    let regions = low.map(|side| side / REGION);
    if regions.contains(&0) {
        return;
    }
    for _ in 0..REGION_ROUNDS {
        let rest: Vec<f32> = image.rgb.iter().zip(consistency.reduce(rgb)).map(|(y, d)| y - d).collect();
        let means = resize(&rest, [low[0], low[1], RGB], regions, Filter::Area);
        if means.iter().all(|mean| mean.abs() <= REGION_ERROR) {
            return;
        }
        let shift = resize(&means, [regions[0], regions[1], RGB], size, Filter::Bicubic);
        rgb.par_iter_mut().with_min_len(1 << 16).zip(&shift).for_each(|(value, shift)| *value += shift);
        canvas::clamp(rgb);
    }
}
