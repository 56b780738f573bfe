//! What the segments before a JPEG's first scan say besides the pixels: XMP, Photoshop's resources with IPTC, comments,
//! and which other pictures the file holds.
//!
//! Profile, EXIF and density are [`super::jpeg_markers`]'s. Of a second picture (a gain map, another view) only its being left out
//! is told; a preview of the same picture, the thumbnails of JFIF and EXIF and Adobe's APP14 are no loss and not told.

use super::extras::{BYTES_MAX, Extras};
use crate::image::directory::File;
use crate::image::xmp;

const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const XMP_EXTENSION: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
const PHOTOSHOP: &[u8] = b"Photoshop 3.0\0";
const GAIN_MAP: &[u8] = b"urn:iso:std:iso:ts:21496:-1\0";

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let mut found = Found::default();
    let mut at = 2;
    while let Some((marker, start)) = super::jpeg_markers::next_marker(bytes, at) {
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            at = start;
            continue;
        }
        let length = bytes.get(start..start + 2).map_or(0, |l| usize::from(u16::from_be_bytes([l[0], l[1]])));
        let Some(data) = bytes.get(start + 2..start + length) else { break };
        match marker {
            // The first scan, the end: what describes the picture stands before.
            0xd9 | 0xda => break,
            0xfe => extras.take_comment(data),
            0xe0..=0xef => found.segment(marker, data, extras),
            _ => {}
        }
        at = start + length;
    }
    found.conclude(extras);
}

#[derive(Default)]
struct Found<'a> {
    /// Digest, whole length, offset, data.
    extension: Vec<(&'a [u8], usize, usize, &'a [u8])>,
    /// The resources, which may be cut anywhere into segments.
    resources: Vec<u8>,
    gain_map: bool,
    other_pictures: bool,
}

impl<'a> Found<'a> {
    fn segment(&mut self, marker: u8, data: &'a [u8], extras: &mut Extras) {
        if let Some(packet) = data.strip_prefix(XMP) {
            return extras.take_xmp(packet);
        }
        match (marker, data) {
            (0xe0, [b'J', b'F', b'I' | b'X', b'F' | b'X', ..]) | (0xe1, [b'E', b'x', b'i', b'f', 0, ..]) => {}
            (0xee, [b'A', b'd', b'o', b'b', b'e', ..]) => {}
            (0xe2, [b'I', b'C', b'C', b'_', b'P', b'R', b'O', b'F', b'I', b'L', b'E', 0, ..]) => {}
            (0xe2, [b'M', b'P', b'F', 0, index @ ..]) => self.other_pictures |= other_pictures(index),
            (0xe2, data) if data.starts_with(GAIN_MAP) => self.gain_map = true,
            (0xe1, data) if data.starts_with(XMP_EXTENSION) => {
                self.extension.extend(extension_piece(&data[XMP_EXTENSION.len()..]));
            }
            (0xed, data) if data.starts_with(PHOTOSHOP) => {
                let piece = &data[PHOTOSHOP.len()..];
                if self.resources.len() + piece.len() <= BYTES_MAX {
                    self.resources.extend(piece);
                } else {
                    extras.leave("Photoshop resources");
                }
            }
            // JUMBF boxes (ISO 19566-5): in practice C2PA's.
            (0xeb, [b'J', b'P', ..]) => extras.leave("content credentials (JUMBF)"),
            (marker, data) => extras.leave(name(marker, data)),
        }
    }

    fn conclude(mut self, extras: &mut Extras) {
        if !self.resources.is_empty() {
            extras.take_resources(&self.resources);
        }
        let packet = extras.xmp.clone().unwrap_or_default();
        self.gain_map |= packet.contains("hdrgm:Version") || packet.contains("HDRGainMap");
        if self.gain_map {
            extras.notes.push("a second picture in the file, its gain map for HDR, is left out".to_owned());
        } else if self.other_pictures {
            extras.notes.push("other pictures in the file are left out: the first is read".to_owned());
        }
        if !self.extension.is_empty() {
            match joined(self.extension, xmp::extension_digest(&packet)) {
                Some(whole) if extras.spend(whole.len()) => extras.xmp_extension = Some(whole),
                Some(_) => {}
                None => extras.leave("damaged extended XMP"),
            }
        }
    }
}

/// Digest, whole length, offset and data of a segment of extended XMP.
fn extension_piece(data: &[u8]) -> Option<(&[u8], usize, usize, &[u8])> {
    let (digest, rest) = data.split_at_checked(32)?;
    let (numbers, piece) = rest.split_at_checked(8)?;
    let number =
        |at: usize| u32::from_be_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    Some((digest, number(0) as usize, number(4) as usize, piece))
}

/// The pieces that the packet names, in the order of their offsets, if they are all there (XMP part 3, 1.1.3.1).
fn joined(mut pieces: Vec<(&[u8], usize, usize, &[u8])>, digest: Option<&str>) -> Option<String> {
    let digest = digest?;
    pieces.retain(|piece| piece.0.eq_ignore_ascii_case(digest.as_bytes()));
    pieces.sort_by_key(|piece| piece.2);
    let length = pieces.first()?.1;
    let mut whole = Vec::new();
    for (_, _, offset, piece) in pieces {
        if offset != whole.len() || whole.len() + piece.len() > length.min(BYTES_MAX) {
            return None;
        }
        whole.extend(piece);
    }
    String::from_utf8(whole).ok().filter(|whole| whole.len() == length && !whole.contains('\0'))
}

/// Whether a multi-picture index (CIPA DC-007) names a picture that is no preview of the first.
fn other_pictures(index: &[u8]) -> bool {
    const ENTRIES: u16 = 0xb002;
    let Some(file) = File::open(index) else { return false };
    let entries = file.first().into_iter().find(|raw| raw.tag == ENTRIES).map_or(&[][..], |raw| raw.data);
    // Of an entry's 16 bytes the first four tell the kind; 0x01 in the third lowest is a large thumbnail.
    entries.chunks_exact(16).skip(1).any(|entry| {
        let kind = file.read(&entry[..4]).unwrap_or_default();
        kind >> 16 & 0xff != 1
    })
}

/// What an application segment calls itself, else its number.
fn name(marker: u8, data: &[u8]) -> String {
    let word: Vec<u8> =
        data.iter().copied().take_while(|b| b.is_ascii_graphic() || *b == b' ').take(20).collect();
    let number = marker - 0xe0;
    match String::from_utf8(word) {
        Ok(word) if word.len() >= 3 => format!("APP{number} {}", word.trim()),
        _ => format!("APP{number}"),
    }
}
