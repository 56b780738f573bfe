//! Writing a picture: PNG, JPEG, lossless WebP and TIFF, with the metadata that each has a place for.
//!
//! What it promises: the same picture gives the same bytes on every machine; a lossless format gives the samples back
//! exactly; the EXIF block and the XMP packet that are written tell the size of the picture they lie in, that it is
//! upright, and have no old thumbnail. What a format cannot hold (16 bit, a profile of other colours, texts, the meaning of a
//! PNG's colours) is left out with a note; alpha is never dropped silently: JPEG refuses it.

mod carried;
mod jpeg;
mod jpeg_segments;
mod png;
mod png_chunks;
mod tiff;
mod tiff_tags;
mod webp;

use self::carried::carried;
use super::format::OutputFormat;
use super::picture::{Picture, Samples};

/// A picture as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the format could not hold.
    pub notes: Vec<String>,
}

/// Why a picture cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// JPEG has no alpha.
    #[error("JPEG cannot hold transparency: choose png, webp or tiff, or a --background such as white")]
    AlphaInJpeg,
    /// The format's header has no room for such a size.
    #[error(
        "{format} holds at most {side_max} pixels a side, the picture is {width}x{height}: choose png or tiff"
    )]
    TooLarge {
        /// The format.
        format: &'static str,
        /// Its limit.
        side_max: usize,
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// JPEG quality outside 1..=100.
    #[error("quality {quality} is outside 1 to 100")]
    Quality {
        /// What was asked for.
        quality: u8,
    },
    /// The picture's samples do not fill its size.
    #[error("the picture is not whole: {samples} samples for {width}x{height} pixels")]
    NotWhole {
        /// Samples that are there.
        samples: usize,
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The encoder failed.
    #[error("{format} could not be written: {reason}")]
    Encoder {
        /// The format.
        format: &'static str,
        /// Its words.
        reason: String,
    },
}

/// Encodes `picture`. `quality`, 1 to 100, is JPEG's and ignored by the lossless formats.
///
/// # Errors
/// Alpha in JPEG, a side beyond the format's limit, a quality outside 1..=100 (JPEG), or a picture whose samples do not
/// fill it.
pub fn encode(picture: &Picture, format: OutputFormat, quality: u8) -> Result<Encoded, EncodeError> {
    let (width, height) = (picture.width, picture.height);
    if !picture.is_whole() {
        return Err(EncodeError::NotWhole { samples: picture.samples.len(), width, height });
    }
    let mut notes = Vec::new();
    let carried = carried(picture, format, &mut notes);
    let bytes = match format {
        OutputFormat::Png => png::write(picture, &carried),
        OutputFormat::Jpeg => jpeg::write(picture, &carried, quality, &mut notes),
        OutputFormat::Webp => webp::write(picture, &carried, &mut notes),
        OutputFormat::Tiff => tiff::write(picture, &carried),
    }?;
    Ok(Encoded { bytes, notes })
}

/// Whether a picture of this size fits `format`, before there is one.
///
/// # Errors
/// [`EncodeError::TooLarge`].
pub fn check_size(width: usize, height: usize, format: OutputFormat) -> Result<(), EncodeError> {
    let side_max = format.side_max();
    if width > side_max || height > side_max {
        return Err(EncodeError::TooLarge { format: format.title(), side_max, width, height });
    }
    Ok(())
}

/// A size that fits the format's header, as its number type.
fn sides<T: TryFrom<usize>>(picture: &Picture, format: OutputFormat) -> Result<(T, T), EncodeError> {
    let (width, height, side_max) = (picture.width, picture.height, format.side_max());
    let fits = |side: usize| T::try_from(side).ok().filter(|_| side <= side_max);
    match (fits(width), fits(height)) {
        (Some(w), Some(h)) => Ok((w, h)),
        _ => Err(EncodeError::TooLarge { format: format.title(), side_max, width, height }),
    }
}

/// The samples as 8 bits: 16-bit ones rounded to nearest, with a note.
fn eight_bit<'a>(
    samples: &'a Samples,
    format: OutputFormat,
    notes: &mut Vec<String>,
) -> std::borrow::Cow<'a, [u8]> {
    match samples {
        Samples::U8(samples) => samples.as_slice().into(),
        Samples::U16(samples) => {
            notes.push(format!("16-bit samples became 8-bit: {} holds no more", format.title()));
            samples.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect::<Vec<_>>().into()
        }
    }
}

fn failed(format: OutputFormat, error: &dyn std::fmt::Display) -> EncodeError {
    EncodeError::Encoder { format: format.title(), reason: error.to_string().replace('\n', " ") }
}
