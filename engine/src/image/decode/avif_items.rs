//! What an AVIF says besides the pixels: EXIF, XMP, and its colour space where numbers name it. Profile and orientation
//! are [`super::avif`]'s.

use super::avif::items::Items;
use super::avif::numbers;
use super::extras::{Extras, latin_1};

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let Some(items) = Items::read(bytes) else { return };
    let primary = items.primary;
    if let Some([primaries, transfer, ..]) = numbers(&items, primary)
        && let (Ok(primaries), Ok(transfer)) = (u8::try_from(primaries), u8::try_from(transfer))
        && says_something(primaries, transfer)
        && !items
            .properties(primary)
            .any(|(kind, content, _)| &kind == b"colr" && !content.starts_with(b"nclx"))
    {
        extras.colour.cicp = Some([primaries, transfer, 0, 1]);
    }
    // A picture's tiles, its thumbnails and its transparency belong to it.
    let belongs = |id| {
        let of = |kind: &[u8; 4]| items.references.iter().any(|r| r.kind == *kind && r.from == id);
        of(b"thmb") || items.references.iter().any(|r| &r.kind == b"dimg" && r.to.contains(&id))
    };
    for item in items.items.iter().filter(|item| item.id != primary) {
        match (&item.kind, item.content_type) {
            (b"Exif", _) => match items.data(item.id).as_deref().and_then(exif) {
                Some(block) => extras.take_exif(block.to_vec()),
                None => extras.notes.push("EXIF dropped: it lies outside the file".to_owned()),
            },
            (b"mime", b"application/rdf+xml") => {
                if let Some(packet) = items.data(item.id) {
                    extras.take_xmp(&packet);
                }
            }
            (b"tmap", _) => extras.leave("a gain map"),
            (b"av01" | b"grid", _) if belongs(item.id) => {}
            (b"av01" | b"grid", _) => match items.property(item.id, b"auxC") {
                Some(name) if name.windows(5).any(|w| w == b"alpha" || w == b"uxid:") => {}
                Some(_) => extras.leave("an auxiliary picture"),
                None => extras.leave("a further picture"),
            },
            (kind, _) => extras.leave(latin_1(kind)),
        }
    }
}

/// Whether the numbers mean another colour space than sRGB, as which a picture that says nothing is shown. BT.709's curve
/// is shown as that of sRGB by all.
fn says_something(primaries: u8, transfer: u8) -> bool {
    !matches!((primaries, transfer), (0..=2, 0..=2 | 6 | 13))
}

/// The block behind the offset that an item begins with (ISO/IEC 23008-12, A.2.1); JPEG XL has the same. Some writers leave
/// the offset out.
pub(super) fn exif(data: &[u8]) -> Option<&[u8]> {
    if data.starts_with(b"MM\0*") || data.starts_with(b"II*\0") {
        return Some(data);
    }
    let (offset, rest) = data.split_first_chunk::<4>()?;
    rest.get(u32::from_be_bytes(*offset) as usize..)
}
