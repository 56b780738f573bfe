//! What a WebP's chunks say besides the pixels: XMP (RFC 9649, 2.7.1.5). Profile and EXIF are [`super::webp`]'s.

use super::extras::{Extras, latin_1};

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    // What follows the container is none of its chunks.
    let declared = bytes.get(4..8).and_then(|size| size.try_into().ok()).map_or(0, u32::from_le_bytes);
    let end = bytes.len().min((declared as usize).saturating_add(8));
    for (name, data) in super::webp::Chunks(bytes.get(12..end).unwrap_or_default()) {
        match (name, data) {
            // The second is ImageMagick's slip.
            (b"XMP " | b"XMP\0", Some(packet)) => extras.take_xmp(packet),
            (b"VP8 " | b"VP8L" | b"VP8X" | b"ALPH" | b"ANIM" | b"ANMF" | b"ICCP" | b"EXIF", _)
            | (_, None) => {}
            (name, _) => extras.leave(latin_1(name)),
        }
    }
}
