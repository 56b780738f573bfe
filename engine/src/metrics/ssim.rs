//! Structural similarity (Wang et al., 2004) with an 11×11 Gaussian window.

use rayon::prelude::*;

use super::{Channels, MetricError, Picture, check};

/// Pixels from the window's centre to its edge: scikit-image's truncation at 3.5 sigma.
const RADIUS: usize = 5;
const WINDOW: usize = 2 * RADIUS + 1;
const SIGMA: f64 = 1.5;
/// (K L)² with K1 = 0.01, K2 = 0.03, L = 255.
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Mean structural similarity of two pictures of one size without `border` pixels on every side, over all windows
/// that lie inside, then over channels. As scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5,
/// use_sample_covariance=False, data_range=255)`; on luma as super-resolution code has it.
///
/// # Errors
/// [`MetricError`] where sizes differ or no 11×11 window fits.
pub fn ssim(a: Picture<'_>, b: Picture<'_>, channels: Channels, border: usize) -> Result<f64, MetricError> {
    let (width, height) = check(a, b, border, WINDOW)?;
    let planes = a.planes(channels, border).into_iter().zip(b.planes(channels, border));
    let values: Vec<f64> = planes.map(|(a, b)| plane(&a, &b, width, height)).collect();
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

fn plane(a: &[f64], b: &[f64], width: usize, height: usize) -> f64 {
    let weights = window();
    let row = |y: usize| {
        // Vertically smoothed a, b, a², b², ab of the rows around y, then horizontally at every window's centre.
        let mut smooth = vec![[0.0; 5]; width];
        for (k, w) in weights.iter().enumerate() {
            let line = (y + k) * width..(y + k + 1) * width;
            for ((out, &a), &b) in smooth.iter_mut().zip(&a[line.clone()]).zip(&b[line]) {
                for (out, value) in out.iter_mut().zip([a, b, a * a, b * b, a * b]) {
                    *out += w * value;
                }
            }
        }
        smooth.windows(WINDOW).map(|window| similarity(&weights, window)).sum::<f64>()
    };
    let rows: Vec<f64> = (0..height - 2 * RADIUS).into_par_iter().map(row).collect();
    rows.iter().sum::<f64>() / (rows.len() * (width - 2 * RADIUS)) as f64
}

fn similarity(weights: &[f64; WINDOW], window: &[[f64; 5]]) -> f64 {
    let mut means = [0.0; 5];
    for (w, values) in weights.iter().zip(window) {
        for (mean, value) in means.iter_mut().zip(values) {
            *mean += w * value;
        }
    }
    let [a, b, aa, bb, ab] = means;
    let (var_a, var_b, covariance) = (aa - a * a, bb - b * b, ab - a * b);
    let luminance = (2.0 * a * b + C1) / (a * a + b * b + C1);
    luminance * (2.0 * covariance + C2) / (var_a + var_b + C2)
}

fn window() -> [f64; WINDOW] {
    let raw: [f64; WINDOW] = std::array::from_fn(|i| {
        let x = i as f64 - RADIUS as f64;
        libm::exp(-x * x / (2.0 * SIGMA * SIGMA))
    });
    let sum: f64 = raw.iter().sum();
    raw.map(|w| w / sum)
}
