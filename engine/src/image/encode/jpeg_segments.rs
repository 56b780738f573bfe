//! A JPEG's segments for XMP, IPTC and comments.

use super::carried::Carried;
use crate::image::{iptc, xmp};

const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const XMP_EXTENSION: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
/// Bytes of an extension in one segment (XMP part 3, 1.1.3.1: about 65,400).
const EXTENSION_PIECE_BYTES: usize = 65_400;

/// Application segments' numbers and data, in their order: XMP, its extension, IPTC.
pub(super) fn application(carried: &Carried<'_>) -> Vec<(u8, Vec<u8>)> {
    let mut segments = Vec::new();
    if let Some(packet) = &carried.xmp {
        segments.push((1, [XMP, packet.as_bytes()].concat()));
        let digest = xmp::extension_digest(packet);
        if let (Some(digest), Some(extension)) = (digest, carried.xmp_extension) {
            let length = (extension.len() as u32).to_be_bytes();
            for (i, piece) in extension.as_bytes().chunks(EXTENSION_PIECE_BYTES).enumerate() {
                let offset = ((i * EXTENSION_PIECE_BYTES) as u32).to_be_bytes();
                segments.push((1, [XMP_EXTENSION, digest.as_bytes(), &length, &offset, piece].concat()));
            }
        }
    }
    if let Some(resource) = carried.iptc.and_then(iptc::as_resource) {
        segments.push((13, [PHOTOSHOP, &resource].concat()));
    }
    segments
}

/// Puts comments into a JPEG, behind its application segments. Each has at most 65,533 bytes.
pub(super) fn insert_comments(jpeg: &mut Vec<u8>, comments: impl Iterator<Item = impl AsRef<str>>) {
    let mut segments = Vec::new();
    for comment in comments {
        let text = comment.as_ref().as_bytes();
        let Ok(length) = u16::try_from(text.len() + 2) else { continue };
        segments.extend([0xff, 0xfe]);
        segments.extend(length.to_be_bytes());
        segments.extend(text);
    }
    let mut at = 2;
    while let Some([0xff, 0xe0..=0xef, high, low]) = jpeg.get(at..at + 4) {
        at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    if at <= jpeg.len() && !segments.is_empty() {
        jpeg.splice(at..at, segments);
    }
}
