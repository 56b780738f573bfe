//! WebP: pixels by `image-webp`; the container is walked here first.
//!
//! The walk refuses a file that is cut short, and checks the size of every frame in it: the decoder allocates by a
//! frame's own header, which may claim more than the canvas.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::{
    Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged, unsupported,
    without_opaque_alpha,
};

const FORMAT: InputFormat = InputFormat::Webp;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let parts = walk(bytes, limits)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|e| fault(&e))?;
    let (width, height) = decoder.dimensions();
    limits.admit(width.into(), height.into())?;
    let size = decoder.output_buffer_size().ok_or_else(|| damaged(FORMAT, &"its size is impossible"))?;
    let mut samples = vec![0; size];
    decoder.read_image(&mut samples).map_err(|e| fault(&e))?;

    let mut notes = Vec::new();
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

fn fault(error: &DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => truncated(),
        DecodingError::UnsupportedFeature(what) => unsupported(FORMAT, what),
        other => damaged(FORMAT, other),
    }
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

#[derive(Default)]
struct Parts<'a> {
    icc: Option<&'a [u8]>,
    exif: Option<&'a [u8]>,
}

/// Walks the RIFF chunks: all must lie inside the file, every frame's size must be admitted.
fn walk<'a>(bytes: &'a [u8], limits: &DecodeLimits) -> Result<Parts<'a>, DecodeError> {
    let declared = le32(bytes, 4).ok_or_else(truncated)? as usize;
    // The padding byte after an odd last chunk is counted by some writers and left out by others.
    if declared > bytes.len() - 8 + 1 {
        return Err(truncated());
    }
    let body = &bytes[12..bytes.len().min(8 + declared).max(12)];
    let mut parts = Parts::default();
    for (name, data) in Chunks(body) {
        let data = data.ok_or_else(truncated)?;
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
