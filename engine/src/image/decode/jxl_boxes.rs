//! The container of a JPEG XL (ISO/IEC 18181-2): where the pictures' codestream lies, and what the boxes beside it say:
//! EXIF and XMP, packed or not. A file may also be a bare codestream.

use std::borrow::Cow;

use super::avif_items::exif;
use super::boxes::Boxes;
use super::extras::{Extras, latin_1};

const BARE: &[u8] = b"\xff\x0a";
/// Says that the rest of a codestream follows in no further box.
const LAST: u8 = 0x80;

/// The codestream; `None` where a part of it is missing or cut.
pub(super) fn codestream(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    if bytes.starts_with(BARE) {
        return Some(Cow::Borrowed(bytes));
    }
    let mut joined = Vec::new();
    let mut parts = 0_u32;
    for (kind, content) in Boxes(bytes) {
        match (&kind, content) {
            (b"jxlc", content) => return content.map(Cow::Borrowed),
            (b"jxlp", content) => {
                let (number, part) = content?.split_first_chunk::<4>()?;
                let [first, rest @ ..] = *number;
                if u32::from_be_bytes([first & !LAST, rest[0], rest[1], rest[2]]) != parts {
                    return None;
                }
                parts += 1;
                joined.extend_from_slice(part);
                if first & LAST != 0 {
                    return Some(Cow::Owned(joined));
                }
            }
            _ => {}
        }
    }
    None
}

/// The first bytes of the codestream, though the rest be cut.
pub(super) fn start_of_codestream(bytes: &[u8]) -> Option<&[u8]> {
    if bytes.starts_with(BARE) {
        return Some(bytes);
    }
    // The boxes before it are short, and are read from slices that end where the file is cut.
    let mut rest = bytes;
    loop {
        let (header, after) = rest.split_first_chunk::<8>()?;
        let [s0, s1, s2, s3, kind @ ..] = *header;
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let wide = if size == 1 { 8 } else { 0 };
        match &kind {
            b"jxlc" => return after.get(wide..),
            b"jxlp" => return after.get(wide + 4..),
            _ if size < 8 => return None,
            _ => rest = rest.get(size..)?,
        }
    }
}

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    if bytes.starts_with(BARE) {
        return;
    }
    for (kind, content) in Boxes(bytes) {
        let Some(content) = content else { break };
        match &kind {
            b"brob" => {
                let Some((kind, packed)) = content.split_first_chunk::<4>() else { continue };
                // What is not wanted is not unpacked.
                if !matches!(kind, b"Exif" | b"xml ") {
                    take(kind, &[], extras);
                } else if let Some(content) = extras.unpack_brotli(packed) {
                    take(kind, &content, extras);
                }
            }
            kind => take(kind, content, extras),
        }
    }
}

fn take(kind: &[u8; 4], content: &[u8], extras: &mut Extras) {
    match kind {
        b"Exif" => match exif(content) {
            Some(block) => extras.take_exif(block.to_vec()),
            None => {
                extras.notes.push("EXIF dropped: it points outside itself or is no EXIF block".to_owned())
            }
        },
        b"xml " => extras.take_xmp(content),
        b"jumb" => extras.leave("content credentials"),
        b"jhgm" => extras.leave("a gain map"),
        // Signature, type, level, codestream, index of frames, and how to make the JPEG again that it was.
        b"JXL " | b"ftyp" | b"jxll" | b"jxlc" | b"jxlp" | b"jxli" | b"jbrd" => {}
        kind => extras.leave(latin_1(kind)),
    }
}
