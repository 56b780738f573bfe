//! The planes of an AV1 picture as gray or RGB (ITU-T H.273, 8.3).
//!
//! Everything is `+ − ×` on f32, so the bits are the same on every machine. Chroma that is stored at half the size is
//! brought to full size by the weights 9, 3, 3, 1 of the nearest four (3 and 1 of two), samples lying between those of
//! luma: as libavif does.

use super::super::{DecodeError, unsupported};
use super::FORMAT;
use super::planes::{Coding, Plane, Planes};

/// How a pixel's three samples become red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Matrix {
    /// Green, blue and red as they are.
    Identity,
    /// The parts of red and of blue in luma.
    Luma {
        red: f32,
        blue: f32,
    },
    YCgCo,
}

impl Matrix {
    fn of(number: u16) -> Option<Self> {
        let luma = |red, blue| Some(Self::Luma { red, blue });
        match number {
            0 => Some(Self::Identity),
            1 => luma(0.2126, 0.0722),
            // What most writers mean where they say nothing is BT.601.
            2 | 5 | 6 => luma(0.299, 0.114),
            4 => luma(0.30, 0.11),
            7 => luma(0.212, 0.087),
            8 => Some(Self::YCgCo),
            9 => luma(0.2627, 0.0593),
            _ => None,
        }
    }

    /// Luma in 0..1 and chroma in −½..½ (with [`Self::Identity`] all in 0..1) as red, green, blue.
    fn apply(self, [y, cb, cr]: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Identity => [cr, y, cb],
            Self::Luma { red, blue } => {
                let r = y + 2.0 * (1.0 - red) * cr;
                let b = y + 2.0 * (1.0 - blue) * cb;
                [r, (y - red * r - blue * b) / (1.0 - red - blue), b]
            }
            Self::YCgCo => {
                let t = y - cb;
                [t + cr, y + cb, t - cr]
            }
        }
    }
}

/// Brings stored samples to 0..1, or for chroma to −½..½.
#[derive(Clone, Copy)]
struct Range {
    offset: f32,
    scale: f32,
}

impl Range {
    fn luma(bits: u32, full: bool) -> Self {
        let unit = (1_u32 << (bits - 8)) as f32;
        match full {
            true => Self { offset: 0.0, scale: 1.0 / ((1_u32 << bits) - 1) as f32 },
            false => Self { offset: 16.0 * unit, scale: 1.0 / (219.0 * unit) },
        }
    }

    fn chroma(bits: u32, full: bool) -> Self {
        let unit = (1_u32 << (bits - 8)) as f32;
        let scale = if full { 1.0 / ((1_u32 << bits) - 1) as f32 } else { 1.0 / (224.0 * unit) };
        Self { offset: 128.0 * unit, scale }
    }

    fn of(self, sample: f32) -> f32 {
        (sample - self.offset) * self.scale
    }
}

/// The picture as 0..1, (H, W, 1) if it has no chroma, else (H, W, 3): each row is handed to `take` with its number.
pub(super) fn rows(
    planes: &Planes,
    coding: Coding,
    mut take: impl FnMut(usize, &[f32]),
) -> Result<(), DecodeError> {
    let luma_range = Range::luma(planes.bits, coding.full_range);
    let Planes { luma, .. } = planes;
    let Some([blue, red]) = &planes.chroma else {
        for (y, row) in luma.samples.chunks_exact(luma.width).enumerate() {
            let row: Vec<f32> = row.iter().map(|&sample| luma_range.of(sample.into())).collect();
            take(y, &row);
        }
        return Ok(());
    };
    let whole = (blue.width, blue.height) == (luma.width, luma.height);
    let matrix = Matrix::of(coding.matrix).filter(|matrix| whole || *matrix != Matrix::Identity);
    let Some(matrix) = matrix else {
        let number = coding.matrix;
        return Err(unsupported(FORMAT, &format!("its colours are of kind {number}: save it again as PNG")));
    };
    let chroma_range = match matrix {
        Matrix::Identity => luma_range,
        _ => Range::chroma(planes.bits, coding.full_range),
    };
    let mut pixels = Vec::with_capacity(3 * luma.width);
    for (y, row) in luma.samples.chunks_exact(luma.width).enumerate() {
        let [blue, red] = [blue, red].map(|plane| widened(plane, luma, y));
        pixels.clear();
        for ((&luma, &blue), &red) in row.iter().zip(&blue).zip(&red) {
            let sample = [luma_range.of(luma.into()), chroma_range.of(blue), chroma_range.of(red)];
            pixels.extend(matrix.apply(sample));
        }
        take(y, &pixels);
    }
    Ok(())
}

/// The samples of `chroma` for row `y` of `luma`, at the size of that.
fn widened(chroma: &Plane, luma: &Plane, y: usize) -> Vec<f32> {
    let row = |y: usize| &chroma.samples[y * chroma.width..][..chroma.width];
    let mixed: Vec<f32> = if chroma.height == luma.height {
        row(y).iter().map(|&sample| sample.into()).collect()
    } else {
        let (near, far) = neighbours(y, chroma.height);
        row(near).iter().zip(row(far)).map(|(&near, &far)| mix(near.into(), far.into())).collect()
    };
    if chroma.width == luma.width {
        return mixed;
    }
    (0..luma.width)
        .map(|x| {
            let (near, far) = neighbours(x, chroma.width);
            mix(mixed[near], mixed[far])
        })
        .collect()
}

/// The two samples of `count` at half the density between which sample `at` lies, the nearer first; the same twice at an edge.
fn neighbours(at: usize, count: usize) -> (usize, usize) {
    let near = at / 2;
    let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(count - 1) };
    (near, far)
}

fn mix(near: f32, far: f32) -> f32 {
    0.75 * near + 0.25 * far
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(width: usize, samples: Vec<u16>) -> Plane {
        Plane { width, height: samples.len() / width, samples }
    }

    fn colours(planes: &Planes, matrix: u16, full_range: bool) -> Vec<f32> {
        let mut all = Vec::new();
        rows(planes, Coding { matrix, full_range }, |_, row| all.extend(row.iter().copied())).unwrap();
        all
    }

    /// One pixel of `bits`.
    fn pixel([y, u, v]: [u16; 3], bits: u32) -> Planes {
        let chroma = Some([plane(1, vec![u]), plane(1, vec![v])]);
        Planes { luma: plane(1, vec![y]), chroma, bits, coding: Coding { matrix: 2, full_range: true } }
    }

    fn assert_near(found: &[f32], wanted: [f32; 3]) {
        // The stored samples are rounded: half a level of 8 bits, nearly doubled by the matrix.
        assert!(found.iter().zip(wanted).all(|(f, w)| (f - w).abs() < 5e-3), "{found:?}, not {wanted:?}");
    }

    #[test]
    fn known_samples_are_known_colours() {
        // BT.601 and BT.709 red of limited range, BT.2020 white of 10 bits, YCgCo green, and samples as they are.
        assert_near(&colours(&pixel([81, 90, 240], 8), 6, false), [1.0, 0.0, 0.0]);
        assert_near(&colours(&pixel([63, 102, 240], 8), 1, false), [1.0, 0.0, 0.0]);
        assert_near(&colours(&pixel([940, 512, 512], 10), 9, false), [1.0, 1.0, 1.0]);
        assert_near(&colours(&pixel([128, 255, 128], 8), 8, true), [0.0, 1.0, 0.0]);
        assert_near(&colours(&pixel([51, 102, 255], 8), 0, true), [1.0, 0.2, 0.4]);
    }

    #[test]
    fn chroma_of_half_the_size_lies_between_the_pixels() {
        let luma = plane(4, vec![0; 4]);
        assert_eq!(widened(&plane(2, vec![0, 80]), &luma, 0), [0.0, 20.0, 60.0, 80.0]);
        let luma = plane(3, vec![0; 9]);
        let chroma = plane(2, vec![0, 80, 160, 240]);
        assert_eq!(widened(&chroma, &luma, 1), [40.0, 60.0, 100.0]);
        assert_eq!(widened(&chroma, &luma, 2), [120.0, 140.0, 180.0]);
    }

    #[test]
    fn colours_that_are_not_read_are_said() {
        let error = rows(&pixel([0; 3], 8), Coding { matrix: 14, full_range: true }, |_, _| {}).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this kind of AVIF is not read: its colours are of kind 14: save it again as PNG"
        );
    }
}
