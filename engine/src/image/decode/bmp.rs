//! Windows bitmaps, by the `image` crate.

use std::io::Cursor;

use ::image::codecs::bmp::BmpDecoder;
use ::image::{ColorType, ImageDecoder, ImageError};

use super::{
    Channels, DecodeError, DecodeLimits, Density, Found, InputFormat, Samples, damaged, unsupported,
    without_opaque_alpha,
};

const FORMAT: InputFormat = InputFormat::Bmp;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(|e| fault(&e))?;
    let (width, height) = decoder.dimensions();
    limits.admit(width.into(), height.into())?;
    let colours = decoder.color_type();
    let mut samples = vec![0; width as usize * height as usize * usize::from(colours.bytes_per_pixel())];
    decoder.read_image(&mut samples).map_err(|e| fault(&e))?;
    let (channels, samples) = match colours {
        ColorType::L8 => (Channels::Gray, samples),
        ColorType::Rgb8 => (Channels::Rgb, samples),
        ColorType::Rgba8 => without_opaque_alpha(samples),
        other => return Err(unsupported(FORMAT, &format!("{other:?}"))),
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
        notes: Vec::new(),
    })
}

fn fault(error: &ImageError) -> DecodeError {
    match error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        ImageError::Unsupported(what) => unsupported(FORMAT, what),
        other => damaged(FORMAT, other),
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
