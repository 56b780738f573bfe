//! A picture in memory: interleaved samples and what travels with them.

use super::metadata::Metadata;

/// What the samples of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// One luminance sample.
    Gray,
    /// Luminance, then alpha.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha. Alpha is never premultiplied.
    Rgba,
}

impl Channels {
    /// Samples in a pixel: 1 to 4.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Whether the last sample is alpha.
    pub fn has_alpha(self) -> bool {
        matches!(self, Self::GrayAlpha | Self::Rgba)
    }

    /// Whether there are three colour samples (else one).
    pub fn is_colour(self) -> bool {
        matches!(self, Self::Rgb | Self::Rgba)
    }
}

/// The samples of a picture, (H, W, C) interleaved, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Samples {
    /// 0..=255.
    U8(Vec<u8>),
    /// 0..=65535, in the machine's own byte order.
    U16(Vec<u16>),
}

impl Samples {
    /// How many samples there are: H × W × C.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bits in a sample: 8 or 16.
    pub fn bits(&self) -> u8 {
        match self {
            Self::U8(_) => 8,
            Self::U16(_) => 16,
        }
    }
}

/// A picture: `samples.len() == height * width * channels.count()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// What a pixel holds.
    pub channels: Channels,
    /// (H, W, C) interleaved.
    pub samples: Samples,
    /// Profile, EXIF, XMP, texts, density.
    pub metadata: Metadata,
}

impl Picture {
    /// Whether there is at least one pixel and exactly the samples that width, height and channels ask for.
    pub fn is_whole(&self) -> bool {
        let samples = self.height.checked_mul(self.width).and_then(|n| n.checked_mul(self.channels.count()));
        self.width > 0 && self.height > 0 && samples == Some(self.samples.len())
    }
}
