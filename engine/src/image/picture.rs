//! A picture in memory: interleaved samples and what travels with them.

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

/// Dots per inch, along and across.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Density {
    /// Pixels per inch along a row.
    pub x: f64,
    /// Pixels per inch along a column.
    pub y: f64,
}

impl Density {
    /// A density that a file can mean: finite, positive and below a million dots per inch.
    pub(super) fn checked(x: f64, y: f64) -> Option<Self> {
        let plausible = |v: f64| v.is_finite() && v > 0.0 && v < 1.0e6;
        (plausible(x) && plausible(y)).then_some(Self { x, y })
    }
}

/// What belongs to a picture besides its samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// An ICC profile that describes the samples.
    pub icc: Option<Vec<u8>>,
    /// EXIF as a TIFF structure, without the leading `Exif\0\0`. Orientation 1: the samples are upright already.
    pub exif: Option<Vec<u8>>,
    /// Dots per inch.
    pub density: Option<Density>,
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
    /// Profile, EXIF and density.
    pub metadata: Metadata,
}

impl Picture {
    /// Whether there is at least one pixel and exactly the samples that width, height and channels ask for.
    pub fn is_whole(&self) -> bool {
        let samples = self.height.checked_mul(self.width).and_then(|n| n.checked_mul(self.channels.count()));
        self.width > 0 && self.height > 0 && samples == Some(self.samples.len())
    }
}
