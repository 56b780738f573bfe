//! PNG: everything by the `png` crate except the profile, which is inflated here under a cap.
//!
//! Texts and colour are [`super::png_chunks`]'s. Checksums are checked. A file without its end marker is read if every pixel
//! is there.

use std::io::{Cursor, Read};

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Transformations, Unit};

use super::{
    Channels, DecodeError, DecodeLimits, Density, Found, InputFormat, Samples, damaged, png_end, unsupported,
};

const FORMAT: InputFormat = InputFormat::Png;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    if bytes.get(12..16) == Some(b"CgBI") {
        let reason = "it is Apple's CgBI variant: save it again as ordinary PNG (\"pngcrush -revert-iphone-optimizations\" does)";
        return Err(unsupported(FORMAT, &reason));
    }
    let Some(stop) = png_end::missing(bytes) else { return read_ended(bytes, limits) };
    let ended = [&bytes[..stop.at], &png_end::IEND].concat();
    let mut found = read_ended(&ended, limits).map_err(|error| match error {
        DecodeError::Damaged { .. } => DecodeError::Truncated { format: FORMAT },
        other => other,
    })?;
    let note = match stop.in_chunk {
        true => "the file is cut short after its pixels, which are all there",
        false => "the end marker is missing; every pixel is there",
    };
    found.notes.push(note.to_owned());
    Ok(found)
}

/// Reads a PNG that has its end marker, or is cut before that is due.
fn read_ended(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palette, colour key and 1, 2, 4 bit become plain 8-bit channels; 16 bit stays.
    decoder.set_transformations(Transformations::EXPAND);
    // The size is read ahead of the crate: it refuses 0 itself, but with words of its own.
    if let Some(header) = bytes.get(16..24).filter(|_| &bytes[12..16] == b"IHDR") {
        let side = |at: usize| {
            u64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
        };
        limits.admit(side(0), side(4))?;
    }
    let mut reader = decoder.read_info().map_err(|e| fault(&e))?;
    let (width, height) = reader.info().size();
    limits.admit(width.into(), height.into())?;

    let (colour, depth) = reader.output_color_type();
    let channels = match colour {
        ColorType::Grayscale => Channels::Gray,
        ColorType::GrayscaleAlpha => Channels::GrayAlpha,
        ColorType::Rgb => Channels::Rgb,
        ColorType::Rgba => Channels::Rgba,
        ColorType::Indexed => return Err(damaged(FORMAT, &"it has a palette type but no palette")),
    };
    let size = reader.output_buffer_size().ok_or_else(|| damaged(FORMAT, &"its size is impossible"))?;
    // Zeroed memory costs nothing until it is written, so a small file that claims much stays cheap.
    let samples = if depth == BitDepth::Sixteen {
        let mut samples = vec![0_u16; size / 2];
        reader.next_frame(bytemuck::cast_slice_mut(&mut samples)).map_err(|e| fault(&e))?;
        samples.iter_mut().for_each(|v| *v = u16::from_be(*v));
        Samples::U16(samples)
    } else {
        let mut samples = vec![0_u8; size];
        reader.next_frame(&mut samples).map_err(|e| fault(&e))?;
        Samples::U8(samples)
    };

    let mut notes = Vec::new();
    if let Some(animation) = reader.info().animation_control {
        notes.push(format!("first of {} frames", animation.num_frames));
    }
    // The pixels are whole and their checksums right; EXIF may still follow, and what is wrong there costs no pixel.
    if reader.finish().is_err() {
        notes.push("the file is damaged after its pixels".to_owned());
    }
    let info = reader.info();
    let exif = info.exif_metadata.as_deref().map(<[u8]>::to_vec);
    let density = info
        .pixel_dims
        .filter(|dims| matches!(dims.unit, Unit::Meter))
        .and_then(|dims| Density::checked(f64::from(dims.xppu) * 0.0254, f64::from(dims.yppu) * 0.0254));
    let icc = profile(bytes, limits.profile_bytes_max, &mut notes);
    let (width, height) = (width as usize, height as usize);
    Ok(Found { width, height, channels, samples, icc, exif, density, orientation: None, lossy: false, notes })
}

/// The crate's errors in words of our own: its texts are meant for its developers. What is wrong with the format it tells
/// only by text, so the beginnings of a few are looked for; what they do not match has words that fit all.
fn fault(error: &DecodingError) -> DecodeError {
    let what = match error {
        DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            return DecodeError::Truncated { format: FORMAT };
        }
        DecodingError::IoError(_) => "its compressed pixels do not unpack",
        DecodingError::LimitsExceeded => "it takes more memory than its size accounts for",
        DecodingError::Parameter(_) => "its chunks contradict each other",
        DecodingError::Format(error) => {
            let text = error.to_string();
            let words = [
                ("CRC error", "a checksum is wrong"),
                ("Corrupt deflate", "its compressed pixels do not unpack"),
                ("IDAT or f", "it has fewer pixels than its header says"),
                ("Missing palette", "it has a palette type but no palette"),
                ("Unknown filter", "its pixels do not unpack"),
                ("Invalid", "its header is wrong"),
                ("Unrecognized critical", "it has a chunk that must be understood and is not known"),
            ];
            let known = words.iter().find(|(start, _)| text.starts_with(start));
            known.map_or("its chunks are wrong or in disorder", |(_, words)| words)
        }
    };
    damaged(FORMAT, &what)
}

/// The profile of the iCCP chunk, inflated to at most `bytes_max`.
fn profile(bytes: &[u8], bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
    let chunk = chunk_before_pixels(bytes, b"iCCP")?;
    // Name, zero, method 0, zlib data (PNG 3rd edition, 11.3.2.3).
    let name_end = chunk.iter().take(80).position(|&b| b == 0);
    let Some([0, compressed @ ..]) = name_end.map(|end| &chunk[end + 1..]) else {
        notes.push("profile dropped: its chunk is damaged".to_owned());
        return None;
    };
    let mut profile = Vec::new();
    let cap = bytes_max as u64 + 1;
    let inflated = flate2::read::ZlibDecoder::new(compressed).take(cap).read_to_end(&mut profile);
    if profile.len() > bytes_max {
        notes.push(format!("profile dropped: it unpacks to more than {bytes_max} bytes"));
        None
    } else if inflated.is_err() {
        notes.push("profile dropped: it does not unpack".to_owned());
        None
    } else {
        Some(profile)
    }
}

/// The data of the first chunk called `name` before the pixels.
fn chunk_before_pixels<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let kind = rest.get(4..8)?;
        if kind == name {
            return rest.get(8..8_usize.checked_add(length)?);
        }
        if kind == b"IDAT" {
            return None;
        }
        rest = rest.get(length.checked_add(12)?..)?;
    }
}
