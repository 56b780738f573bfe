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
    riff || bmff || bmp || starts_like_raw(start) || MAGIC.iter().any(|magic| start.starts_with(magic))
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
        ] {
            assert!(!starts_like_an_image(start), "{start:?}");
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
