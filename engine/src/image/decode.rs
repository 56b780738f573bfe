//! Reading a picture from bytes that a stranger sent.
//!
//! What it promises: the format is told by the bytes; a picture larger than the limits is refused from its header,
//! before anything of its size is allocated; what cannot be read whole is an error with its reason on one line, never a
//! half-gray picture; EXIF orientation is applied once and then says 1, in XMP as well; metadata that are damaged are
//! dropped with a note, not copied and not fatal, and what has no place in [`Metadata`] is named in a note. Compressed
//! text and profiles are inflated under a cap or not at all.
//!
//! Memory: the encoded bytes (the caller's) and one copy of the pixels, plus what a format cannot do without:
//! progressive JPEG holds 2 bytes a coefficient, WebP its own planes (up to 4 bytes a pixel), a quarter turn a second
//! copy while it turns, planar TIFF, TIFF with a palette and TIFF of more than 16 bits a second copy while they are converted.
//! A file that must be put right before its decoder takes it (an end marker that is missing, a TIFF that begins with a
//! preview or has a palette) is held twice. JPEG XL holds up to 64 bytes a pixel (photographs 12 to 40), AVIF 6 more than it gives.
//!
//! It never reads more than one frame or page, never follows a reference out of the bytes, and never converts colours
//! (except CMYK and YCbCr, which become RGB).

mod avif;
mod avif_items;
mod bmp;
mod bmp_colours;
mod boxes;
mod extras;
mod gif;
mod gif_blocks;
mod jpeg;
mod jpeg_kind;
mod jpeg_markers;
mod jpeg_scan;
mod jpeg_segments;
mod jxl;
mod jxl_boxes;
mod png;
mod png_chunks;
mod png_end;
mod pnm;
mod tiff;
mod tiff_tags;
mod webp;
mod webp_chunks;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::extras::Extras;
use super::exif;
use super::format::InputFormat;
use super::icc;
use super::metadata::{Density, Metadata};
use super::orientation::{self, Orientation};
use super::picture::{Channels, Picture, Samples};
use super::sniff::{describe, sniff};

/// What a file may ask for before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most bytes of a file. Default 512 MiB: larger than any camera's TIFF, small enough to hold several at once.
    pub encoded_bytes_max: u64,
    /// Most pixels along a side. Default 65,535, the most a JPEG can have.
    pub side_max: u32,
    /// Most pixels. Default 100 million (10,000 × 10,000): 300 MB as 8-bit RGB.
    pub pixels_max: u64,
    /// Most bytes of an ICC profile once inflated. Default 4 MiB: the largest common profiles (CMYK tables) have about 3 MB.
    pub profile_bytes_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            encoded_bytes_max: 512 << 20,
            side_max: 65_535,
            pixels_max: 100_000_000,
            profile_bytes_max: 4 << 20,
        }
    }
}

impl DecodeLimits {
    /// Lets a size pass, or says why not. Every decoder asks this before it allocates by a header's word.
    fn admit(&self, width: u64, height: u64) -> Result<(), DecodeError> {
        if width == 0 || height == 0 {
            return Err(DecodeError::NoPixels { width, height });
        }
        let side_max = u64::from(self.side_max);
        if width > side_max || height > side_max {
            return Err(DecodeError::TooLarge { width, height, limit: format!("{side_max} pixels a side") });
        }
        if width * height > self.pixels_max {
            return Err(DecodeError::TooLarge {
                width,
                height,
                limit: format!("{} pixels", self.pixels_max),
            });
        }
        Ok(())
    }
}

/// A picture that was read.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The picture, upright.
    pub picture: Picture,
    /// What the bytes were.
    pub format: InputFormat,
    /// Whether the pixels went through lossy compression: JPEG, lossy WebP, JPEG inside TIFF, AVIF, JPEG XL unless all of
    /// it is of the lossless kind.
    pub lossy: bool,
    /// What a person should know: "first frame of an animation", "profile dropped: …".
    pub notes: Vec<String>,
}

/// Why no picture came out. Each says on one line what is wrong, for a report of thousands of files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// The bytes are no picture, or one in a format that is not read.
    #[error("this is {what}")]
    NotReadable {
        /// What they are.
        what: &'static str,
    },
    /// The file is larger than the limit.
    #[error("the file has {bytes} bytes, more than the limit of {bytes_max}")]
    TooManyBytes {
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The picture is larger than the limits.
    #[error("the picture says it is {width}x{height}, more than the limit of {limit}")]
    TooLarge {
        /// Claimed pixels in a row.
        width: u64,
        /// Claimed rows.
        height: u64,
        /// The limit it passes.
        limit: String,
    },
    /// The header says width or height 0.
    #[error("the picture says it is {width}x{height}: there are no pixels in it")]
    NoPixels {
        /// Claimed pixels in a row.
        width: u64,
        /// Claimed rows.
        height: u64,
    },
    /// The data end before the picture does.
    #[error("the {format} data end too early: the file is cut short")]
    Truncated {
        /// The format.
        format: InputFormat,
    },
    /// The data contradict themselves.
    #[error("the {format} data are damaged: {reason}")]
    Damaged {
        /// The format.
        format: InputFormat,
        /// What the decoder found.
        reason: String,
    },
    /// A sound file of a kind that is not read.
    #[error("this kind of {format} is not read: {reason}")]
    Unsupported {
        /// The format.
        format: InputFormat,
        /// What is special about it.
        reason: String,
    },
}

/// What a format's decoder hands back; [`finish`] checks and applies the metadata in one place.
struct Found {
    width: usize,
    height: usize,
    channels: Channels,
    samples: Samples,
    icc: Option<Vec<u8>>,
    exif: Option<Vec<u8>>,
    density: Option<Density>,
    /// The container's own orientation tag (TIFF, AVIF).
    orientation: Option<u16>,
    lossy: bool,
    notes: Vec<String>,
}

/// Decodes a PNG, JPEG, WebP, TIFF, GIF, BMP, JPEG XL, AVIF or PNM.
///
/// # Errors
/// See [`DecodeError`]; its message is one line.
pub fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<Decoded, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() as u64 > limits.encoded_bytes_max {
        return Err(DecodeError::TooManyBytes {
            bytes: bytes.len() as u64,
            bytes_max: limits.encoded_bytes_max,
        });
    }
    let Some(format) = sniff(bytes) else {
        return Err(DecodeError::NotReadable { what: describe(bytes) });
    };
    let read = || match format {
        InputFormat::Png => png::read(bytes, limits),
        InputFormat::Jpeg => jpeg::read(bytes, limits),
        InputFormat::Webp => webp::read(bytes, limits),
        InputFormat::Tiff => tiff::read(bytes, limits),
        InputFormat::Gif => gif::read(bytes, limits),
        InputFormat::Bmp => bmp::read(bytes, limits),
        InputFormat::Jxl => jxl::read(bytes, limits),
        InputFormat::Avif => avif::read(bytes, limits),
        InputFormat::Pnm => pnm::read(bytes, limits),
    };
    // The decoders are other people's code with slices and assertions in it (tiff asserts on chunk sizes), and one
    // hostile file must not end a run over a million. Nothing outside the closure is changed by it, so unwinding
    // leaves nothing half done.
    let read = || read().map(|found| (found, Extras::read(bytes, format, limits.profile_bytes_max)));
    let (found, extras) = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(DecodeError::Damaged { format, reason: "the decoder gave up on it".to_owned() })
    })?;
    finish(found, extras, format)
}

/// Checks profile and EXIF, turns the picture upright, and collects metadata and notes.
fn finish(found: Found, mut extras: Extras, format: InputFormat) -> Result<Decoded, DecodeError> {
    let mut notes = found.notes;
    let icc =
        found.icc.or(extras.icc.take()).and_then(|profile| match icc::checked(profile, found.channels) {
            Ok(profile) => Some(profile),
            Err(fault) => {
                notes.push(format!("profile dropped: {fault}"));
                None
            }
        });
    let mut picture = Picture {
        width: found.width,
        height: found.height,
        channels: found.channels,
        samples: found.samples,
        metadata: Metadata { icc, density: found.density, ..Metadata::default() },
    };
    if !picture.is_whole() {
        let reason = "its pixels do not fill its size".to_owned();
        return Err(DecodeError::Damaged { format, reason });
    }

    let block = found.exif.or(extras.exif.take());
    let block = block.as_deref().map(exif::without_prefix);
    let facts = block.and_then(|block| match exif::facts(block) {
        Ok(facts) => Some(facts),
        Err(fault) => {
            notes.push(format!("EXIF dropped: {fault}"));
            None
        }
    });
    if picture.metadata.density.is_none() {
        picture.metadata.density = facts.and_then(|facts| facts.density);
    }
    let by_exif = match format {
        // Their own word counts, and EXIF repeats it at best (ISO/IEC 18181-2, 9.5; ISO/IEC 23000-22, 7.3.10).
        InputFormat::Jxl | InputFormat::Avif => None,
        _ => facts.and_then(|facts| facts.orientation),
    };
    if let Some(tag) = by_exif.or(found.orientation) {
        match Orientation::from_tag(tag) {
            Some(turn) => orientation::turn(&mut picture, turn),
            None => notes.push(format!("orientation {tag} ignored: it must be 1 to 8")),
        }
    }
    // The block must not contradict the pixels it lies beside, also if it is never written.
    if let (Some(block), Some(_)) = (block, facts) {
        match exif::renewed(block, picture.width, picture.height) {
            Ok(block) => picture.metadata.exif = Some(block),
            Err(fault) => notes.push(format!("EXIF dropped: {fault}")),
        }
    }
    let (width, height) = (picture.width, picture.height);
    extras.settle(&mut picture.metadata, &mut notes, width, height);
    Ok(Decoded { picture, format, lossy: found.lossy, notes })
}

/// A damaged-data error, on one line. `error` is in words of our own.
fn damaged(format: InputFormat, error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Damaged { format, reason: one_line(error) }
}

/// An unsupported-kind error, on one line. `error` is in words of our own, and tells a way out.
fn unsupported(format: InputFormat, error: &dyn std::fmt::Display) -> DecodeError {
    DecodeError::Unsupported { format, reason: one_line(error) }
}

fn one_line(message: &dyn std::fmt::Display) -> String {
    let words = message.to_string();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    words.trim_end_matches('.').chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The pixels without alpha if that is full everywhere, where a format always gives four channels.
fn without_opaque_alpha(mut rgba: Vec<u8>) -> (Channels, Vec<u8>) {
    if rgba.chunks_exact(4).any(|pixel| pixel[3] != u8::MAX) {
        return (Channels::Rgba, rgba);
    }
    let pixels = rgba.len() / 4;
    for i in 1..pixels {
        rgba.copy_within(4 * i..4 * i + 3, 3 * i);
    }
    rgba.truncate(3 * pixels);
    (Channels::Rgb, rgba)
}

/// Width and height of a JPEG XL, an AVIF or a PNM as they are stored, as far as the beginning of the file says so.
pub(super) fn stored_size(bytes: &[u8], format: InputFormat) -> Option<(u32, u32)> {
    match format {
        InputFormat::Jxl => jxl::size(bytes),
        InputFormat::Avif => avif::size(bytes),
        InputFormat::Pnm => pnm::size(bytes),
        _ => None,
    }
}
