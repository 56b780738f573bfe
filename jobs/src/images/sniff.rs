//! Is a file meant to be an image? By its name ([`is_image_extension`](super::naming::is_image_extension)), and where
//! the name says nothing by its first bytes.
//!
//! A file that is named like an image, of a kind that can be read here or not, is an item: if it does not decode,
//! its owner learns so. Everything else that lies in a folder of photographs (side cars, indexes, notes) is left
//! out, and said to be.

/// How many first bytes [`starts_like_an_image`] wants.
pub(super) const START_BYTES: u64 = 32;

/// Whether bytes begin like one of the formats that cameras, scanners and the web use.
pub(super) fn starts_like_an_image(start: &[u8]) -> bool {
    const MAGIC: [&[u8]; 10] = [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"GIF87a",
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
        b"II+\0\x08\0\0\0",
        b"MM\0+\0\x08\0\0",
        b"\0\0\0\x0cJXL ",
        b"8BPS\0\x01",
    ];
    let riff = start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP");
    let bmff = start.get(4..8) == Some(b"ftyp")
        && start
            .get(8..12)
            .is_some_and(|b| matches!(b, b"avif" | b"avis" | b"heic" | b"heix" | b"mif1" | b"crx "));
    // "BM" alone is too short to trust: the header's reserved words must be zero as well.
    let bmp = start.starts_with(b"BM") && start.get(6..10) == Some(&[0; 4]);
    // Bare JPEG XL has two bytes; a size header and an image header follow, which no text begins like.
    let jxl = start.starts_with(b"\xff\x0a");
    riff || bmff
        || bmp
        || jxl
        || starts_like_netpbm(start)
        || starts_like_raw(start)
        || MAGIC.iter().any(|magic| start.starts_with(magic))
}

/// A Netpbm file: `P` and a digit, and after that only what its header may hold. Two letters alone would take a text that
/// begins with "P2 is …".
fn starts_like_netpbm(start: &[u8]) -> bool {
    let Some((b'P', rest)) = start.split_first() else { return false };
    match rest {
        [b'1'..=b'6', space, header @ ..] if space.is_ascii_whitespace() => {
            let first = header.iter().find(|b| !b.is_ascii_whitespace());
            first.is_some_and(|b| b.is_ascii_digit() || *b == b'#')
        }
        [b'7', b'\n', header @ ..] => header.first().is_some_and(|b| b.is_ascii_uppercase() || *b == b'#'),
        _ => false,
    }
}

/// RAW files with a signature of their own: Olympus ORF, Panasonic and Leica RW2, Fujifilm RAF, Minolta MRW, Sigma X3F and
/// Canon CRW. Canon's CR3 is an ISO file, the others are TIFFs.
fn starts_like_raw(start: &[u8]) -> bool {
    const MAGIC: [&[u8]; 8] = [
        b"IIRO\x08\0\0\0",
        b"IIRS\x08\0\0\0",
        b"MMOR\0\0\0\x08",
        b"IIU\0",
        b"FUJIFILMCCD-RAW",
        b"\0MRM",
        b"\0MRI",
        b"FOVb",
    ];
    MAGIC.iter().any(|magic| start.starts_with(magic)) || start.get(6..14) == Some(b"HEAPCCDR")
}

#[cfg(test)]
mod tests {
    use super::super::naming::is_image_extension;

    use super::*;

    #[test]
    fn real_files_are_told_from_texts() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hard/");
        for file in [
            "names/no_extension",
            "formats/bmp_rgb24.bmp",
            "formats/avif_photo.avif",
            "formats/webp_lossy.webp",
            "formats/tiff_gray16.tif",
            "formats/gif_animated.gif",
            "formats/jpeg_cmyk.jpg",
        ] {
            assert!(starts_like_an_image(&std::fs::read(format!("{root}{file}")).unwrap()), "{file}");
        }
        for file in
            ["broken/text_named.png", "broken/drawing.svg", "broken/html_error_page.jpg", "expected.json"]
        {
            assert!(!starts_like_an_image(&std::fs::read(format!("{root}{file}")).unwrap()), "{file}");
        }
        for start in [
            &b""[..],
            b"B",
            b"BMW is a car",
            b"RIFF1234WAVE",
            b"\0\0\0\x18ftypmp42",
            b"IIRON MAN",
            b"MMORPG list",
            b"FUJIFILM manual",
            b"P2 is the second",
            b"P7 and so on",
            b"P5",
        ] {
            assert!(!starts_like_an_image(start), "{start:?}");
        }
    }

    #[test]
    fn bare_jpeg_xl_and_netpbm_are_known_without_their_names() {
        for start in [
            &b"\xff\x0a\xfa\x1f\x41\x91\x08\x06"[..],
            b"P1\n# by hand\n4 4\n",
            b"P5 128 128 255\n",
            b"P6\n640 480\n255\n",
            b"P7\nWIDTH 4\nHEIGHT 4\n",
        ] {
            assert!(starts_like_an_image(start), "{start:?}");
        }
    }

    #[test]
    fn raw_files_are_pictures_with_or_without_their_names() {
        for extension in
            ["dng", "nef", "arw", "cr2", "cr3", "pef", "srw", "orf", "rw2", "raf", "x3f", "mrw", "3fr", "iiq"]
        {
            assert!(is_image_extension(extension), "{extension}");
        }
        assert!(!is_image_extension("raw") && !is_image_extension("txt"));
        for start in [
            &b"II*\0\x10\0\0\0CR\x02\0"[..],
            b"II*\0\x08\0\0\0IIIITwaR",
            b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
            b"IIRO\x08\0\0\0",
            b"MMOR\0\0\0\x08",
            b"IIU\0\x18\0\0\0",
            b"FUJIFILMCCD-RAW 0201",
            b"\0MRM\0\x01\0\0",
            b"FOVb\0\0\x02\0",
            b"II\x1a\0\0\0HEAPCCDR",
            b"\0\0\0\x18ftypcrx \0\0\0\x01",
        ] {
            assert!(starts_like_an_image(start), "{start:?}");
        }
    }
}
