//! The names of the picture formats that are read and written.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format that [`super::decode()`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// Portable Network Graphics; of an animation the first frame.
    Png,
    /// JPEG, baseline and progressive, 8 bit.
    Jpeg,
    /// WebP, lossy and lossless; of an animation the first frame.
    Webp,
    /// TIFF and BigTIFF; the first page that is no preview.
    Tiff,
    /// GIF; the first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// JPEG XL, lossy and lossless; of an animation the first frame.
    Jxl,
    /// AVIF; of an animation the still picture before it.
    Avif,
    /// Netpbm: PBM, PGM, PPM and PAM; the first picture.
    Pnm,
}

impl fmt::Display for InputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Webp => "WebP",
            Self::Tiff => "TIFF",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Jxl => "JPEG XL",
            Self::Avif => "AVIF",
            Self::Pnm => "PNM",
        })
    }
}

/// A format that [`super::encode()`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Lossless, 8 and 16 bit, any channels, every kind of metadata.
    Png,
    /// Lossy, 8 bit, no alpha, without chroma subsampling.
    Jpeg,
    /// Lossless WebP, 8 bit, at most 16,383 pixels a side.
    Webp,
    /// Lossless, 8 and 16 bit, any channels; EXIF but for MakerNotes.
    Tiff,
}

impl OutputFormat {
    /// The usual file name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Tiff => "tif",
        }
    }

    /// The format that a file name extension (without the dot, in any case) names.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            "tif" | "tiff" => Some(Self::Tiff),
            _ => None,
        }
    }

    /// Most pixels along a side. WebP's 14 bits would allow 16,384: other software stops one short of it.
    pub fn side_max(self) -> usize {
        match self {
            Self::Png | Self::Tiff => i32::MAX as usize,
            Self::Jpeg => u16::MAX as usize,
            Self::Webp => 16_383,
        }
    }

    /// The format as prose writes it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Webp => "WebP",
            Self::Tiff => "TIFF",
        }
    }
}

/// The name that serde and [`FromStr`] read back: png, jpeg, webp, tiff.
impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
            Self::Tiff => "tiff",
        })
    }
}

/// A word that names no output format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not an output format; use png, jpeg, webp or tiff")]
pub struct UnknownFormat {
    /// The word.
    pub name: String,
}

impl FromStr for OutputFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::from_extension(name).ok_or_else(|| UnknownFormat { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_format_reads_back_from_every_name_it_has() {
        for format in [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff] {
            assert_eq!(OutputFormat::from_extension(format.extension()), Some(format));
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
            assert_eq!(serde_json::from_str::<OutputFormat>(&format!("\"{format}\"")).unwrap(), format);
        }
        assert_eq!(OutputFormat::from_extension("JPeG"), Some(OutputFormat::Jpeg));
        assert_eq!(OutputFormat::from_extension("TIF"), Some(OutputFormat::Tiff));
        assert_eq!("gif".parse::<OutputFormat>(), Err(UnknownFormat { name: "gif".to_owned() }));
    }
}
