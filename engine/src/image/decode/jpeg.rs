//! JPEG: decoded by `zune-jpeg`, after a look at its segments and scans that the decoder does not take.
//!
//! [`super::jpeg_markers`] settles what the decoder does not tell: whether the data reach their end marker (a file cut in
//! the middle otherwise decodes to a half-gray picture without an error), the claimed size before any allocation, the
//! profile, EXIF and the JFIF density. [`super::jpeg_kind`] names the kinds that are not read; [`super::jpeg_scan`] then
//! looks for scans that end early or were overwritten, and for a picture that is whole without its end marker.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::jpeg_markers::{Survey, survey};
use super::{
    Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged, jpeg_kind, jpeg_scan,
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
