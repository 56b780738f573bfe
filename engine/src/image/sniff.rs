//! What a file is, told from its first bytes. Names are never believed.

use super::format::InputFormat;

/// The picture format of `bytes`, told from their signature; `None` when it is none that is read here.
pub fn sniff(bytes: &[u8]) -> Option<InputFormat> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(InputFormat::Png),
        [0xff, 0xd8, 0xff, ..] => Some(InputFormat::Jpeg),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(InputFormat::Webp),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(InputFormat::Tiff),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(InputFormat::Gif),
        // Two letters are little to go by: the header's size and the offset of the pixels must make sense too.
        [b'B', b'M', _, _, _, _, _, _, _, _, a, b, c, d, header, 0, 0, 0, ..]
            if u32::from_le_bytes([*a, *b, *c, *d]) >= 26
                && matches!(header, 12 | 40 | 52 | 56 | 64 | 108 | 124) =>
        {
            Some(InputFormat::Bmp)
        }
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', 0x0d, 0x0a, 0x87, 0x0a, ..] => {
            Some(InputFormat::Jxl)
        }
        [_, _, _, _, b'f', b't', b'y', b'p', ..] if is_avif(bytes) => Some(InputFormat::Avif),
        // As little to go by: a number or a comment must follow, or the first of PAM's lines.
        [b'P', b'1'..=b'6', space, rest @ ..] if space.is_ascii_whitespace() => {
            matches!(rest.trim_ascii_start(), [b'0'..=b'9' | b'#', ..]).then_some(InputFormat::Pnm)
        }
        [b'P', b'7', b'\n', b'A'..=b'Z' | b'#', ..] => Some(InputFormat::Pnm),
        _ => None,
    }
}

/// Whether the first box of an ISO media file names AVIF, as what it is or as what it can be read as (ISO/IEC 14496-12, 4.3).
fn is_avif(bytes: &[u8]) -> bool {
    let size = bytes.first_chunk().map_or(0, |&size| u32::from_be_bytes(size) as usize);
    let brands = bytes.get(8..size.min(bytes.len())).unwrap_or_default();
    let mut brands = brands.as_chunks::<4>().0.iter().enumerate();
    // The second is a number, not a brand.
    brands.any(|(i, brand)| i != 1 && matches!(brand, b"avif" | b"avis"))
}

/// What is said of a camera's RAW file, whichever signature it has.
pub(super) const RAW: &str = "a camera RAW file, which is not read: develop it first";

/// What `bytes` are when [`sniff`] knows no format: the words that go after "this is", for a person.
pub(super) fn describe(bytes: &[u8]) -> &'static str {
    if let Some(name) = foreign_format(bytes) {
        return name;
    }
    if bytes.iter().all(|&b| b == 0) {
        return "a file of zero bytes only";
    }
    let head = &bytes[..bytes.len().min(4096)];
    match text(head) {
        Some(text) => markup(&text).unwrap_or("a text file"),
        None => "no picture: its first bytes are those of no known format",
    }
}

/// Formats with a signature of their own that this build does not read.
fn foreign_format(bytes: &[u8]) -> Option<&'static str> {
    // Canon CRW and CR3, Fujifilm RAF, Minolta MRW, Olympus ORF, Panasonic and Leica RW2, Sigma X3F. The RAW files that
    // call themselves TIFF are told by their directories.
    let raw = matches!(
        bytes,
        [_, _, _, _, _, _, b'H', b'E', b'A', b'P', b'C', b'C', b'D', b'R', ..]
            | [_, _, _, _, b'f', b't', b'y', b'p', b'c', b'r', b'x', b' ', ..]
            | [b'F', b'U', b'J', b'I', b'F', b'I', b'L', b'M', b'C', b'C', b'D', b'-', b'R', b'A', b'W', ..]
            | [0, b'M', b'R', b'M' | b'I', ..]
            | [b'I', b'I', b'R', b'O' | b'S', 8, 0, 0, 0, ..]
            | [b'M', b'M', b'O', b'R', 0, 0, 0, 8, ..]
            | [b'I', b'I', b'U', 0, ..]
            | [b'F', b'O', b'V', b'b', ..]
    );
    if raw {
        return Some(RAW);
    }
    Some(match bytes {
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand {
            [b'h', b'e', b'i' | b'v', ..] | [b'm', b'i' | b's', b'f', b'1', ..] => {
                "HEIC or HEIF, which is not read by this build: convert it to PNG or JPEG"
            }
            _ => "a video or another ISO media file",
        },
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => {
            "JPEG 2000, which is not read by this build: convert it to PNG or JPEG"
        }
        [b'8', b'B', b'P', b'S', ..] => {
            "a Photoshop document, which is not read by this build: export it as PNG or TIFF"
        }
        [0x76, 0x2f, 0x31, 0x01, ..] => {
            "OpenEXR, which is not read by this build: convert it to 16-bit PNG or TIFF"
        }
        [b'q', b'o', b'i', b'f', ..] => "QOI, which is not read by this build: convert it to PNG",
        [0, 0, 1 | 2, 0, count, 0, ..] if *count > 0 => {
            "a Windows icon, which is not read by this build: convert it to PNG"
        }
        [b'R', b'I', b'F', b'F', ..] => "a RIFF file (sound or video), not a picture",
        [b'%', b'P', b'D', b'F', ..] => "a PDF document, not a picture",
        [b'P', b'K', 3 | 5, ..] | [0x1f, 0x8b, ..] => "an archive, not a picture",
        [0x7f, b'E', b'L', b'F', ..] | [b'M', b'Z', ..] => "a program, not a picture",
        _ => return None,
    })
}

/// The head of a text file in lower case, if it is one (UTF-8 or ASCII without control characters).
fn text(head: &[u8]) -> Option<String> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A multi-byte character may be cut by the end of the head, nothing else may be wrong.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let printable = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}'));
    (printable && !text.is_empty()).then(|| text.to_lowercase())
}

fn markup(text: &str) -> Option<&'static str> {
    let start = text.trim_start();
    if !start.starts_with('<') && !start.starts_with('{') && !start.starts_with('[') {
        return None;
    }
    if text.contains("<svg") {
        Some("an SVG drawing, not a raster picture: render it to PNG first")
    } else if text.contains("<!doctype html") || text.contains("<html") || text.contains("<head") {
        Some("an HTML page, not a picture: the download that made it has probably failed")
    } else if text.contains("<?xml") || text.contains("<error") {
        Some("an XML document, not a picture")
    } else if start.starts_with('{') || start.starts_with('[') {
        Some("JSON or other text, not a picture")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_bytes() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n"), Some(InputFormat::Png));
        assert_eq!(sniff(b"\xff\xd8\xff\xe0"), Some(InputFormat::Jpeg));
        assert_eq!(sniff(b"RIFF\x10\0\0\0WEBPVP8 "), Some(InputFormat::Webp));
        assert_eq!(sniff(b"MM\0\x2a"), Some(InputFormat::Tiff));
        assert_eq!(sniff(b"II\x2b\0"), Some(InputFormat::Tiff));
        assert_eq!(sniff(b"GIF87a"), Some(InputFormat::Gif));
        assert_eq!(sniff(b"\xff\x0a\xfa"), Some(InputFormat::Jxl));
        assert_eq!(sniff(b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"), Some(InputFormat::Jxl));
        assert_eq!(sniff(b"\0\0\0\x14ftypavif\0\0\0\0mif1"), Some(InputFormat::Avif));
        assert_eq!(sniff(b"\0\0\0\x18ftypmif1\0\0\0\0miafavif"), Some(InputFormat::Avif));
        assert_eq!(sniff(b"\0\0\0\x10ftypheicavif"), None, "a number, not a brand");
        assert_eq!(sniff(b"P5\n# a comment"), Some(InputFormat::Pnm));
        assert_eq!(sniff(b"P7\nWIDTH 3"), Some(InputFormat::Pnm));
        assert_eq!(sniff(b"P1 is a rank"), None);
        assert_eq!(sniff(b"BM means benchmark in this text"), None);
        assert_eq!(sniff(b""), None);
    }

    #[test]
    fn raw_files_with_a_signature_of_their_own_are_named() {
        for start in [
            &b"IIRO\x08\0\0\0"[..],
            b"IIRS\x08\0\0\0",
            b"MMOR\0\0\0\x08",
            b"IIU\0\x18\0\0\0",
            b"FUJIFILMCCD-RAW 0201",
            b"\0MRM\0\x01\0\0",
            b"FOVb\0\0\x02\0",
            b"II\x1a\0\0\0HEAPCCDR",
            b"\0\0\0\x18ftypcrx \0\0\0\x01",
        ] {
            assert_eq!(sniff(start), None);
            assert_eq!(describe(start), RAW);
        }
        assert_eq!(describe(b"MMORPG list"), "a text file");
    }

    #[test]
    fn what_is_no_picture_is_named() {
        assert!(describe(b"\0\0\0\x1cftypheic").starts_with("HEIC"));
        assert!(describe(b"<!DOCTYPE html><title>404</title>").starts_with("an HTML page"));
        assert!(describe(b"  <?xml version='1.0'?><svg/>").starts_with("an SVG drawing"));
        assert_eq!(describe("grüße an alle".as_bytes()), "a text file");
        assert_eq!(describe(&[0; 64]), "a file of zero bytes only");
        assert!(describe(b"\x93\x01\x02\xff").starts_with("no picture"));
        assert!(describe(b"RIFF\x10\0\0\0WAVE").starts_with("a RIFF file"));
    }
}
