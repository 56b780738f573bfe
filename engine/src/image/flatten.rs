//! Pictures without their alpha, for formats that know none.

use super::picture::{Channels, Picture, Samples};

impl Picture {
    /// Whether every pixel is wholly visible: there is no alpha, or it is full everywhere.
    pub fn is_opaque(&self) -> bool {
        let count = self.channels.count();
        !self.channels.has_alpha()
            || match &self.samples {
                Samples::U8(samples) => samples.chunks_exact(count).all(|pixel| pixel[count - 1] == u8::MAX),
                Samples::U16(samples) => {
                    samples.chunks_exact(count).all(|pixel| pixel[count - 1] == u16::MAX)
                }
            }
    }

    /// The picture laid on `background` (red, green, blue), without alpha. Values are mixed as they are stored, as image
    /// programs do; gray stays gray on a gray background and becomes RGB on a coloured one. A profile of gray goes with
    /// the gray.
    #[must_use]
    pub fn flattened(mut self, background: [u8; 3]) -> Self {
        if !self.channels.has_alpha() {
            return self;
        }
        let [r, g, b] = background;
        let gray = !self.channels.is_colour() && r == g && g == b;
        let count = self.channels.count();
        self.samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(mixed(samples, count, gray, background, u8::MAX, |v| v)),
            Samples::U16(samples) => {
                Samples::U16(mixed(samples, count, gray, background, u16::MAX, |v| 257 * u16::from(v)))
            }
        };
        if !gray && !self.channels.is_colour() {
            self.metadata.icc = None;
        }
        self.channels = if gray { Channels::Gray } else { Channels::Rgb };
        self
    }
}

/// `samples` of `count` a pixel, alpha last, over `background`: one sample a pixel with `gray`, else three.
fn mixed<T: Copy + Into<u64> + TryFrom<u64>>(
    samples: &[T],
    count: usize,
    gray: bool,
    background: [u8; 3],
    full: T,
    level: impl Fn(u8) -> T,
) -> Vec<T> {
    let full: u64 = full.into();
    let under = background.map(|v| level(v).into());
    let kept = if gray { 1 } else { 3 };
    let mut out = Vec::with_capacity(samples.len() / count * kept);
    for pixel in samples.chunks_exact(count) {
        let alpha: u64 = pixel[count - 1].into();
        for (c, under) in under.iter().enumerate().take(kept) {
            let over = pixel[c.min(count - 2)];
            let value = (over.into() * alpha + under * (full - alpha) + full / 2) / full;
            // A mean of two levels is one.
            out.push(T::try_from(value).unwrap_or(over));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Metadata;

    fn picture(channels: Channels, samples: Samples) -> Picture {
        let width = samples.len() / channels.count();
        Picture { width, height: 1, channels, samples, metadata: Metadata::default() }
    }

    #[test]
    fn a_picture_is_opaque_only_if_all_of_it_is() {
        assert!(picture(Channels::Rgb, Samples::U8(vec![1, 2, 3])).is_opaque());
        assert!(picture(Channels::GrayAlpha, Samples::U8(vec![1, 255, 0, 255])).is_opaque());
        assert!(!picture(Channels::GrayAlpha, Samples::U8(vec![1, 255, 0, 254])).is_opaque());
        assert!(!picture(Channels::Rgba, Samples::U16(vec![1, 2, 3, 255])).is_opaque());
    }

    #[test]
    fn what_is_transparent_shows_the_background() {
        let rgba =
            picture(Channels::Rgba, Samples::U8(vec![10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51]));
        let flat = rgba.flattened([255, 128, 0]);
        assert_eq!(flat.channels, Channels::Rgb);
        assert_eq!(flat.samples, Samples::U8(vec![10, 20, 30, 255, 128, 0, 204, 122, 40]));
        let gray = picture(Channels::GrayAlpha, Samples::U16(vec![0, 65_535, 1000, 0]));
        assert_eq!(gray.clone().flattened([255; 3]).samples, Samples::U16(vec![0, 65_535]));
        let coloured = gray.flattened([1, 2, 3]);
        assert_eq!(coloured.channels, Channels::Rgb);
        assert_eq!(coloured.samples, Samples::U16(vec![0, 0, 0, 257, 514, 771]));
    }
}
