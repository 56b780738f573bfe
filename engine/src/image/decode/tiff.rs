//! TIFF: bytes by the `tiff` crate, their meaning here.
//!
//! One page is read: the first, or where that is marked as a small preview the first that is not; a page list that points
//! back at itself is refused before it is followed. Gray, RGB and CMYK of 8, 16 and 32 bit, floats (clamped to 0..1, then
//! 16 bit), YCbCr, 1, 2 and 4 bit gray, palettes, alpha (premultiplied or not), strips, tiles and planes; CCITT G4, LZW,
//! deflate, PackBits, Zstandard and JPEG compression. All else is refused with its name, and so are cameras' RAW files, many of which are
//! TIFFs that begin with a thumbnail.
//!
//! A fourth sample that the file calls "unspecified" (ExtraSamples 0) is left out with a note, as Pillow leaves it out:
//! image editors store saved selections that way, and a selection taken for transparency would hide the picture.

mod kinds;
mod pages;
mod repacked;

use std::io::Cursor;

use ::tiff::ColorType;
use ::tiff::decoder::{BufferLayoutPreference, Decoder, DecodingSampleType, Limits};
use ::tiff::tags::Tag;
use bytemuck::Pod;

use super::{
    Channels, DecodeError, DecodeLimits, Density, Found, InputFormat, Samples, damaged, jpeg_markers,
    jpeg_scan, unsupported,
};
use kinds::fault;
use pages::{Choice, PALETTE, Pages};
use repacked::Units;

const FORMAT: InputFormat = InputFormat::Tiff;
const COMPRESSION_JPEG: u16 = 7;
/// With more JPEGs inside than this, tables would take longer to set up than pixels to decode, and none is walked.
const JPEGS_WALKED_MAX: usize = 4096;
const RAW: &str = crate::image::sniff::RAW;
const UNUSUAL: &str = "its pixels are of an unusual kind: save it again as 8 or 16-bit RGB";

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let pages = Pages::walk(bytes);
    if pages.as_ref().is_some_and(Pages::are_raw) {
        return Err(DecodeError::NotReadable { what: RAW });
    }
    let Some((pages, choice)) = pages.and_then(|pages| pages.choose().map(|choice| (pages, choice))) else {
        return Err(match Decoder::new(Cursor::new(bytes)) {
            Ok(_) => damaged(FORMAT, &"there is no page in it"),
            Err(error) => fault(&error),
        });
    };
    if let (Some(width), Some(height)) = (choice.page.width, choice.page.height) {
        limits.admit(width, height)?;
    }
    if let Some(reason) = kinds::unread(&choice.page) {
        return Err(unsupported(FORMAT, &reason));
    }
    match repacked::repacked(&pages, &choice, limits)? {
        Some((repacked, units)) => read_page(&repacked, limits, &choice, units.as_ref()),
        None => read_page(bytes, limits, &choice, None),
    }
}

/// Reads the first page of `bytes`, of which `choice` tells what it is, or `units` if it is gray only to the decoder.
fn read_page(
    bytes: &[u8],
    limits: &DecodeLimits,
    choice: &Choice,
    units: Option<&Units>,
) -> Result<Found, DecodeError> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| fault(&e))?;
    let (width, height) = decoder.dimensions().map_err(|e| fault(&e))?;
    if units.is_none() {
        limits.admit(width.into(), height.into())?;
    }
    let mut tiff_limits = Limits::default();
    tiff_limits.ifd_value_size = limits.profile_bytes_max.max(1 << 20);
    tiff_limits.intermediate_buffer_size = bytes.len();
    let mut decoder = decoder.with_limits(tiff_limits);

    let jpeg_inside =
        decoder.find_tag_unsigned::<u16>(Tag::Compression).ok().flatten() == Some(COMPRESSION_JPEG);
    check_chunks(&mut decoder, bytes, jpeg_inside)?;
    let stored = Stored::of(&mut decoder, jpeg_inside)?;
    let layout = decoder.image_buffer_layout().map_err(|e| fault(&e))?;
    let (width, height) = (width as usize, height as usize);
    let pixels = width * height;

    let mut notes: Vec<_> = choice.note.map(str::to_owned).into_iter().collect();
    let mut samples = match layout.sample_type {
        Some(DecodingSampleType::U8) if stored.bits < 8 => {
            let packed = plane_or_planes::<u8>(&mut decoder, &layout, pixels, 1)?;
            Samples::U8(unpack(&packed, width, height, stored.bits))
        }
        Some(DecodingSampleType::U8) => {
            Samples::U8(plane_or_planes(&mut decoder, &layout, pixels, stored.samples)?)
        }
        Some(DecodingSampleType::U16) => {
            Samples::U16(plane_or_planes(&mut decoder, &layout, pixels, stored.samples)?)
        }
        Some(DecodingSampleType::U32) => {
            let wide = plane_or_planes::<u32>(&mut decoder, &layout, pixels, stored.samples)?;
            notes.push("32-bit samples became 16-bit".to_owned());
            Samples::U16(wide.into_iter().map(|v| (v >> 16) as u16).collect())
        }
        Some(DecodingSampleType::F16) => {
            let halves = plane_or_planes::<u16>(&mut decoder, &layout, pixels, stored.samples)?;
            floats(halves.into_iter().map(|v| half::f16::from_bits(v).to_f64()), &mut notes)
        }
        Some(DecodingSampleType::F32) => {
            let singles = plane_or_planes::<f32>(&mut decoder, &layout, pixels, stored.samples)?;
            floats(singles.into_iter().map(f64::from), &mut notes)
        }
        Some(DecodingSampleType::F64) => {
            let doubles = plane_or_planes::<f64>(&mut decoder, &layout, pixels, stored.samples)?;
            floats(doubles.into_iter(), &mut notes)
        }
        _ => return Err(unsupported(FORMAT, &UNUSUAL)),
    };
    let mut channels = stored.meaning.channels();
    let (mut width, mut height) = (width, height);
    if let (Some(units), Samples::U8(stored)) = (units, &samples) {
        samples = Samples::U8(units.coloured(stored)?);
        channels = Channels::Rgb;
        (width, height) = units.size();
    }
    if choice.page.photometric == Some(PALETTE) {
        samples = Samples::U8(coloured(&mut decoder, &samples, stored.bits)?);
        channels = Channels::Rgb;
    } else if stored.samples > stored.meaning.samples() {
        match &mut samples {
            Samples::U8(samples) => keep_first(samples, stored.samples, stored.meaning.samples()),
            Samples::U16(samples) => keep_first(samples, stored.samples, stored.meaning.samples()),
        }
    }
    match kinds::samples_left_out(&choice.page, channels.count()) {
        0 => {}
        1 => notes.push("a further sample was left out: the file does not call it transparency".to_owned()),
        n => notes.push(format!("{n} further samples a pixel were left out")),
    }
    match &mut samples {
        Samples::U8(samples) => stored.meaning.apply(samples, u8::MAX.into(), &mut notes),
        Samples::U16(samples) => stored.meaning.apply(samples, u16::MAX.into(), &mut notes),
    }
    if choice.has_more {
        notes.push("first of several pages".to_owned());
    }
    Ok(Found {
        width,
        height,
        channels,
        samples,
        icc: profile(&mut decoder, limits.profile_bytes_max, &mut notes),
        exif: None,
        density: density(&mut decoder),
        orientation: decoder.find_tag_unsigned(Tag::Orientation).ok().flatten(),
        lossy: jpeg_inside,
        notes,
    })
}

/// What the samples of a pixel are once read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Plain(Channels),
    /// Colour times alpha; becomes plain.
    Premultiplied(Channels),
    /// Becomes RGB.
    Cmyk,
    /// Full-range BT.601, as in every JPEG; becomes RGB.
    YCbCr,
}

/// How a page stores its pixels.
struct Stored {
    meaning: Meaning,
    samples: usize,
    bits: u8,
}

impl Stored {
    fn of(decoder: &mut Reader<'_>, jpeg_inside: bool) -> Result<Self, DecodeError> {
        let colours = decoder.colortype().map_err(|e| fault(&e))?;
        let extra =
            decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten().unwrap_or_default();
        // 1 is premultiplied ("associated") alpha, 2 plain alpha (TIFF 6.0, section 18).
        let alpha = |channels| match extra.first() {
            Some(1) => Meaning::Premultiplied(channels),
            _ => Meaning::Plain(channels),
        };
        let (meaning, samples, bits) = match colours {
            ColorType::Gray(bits) => (Meaning::Plain(Channels::Gray), 1, bits),
            ColorType::Multiband { bit_depth, num_samples } => {
                let meaning = match extra.first() {
                    Some(1 | 2) => alpha(Channels::GrayAlpha),
                    _ => Meaning::Plain(Channels::Gray),
                };
                (meaning, num_samples.into(), bit_depth)
            }
            ColorType::RGB(bits) => (Meaning::Plain(Channels::Rgb), 3, bits),
            ColorType::RGBA(bits) => (alpha(Channels::Rgba), 4, bits),
            ColorType::CMYK(bits) => (Meaning::Cmyk, 4, bits),
            ColorType::YCbCr(bits) if jpeg_inside => (Meaning::YCbCr, 3, bits),
            _ => return Err(unsupported(FORMAT, &UNUSUAL)),
        };
        Ok(Self { meaning, samples, bits })
    }
}

impl Meaning {
    fn channels(self) -> Channels {
        match self {
            Self::Plain(channels) | Self::Premultiplied(channels) => channels,
            Self::Cmyk | Self::YCbCr => Channels::Rgb,
        }
    }

    /// Samples of a pixel that mean something.
    fn samples(self) -> usize {
        match self {
            Self::Plain(channels) | Self::Premultiplied(channels) => channels.count(),
            Self::Cmyk => 4,
            Self::YCbCr => 3,
        }
    }

    /// Turns stored samples into plain gray or RGB ones, in place.
    fn apply<T: Level>(self, samples: &mut Vec<T>, full: u64, notes: &mut Vec<String>) {
        match self {
            Self::Plain(_) => {}
            Self::Premultiplied(channels) => {
                let count = channels.count();
                for pixel in samples.chunks_exact_mut(count) {
                    let (colours, alpha) = pixel.split_at_mut(count - 1);
                    let alpha = alpha[0].level();
                    for colour in colours.iter_mut().filter(|_| alpha > 0) {
                        *colour = T::from_level(((colour.level() * full + alpha / 2) / alpha).min(full));
                    }
                }
            }
            Self::Cmyk => {
                notes.push("CMYK became RGB".to_owned());
                let pixels = samples.len() / 4;
                for i in 0..pixels {
                    let black = full - samples[4 * i + 3].level();
                    for c in 0..3 {
                        let ink = full - samples[4 * i + c].level();
                        samples[3 * i + c] = T::from_level((ink * black + full / 2) / full);
                    }
                }
                samples.truncate(3 * pixels);
            }
            Self::YCbCr => {
                // ITU-T T.871 (JFIF), in 16.16 fixed point.
                let half = i64::try_from(full / 2 + 1).unwrap_or(i64::MAX);
                let level = |v: i64| T::from_level(((v + (1 << 15)) >> 16).clamp(0, full as i64) as u64);
                for pixel in samples.chunks_exact_mut(3) {
                    let y = (pixel[0].level() as i64) << 16;
                    let (cb, cr) = (pixel[1].level() as i64 - half, pixel[2].level() as i64 - half);
                    pixel[0] = level(y + 91_881 * cr);
                    pixel[1] = level(y - 22_554 * cb - 46_802 * cr);
                    pixel[2] = level(y + 116_130 * cb);
                }
            }
        }
    }
}

/// A sample that can be computed with.
trait Level: Copy {
    fn level(self) -> u64;
    /// `level` is within the type's range.
    fn from_level(level: u64) -> Self;
}

impl Level for u8 {
    fn level(self) -> u64 {
        self.into()
    }
    fn from_level(level: u64) -> Self {
        level as Self
    }
}

impl Level for u16 {
    fn level(self) -> u64 {
        self.into()
    }
    fn from_level(level: u64) -> Self {
        level as Self
    }
}

/// Reads the page as `T`s, (H, W, samples) interleaved also if it is stored in planes.
fn plane_or_planes<T: Pod>(
    decoder: &mut Reader<'_>,
    layout: &BufferLayoutPreference,
    pixels: usize,
    samples: usize,
) -> Result<Vec<T>, DecodeError> {
    let mut stored = vec![T::zeroed(); layout.complete_len.div_ceil(size_of::<T>())];
    decoder.read_image_bytes(bytemuck::cast_slice_mut(&mut stored)).map_err(|e| fault(&e))?;
    if layout.planes <= 1 {
        return Ok(stored);
    }
    if layout.planes < samples || stored.len() < pixels * samples {
        return Err(damaged(FORMAT, &"some of its planes are missing"));
    }
    let mut interleaved = Vec::with_capacity(pixels * samples);
    for i in 0..pixels {
        interleaved.extend((0..samples).map(|plane| stored[plane * pixels + i]));
    }
    Ok(interleaved)
}

/// Keeps the first `kept` of every `count` samples.
fn keep_first<T: Copy>(samples: &mut Vec<T>, count: usize, kept: usize) {
    let pixels = samples.len() / count;
    for i in 0..pixels {
        samples.copy_within(count * i..count * i + kept, kept * i);
    }
    samples.truncate(kept * pixels);
}

/// The colours of a page of indices, which [`unpack`] may have widened to 8 bit. ColorMap holds all reds, all greens and
/// all blues, of 16 bits each (TIFF 6.0, section 5).
fn coloured(decoder: &mut Reader<'_>, indices: &Samples, bits: u8) -> Result<Vec<u8>, DecodeError> {
    let map = decoder.find_tag_unsigned_vec::<u16>(Tag::ColorMap).map_err(|e| fault(&e))?.unwrap_or_default();
    let Samples::U8(indices) = indices else {
        return Err(unsupported(FORMAT, &format!("its palette has {bits} bits: save it again as RGB")));
    };
    let colours = 1 << bits;
    if bits > 8 || map.len() < 3 * colours {
        return Err(damaged(FORMAT, &"it has a palette type but no whole palette"));
    }
    // Some writers store 8-bit values; then none is above 255 (libtiff makes the same guess).
    let narrow = map.iter().all(|&v| v < 256);
    let level = |v: u16| if narrow { v as u8 } else { (v >> 8) as u8 };
    let scale = u8::MAX / (u8::MAX >> (8 - bits));
    let colour = |&index: &u8| [0, 1, 2].map(|c| level(map[c * colours + usize::from(index / scale)]));
    Ok(indices.iter().flat_map(colour).collect())
}

/// Rows of 1, 2 or 4-bit samples, each row padded to a byte, as 8-bit ones.
fn unpack(packed: &[u8], width: usize, height: usize, bits: u8) -> Vec<u8> {
    let per_byte = usize::from(8 / bits);
    let mask = u8::MAX >> (8 - bits);
    let mut samples = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(width.div_ceil(per_byte)).take(height) {
        samples.extend((0..width).map(|x| {
            let shift = 8 - bits as usize * (x % per_byte + 1);
            (row[x / per_byte] >> shift & mask) * (u8::MAX / mask)
        }));
    }
    samples
}

/// Floats in 0..1 as 16-bit samples; what lies outside is clamped, and said. Not-a-number is 0.
fn floats(values: impl Iterator<Item = f64>, notes: &mut Vec<String>) -> Samples {
    let mut clamped = false;
    let samples = values
        .map(|value| {
            clamped |= !(0.0..=1.0).contains(&value);
            (value.clamp(0.0, 1.0) * 65_535.0).round() as u16
        })
        .collect();
    notes.push("float samples became 16-bit".to_owned());
    if clamped {
        notes.push("samples outside 0..1 were clamped".to_owned());
    }
    Samples::U16(samples)
}

/// Bounds what decoding the strips or tiles may cost before it starts: together they must not have more bytes than the
/// file (many entries may point at the same data), and a JPEG inside must not claim more pixels than its place has, nor end
/// before they do.
fn check_chunks(decoder: &mut Reader<'_>, bytes: &[u8], jpeg_inside: bool) -> Result<(), DecodeError> {
    let mut numbers = |tags: [Tag; 2]| {
        let found = tags.into_iter().find_map(|tag| decoder.find_tag_unsigned_vec::<u64>(tag).ok().flatten());
        found.unwrap_or_default()
    };
    let offsets = numbers([Tag::StripOffsets, Tag::TileOffsets]);
    let lengths = numbers([Tag::StripByteCounts, Tag::TileByteCounts]);
    let total = lengths.iter().fold(0_u64, |sum, &length| sum.saturating_add(length));
    if total > bytes.len() as u64 {
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    if jpeg_inside {
        let tables = decoder.find_tag(Tag::JPEGTables).ok().flatten().and_then(|tag| tag.into_u8_vec().ok());
        let (width, height) = decoder.chunk_dimensions();
        for (&start, &length) in offsets.iter().zip(&lengths) {
            let end = start.saturating_add(length).min(bytes.len() as u64);
            let chunk = bytes.get(start as usize..end as usize).unwrap_or_default();
            if let Some((w, h)) = jpeg_markers::survey(chunk).size
                && (u64::from(w) > u64::from(width) + 16 || u64::from(h) > u64::from(height) + 16)
            {
                return Err(damaged(FORMAT, &"a JPEG inside it is larger than its place"));
            }
            // Its decoder would fill what is missing with gray. Tables that all share stand before each.
            let verdict = match tables.as_deref() {
                _ if offsets.len() > JPEGS_WALKED_MAX => continue,
                Some([tables @ .., _, _]) => {
                    jpeg_scan::check(&[tables, chunk.get(2..).unwrap_or_default()].concat())
                }
                _ => jpeg_scan::check(chunk),
            };
            if verdict == jpeg_scan::Verdict::Short {
                return Err(DecodeError::Truncated { format: FORMAT });
            }
        }
    }
    Ok(())
}

fn profile(decoder: &mut Reader<'_>, bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
    match decoder.find_tag(Tag::IccProfile) {
        Ok(None) => None,
        Ok(Some(value)) => match value.into_u8_vec() {
            Ok(profile) if profile.len() <= bytes_max => Some(profile),
            _ => {
                notes.push("profile dropped: its tag is damaged".to_owned());
                None
            }
        },
        Err(_) => {
            notes.push("profile dropped: its tag is damaged".to_owned());
            None
        }
    }
}

fn density(decoder: &mut Reader<'_>) -> Option<Density> {
    // 2 is inches, 3 centimetres; absent means inches (TIFF 6.0, section 8).
    let scale = match decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok().flatten() {
        None | Some(2) => 1.0,
        Some(3) => 2.54,
        Some(_) => return None,
    };
    let mut per_unit = |tag| match decoder.find_tag(tag) {
        Ok(Some(::tiff::decoder::ifd::Value::Rational(n, d))) => Some(f64::from(n) / f64::from(d)),
        _ => None,
    };
    Density::checked(per_unit(Tag::XResolution)? * scale, per_unit(Tag::YResolution)? * scale)
}
