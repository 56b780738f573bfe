//! From a decoded picture to a pair: the square that is to be restored, and the small one that it is restored from.
//!
//! As the paper prepares its data: a square crop, area-averaged to the high resolution, reduced by antialiased bicubic to
//! the low one, both in eight bits, as files hold them. Everything is in fixed-order f32 and integers: the same bits on
//! every machine.

use crate::image::{self, Channels, DecodeLimits, Metadata, OutputFormat, Picture, Planes, Samples};
use crate::model::checkpoint::Degradation;
use crate::ops::resize::{Filter, resize, resize_u8};

use super::Draws;
use crate::augmentation::blurred;

/// What a picture may have been resized with before.
const DETOURS: [Filter; 3] = [Filter::Area, Filter::Bilinear, Filter::Bicubic];

/// Which square of a picture is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crop {
    /// The largest in the middle, reduced to the high resolution: the paper.
    Centre,
    /// One of the high resolution's size anywhere, its pixels as they are.
    Random,
}

/// How a square may be turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientations {
    /// As it is.
    One,
    /// As it is, or mirrored left to right.
    Flip,
    /// By quarter turns, mirrored or not.
    Eight,
}

/// What is done to every picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Side of what is restored, in pixels.
    pub high_res: usize,
    /// Side of what it is restored from, in pixels; none where it is made of noise alone.
    pub low_res: Option<usize>,
    /// Which square.
    pub crop: Crop,
    /// Turned how.
    pub orientations: Orientations,
    /// What happens to the low resolution.
    pub degradation: Degradation,
}

/// Eight bits of red, green and blue, (H, W, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Square {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// (H, W, 3).
    pub rgb: Vec<u8>,
}

impl From<&Planes> for Square {
    /// A decoded picture in eight bits, without its transparency.
    fn from(planes: &Planes) -> Self {
        let rgb = planes.rgb.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        Self { width: planes.width, height: planes.height, rgb }
    }
}

impl Preprocessing {
    /// What is kept of a picture from epoch to epoch: all that no draw changes.
    #[must_use]
    pub fn keep(&self, picture: Square) -> Square {
        match self.crop {
            Crop::Random => picture,
            Crop::Centre => {
                let side = picture.width.min(picture.height);
                let (left, top) = ((picture.width - side) / 2, (picture.height - side) / 2);
                let square = cut(&picture, left, top, side);
                let high = self.high_res;
                let rgb = if side == high {
                    square.rgb
                } else {
                    resize_u8(&square.rgb, [side, side, 3], [high, high], Filter::Area)
                };
                Square { width: high, height: high, rgb }
            }
        }
    }

    /// The pair that a kept picture gives in an epoch: what is restored, and from what.
    ///
    /// # Panics
    /// If it is smaller than the high resolution.
    #[must_use]
    pub fn pair(&self, kept: &Square, draws: &Draws, epoch: u64, index: u64) -> (Square, Option<Square>) {
        let [x, y, turn, _] = draws.crop(epoch, index);
        let high = self.high_res;
        let within = |word: u32, room: usize| ((u64::from(word) * (room as u64 + 1)) >> 32) as usize;
        let square = match (kept.width, kept.height) == (high, high) {
            true => kept.clone(),
            false => cut(kept, within(x, kept.width - high), within(y, kept.height - high), high),
        };
        let square = match self.orientations {
            Orientations::One => square,
            Orientations::Flip => turned(square, turn >> 31),
            Orientations::Eight => turned(square, turn >> 29),
        };
        let low = self.low_res.map(|low| self.reduced(&square, low, draws, epoch, index));
        (square, low)
    }

    fn reduced(&self, square: &Square, low: usize, draws: &Draws, epoch: u64, index: u64) -> Square {
        let high = self.high_res;
        let of = |rgb| Square { width: low, height: low, rgb };
        let Degradation { blur, resize: detour, noise, jpeg, .. } = self.degradation;
        let [a, b, c, d] = draws.degradation(epoch, index);
        let between = |[from, to]: [f64; 2], word| from + (to - from) * (f64::from(word) / 4_294_967_296.0);
        let stored = |small: Square| match jpeg {
            None => small,
            Some([from, to]) => {
                let qualities = u64::from(to.abs_diff(from)) + 1;
                recoded(small, from.min(to) + ((u64::from(c) * qualities) >> 32) as u8)
            }
        };
        if blur.is_none() && noise.is_none() && detour.is_none() {
            return stored(of(resize_u8(&square.rgb, [high, high, 3], [low, low], Filter::Bicubic)));
        }
        let mut rgb: Vec<f32> = square.rgb.iter().map(|v| f32::from(*v)).collect();
        if let Some(range) = blur {
            rgb = blurred(&rgb, [high, high], between(range, a));
        }
        let mut side = high;
        if let Some(range) = detour {
            let middle = ((low as f64 * between(range, d)).round() as usize).max(1);
            // The factor is in the word's high bits: its low ones are as good as another word.
            let filter = DETOURS[d as usize % DETOURS.len()];
            rgb = resize(&rgb, [side, side, 3], [middle, middle], filter);
            side = middle;
        }
        let mut small = resize(&rgb, [side, side, 3], [low, low], Filter::Bicubic);
        if let Some(range) = noise {
            let mut normals = vec![0.0; small.len()];
            draws.degradation_noise(epoch, index, [low, low], &mut normals);
            let deviation = between(range, b) as f32;
            small.iter_mut().zip(&normals).for_each(|(value, normal)| *value += deviation * normal);
        }
        stored(of(small.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect()))
    }
}

fn cut(picture: &Square, left: usize, top: usize, side: usize) -> Square {
    let row = |y: usize| &picture.rgb[((top + y) * picture.width + left) * 3..][..side * 3];
    Square { width: side, height: side, rgb: (0..side).flat_map(row).copied().collect() }
}

/// A square in one of its eight orientations: bit 0 mirrors left to right, bit 1 upside down, bit 2 along the diagonal.
fn turned(square: Square, orientation: u32) -> Square {
    if orientation == 0 {
        return square;
    }
    let side = square.width;
    let mut rgb = Vec::with_capacity(square.rgb.len());
    for y in 0..side {
        for x in 0..side {
            let from_x = if orientation & 1 == 0 { x } else { side - 1 - x };
            let from_y = if orientation & 2 == 0 { y } else { side - 1 - y };
            let (from_x, from_y) = if orientation & 4 == 0 { (from_x, from_y) } else { (from_y, from_x) };
            rgb.extend_from_slice(&square.rgb[(from_y * side + from_x) * 3..][..3]);
        }
    }
    Square { rgb, ..square }
}

/// What a picture is after it was stored as a JPEG of this quality, its colours at full size.
fn recoded(square: Square, quality: u8) -> Square {
    let picture = Picture {
        width: square.width,
        height: square.height,
        channels: Channels::Rgb,
        samples: Samples::U8(square.rgb.clone()),
        metadata: Metadata::default(),
    };
    let coded = image::encode(&picture, OutputFormat::Jpeg, quality).map(|encoded| encoded.bytes);
    let decoded = coded.ok().and_then(|bytes| image::decode(&bytes, &DecodeLimits::default()).ok());
    match decoded.map(|decoded| decoded.picture.samples) {
        Some(Samples::U8(rgb)) if rgb.len() == square.rgb.len() => Square { rgb, ..square },
        // What a network is shown is never too large for a JPEG.
        _ => square,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Square {
        Square { width, height, rgb: (0..width * height * 3).map(|i| (i * 7 % 251) as u8).collect() }
    }

    fn preprocessing(crop: Crop, orientations: Orientations) -> Preprocessing {
        Preprocessing { high_res: 16, low_res: Some(4), crop, orientations, degradation: Degradation::PAPER }
    }

    #[test]
    fn the_largest_square_in_the_middle_is_averaged_and_reduced() {
        let how = preprocessing(Crop::Centre, Orientations::One);
        let kept = how.keep(picture(40, 32));
        let middle = cut(&picture(40, 32), 4, 0, 32);
        assert_eq!(kept.rgb, resize_u8(&middle.rgb, [32, 32, 3], [16, 16], Filter::Area));
        let (high, low) = how.pair(&kept, &Draws::new(1), 0, 0);
        assert_eq!(high, kept);
        assert_eq!(low.unwrap().rgb, resize_u8(&kept.rgb, [16, 16, 3], [4, 4], Filter::Bicubic));
    }

    #[test]
    fn crops_and_turns_are_drawn_anew_for_every_picture_and_epoch() {
        let how = preprocessing(Crop::Random, Orientations::Eight);
        let kept = how.keep(picture(40, 32));
        let pair = |epoch, index| how.pair(&kept, &Draws::new(1), epoch, index);
        assert_eq!(pair(0, 0), pair(0, 0));
        assert!(pair(0, 0) != pair(1, 0) && pair(0, 0) != pair(0, 1));
        let pixels: std::collections::BTreeSet<&[u8]> = kept.rgb.chunks_exact(3).collect();
        assert!(pair(3, 2).0.rgb.chunks_exact(3).all(|pixel| pixels.contains(pixel)));
    }

    #[test]
    fn the_eight_orientations_are_eight() {
        let square = picture(5, 5);
        let all: std::collections::BTreeSet<_> = (0..8).map(|o| turned(square.clone(), o).rgb).collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn blur_keeps_what_is_even_and_noise_has_its_deviation() {
        let mut how = preprocessing(Crop::Centre, Orientations::One);
        (how.high_res, how.low_res) = (64, Some(64));
        let flat = Square { width: 64, height: 64, rgb: vec![100; 64 * 64 * 3] };
        how.degradation.blur = Some([2.0, 2.0]);
        let low = |how: &Preprocessing| how.pair(&flat, &Draws::new(1), 0, 0).1.unwrap().rgb;
        assert!(low(&how).iter().all(|v| *v == 100));
        how.degradation.noise = Some([5.0, 5.0]);
        let noisy = low(&how);
        let variance =
            noisy.iter().map(|v| (f64::from(*v) - 100.0).powi(2)).sum::<f64>() / noisy.len() as f64;
        assert!((variance.sqrt() - 5.0).abs() < 0.15, "{variance}");
    }

    #[test]
    fn a_picture_that_was_smaller_on_its_way_is_smoother_and_every_one_took_its_own() {
        let mut how = preprocessing(Crop::Centre, Orientations::One);
        (how.high_res, how.low_res) = (64, Some(32));
        let square = Square { width: 64, height: 64, rgb: picture(64, 64).rgb };
        let mut roughness = |factors: Option<[f64; 2]>| {
            how.degradation.resize = factors;
            let low = how.pair(&square, &Draws::new(1), 0, 0).1.unwrap();
            low.rgb.windows(4).map(|w| u64::from(w[0].abs_diff(w[3]))).sum::<u64>()
        };
        let [straight, half, quarter] = [None, Some([0.5; 2]), Some([0.25; 2])].map(&mut roughness);
        assert!(straight > half && half > quarter, "{straight} {half} {quarter}");
        how.degradation.resize = Some([0.3, 1.5]);
        let low = |index| how.pair(&square, &Draws::new(1), 0, index).1.unwrap().rgb;
        let all: std::collections::BTreeSet<_> = (0..30).map(low).collect();
        assert!(all.len() > 20, "{}", all.len());
        let flat = Square { width: 64, height: 64, rgb: vec![100; 64 * 64 * 3] };
        let low = |index| how.pair(&flat, &Draws::new(1), 0, index).1.unwrap().rgb;
        assert!((0..30).all(|index| low(index).iter().all(|v| *v == 100)));
    }

    #[test]
    fn a_picture_that_was_a_jpeg_differs_more_the_lower_its_quality() {
        let mut how = preprocessing(Crop::Centre, Orientations::One);
        (how.high_res, how.low_res) = (64, Some(64));
        let smooth = |i: usize| (128.0 + 100.0 * libm::sin(i as f64 / 40.0)) as u8;
        let square = Square { width: 64, height: 64, rgb: (0..64 * 64 * 3).map(smooth).collect() };
        let mut off = |quality: Option<[u8; 2]>| {
            how.degradation.jpeg = quality;
            let low = how.pair(&square, &Draws::new(1), 0, 0).1.unwrap();
            low.rgb.iter().zip(&square.rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>()
        };
        assert_eq!(off(None), 0);
        let [best, good, worst] = [[100; 2], [80; 2], [5; 2]].map(|quality| off(Some(quality)));
        assert!(0 < best && best < good && good < worst, "{best} {good} {worst}");
        // Drawn anew for every picture and epoch, from the whole range.
        how.degradation.jpeg = Some([1, 100]);
        let low = |index| how.pair(&square, &Draws::new(1), 0, index).1.unwrap().rgb;
        let all: std::collections::BTreeSet<_> = (0..50).map(low).collect();
        assert!(all.len() > 20, "{}", all.len());
    }
}
