//! Kinds of TIFF that are sound but not read, and the decoder's errors, in words of our own with a way out.

use ::tiff::{TiffError, TiffFormatError, TiffUnsupportedError};

use super::pages::{PALETTE, Page};
use super::{DecodeError, FORMAT, damaged, unsupported};

/// Most samples of a pixel that are read, those that are left out included.
const SAMPLES_MAX: u64 = 5;

/// Why `page` is not read, in the words after "this kind of TIFF is not read"; `None` when it may be.
pub(super) fn unread(page: &Page) -> Option<String> {
    compression(page.compression)
        .map(|name| {
            format!("its pixels are compressed as {name}: save it again with LZW, deflate or no compression")
        })
        .or_else(|| colours(page).map(|what| format!("{what}: save it again as RGB")))
        .or_else(|| numbers(page).map(|what| format!("{what}: save it again with 8 or 16 bits a sample")))
}

/// The name of a compression that is not read.
fn compression(code: u64) -> Option<String> {
    let name = match code {
        // None, CCITT G4, LZW, JPEG, deflate twice, PackBits, Zstandard twice.
        1 | 4 | 5 | 7 | 8 | 32_773 | 32_946 | 34_926 | 50_000 => return None,
        2 => "CCITT run lengths",
        3 => "CCITT Group 3 fax",
        6 => "JPEG of the old style",
        32_766 => "NeXT run lengths",
        32_809 => "ThunderScan",
        33_003..=33_005 | 34_712 => "JPEG 2000",
        34_661 => "JBIG",
        34_676 | 34_677 => "LogLuv",
        34_887 => "LERC",
        34_925 => "LZMA",
        34_927 | 50_001 => "WebP",
        50_002 | 52_546 => "JPEG XL",
        code => return Some(format!("number {code}, which is not known")),
    };
    Some(name.to_owned())
}

fn colours(page: &Page) -> Option<String> {
    let (own, kind) = match page.photometric {
        Some(0 | 1 | PALETTE) => (1, None),
        Some(2) => (3, None),
        Some(5) => (4, None),
        Some(6) if page.compression == 7 => (3, None),
        Some(6) => (3, ycbcr(page)),
        Some(4) => (1, Some("it is only a mask")),
        Some(8..=10) => (3, Some("its colours are Lab")),
        Some(32_844 | 32_845) => (3, Some("its colours are LogLuv")),
        Some(_) => (1, Some("its colours are of an unknown kind")),
        None => (1, Some("it does not say what its colours are")),
    };
    match kind {
        Some(kind) => Some(kind.to_owned()),
        None if page.photometric == Some(PALETTE) && page.samples > 1 => {
            Some("it has a palette and further samples".to_owned())
        }
        None if page.samples < own || page.samples > SAMPLES_MAX => {
            Some(format!("it has {} samples a pixel", page.samples))
        }
        None if own == 4 && matches!(page.extra.first(), Some(1 | 2)) => {
            Some("it is CMYK with transparency".to_owned())
        }
        None => None,
    }
}

/// Why colours that are YCbCr without JPEG are not read.
fn ycbcr(page: &Page) -> Option<&'static str> {
    let known = page.subsampling.iter().all(|side| matches!(side, 1 | 2 | 4));
    match page {
        _ if !known => Some("its colours are YCbCr of an odd size"),
        Page { planar: true, .. } => Some("its colours are YCbCr in planes"),
        Page { samples: 4.., .. } => Some("it is YCbCr with further samples"),
        Page { predictor: 2.., .. } => Some("its colours are YCbCr stored as differences"),
        page if page.bits.iter().any(|&bits| bits != 8) => Some("its colours are YCbCr of more than 8 bits"),
        _ => None,
    }
}

fn numbers(page: &Page) -> Option<String> {
    let bits = page.bits.first().copied().unwrap_or(1);
    let format = page.sample_format.first().copied().unwrap_or(1);
    if page.bits.iter().any(|&other| other != bits) {
        return Some("its samples have different numbers of bits".to_owned());
    }
    if page.sample_format.iter().any(|&other| other != format) {
        return Some("its samples are of different kinds".to_owned());
    }
    match (format, bits) {
        (1, 8 | 16 | 32) | (3, 16 | 32 | 64) => None,
        (1, 1 | 2 | 4) if page.samples == 1 => None,
        (1, _) => Some(format!("it has {bits} bits a sample")),
        (2, _) => Some("its samples are signed".to_owned()),
        (3, _) => Some(format!("its samples are floats of {bits} bits")),
        (5 | 6, _) => Some("its samples are complex numbers".to_owned()),
        _ => Some("its samples are of no stated kind".to_owned()),
    }
}

/// How many samples of a pixel are left out: all that are neither colour nor the alpha that comes first of the others.
pub(super) fn samples_left_out(page: &Page, channels: usize) -> u64 {
    let own = if page.photometric == Some(5) { 4 } else { channels as u64 };
    page.samples.saturating_sub(own)
}

/// The crate's errors in words of our own: its texts are meant for its developers.
pub(super) fn fault(error: &TiffError) -> DecodeError {
    use TiffFormatError as Format;
    match error {
        TiffError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        TiffError::IoError(_) => damaged(FORMAT, &"its compressed pixels do not unpack"),
        TiffError::UnsupportedError(what) => unsupported(FORMAT, &unusual(what)),
        TiffError::LimitsExceeded | TiffError::IntSizeError => damaged(FORMAT, &"its sizes are impossible"),
        TiffError::UsageError(_) => damaged(FORMAT, &"its tags contradict each other"),
        TiffError::FormatError(fault) => {
            let what = match fault {
                Format::TiffSignatureNotFound | Format::TiffSignatureInvalid => "its header is wrong",
                Format::ImageFileDirectoryNotFound => "its list of pages points at nothing",
                Format::CycleInOffsets => "its list of pages runs in a circle",
                Format::InvalidDimensions(..) | Format::SamplesPerPixelIsZero => "there are no pixels in it",
                Format::RequiredTagNotFound(_) => "a tag that it needs is missing",
                Format::InvalidTag
                | Format::InvalidTagValueType(_)
                | Format::InvalidTypeForTag
                | Format::InvalidCountForTag(..) => "one of its tags is of the wrong kind",
                Format::CompressedDataCorrupt(_) => "its compressed pixels do not unpack",
                _ => "its tags contradict each other",
            };
            damaged(FORMAT, &what)
        }
    }
}

fn unusual(error: &TiffUnsupportedError) -> &'static str {
    use TiffUnsupportedError as Unusual;
    match error {
        Unusual::FloatingPointPredictor(_) | Unusual::HorizontalPredictor(_) => {
            "its pixels are stored as unusual differences: save it again without a predictor"
        }
        Unusual::ChromaSubsampling => {
            "its colours are stored at another size than its brightness: save it again as RGB"
        }
        Unusual::UnsupportedPlanarConfig(_) | Unusual::MisalignedTileBoundaries => {
            "its pixels lie in an unusual order: save it again in strips"
        }
        _ => "its pixels are of an unusual kind: save it again as 8 or 16-bit RGB",
    }
}
