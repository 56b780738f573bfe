//! Netpbm's pictures: PBM, PGM and PPM, as text (P1 to P3) or packed (P4 to P6), and PAM (P7).
//!
//! Up to 255 levels come out as 8 bit, more as 16 bit; a white that is not at 255 or 65,535 is brought there. The bytes that
//! a header asks for must be there before anything is allocated.

mod header;

use self::header::{Header, Kind, number};
use super::extras::Extras;
use super::{Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged};

const FORMAT: InputFormat = InputFormat::Pnm;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let header = Header::read(bytes).map_err(|fault| match fault {
        header::Fault::Cut => truncated(),
        header::Fault::Wrong(what) => damaged(FORMAT, &what),
    })?;
    limits.admit(header.width, header.height)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let count = width * height * header.channels.count();
    let body = bytes.get(header.length..).unwrap_or_default();
    let (samples, used) = match header.kind {
        Kind::Text => text(body, &header, count)?,
        Kind::TextBits => text_bits(body, count)?,
        Kind::Bits => bits(body, width, height)?,
        Kind::Bytes => packed(body, &header, count)?,
    };
    let mut notes = Vec::new();
    let rest = body.get(used..).unwrap_or_default().trim_ascii_start();
    if Header::read(rest).is_ok() {
        notes.push("first of several pictures".to_owned());
    }
    Ok(Found {
        width,
        height,
        channels: header.channels,
        samples,
        icc: None,
        exif: None,
        density: None,
        orientation: None,
        lossy: false,
        notes,
    })
}

/// Width and height from the first bytes.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = Header::read(bytes).ok()?;
    Some((u32::try_from(header.width).ok()?, u32::try_from(header.height).ok()?))
}

/// What a file says besides the pixels: its comments.
pub(super) fn read_comments(bytes: &[u8], extras: &mut Extras) {
    if let Ok(header) = Header::read(bytes)
        && !header.comments.is_empty()
    {
        extras.take_comment(&header.comments.join(&b'\n'));
    }
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

fn too_bright() -> DecodeError {
    damaged(FORMAT, &"a sample is brighter than its white")
}

/// Samples of 0..=`white` as 8 or 16 bit.
fn brought(
    values: impl Iterator<Item = Result<u32, DecodeError>>,
    white: u32,
) -> Result<Samples, DecodeError> {
    let full = if white < 256 { 255 } else { 65_535 };
    let level = |value: Result<u32, DecodeError>| {
        let value = value?;
        if value > white { Err(too_bright()) } else { Ok((value * full + white / 2) / white) }
    };
    Ok(match full {
        255 => Samples::U8(values.map(|v| level(v).map(|v| v as u8)).collect::<Result<_, _>>()?),
        _ => Samples::U16(values.map(|v| level(v).map(|v| v as u16)).collect::<Result<_, _>>()?),
    })
}

/// Numbers with space between them.
fn text(body: &[u8], header: &Header<'_>, count: usize) -> Result<(Samples, usize), DecodeError> {
    // A digit each, and a space but after the last.
    if body.len() < 2 * count - 1 {
        return Err(truncated());
    }
    let mut at = 0;
    let values = (0..count).map(|_| match number(body, &mut at) {
        Ok(value) => Ok(u32::try_from(value).unwrap_or(u32::MAX)),
        Err(header::Fault::Cut) => Err(truncated()),
        Err(header::Fault::Wrong(what)) => Err(damaged(FORMAT, &what)),
    });
    Ok((brought(values, header.white)?, at))
}

/// 0 is white and 1 black, with space between them or none.
fn text_bits(body: &[u8], count: usize) -> Result<(Samples, usize), DecodeError> {
    if body.len() < count {
        return Err(truncated());
    }
    let mut samples = Vec::with_capacity(count);
    let mut at = 0;
    while samples.len() < count {
        let byte = *body.get(at).ok_or_else(truncated)?;
        at += 1;
        match byte {
            b'0' => samples.push(255),
            b'1' => samples.push(0),
            b'#' => at += body[at..].iter().position(|&b| b == b'\n').ok_or_else(truncated)?,
            byte if byte.is_ascii_whitespace() => {}
            _ => return Err(damaged(FORMAT, &"there is something else among its bits")),
        }
    }
    Ok((Samples::U8(samples), at))
}

/// Rows of bits, each padded to a byte: 1 is black.
fn bits(body: &[u8], width: usize, height: usize) -> Result<(Samples, usize), DecodeError> {
    let stride = width.div_ceil(8);
    let rows = body.get(..stride * height).ok_or_else(truncated)?;
    let sample = |row: &[u8], x: usize| if row[x / 8] >> (7 - x % 8) & 1 == 1 { 0 } else { 255 };
    let samples = rows.chunks_exact(stride).flat_map(|row| (0..width).map(|x| sample(row, x))).collect();
    Ok((Samples::U8(samples), rows.len()))
}

/// Samples of a byte, or of two, the higher first.
fn packed(body: &[u8], header: &Header<'_>, count: usize) -> Result<(Samples, usize), DecodeError> {
    let size = if header.white < 256 { 1 } else { 2 };
    let samples = body.get(..count * size).ok_or_else(truncated)?;
    let used = samples.len();
    Ok(match (size, header.white) {
        (1, 255) => (Samples::U8(samples.to_vec()), used),
        (1, white) => (brought(samples.iter().map(|&v| Ok(v.into())), white)?, used),
        (_, white) => {
            let values = samples.as_chunks().0.iter().map(|&pair| Ok(u16::from_be_bytes(pair).into()));
            (brought(values, white)?, used)
        }
    })
}
