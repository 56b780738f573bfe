//! From pictures to scores.

use sr3_engine::image::{self, Channels, Metadata, Picture, Planes, Samples};
use sr3_engine::metrics::{self, MetricError, Reduction};
use sr3_engine::ops::resize::{Filter, resize_u8};

use super::{Metric, Scores};
use crate::images::Rgb;

/// What a picture should be, and what it was made of.
#[derive(Debug)]
pub(super) struct Truth {
    /// Its sides are multiples of the scale.
    pub(super) whole: Rgb,
    /// Reduced by it.
    pub(super) low: Rgb,
    scale: usize,
}

impl Rgb {
    /// Cut at the right and below to a multiple of the scale, or to the middle square of `crop`.
    pub(super) fn cut(self, scale: usize, crop: Option<usize>) -> Self {
        let side = |length: usize| crop.map_or(length, |crop| crop.min(length)) / scale * scale;
        let (width, height) = (side(self.width), side(self.height));
        if (width, height) == (self.width, self.height) {
            return self;
        }
        let middle = |from: usize, to: usize| crop.map_or(0, |_| (from - to) / 2);
        let (left, top) = (middle(self.width, width), middle(self.height, height));
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in top..top + height {
            pixels.extend_from_slice(&self.pixels[(y * self.width + left) * 3..][..width * 3]);
        }
        Self { width, height, pixels }
    }

    /// What lies in a file of these pixels.
    pub(super) fn picture(&self) -> Picture {
        let rgb = self.pixels.iter().map(|v| f32::from(*v) / 127.5 - 1.0).collect();
        let planes = Planes { width: self.width, height: self.height, rgb, alpha: None };
        image::from_planes(&planes, Channels::Rgb, false, Metadata::default())
    }
}

/// What a network made, in [-1, 1], as a file holds it.
pub(super) fn rounded(width: usize, height: usize, rgb: Vec<f32>) -> Result<Rgb, String> {
    let planes = Planes { width, height, rgb, alpha: None };
    match image::from_planes(&planes, Channels::Rgb, false, Metadata::default()).samples {
        Samples::U8(pixels) => Ok(Rgb { width, height, pixels }),
        Samples::U16(_) => Err("a picture of 8 bits came out with 16".to_string()),
    }
}

impl Truth {
    /// Cuts a picture, and reduces it.
    pub(super) fn new(picture: Rgb, scale: usize, crop: Option<usize>) -> Result<Self, String> {
        let whole = picture.cut(scale, crop);
        // SSIM looks through a window of 11 pixels inside a border of the scale's width.
        let least = 11 + 2 * scale;
        if whole.width < least || whole.height < least {
            return Err(format!(
                "too small to compare at {scale}×: at least {least} pixels a side are needed"
            ));
        }
        let size = [whole.height / scale, whole.width / scale];
        let pixels = resize_u8(&whole.pixels, [whole.height, whole.width, 3], size, Filter::Bicubic);
        let low = Rgb { width: size[1], height: size[0], pixels };
        Ok(Self { whole, low, scale })
    }

    /// Its input, enlarged by bicubic.
    pub(super) fn bicubic(&self) -> Rgb {
        let Self { whole: Rgb { width, height, .. }, low, .. } = self;
        let pixels = resize_u8(&low.pixels, [low.height, low.width, 3], [*height, *width], Filter::Bicubic);
        Rgb { width: *width, height: *height, pixels }
    }

    /// How near a result is, by the numbers that no network gives.
    pub(super) fn scores(&self, result: &Rgb, asked: &[Metric]) -> Result<Scores, String> {
        self.measured(result, asked).map_err(|e| e.to_string())
    }

    fn measured(&self, result: &Rgb, asked: &[Metric]) -> Result<Scores, MetricError> {
        let picture = |rgb: &'_ Rgb| (rgb.width, rgb.height);
        let ((width, height), (low_width, low_height)) = (picture(result), picture(&self.low));
        let a = metrics::Picture::new(width, height, &result.pixels)?;
        let b = metrics::Picture::new(self.whole.width, self.whole.height, &self.whole.pixels)?;
        let input = metrics::Picture::new(low_width, low_height, &self.low.pixels)?;
        let finite = |decibel: f64| Some(decibel).filter(|decibel| decibel.is_finite());
        let (rgb, luma, border) = (metrics::Channels::Rgb, metrics::Channels::Luma, self.scale);
        let asked = |metric| asked.contains(&metric);
        let mut scores = Scores::default();
        if asked(Metric::Psnr) {
            scores.psnr = Some(finite(metrics::psnr(a, b, rgb, 0)?));
            scores.psnr_y = Some(finite(metrics::psnr(a, b, luma, border)?));
        }
        if asked(Metric::Ssim) {
            scores.ssim = Some(metrics::ssim(a, b, rgb, 0)?);
            scores.ssim_y = Some(metrics::ssim(a, b, luma, border)?);
        }
        if asked(Metric::Consistency) {
            scores.consistency = Some(metrics::consistency(a, input, Reduction::Float)?);
        }
        if asked(Metric::MeanShift) {
            scores.mean_shift = Some(mean_shift(&result.pixels, &self.whole.pixels));
        }
        if asked(Metric::Spectrum) {
            scores.spectrum = Some(metrics::spectrum(a, b)?);
        }
        Ok(scores)
    }
}

/// Mean of each channel of `a` above that of `b`, which is as long.
fn mean_shift(a: &[u8], b: &[u8]) -> [f64; 3] {
    // Whole numbers: the order of summation does not matter.
    let mut sums = [0i64; 3];
    for (a, b) in a.chunks_exact(3).zip(b.chunks_exact(3)) {
        for channel in 0..3 {
            sums[channel] += i64::from(a[channel]) - i64::from(b[channel]);
        }
    }
    let pixels = (a.len() / 3).max(1) as f64;
    sums.map(|sum| sum as f64 / pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn striped(width: usize, height: usize) -> Rgb {
        let pixels = (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect();
        Rgb { width, height, pixels }
    }

    #[test]
    fn a_picture_is_itself_and_a_brighter_one_is_shifted() {
        let truth = Truth::new(striped(41, 30), 4, None).unwrap();
        assert_eq!((truth.whole.width, truth.whole.height, truth.low.width), (40, 28, 10));
        let all = Metric::usual();
        let same = truth.scores(&truth.whole, &all).unwrap();
        assert_eq!((same.psnr, same.psnr_y, same.mean_shift), (Some(None), Some(None), Some([0.0; 3])));
        assert!((same.ssim.unwrap() - 1.0).abs() < 1e-12);
        // Tiles of 16 pixels hold two octaves.
        assert_eq!(same.spectrum, Some([Some(0.0), Some(0.0), None, None]));
        let only = truth.scores(&truth.whole, &[Metric::MeanShift]).unwrap();
        assert_eq!(only, Scores { mean_shift: Some([0.0; 3]), ..Scores::default() });
        let mut brighter = truth.whole.clone();
        brighter.pixels.iter_mut().skip(2).step_by(3).for_each(|blue| *blue = blue.saturating_add(2));
        let scores = truth.scores(&brighter, &all).unwrap();
        let [red, green, blue] = scores.mean_shift.unwrap();
        assert_eq!([red, green], [0.0, 0.0]);
        assert!((1.9..=2.0).contains(&blue) && scores.psnr.flatten().unwrap() > 40.0);
    }

    #[test]
    fn the_middle_square_is_cut_and_what_is_too_small_says_so() {
        let cut = striped(50, 40).cut(4, Some(30));
        assert_eq!((cut.width, cut.height), (28, 28));
        assert_eq!(cut.pixels[..3], striped(50, 40).pixels[(6 * 50 + 11) * 3..][..3]);
        assert!(Truth::new(striped(18, 40), 4, None).unwrap_err().contains("at least 19 pixels"));
    }
}
