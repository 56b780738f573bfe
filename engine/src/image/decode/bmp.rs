//! Windows bitmaps: colours by the `image` crate, alpha here.
//!
//! Alpha is read where the header has a mask for it, also in files that are said to have none (BI_RGB). It is believed
//! only if some pixel shows: many programs write 0 for all of it and mean an opaque picture.

mod header;

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::{ColorType, ImageDecoder, ImageError};

use self::header::Header;
use super::{
    Channels, DecodeError, DecodeLimits, Density, Found, InputFormat, Samples, damaged, unsupported,
};

const FORMAT: InputFormat = InputFormat::Bmp;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let header = Header::read(bytes).ok_or(DecodeError::Truncated { format: FORMAT })?;
    limits.admit(header.width, header.height)?;
    if let Some(reason) = header.unread() {
        return Err(unsupported(FORMAT, &reason));
    }
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|e| fault(&e))?;
    let (width, height) = decoder.dimensions();
    limits.admit(width.into(), height.into())?;
    let colours = decoder.color_type();
    let stored = usize::from(colours.bytes_per_pixel());
    if !matches!(colours, ColorType::Rgb8 | ColorType::Rgba8) {
        return Err(unsupported(FORMAT, &"its colours are of an unusual kind: save it again as PNG"));
    }
    let mut samples = vec![0; width as usize * height as usize * stored];
    decoder.read_image(&mut samples).map_err(|e| fault(&e))?;

    let mut notes = Vec::new();
    let masked = |mask| header.masked(bytes, mask).filter(|alpha| says_something(alpha));
    let alpha = header.alpha_bits().and_then(masked);
    if header.spare_bits().and_then(masked).is_some() {
        notes
            .push("the fourth byte of its pixels was left out: the header does not call it alpha".to_owned());
    }
    let (channels, samples) = match alpha {
        Some(alpha) => (Channels::Rgba, joined(&samples, stored, &alpha)),
        None if stored == 4 => (Channels::Rgb, without_fourth(samples)),
        None => (Channels::Rgb, samples),
    };
    Ok(Found {
        width: width as usize,
        height: height as usize,
        channels,
        samples: Samples::U8(samples),
        icc: None,
        exif: None,
        density: density(bytes),
        orientation: None,
        lossy: false,
        notes,
    })
}

/// Whether alpha is neither 0 nor full everywhere.
fn says_something(alpha: &[u8]) -> bool {
    !alpha.iter().all(|&a| a == 0) && !alpha.iter().all(|&a| a == u8::MAX)
}

/// The colours of pixels of `stored` samples, each with its alpha.
fn joined(samples: &[u8], stored: usize, alpha: &[u8]) -> Vec<u8> {
    samples
        .chunks_exact(stored)
        .zip(alpha)
        .flat_map(|(pixel, &a)| [pixel[0], pixel[1], pixel[2], a])
        .collect()
}

fn without_fourth(mut rgba: Vec<u8>) -> Vec<u8> {
    let pixels = rgba.len() / 4;
    for i in 1..pixels {
        rgba.copy_within(4 * i..4 * i + 3, 3 * i);
    }
    rgba.truncate(3 * pixels);
    rgba
}

/// The crate's errors in words of our own: its texts are meant for its developers.
fn fault(error: &ImageError) -> DecodeError {
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        ImageError::Unsupported(_) => unsupported(FORMAT, &"it is of an unusual kind: save it again as PNG"),
        ImageError::Limits(_) => damaged(FORMAT, &"its size is impossible"),
        _ => damaged(FORMAT, &"its header or its pixels contradict themselves"),
    }
}

/// Pixels per metre, at bytes 38 and 42 of every header but the oldest.
fn density(bytes: &[u8]) -> Option<Density> {
    if u32::from_le_bytes(bytes.get(14..18)?.try_into().ok()?) < 40 {
        return None;
    }
    let per_metre = |at: usize| Some(f64::from(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)));
    Density::checked(per_metre(38)? * 0.0254, per_metre(42)? * 0.0254)
}
