//! Peak signal-to-noise ratio.

use super::{Channels, MetricError, Picture, check};

/// 10 log10(255²/MSE) in dB between two pictures of one size, without `border` pixels on every side; infinite for
/// identical ones. The peak is 255 for luma too, as super-resolution papers have it.
///
/// # Errors
/// [`MetricError`] where sizes differ or the border leaves nothing.
pub fn psnr(a: Picture<'_>, b: Picture<'_>, channels: Channels, border: usize) -> Result<f64, MetricError> {
    check(a, b, border, 1)?;
    let planes = a.planes(channels, border).into_iter().zip(b.planes(channels, border));
    let (mut sum, mut count) = (0.0, 0);
    for (a, b) in planes {
        sum += a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        count += a.len();
    }
    Ok(10.0 * libm::log10(255.0 * 255.0 / (sum / count as f64)))
}
