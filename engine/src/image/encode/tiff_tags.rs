//! A TIFF's tags for what describes a picture: EXIF's, XMP, IPTC.

use std::io::{Seek, Write};

use ::tiff::Directory as TiffDirectory;
use ::tiff::TiffResult;
use ::tiff::encoder::{DirectoryEncoder, TiffEncoder, TiffKind};
use ::tiff::tags::{Tag, Type};

use super::carried::Carried;
use crate::image::directory::{Directory, Entry};

const XMP: u16 = 700;
const IPTC: u16 = 33_723;

/// Where the directories below the first stand, once written: their tags and offsets.
pub(super) struct Pointers<K: TiffKind>(Vec<(Tag, K::OffsetType)>);

/// Writes the directories below the first, which must stand in the file before the page that points at them.
pub(super) fn write_below<W: Write + Seek, K: TiffKind>(
    encoder: &mut TiffEncoder<W, K>,
    directory: &Directory,
) -> TiffResult<Pointers<K>> {
    let mut pointers = Vec::new();
    for (tag, child) in &directory.children {
        let below = write_below(encoder, child)?;
        let mut place = encoder.extra_directory()?;
        write_entries(&mut place, &child.entries, below)?;
        pointers.push((Tag::from_u16_exhaustive(*tag), place.finish_with_offsets()?.offset));
    }
    Ok(Pointers(pointers))
}

/// Writes the page's own tags.
pub(super) fn write_page_tags<W: Write + Seek, K: TiffKind>(
    page: &mut DirectoryEncoder<'_, W, K>,
    carried: &Carried<'_>,
    pointers: Pointers<K>,
) -> TiffResult<()> {
    let bytes = |tag, kind, data: &[u8]| Entry { tag, kind, data: data.to_vec() };
    let xmp = carried.xmp.as_ref().map(|packet| bytes(XMP, 1, packet.as_bytes()));
    let iptc = carried.iptc.map(|records| bytes(IPTC, 7, records));
    let entries: Vec<_> = carried.tags.entries.iter().cloned().chain(xmp).chain(iptc).collect();
    write_entries(page, &entries, pointers)
}

fn write_entries<W: Write + Seek, K: TiffKind>(
    place: &mut DirectoryEncoder<'_, W, K>,
    entries: &[Entry],
    pointers: Pointers<K>,
) -> TiffResult<()> {
    let mut written = TiffDirectory::empty();
    for entry in entries {
        // Entries hold only kinds that the crate knows as well.
        if let Some(kind) = Type::from_u16(entry.kind) {
            let value = place.write_entry_bytes(kind, &entry.native())?;
            written.extend([(Tag::from_u16_exhaustive(entry.tag), value)]);
        }
    }
    place.extend_from(&written);
    pointers.0.into_iter().try_for_each(|(tag, offset)| place.write_tag(tag, offset))
}
