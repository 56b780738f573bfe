//! WebP: pixels by `image-webp`; the container is walked here first.
//!
//! The walk refuses a file that is cut short, and checks the size of every frame in it: the decoder allocates by a
//! frame's own header, which may claim more than the canvas. A size in the first header that does not fit the file is
//! said and put right if every chunk is there.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged, unsupported,
    without_opaque_alpha,
};

const FORMAT: InputFormat = InputFormat::Webp;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let parts = walk(bytes, limits)?;
    let mended = parts.size.map(|size| [&bytes[..4], &size.to_le_bytes(), &bytes[8..]].concat());
    // A file that is shorter than it says may have lost whole chunks: then what the decoder misses was cut off.
    let cut = |error: DecodeError| match error {
        DecodeError::Damaged { .. } if mended.is_some() => truncated(),
        other => other,
    };
    let readable = mended.as_deref().unwrap_or(bytes);
    let mut decoder = WebPDecoder::new(Cursor::new(readable)).map_err(|e| cut(fault(&e)))?;
    let (width, height) = decoder.dimensions();
    limits.admit(width.into(), height.into())?;
    let size = decoder.output_buffer_size().ok_or_else(|| damaged(FORMAT, &"its size is impossible"))?;
    let mut samples = vec![0; size];
    decoder.read_image(&mut samples).map_err(|e| cut(fault(&e)))?;

    let mut notes = Vec::new();
    if mended.is_some() {
        notes.push("the size in its header does not fit the file; the picture is whole".to_owned());
    }
    if decoder.is_animated() {
        notes.push(format!("first of {} frames", decoder.num_frames()));
    }
    let (channels, samples) = match (decoder.has_alpha(), decoder.is_animated()) {
        (false, _) => (Channels::Rgb, samples),
        (true, false) => (Channels::Rgba, samples),
        // The frames of an animation may have alpha where its first frame has none.
        (true, true) => without_opaque_alpha(samples),
    };
    let icc = match parts.icc {
        Some(profile) if profile.len() > limits.profile_bytes_max => {
            notes.push(format!("profile dropped: it has {} bytes, more than the limit", profile.len()));
            None
        }
        profile => profile.map(<[u8]>::to_vec),
    };
    Ok(Found {
        width: width as usize,
        height: height as usize,
        channels,
        samples: Samples::U8(samples),
        icc,
        exif: parts.exif.map(<[u8]>::to_vec),
        density: None,
        orientation: None,
        lossy: decoder.is_lossy(),
        notes,
    })
}

/// The crate's errors in words of our own: its texts are meant for its developers.
fn fault(error: &DecodingError) -> DecodeError {
    use DecodingError as Fault;
    let what = match error {
        Fault::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => return truncated(),
        Fault::NotEnoughInitData => return truncated(),
        Fault::UnsupportedFeature(_) => {
            return unsupported(FORMAT, &"it is coded in an unusual way: save it again as PNG");
        }
        Fault::HuffmanError
        | Fault::BitStreamError
        | Fault::TransformError
        | Fault::InvalidColorCacheBits(_)
        | Fault::LumaPredictionModeInvalid(_)
        | Fault::IntraPredictionModeInvalid(_)
        | Fault::ChromaPredictionModeInvalid(_)
        | Fault::IoError(_) => "its compressed pixels do not unpack",
        Fault::ImageTooLarge
        | Fault::InconsistentImageSizes
        | Fault::FrameOutsideImage
        | Fault::AlphaChunkSizeMismatch
        | Fault::MemoryLimitExceeded => "its sizes contradict each other",
        _ => "its chunks are wrong or in disorder",
    };
    damaged(FORMAT, &what)
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

#[derive(Default)]
struct Parts<'a> {
    /// The size that belongs in the first header, where another stands.
    size: Option<u32>,
    icc: Option<&'a [u8]>,
    exif: Option<&'a [u8]>,
}

/// Walks the RIFF chunks: all must lie inside the file, every frame's size must be admitted. What the header calls the
/// end is believed only where a chunk ends there (or a byte beside it) and the picture has come before.
fn walk<'a>(bytes: &'a [u8], limits: &DecodeLimits) -> Result<Parts<'a>, DecodeError> {
    let declared = le32(bytes, 4).ok_or_else(truncated)? as usize;
    let end = declared.saturating_add(8);
    let mut parts = Parts::default();
    let mut chunks = Chunks(&bytes[12..]);
    let mut has_picture = false;
    let mut at = 12_usize;
    // The padding byte after an odd last chunk is counted by some writers and left out by others.
    while !(has_picture && at.abs_diff(end) <= 1)
        && let Some((name, data)) = chunks.next()
    {
        if data.is_none() && has_picture && at > end {
            // What follows the end is no chunk, and not the picture's.
            break;
        }
        let data = data.ok_or_else(truncated)?;
        at = bytes.len() - chunks.0.len();
        has_picture |= matches!(name, b"VP8 " | b"VP8L" | b"ANMF");
        match name {
            b"VP8X" if data.len() >= 10 => {
                limits.admit(u64::from(le24(data, 4)) + 1, u64::from(le24(data, 7)) + 1)?;
            }
            b"ICCP" => parts.icc = parts.icc.or(Some(data)),
            b"EXIF" => parts.exif = parts.exif.or(Some(data)),
            b"ANMF" if data.len() >= 16 => {
                limits.admit(u64::from(le24(data, 6)) + 1, u64::from(le24(data, 9)) + 1)?;
                for (name, data) in Chunks(&data[16..]) {
                    admit_frame(name, data.ok_or_else(truncated)?, limits)?;
                }
            }
            _ => admit_frame(name, data, limits)?,
        }
    }
    if at.abs_diff(end) > 1 {
        parts.size = u32::try_from(at - 8).ok();
    }
    Ok(parts)
}

/// The size in a frame's own header: RFC 6386, 9.1 for lossy, RFC 9649, 3.4 for lossless.
fn admit_frame(name: &[u8; 4], data: &[u8], limits: &DecodeLimits) -> Result<(), DecodeError> {
    match (name, data) {
        (b"VP8 ", [_, _, _, _, _, _, w0, w1, h0, h1, ..]) => {
            let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
            limits.admit(side(*w0, *w1), side(*h0, *h1))
        }
        (b"VP8L", [_, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]);
            limits.admit(u64::from(bits & 0x3fff) + 1, u64::from(bits >> 14 & 0x3fff) + 1)
        }
        _ => Ok(()),
    }
}

/// Chunks of a RIFF body: name and data; the data are `None` where they pass the end.
pub(super) struct Chunks<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.split_first_chunk::<4>()?;
        let length = le32(rest, 0)? as usize;
        let data = rest.get(4..).and_then(|rest| rest.get(..length));
        self.0 = rest.get(4 + length + length % 2..).unwrap_or_default();
        Some((name, data))
    }
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn le24(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0])
}
