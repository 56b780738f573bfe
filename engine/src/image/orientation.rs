//! Turning a picture upright, as the EXIF orientation asks (Exif 2.32, tag 0x0112).

use super::picture::{Picture, Samples};

/// How stored pixels must be turned to be seen upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Orientation {
    /// 1: as stored.
    Upright,
    /// 2: mirrored left to right.
    FlipX,
    /// 3: turned by half.
    Half,
    /// 4: mirrored top to bottom.
    FlipY,
    /// 5: rows are columns.
    Transpose,
    /// 6: to be turned clockwise by a quarter.
    Clockwise,
    /// 7: rows are columns, turned by half.
    Transverse,
    /// 8: to be turned counter-clockwise by a quarter.
    CounterClockwise,
}

impl Orientation {
    /// The orientation of a tag's value; `None` outside 1..=8.
    pub(super) fn from_tag(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::Upright,
            2 => Self::FlipX,
            3 => Self::Half,
            4 => Self::FlipY,
            5 => Self::Transpose,
            6 => Self::Clockwise,
            7 => Self::Transverse,
            8 => Self::CounterClockwise,
            _ => return None,
        })
    }

    /// Whether width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        matches!(self, Self::Transpose | Self::Clockwise | Self::Transverse | Self::CounterClockwise)
    }
}

/// Turns the samples, the size and the density of `picture`. In place where the sides stay; a quarter turn needs a
/// second copy of the samples for its time.
pub(super) fn turn(picture: &mut Picture, orientation: Orientation) {
    let (width, height, channels) = (picture.width, picture.height, picture.channels.count());
    match &mut picture.samples {
        Samples::U8(samples) => turn_samples(samples, width, height, channels, orientation),
        Samples::U16(samples) => turn_samples(samples, width, height, channels, orientation),
    }
    if orientation.swaps_sides() {
        (picture.width, picture.height) = (height, width);
        if let Some(density) = &mut picture.metadata.density {
            std::mem::swap(&mut density.x, &mut density.y);
        }
    }
}

fn turn_samples<T: Copy>(
    samples: &mut Vec<T>,
    width: usize,
    height: usize,
    channels: usize,
    orientation: Orientation,
) {
    let stride = width * channels;
    if stride == 0 {
        return;
    }
    match orientation {
        Orientation::Upright => {}
        Orientation::FlipX => samples.chunks_exact_mut(stride).for_each(|row| reverse_pixels(row, channels)),
        Orientation::Half => reverse_pixels(samples, channels),
        Orientation::FlipY => {
            for y in 0..height / 2 {
                let (top, bottom) = samples.split_at_mut((height - 1 - y) * stride);
                top[y * stride..(y + 1) * stride].swap_with_slice(&mut bottom[..stride]);
            }
        }
        Orientation::Transpose
        | Orientation::Clockwise
        | Orientation::Transverse
        | Orientation::CounterClockwise => {
            // A row of the result is a column of the source, read downwards or upwards.
            let upwards = matches!(orientation, Orientation::Clockwise | Orientation::Transverse);
            let from_right = matches!(orientation, Orientation::Transverse | Orientation::CounterClockwise);
            let mut turned = Vec::with_capacity(samples.len());
            for y in 0..width {
                let column = if from_right { width - 1 - y } else { y };
                for x in 0..height {
                    let row = if upwards { height - 1 - x } else { x };
                    let at = row * stride + column * channels;
                    turned.extend_from_slice(&samples[at..at + channels]);
                }
            }
            *samples = turned;
        }
    }
}

fn reverse_pixels<T>(samples: &mut [T], channels: usize) {
    samples.reverse();
    samples.chunks_exact_mut(channels).for_each(|pixel| pixel.reverse());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Channels, Density, Metadata};

    /// 3 wide, 2 high, gray: 1 2 3 over 4 5 6.
    fn picture(channels: Channels) -> Picture {
        let samples = (1..=6_u8).flat_map(|v| vec![v; channels.count()]).collect();
        let density = Some(Density { x: 300.0, y: 150.0 });
        Picture {
            width: 3,
            height: 2,
            channels,
            samples: Samples::U8(samples),
            metadata: Metadata { density, ..Metadata::default() },
        }
    }

    #[test]
    fn every_orientation_turns_as_the_exif_standard_draws_it() {
        let cases: [(u16, usize, [u8; 6]); 8] = [
            (1, 3, [1, 2, 3, 4, 5, 6]),
            (2, 3, [3, 2, 1, 6, 5, 4]),
            (3, 3, [6, 5, 4, 3, 2, 1]),
            (4, 3, [4, 5, 6, 1, 2, 3]),
            (5, 2, [1, 4, 2, 5, 3, 6]),
            (6, 2, [4, 1, 5, 2, 6, 3]),
            (7, 2, [6, 3, 5, 2, 4, 1]),
            (8, 2, [3, 6, 2, 5, 1, 4]),
        ];
        for channels in [Channels::Gray, Channels::Rgb] {
            for (tag, width, expected) in cases {
                let mut turned = picture(channels);
                turn(&mut turned, Orientation::from_tag(tag).unwrap());
                let expected = expected.iter().flat_map(|&v| vec![v; channels.count()]).collect();
                assert_eq!(turned.samples, Samples::U8(expected), "orientation {tag}");
                assert_eq!((turned.width, turned.height), (width, 6 / width), "orientation {tag}");
                assert_eq!(turned.metadata.density.unwrap().x, if tag < 5 { 300.0 } else { 150.0 });
            }
        }
        assert_eq!(Orientation::from_tag(0), None);
        assert_eq!(Orientation::from_tag(9), None);
    }
}
