//! Consistency: how far an output, reduced to the size of its input, is from that input.

use super::{MetricError, Picture};
use crate::ops::resize::{Filter, ResizePlan, resize_u8};

/// What is done to the reduced output before it is compared. The paper does not say which its table uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Neither rounded nor clipped. Even a perfect output then has about 1e-6, as its input was rounded.
    Float,
    /// Clipped to 0..255, not rounded.
    Clipped,
    /// Rounded to 8 bits, as PIL gives it.
    EightBit,
}

/// Mean squared error in [0, 1] units between `output`, reduced by PIL's antialiased bicubic, and `low_res`. The
/// paper's tables show it times 1e5.
///
/// # Errors
/// [`MetricError`] where one of the pictures is empty.
pub fn consistency(
    output: Picture<'_>,
    low_res: Picture<'_>,
    reduction: Reduction,
) -> Result<f64, MetricError> {
    for picture in [output, low_res] {
        if picture.rgb.is_empty() {
            return Err(MetricError::TooSmall { width: picture.width, height: picture.height, needed: 1 });
        }
    }
    let (from, to) = ([output.height, output.width], [low_res.height, low_res.width]);
    let reduced: Vec<f64> = if reduction == Reduction::EightBit {
        let bytes = resize_u8(output.rgb, [from[0], from[1], 3], to, Filter::Bicubic);
        bytes.into_iter().map(f64::from).collect()
    } else {
        let source: Vec<f64> = output.rgb.iter().map(|&v| f64::from(v)).collect();
        let mut reduced = vec![0.0; low_res.rgb.len()];
        ResizePlan::new(Filter::Bicubic, from, to).apply_f64(&source, 3, &mut reduced);
        if reduction == Reduction::Clipped {
            reduced.iter_mut().for_each(|v| *v = v.clamp(0.0, 255.0));
        }
        reduced
    };
    let square = |(d, &y): (&f64, &u8)| (d - f64::from(y)) * (d - f64::from(y));
    let sum: f64 = reduced.iter().zip(low_res.rgb).map(square).sum();
    Ok(sum / reduced.len() as f64 / (255.0 * 255.0))
}
