//! JPEG: the segments are walked here, the scans are decoded by `zune-jpeg`.
//!
//! The walk settles what the decoder does not tell: whether the data reach their end marker (a file cut in the middle
//! otherwise decodes to a half-gray picture without an error), the claimed size before any allocation, the profile
//! joined from its APP2 segments, EXIF and the JFIF density. [`super::jpeg_kind`] names the kinds that are not read;
//! [`super::jpeg_scan`] then looks for scans that end early or were overwritten, and for a picture that is whole without
//! its end marker.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{
    Channels, DecodeError, DecodeLimits, Density, Found, InputFormat, Samples, damaged, jpeg_kind, jpeg_scan,
    unsupported,
};

const FORMAT: InputFormat = InputFormat::Jpeg;

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let survey = survey(bytes);
    let frame = survey.frame.filter(|_| survey.has_scan);
    if let Some(reason) = frame.and_then(|(marker, data)| jpeg_kind::unread(marker, data)) {
        return Err(unsupported(FORMAT, &reason));
    }
    let Some((width, height)) = survey.size else {
        return Err(if survey.complete {
            damaged(FORMAT, &"there is no picture in it")
        } else {
            truncated()
        });
    };
    limits.admit(width.into(), height.into())?;
    // Every 8 x 8 block of at least one component takes a bit or more of its first scan, so a few bytes that claim
    // many pixels are refused before these are allocated.
    let blocks = u64::from(width.div_ceil(8)) * u64::from(height.div_ceil(8));
    if (bytes.len() as u64) < blocks / 8 {
        return Err(truncated());
    }

    use jpeg_scan::Verdict;
    let note = match (jpeg_scan::check(bytes), survey.complete) {
        (Verdict::Open(end), _) => {
            let ended = [&bytes[..end], &[0xff, 0xd9]].concat();
            let note = "the end marker is missing; every block of the picture is there";
            return read_pixels(&ended, &self::survey(&ended), limits, Some(note));
        }
        (Verdict::Short, _) | (_, false) => return Err(truncated()),
        (Verdict::Coarse, true) => Some("the picture is coarse: its finer scans are missing"),
        (Verdict::Odd, true) => Some("the data are damaged: parts of the picture may be wrong"),
        (Verdict::Whole | Verdict::Unknown, true) => None,
    };
    read_pixels(bytes, &survey, limits, note)
}

/// Decodes a JPEG whose segments and scans were looked at; `note` is what the look at the scans found.
fn read_pixels(
    bytes: &[u8],
    survey: &Survey<'_>,
    limits: &DecodeLimits,
    note: Option<&str>,
) -> Result<Found, DecodeError> {
    let (width, height) = survey.size.ok_or_else(truncated)?;
    // Lenient about the headers, as every viewer is; strict about the scans, where lenience means invented pixels.
    // The portable code paths only: the vector ones are chosen by CPU, and the same file must give the same bits.
    let options = DecoderOptions::default()
        .set_use_unsafe(false)
        .set_strict_mode(false)
        .set_max_width(width.into())
        .set_max_height(height.into())
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| fault(&e))?;
    let (colours, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, Channels::Gray),
        Some(ColorSpace::RGB | ColorSpace::YCbCr | ColorSpace::CMYK | ColorSpace::YCCK) => {
            (ColorSpace::RGB, Channels::Rgb)
        }
        _ => return Err(unsupported(FORMAT, &jpeg_kind::COLOURS)),
    };
    let cmyk = matches!(decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK));
    decoder.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(colours));
    let (width, height) = (usize::from(width), usize::from(height));
    let mut samples = vec![0; width * height * channels.count()];
    if decoder.dimensions() != Some((width, height)) || decoder.output_buffer_size() != Some(samples.len()) {
        return Err(damaged(FORMAT, &"it gives its size twice, differently"));
    }
    decoder.decode_into(&mut samples).map_err(|e| fault(&e))?;

    let mut notes = Vec::new();
    if cmyk {
        notes.push("CMYK became RGB".to_owned());
    }
    notes.extend(note.map(str::to_owned));
    let icc = survey.profile(limits.profile_bytes_max, &mut notes);
    let exif = survey.exif.map(<[u8]>::to_vec);
    let density = survey.density;
    let samples = Samples::U8(samples);
    Ok(Found { width, height, channels, samples, icc, exif, density, orientation: None, lossy: true, notes })
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}

/// The crate's errors in words of our own: its texts are meant for its developers.
fn fault(error: &DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => truncated(),
        DecodeErrors::Unsupported(_) => unsupported(FORMAT, &jpeg_kind::CODING),
        DecodeErrors::HuffmanDecode(_) => damaged(FORMAT, &"a code in it has no meaning"),
        DecodeErrors::DqtError(_) => damaged(FORMAT, &"its quantization tables are wrong"),
        DecodeErrors::SosError(_) => damaged(FORMAT, &"the header of a scan is wrong"),
        DecodeErrors::SofError(_) => damaged(FORMAT, &"its frame header is wrong"),
        DecodeErrors::MCUError(_) => damaged(FORMAT, &"a block in it cannot be read"),
        DecodeErrors::LargeDimensions(_) | DecodeErrors::TooSmallOutput(..) | DecodeErrors::ZeroError => {
            damaged(FORMAT, &"its size is impossible")
        }
        DecodeErrors::IllegalMagicBytes(_) | DecodeErrors::Format(_) | DecodeErrors::FormatStatic(_) => {
            damaged(FORMAT, &"its segments or scans contradict each other")
        }
    }
}

/// What the segments of a JPEG say, without decoding a pixel.
#[derive(Default)]
pub(super) struct Survey<'a> {
    /// Width and height of the first frame header.
    pub(super) size: Option<(u16, u16)>,
    /// Marker and data of the first frame header.
    frame: Option<(u8, &'a [u8])>,
    has_scan: bool,
    /// Whether a scan was followed by the end marker.
    complete: bool,
    exif: Option<&'a [u8]>,
    density: Option<Density>,
    /// Number, of how many, bytes: the pieces of the profile as they came.
    profile_pieces: Vec<(u8, u8, &'a [u8])>,
}

/// Walks the segments of a JPEG from its start to its end marker. What follows the end marker is not looked at: phones
/// append films and second pictures there.
pub(super) fn survey(bytes: &[u8]) -> Survey<'_> {
    let mut survey = Survey::default();
    let mut at = 2;
    while let Some((marker, start)) = next_marker(bytes, at) {
        match marker {
            0xd9 => {
                survey.complete = survey.has_scan;
                break;
            }
            // Markers without a length: restart, start of image, temporary.
            0xd0..=0xd8 | 0x01 => at = start,
            _ => {
                let length =
                    bytes.get(start..start + 2).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                let Some(data) = length.filter(|&l| l >= 2).and_then(|l| bytes.get(start + 2..start + l))
                else {
                    break;
                };
                survey.take(marker, data);
                survey.has_scan |= marker == 0xda;
                at = start + 2 + data.len();
            }
        }
    }
    survey
}

/// The next marker's code at or after `at`, and where its segment begins. Entropy-coded data hide no marker: there a
/// 0xff is followed by 0 (ITU-T T.81, B.1.1.5), so the same search serves headers and scans.
pub(super) fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)?;
        match *bytes.get(at + 1)? {
            0x00 => at += 2,
            0xff => at += 1,
            marker => return Some((marker, at + 2)),
        }
    }
}

impl<'a> Survey<'a> {
    fn take(&mut self, marker: u8, data: &'a [u8]) {
        match (marker, data) {
            // SOF0 to SOF15 without DHT, JPG and DAC, which share the range; the header of a hierarchy, and JPEG-LS.
            (0xc0..=0xcf | 0xde | 0xf7, [_, h0, h1, w0, w1, ..]) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                self.frame.get_or_insert((marker, data));
                let size = (u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1]));
                self.size.get_or_insert(size);
            }
            (0xe0, [b'J', b'F', b'I', b'F', 0, _, _, unit, x0, x1, y0, y1, ..]) => {
                let per_inch = match unit {
                    1 => 1.0,
                    2 => 2.54,
                    _ => return,
                };
                let x = f64::from(u16::from_be_bytes([*x0, *x1])) * per_inch;
                let y = f64::from(u16::from_be_bytes([*y0, *y1])) * per_inch;
                self.density = self.density.or(Density::checked(x, y));
            }
            (0xe1, data) => {
                if let Some(block) = data.strip_prefix(b"Exif\0\0") {
                    self.exif.get_or_insert(block);
                }
            }
            (0xe2, data) => {
                if let Some([number, count, piece @ ..]) = data.strip_prefix(b"ICC_PROFILE\0") {
                    self.profile_pieces.push((*number, *count, piece));
                }
            }
            _ => {}
        }
    }

    /// The profile, joined in the order of its numbers (ICC.1:2022, B.4).
    fn profile(&self, bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
        let &(_, count, _) = self.profile_pieces.first()?;
        let mut pieces: Vec<_> = self.profile_pieces.iter().filter(|piece| piece.1 == count).collect();
        pieces.sort_by_key(|piece| piece.0);
        let whole = pieces.len() == usize::from(count) && pieces.iter().zip(1..=count).all(|(p, n)| p.0 == n);
        let size: usize = pieces.iter().map(|piece| piece.2.len()).sum();
        if !whole {
            notes.push("profile dropped: some of its segments are missing".to_owned());
            return None;
        }
        if size > bytes_max {
            notes.push(format!("profile dropped: it has {size} bytes, more than the limit of {bytes_max}"));
            return None;
        }
        Some(pieces.iter().flat_map(|piece| piece.2).copied().collect())
    }
}
