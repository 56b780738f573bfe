//! How good a result is: PSNR, SSIM, consistency with the low-resolution input and the power of its detail, and distances
//! between sets of images.
//!
//! On 8-bit RGB pictures, or on features of sets of them (what [`crate::vision`] computes, or any other network), in f64, with
//! sums in a fixed order. Conventions differ between publications (which channels, how much border, rounded or not), so
//! every one is an argument here and none is a default.

mod bootstrap;
mod consistency;
mod distances;
mod draws;
mod features;
mod fid;
mod inception_score;
mod kid;
mod memorisation;
mod mind;
mod precision_recall;
mod psnr;
mod spectrum;
mod ssim;
mod statistics;

pub use bootstrap::{Interval, bootstrap};
pub use consistency::{Reduction, consistency};
pub use features::{FeatureError, Features};
pub use fid::frechet_distance;
pub use inception_score::{InceptionScore, inception_score};
pub use kid::{Kid, KidOptions, kid, mmd};
pub use memorisation::{Memorisation, memorisation};
pub use mind::monge_distance;
pub use precision_recall::{PrecisionRecall, neighbour_radii, precision_recall};
pub use psnr::psnr;
pub use spectrum::{OCTAVES, spectrum};
pub use ssim::ssim;
pub use statistics::Statistics;

/// A picture to measure: (H, W, 3) bytes.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    width: usize,
    height: usize,
    rgb: &'a [u8],
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Red, green and blue with equal weight.
    Rgb,
    /// Luma of ITU-R BT.601 in 16..235, not rounded: what super-resolution papers mean by "Y".
    Luma,
    /// The same rounded to 8 bits, as MATLAB's `rgb2ycbcr` gives it; 0.006 to 0.02 dB away.
    LumaRounded,
}

/// Why two pictures cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// The bytes are not width × height × 3.
    #[error("a picture of {width}×{height} has {found} bytes instead of three per pixel")]
    Length {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes that came.
        found: usize,
    },
    /// The pictures have different sizes.
    #[error("{width}×{height} cannot be compared with {other_width}×{other_height}: sizes must agree")]
    SizesDiffer {
        /// Columns of the first.
        width: usize,
        /// Rows of the first.
        height: usize,
        /// Columns of the second.
        other_width: usize,
        /// Rows of the second.
        other_height: usize,
    },
    /// Nothing is left to measure.
    #[error("{width}×{height} is too small: {needed} pixels are needed on each side")]
    TooSmall {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The least of both.
        needed: usize,
    },
}

impl<'a> Picture<'a> {
    /// A picture of `width` × `height` with `rgb` bytes, row by row.
    ///
    /// # Errors
    /// [`MetricError::Length`] where the bytes do not fit the size.
    pub fn new(width: usize, height: usize, rgb: &'a [u8]) -> Result<Self, MetricError> {
        if width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3)) != Some(rgb.len()) {
            return Err(MetricError::Length { width, height, found: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Columns.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub const fn height(&self) -> usize {
        self.height
    }

    /// (H, W, 3)
    #[must_use]
    pub const fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// The planes to compare, row by row, without `border` pixels on every side.
    fn planes(self, channels: Channels, border: usize) -> Vec<Vec<f64>> {
        let (width, height) = self.inner(border);
        let pixel = |i: usize| {
            let at = ((i / width + border) * self.width + i % width + border) * 3;
            [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]].map(f64::from)
        };
        let plane = |of: &dyn Fn([f64; 3]) -> f64| (0..width * height).map(|i| of(pixel(i))).collect();
        let luma = |[r, g, b]: [f64; 3]| 16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0;
        match channels {
            Channels::Rgb => (0..3).map(|c| plane(&|rgb| rgb[c])).collect(),
            Channels::Luma => vec![plane(&luma)],
            Channels::LumaRounded => vec![plane(&|rgb| luma(rgb).round())],
        }
    }

    /// Width and height without the border.
    fn inner(self, border: usize) -> (usize, usize) {
        (self.width.saturating_sub(2 * border), self.height.saturating_sub(2 * border))
    }
}

/// Checks that two pictures agree in size and that at least `window` pixels are left inside the border.
fn check(
    a: Picture<'_>,
    b: Picture<'_>,
    border: usize,
    window: usize,
) -> Result<(usize, usize), MetricError> {
    if (a.width, a.height) != (b.width, b.height) {
        return Err(MetricError::SizesDiffer {
            width: a.width,
            height: a.height,
            other_width: b.width,
            other_height: b.height,
        });
    }
    let (width, height) = a.inner(border);
    if width.min(height) < window {
        let needed = window.saturating_add(border.saturating_mul(2));
        return Err(MetricError::TooSmall { width: a.width, height: a.height, needed });
    }
    Ok((width, height))
}
