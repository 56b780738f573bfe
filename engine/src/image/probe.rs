//! The size of a picture from its first bytes, before anything is decoded.
//!
//! It promises nothing but a good guess that costs microseconds: what it says may be refused later, and a
//! header that lies or lies further back gives None. It allocates nothing by a header's word.

use std::io::Cursor;

use ::tiff::decoder::Decoder;

use super::decode::stored_size;
use super::format::InputFormat;
use super::sniff::sniff;

/// Width and height as stored (before EXIF turns them), as far as `bytes`, the file or its beginning, say so.
pub fn probe(bytes: &[u8]) -> Option<[usize; 2]> {
    let be16 = |at: usize| Some(u32::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let be32 = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let le16 = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let le24 = |at: usize| Some(le16(at)? | u32::from(*bytes.get(at + 2)?) << 16);
    let le32 = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let format = sniff(bytes)?;
    let (width, height) = match format {
        // Apple's variant has another chunk first.
        InputFormat::Png if bytes.get(12..16)? == b"IHDR" => (be32(16)?, be32(20)?),
        InputFormat::Png => return None,
        InputFormat::Gif => (le16(6)?, le16(8)?),
        InputFormat::Jpeg => {
            let frame = jpeg_frame(bytes)?;
            (be16(frame + 5)?, be16(frame + 3)?)
        }
        InputFormat::Bmp if bytes.get(14) == Some(&12) => (le16(18)?, le16(20)?),
        // Rows from the top have a negative height.
        InputFormat::Bmp => (le32(18)?, (le32(22)? as i32).unsigned_abs()),
        InputFormat::Webp => match bytes.get(12..16)? {
            b"VP8X" => (le24(24)? + 1, le24(27)? + 1),
            b"VP8L" => {
                let bits = le32(21)?;
                ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)
            }
            b"VP8 " => (le16(26)? & 0x3fff, le16(28)? & 0x3fff),
            _ => return None,
        },
        InputFormat::Tiff => Decoder::new(Cursor::new(bytes)).ok()?.dimensions().ok()?,
        InputFormat::Jxl | InputFormat::Avif | InputFormat::Pnm => stored_size(bytes, format)?,
    };
    (width > 0 && height > 0).then_some([width as usize, height as usize])
}

/// Where the length of the first frame header stands.
fn jpeg_frame(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match (*bytes.get(at)?, *bytes.get(at + 1)?) {
            (0xff, 0xff) => at += 1,
            (0xff, 0xd0..=0xd8 | 0x01) => at += 2,
            (0xff, 0xc4 | 0xc8 | 0xcc) => at += 2 + length(bytes, at + 2)?,
            (0xff, 0xc0..=0xcf) => return Some(at + 2),
            // Pixels, or the end, before a frame.
            (0xff, 0xd9 | 0xda) => return None,
            (0xff, _) => at += 2 + length(bytes, at + 2)?,
            _ => at += 1,
        }
    }
}

fn length(bytes: &[u8], at: usize) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    (length >= 2).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{DecodeLimits, decode};

    #[test]
    fn the_first_bytes_tell_the_size_that_decoding_finds() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hard/");
        let mut probed = 0;
        for folder in ["formats", "colour", "sizes", "collide"] {
            for entry in std::fs::read_dir(format!("{root}{folder}")).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let Ok(decoded) = decode(&bytes, &DecodeLimits::default()) else { continue };
                let size = [decoded.picture.width, decoded.picture.height];
                assert_eq!(probe(&bytes), Some(size), "{}", path.display());
                // A TIFF may have its directory at the end; the others begin with their size.
                if decoded.format != InputFormat::Tiff {
                    let start = &bytes[..bytes.len().min(256 << 10)];
                    assert_eq!(probe(start), Some(size), "{}", path.display());
                }
                probed += 1;
            }
        }
        assert!(probed > 50, "{probed}");
    }

    #[test]
    fn whatever_the_bytes_are_it_only_knows_less() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/hard/");
        for file in ["formats/jpeg_progressive.jpg", "formats/webp_lossy.webp", "formats/bmp_rgb24.bmp"] {
            let bytes = std::fs::read(format!("{root}{file}")).unwrap();
            for end in 0..bytes.len().min(700) {
                let found = probe(&bytes[..end]);
                assert!(found.is_none() || found == probe(&bytes), "{file} cut at {end}: {found:?}");
            }
        }
        assert_eq!(probe(b"no picture"), None);
        let apple = std::fs::read(format!("{root}../real/wrong_words/cgbi.png")).unwrap();
        assert_eq!(probe(&apple), None);
    }
}
