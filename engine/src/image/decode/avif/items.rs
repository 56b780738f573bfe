//! The items of a HEIF file (ISO/IEC 23008-12): which there are, where their bytes lie, what is said of them and how they
//! belong together.
//!
//! Only the `meta` box is looked at. Every list is bounded by [`ITEMS_MAX`] and by the bytes it stands in; bytes that lie
//! outside the file are not there.

use std::borrow::Cow;

use super::super::boxes::{Boxes, Fields};

/// Most items, extents, references and properties of each kind. A picture of 100 million pixels in tiles of 512 has 400.
const ITEMS_MAX: usize = 4096;

/// An item.
pub(in crate::image::decode) struct Item<'a> {
    pub(in crate::image::decode) id: u32,
    pub(in crate::image::decode) kind: [u8; 4],
    /// For `mime`.
    pub(in crate::image::decode) content_type: &'a [u8],
}

/// Bytes of an item: in the file, or in the `idat` box.
struct Place {
    id: u32,
    in_idat: bool,
    /// The construction is one that is not read.
    odd: bool,
    base: u64,
    /// Offset and length.
    extents: Vec<(u64, u64)>,
}

/// One property of an item: its four letters, its content, and whether who does not know it must not show the item.
pub(in crate::image::decode) type Property<'a> = ([u8; 4], &'a [u8], bool);

/// An item and its properties: their numbers, from 1, and whether each is essential.
type Owned = (u32, Vec<(usize, bool)>);

/// An item's relation to others, such as `auxl`: "is an auxiliary picture of".
pub(in crate::image::decode) struct Reference {
    pub(in crate::image::decode) kind: [u8; 4],
    pub(in crate::image::decode) from: u32,
    pub(in crate::image::decode) to: Vec<u32>,
}

/// What the `meta` box of a file says.
#[derive(Default)]
pub(in crate::image::decode) struct Items<'a> {
    file: &'a [u8],
    idat: &'a [u8],
    pub(in crate::image::decode) primary: u32,
    pub(in crate::image::decode) items: Vec<Item<'a>>,
    places: Vec<Place>,
    properties: Vec<([u8; 4], &'a [u8])>,
    owned: Vec<Owned>,
    pub(in crate::image::decode) references: Vec<Reference>,
}

impl<'a> Items<'a> {
    /// Reads the first `meta` box; `None` if there is none that is whole and names a primary item.
    pub(in crate::image::decode) fn read(file: &'a [u8]) -> Option<Self> {
        let meta = Boxes(file).find(|(kind, _)| kind == b"meta")?.1?;
        let mut found = Self { file, ..Self::default() };
        for (kind, content) in Boxes(meta.get(4..)?) {
            let content = content?;
            match &kind {
                b"pitm" => found.primary = primary(content)?,
                b"iinf" => found.items = items(content)?,
                b"iloc" => found.places = places(content)?,
                b"iref" => found.references = references(content)?,
                b"iprp" => found.take_properties(content)?,
                b"idat" => found.idat = content,
                _ => {}
            }
        }
        found.item(found.primary).is_some().then_some(found)
    }

    /// How long the file is.
    pub(in crate::image::decode) fn file_bytes(&self) -> usize {
        self.file.len()
    }

    pub(in crate::image::decode) fn item(&self, id: u32) -> Option<&Item<'a>> {
        self.items.iter().find(|item| item.id == id)
    }

    /// The properties of an item in the order in which they are applied.
    pub(in crate::image::decode) fn properties(&self, id: u32) -> impl Iterator<Item = Property<'a>> {
        let owned = self.owned.iter().find(|(owner, _)| *owner == id).map_or(&[][..], |(_, owned)| owned);
        owned.iter().filter_map(|&(number, essential)| {
            let &(kind, content) = self.properties.get(number.checked_sub(1)?)?;
            Some((kind, content, essential))
        })
    }

    /// The first property of that kind.
    pub(in crate::image::decode) fn property(&self, id: u32, kind: &[u8; 4]) -> Option<&'a [u8]> {
        self.properties(id).find(|property| property.0 == *kind).map(|property| property.1)
    }

    /// Width and height as the item's `ispe` says.
    pub(in crate::image::decode) fn size(&self, id: u32) -> Option<(u32, u32)> {
        let mut fields = Fields(self.property(id, b"ispe")?.get(4..)?);
        Some((fields.long()?, fields.long()?))
    }

    /// The bytes of an item: `None` where some lie outside the file or are reached in a way that is not read. Together they
    /// are never longer than the file.
    pub(in crate::image::decode) fn data(&self, id: u32) -> Option<Cow<'a, [u8]>> {
        let place = self.places.iter().find(|place| place.id == id && !place.odd)?;
        let within = if place.in_idat { self.idat } else { self.file };
        let slice = |&(offset, length): &(u64, u64)| {
            let start = usize::try_from(place.base.checked_add(offset)?).ok()?;
            match length {
                // To the end.
                0 => within.get(start..),
                length => within.get(start..start.checked_add(usize::try_from(length).ok()?)?),
            }
        };
        if let [extent] = &place.extents[..] {
            return slice(extent).map(Cow::Borrowed);
        }
        let mut joined = Vec::new();
        for extent in &place.extents {
            let bytes = slice(extent)?;
            if joined.len() + bytes.len() > self.file.len() {
                return None;
            }
            joined.extend_from_slice(bytes);
        }
        Some(Cow::Owned(joined))
    }

    fn take_properties(&mut self, content: &'a [u8]) -> Option<()> {
        for (kind, content) in Boxes(content) {
            match &kind {
                b"ipco" => {
                    for (kind, content) in Boxes(content?).take(ITEMS_MAX) {
                        self.properties.push((kind, content?));
                    }
                }
                b"ipma" => self.owned.extend(associations(content?)?),
                _ => {}
            }
        }
        Some(())
    }
}

fn primary(content: &[u8]) -> Option<u32> {
    let mut fields = Fields(content);
    match fields.version()? {
        0 => fields.short().map(u32::from),
        _ => fields.long(),
    }
}

fn items(content: &[u8]) -> Option<Vec<Item<'_>>> {
    let mut fields = Fields(content);
    let count_size = if fields.version()? == 0 { 2 } else { 4 };
    fields.number(count_size)?;
    let mut found = Vec::new();
    for (kind, content) in Boxes(fields.0).take(ITEMS_MAX) {
        if &kind != b"infe" {
            continue;
        }
        let mut fields = Fields(content?);
        // Versions 0 and 1 are of files without pictures.
        let id_size = match fields.version()? {
            2 => 2,
            3 => 4,
            _ => continue,
        };
        let id = fields.number(id_size)? as u32;
        fields.short()?;
        let kind = fields.bytes(4)?.try_into().ok()?;
        fields.text();
        found.push(Item { id, kind, content_type: fields.text().unwrap_or_default() });
    }
    Some(found)
}

fn places(content: &[u8]) -> Option<Vec<Place>> {
    let mut fields = Fields(content);
    let version = fields.version()?;
    let sizes = fields.short()?;
    let [offset_size, length_size, base_size, index_size] =
        [12, 8, 4, 0].map(|shift| usize::from(sizes >> shift & 15));
    if [offset_size, length_size, base_size, index_size].iter().any(|size| *size > 8) || version > 2 {
        return None;
    }
    let id_size = if version < 2 { 2 } else { 4 };
    let count = fields.number(id_size)?;
    let (mut found, mut extents_left) = (Vec::new(), ITEMS_MAX);
    for _ in 0..count.min(ITEMS_MAX as u64) {
        let id = fields.number(id_size)? as u32;
        let construction = if version > 0 { fields.short()? & 15 } else { 0 };
        let other_file = fields.short()? != 0;
        let base = fields.number(base_size)?;
        let count = usize::from(fields.short()?);
        extents_left = extents_left.checked_sub(count)?;
        let mut extents = Vec::new();
        for _ in 0..count {
            if version > 0 {
                fields.number(index_size)?;
            }
            extents.push((fields.number(offset_size)?, fields.number(length_size)?));
        }
        let odd = construction > 1 || other_file;
        found.push(Place { id, in_idat: construction == 1, odd, base, extents });
    }
    Some(found)
}

fn references(content: &[u8]) -> Option<Vec<Reference>> {
    let mut fields = Fields(content);
    let id_size = if fields.version()? == 0 { 2 } else { 4 };
    let (mut found, mut left) = (Vec::new(), ITEMS_MAX);
    for (kind, content) in Boxes(fields.0).take(ITEMS_MAX) {
        let mut fields = Fields(content?);
        let from = fields.number(id_size)? as u32;
        let count = usize::from(fields.short()?);
        left = left.checked_sub(count)?;
        let to = (0..count).map(|_| fields.number(id_size).map(|id| id as u32)).collect::<Option<_>>()?;
        found.push(Reference { kind, from, to });
    }
    Some(found)
}

fn associations(content: &[u8]) -> Option<Vec<Owned>> {
    let mut fields = Fields(content);
    let word = fields.long()?;
    let (id_size, wide) = (if word >> 24 == 0 { 2 } else { 4 }, word & 1 == 1);
    let count = fields.long()?;
    let mut found = Vec::new();
    for _ in 0..count.min(ITEMS_MAX as u32) {
        let id = fields.number(id_size)? as u32;
        let count = fields.number(1)?;
        let numbers = (0..count).map(|_| {
            let (word, essential) = match wide {
                true => fields.short().map(|word| (word & 0x7fff, word >> 15 == 1))?,
                false => fields.number(1).map(|word| (word as u16 & 0x7f, word >> 7 == 1))?,
            };
            Some((usize::from(word), essential))
        });
        found.push((id, numbers.collect::<Option<_>>()?));
    }
    Some(found)
}
