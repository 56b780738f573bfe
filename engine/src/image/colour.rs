//! Between a picture's samples and the planes that the network sees.
//!
//! The way there and back is exact for 8 and 16 bit: a plane that nobody changes gives the samples it came from. The one
//! thing that is changed on purpose is colour that cannot be seen: under alpha 0 it is replaced by the colour of the
//! visible surroundings, because editors leave anything there (often magenta or black) and a network, like any filter,
//! mixes neighbours; the hidden colour would bleed into the edge. [`super::HiddenColours`] puts it back into the result.
//! Alpha itself is a plane of its own, never multiplied in.

use super::metadata::Metadata;
use super::picture::{Channels, Picture, Samples};

/// A picture as the network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planes {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// (H, W, 3) in -1..=1; gray has three equal values.
    pub rgb: Vec<f32>,
    /// (H, W) in 0..=1.
    pub alpha: Option<Vec<f32>>,
}

/// The planes of `picture`: v / 127.5 − 1 of 8-bit, v / 32767.5 − 1 of 16-bit samples, alpha v / 255 or v / 65535.
///
/// # Panics
/// If `picture.is_whole()` does not hold; every decoded picture is whole.
pub fn to_planes(picture: &Picture) -> Planes {
    assert!(picture.is_whole(), "the samples do not fill the picture");
    let (rgb, alpha) = match &picture.samples {
        Samples::U8(samples) => split(samples, picture.channels, 255.0),
        Samples::U16(samples) => split(samples, picture.channels, 65_535.0),
    };
    let mut planes = Planes { width: picture.width, height: picture.height, rgb, alpha };
    if planes.alpha.as_ref().is_some_and(|alpha| alpha.contains(&0.0)) {
        replace_hidden(&mut planes);
    }
    planes
}

/// The picture of `planes`, with 8- or 16-bit samples: rounded to nearest (half away from zero) and clamped; gray is the
/// mean of the three. Channels with alpha take it from the planes (full where they have none), others leave it out.
///
/// # Panics
/// If the planes' lengths are not those of width and height.
pub fn from_planes(planes: &Planes, channels: Channels, sixteen_bit: bool, metadata: Metadata) -> Picture {
    let pixels = planes.width * planes.height;
    assert_eq!(planes.rgb.len(), 3 * pixels, "the colour planes do not fill the picture");
    assert!(
        planes.alpha.as_ref().is_none_or(|a| a.len() == pixels),
        "the alpha plane does not fill the picture"
    );
    let samples = if sixteen_bit {
        Samples::U16(join(planes, channels, 65_535.0, |level| level as u16))
    } else {
        Samples::U8(join(planes, channels, 255.0, |level| level as u8))
    };
    Picture { width: planes.width, height: planes.height, channels, samples, metadata }
}

fn split<T: Copy + Into<f32>>(samples: &[T], channels: Channels, full: f32) -> (Vec<f32>, Option<Vec<f32>>) {
    let count = channels.count();
    let half = full / 2.0;
    let mut rgb = Vec::with_capacity(samples.len() / count * 3);
    for pixel in samples.chunks_exact(count) {
        let value = |sample: T| sample.into() / half - 1.0;
        match channels.is_colour() {
            true => rgb.extend([value(pixel[0]), value(pixel[1]), value(pixel[2])]),
            false => rgb.extend([value(pixel[0]); 3]),
        }
    }
    let alpha = channels
        .has_alpha()
        .then(|| samples.chunks_exact(count).map(|p| p[count - 1].into() / full).collect());
    (rgb, alpha)
}

fn join<T>(planes: &Planes, channels: Channels, full: f32, sample: impl Fn(f32) -> T) -> Vec<T> {
    let half = full / 2.0;
    // f32::max takes the number where the other side is not one, so not-a-number becomes 0.
    let level = |value: f32| sample(value.max(0.0).min(full).round());
    let mut samples = Vec::with_capacity(planes.width * planes.height * channels.count());
    for (i, pixel) in planes.rgb.chunks_exact(3).enumerate() {
        match channels.is_colour() {
            true => samples.extend(pixel.iter().map(|&v| level((v + 1.0) * half))),
            false => samples.push(level(((pixel[0] + pixel[1] + pixel[2]) / 3.0 + 1.0) * half)),
        }
        if channels.has_alpha() {
            samples.push(level(planes.alpha.as_ref().map_or(full, |alpha| alpha[i] * full)));
        }
    }
    samples
}

/// One level of the pyramid: (H, W) of alpha-weighted colour sums and their weights.
struct Level {
    width: usize,
    height: usize,
    /// Red, green, blue times weight, and the weight.
    cells: Vec<[f32; 4]>,
}

impl Level {
    /// Half the size: each cell is the mean of the two by two under it (of those that exist), kept weighted.
    fn reduced(&self) -> Self {
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        let mut cells = vec![[0.0; 4]; width * height];
        for (y, row) in self.cells.chunks_exact(self.width).enumerate() {
            for (x, cell) in row.iter().enumerate() {
                let sum = &mut cells[y / 2 * width + x / 2];
                for (sum, value) in sum.iter_mut().zip(cell) {
                    *sum += 0.25 * value;
                }
            }
        }
        Self { width, height, cells }
    }

    /// Fills cells of weight 0 from `coarse`, which has none, interpolated between its four nearest cells.
    fn fill_from(&mut self, coarse: &Self) {
        for y in 0..self.height {
            let (y0, y1) = neighbours(y, coarse.height);
            for x in 0..self.width {
                let cell = &mut self.cells[y * self.width + x];
                if cell[3] > 0.0 {
                    continue;
                }
                let (x0, x1) = neighbours(x, coarse.width);
                let taps = [(x0, y0, 0.5625), (x1, y0, 0.1875), (x0, y1, 0.1875), (x1, y1, 0.0625)];
                let mut filled = [0.0; 4];
                for (tx, ty, weight) in taps {
                    let tap = coarse.cells[ty * coarse.width + tx];
                    for c in 0..3 {
                        filled[c] += weight * tap[c] / tap[3];
                    }
                }
                // The weight only says "filled": whoever reads this cell divides by it.
                *cell = [filled[0], filled[1], filled[2], 1.0];
            }
        }
    }
}

/// The coarse cell that holds fine cell `i`, and the next one on the side where `i` lies in it.
fn neighbours(i: usize, coarse: usize) -> (usize, usize) {
    let nearest = i / 2;
    let other = if i.is_multiple_of(2) { nearest.saturating_sub(1) } else { (nearest + 1).min(coarse - 1) };
    (nearest, other)
}

/// Push-pull (Gortler et al., "The Lumigraph", 1996, section 3.4): reduce weighted by alpha until nothing is empty, then
/// fill downwards. Linear in the pixels, the same for any machine. A picture without a visible pixel becomes mid-gray.
fn replace_hidden(planes: &mut Planes) {
    let Some(alpha) = &planes.alpha else { return };
    let weighted = |(pixel, &a): (&[f32], &f32)| [pixel[0] * a, pixel[1] * a, pixel[2] * a, a];
    let cells = planes.rgb.chunks_exact(3).zip(alpha).map(weighted).collect();
    let mut levels = vec![Level { width: planes.width, height: planes.height, cells }];
    while let Some(last) = levels.last()
        && last.cells.len() > 1
        && last.cells.iter().any(|cell| cell[3] <= 0.0)
    {
        levels.push(last.reduced());
    }
    if let Some(top) = levels.last_mut()
        && let [cell] = &mut top.cells[..]
        && cell[3] <= 0.0
    {
        *cell = [0.0, 0.0, 0.0, 1.0];
    }
    while levels.len() > 1
        && let Some(coarse) = levels.pop()
        && let Some(fine) = levels.last_mut()
    {
        fine.fill_from(&coarse);
    }
    let filled = &levels[0].cells;
    for ((pixel, &a), cell) in planes.rgb.chunks_exact_mut(3).zip(alpha).zip(filled) {
        if a <= 0.0 {
            pixel.iter_mut().zip(cell).for_each(|(value, &c)| *value = (c / cell[3]).clamp(-1.0, 1.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: Channels, samples: Samples, width: usize) -> Picture {
        let height = samples.len() / channels.count() / width;
        Picture { width, height, channels, samples, metadata: Metadata::default() }
    }

    fn there_and_back(picture: &Picture) -> Picture {
        let sixteen = picture.samples.bits() == 16;
        from_planes(&to_planes(picture), picture.channels, sixteen, picture.metadata.clone())
    }

    #[test]
    fn every_level_survives_the_way_through_the_planes() {
        for channels in [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba] {
            // Alpha is never 0 here: the colour under it is replaced on purpose.
            let level = |i: usize, full: usize| match channels.has_alpha()
                && i % channels.count() == channels.count() - 1
            {
                true => 1 + i / channels.count() % full,
                false => i * 7 / channels.count() % (full + 1),
            };
            let eight = (0..256 * channels.count() * 8).map(|i| level(i, 255) as u8).collect();
            let eight = picture(channels, Samples::U8(eight), 256);
            assert_eq!(there_and_back(&eight), eight);
            let sixteen = (0..65_536 * channels.count() * 8).map(|i| level(i, 65_535) as u16).collect();
            let sixteen = picture(channels, Samples::U16(sixteen), 256);
            assert_eq!(there_and_back(&sixteen), sixteen);
        }
    }

    #[test]
    fn planes_run_from_minus_one_to_one_and_gray_is_three_times_itself() {
        let planes = to_planes(&picture(Channels::GrayAlpha, Samples::U8(vec![0, 255, 255, 51]), 2));
        assert_eq!(planes.rgb, [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]);
        assert_eq!(planes.alpha, Some(vec![1.0, 0.2]));
        assert_eq!(to_planes(&picture(Channels::Rgb, Samples::U8(vec![0; 3]), 1)).alpha, None);
    }

    #[test]
    fn values_outside_are_clamped_and_rounding_is_half_away_from_zero() {
        let planes =
            Planes { width: 2, height: 1, rgb: vec![-3.0, 9.0, f32::NAN, -1.0, 1.0, 0.0], alpha: None };
        let made = from_planes(&planes, Channels::Rgba, false, Metadata::default());
        assert_eq!(made.samples, Samples::U8(vec![0, 255, 0, 255, 0, 255, 128, 255]));
        let gray = from_planes(&planes, Channels::Gray, true, Metadata::default());
        assert_eq!(gray.samples, Samples::U16(vec![0, 32_768]));
    }

    #[test]
    fn hidden_magenta_becomes_the_colour_around_it_and_visible_colour_stays() {
        // A dark green disc with soft alpha on hidden magenta.
        let (width, height) = (61, 47);
        let mut samples = Vec::new();
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            let distance = ((x - 30_i32).pow(2) + (y - 20_i32).pow(2)) as f32;
            let alpha = (15.0 * (14.0 - distance.sqrt())).clamp(0.0, 255.0) as u8;
            samples.extend(if alpha == 0 { [255, 0, 255, 0] } else { [20, 90, 40, alpha] });
        }
        let source = picture(Channels::Rgba, Samples::U8(samples.clone()), width as usize);
        let planes = to_planes(&source);
        for (pixel, stored) in planes.rgb.chunks_exact(3).zip(samples.chunks_exact(4)) {
            for (value, wanted) in pixel.iter().zip([20.0_f32, 90.0, 40.0]) {
                assert!((value - (wanted / 127.5 - 1.0)).abs() < 1e-5, "{pixel:?} under alpha {}", stored[3]);
            }
        }
        assert_eq!(to_planes(&source), planes);
        let Samples::U8(back) = there_and_back(&source).samples else { panic!("depth changed") };
        assert!(
            back.chunks_exact(4)
                .zip(samples.chunks_exact(4))
                .all(|(b, s)| b[3] == s[3] && (s[3] == 0 || b == s))
        );
    }

    #[test]
    fn hidden_colour_follows_the_nearest_visible_side() {
        // Left edge red, right edge blue, nothing visible between.
        let width = 64;
        let row = (0..width).flat_map(|x| match x {
            0 => [255, 0, 0, 255],
            63 => [0, 0, 255, 255],
            _ => [0, 255, 0, 0],
        });
        let samples = Samples::U8((0..8).flat_map(|_| row.clone()).collect());
        let planes = to_planes(&picture(Channels::Rgba, samples, width));
        let at = |x: usize| &planes.rgb[3 * x..3 * x + 3];
        assert!(at(3)[0] > 0.9 && at(3)[2] < -0.9, "{:?}", at(3));
        assert!(at(60)[2] > 0.9 && at(60)[0] < -0.9, "{:?}", at(60));
        assert!((0..width).all(|x| at(x)[1] < -0.999), "hidden green shows");
    }

    #[test]
    fn a_picture_that_shows_nothing_is_flat() {
        let planes = to_planes(&picture(Channels::Rgba, Samples::U8([9, 200, 31, 0].repeat(35)), 7));
        assert!(planes.rgb.iter().all(|&v| v == 0.0));
        assert_eq!(planes.alpha, Some(vec![0.0; 35]));
    }
}
