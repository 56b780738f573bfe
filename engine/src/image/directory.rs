//! TIFF directories as trees: what describes a picture (maker, author, camera settings, place), taken out of a TIFF or an
//! EXIF block so that it can be written into another file.
//!
//! [`super::exif`] renews a block in place; this is for the ways on which that cannot be done: out of a TIFF, into a TIFF,
//! and a new block for texts. Entries are copied by value. A MakerNote is not copied, because its offsets hold only at
//! its old place, and entries that lie outside the file are not there. Every read is checked, values are charged to a
//! budget (many entries may point at the same bytes), and no directory is entered deeper than two below the first.

const EXIF: u16 = 0x8769;
const GPS: u16 = 0x8825;
const INTEROPERABILITY: u16 = 0xa005;
const IMAGE_DESCRIPTION: u16 = 0x010e;
const MAKER_NOTE: u16 = 0x927c;

/// ASCII, as the type of an entry.
const ASCII: u16 = 2;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;

/// DocumentName, ImageDescription, Make, Model, PageName, Software, DateTime, Artist, HostComputer, Rating, RatingPercent,
/// Copyright, XPTitle to XPSubject: what a first directory says about the picture and not about its pixels.
const DESCRIPTIVE: [u16; 17] = [
    0x010d, 0x010e, 0x010f, 0x0110, 0x011d, 0x0131, 0x0132, 0x013b, 0x013c, 0x4746, 0x4749, 0x8298, 0x9c9b,
    0x9c9c, 0x9c9d, 0x9c9e, 0x9c9f,
];

/// Most bytes of all values of a tree.
const TREE_BYTES_MAX: usize = 1 << 20;

/// Tags that say how the pixels are stored, density and profile: what every format writes in its own way.
pub(super) fn speaks_of_pixels(tag: u16) -> bool {
    matches!(tag,
        // Kind of page, size, bits, compression, photometric, threshold, cells, fill order.
        0x00fe..=0x0103 | 0x0106..=0x010a
        // Strips, orientation, samples, rows, minimum and maximum, resolution, planes, position.
        | 0x0111 | 0x0112 | 0x0115..=0x011c | 0x011e | 0x011f
        // Gray response, fax options, resolution unit, page number.
        | 0x0120..=0x0125 | 0x0128 | 0x0129
        // Predictor, palette, tiles, other pages, inks, extra samples, formats, JPEG, YCbCr.
        | 0x013d | 0x0140..=0x0147 | 0x014a | 0x014c..=0x0156 | 0x015b | 0x0200..=0x0214
        // The profile.
        | 34_675
    )
}

/// A directory by value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    /// Directories and the tags that point at them.
    pub(super) children: Vec<(u16, Self)>,
}

/// An entry by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) tag: u16,
    /// 1 to 13: BYTE to IFD.
    pub(super) kind: u16,
    /// Numbers most significant byte first.
    pub(super) data: Vec<u8>,
}

impl Entry {
    /// The data with the numbers in the machine's own order.
    pub(super) fn native(&self) -> Vec<u8> {
        let mut data = self.data.clone();
        if cfg!(target_endian = "little") {
            reverse_each(&mut data, unit(self.kind).unwrap_or(1));
        }
        data
    }
}

/// Bytes of the numbers that an entry of `kind` is made of; `None` for kinds that TIFF 6.0 does not have.
fn unit(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 5 | 9 | 10 | 11 | 13 => Some(4),
        12 => Some(8),
        _ => None,
    }
}

/// Bytes of one value: a RATIONAL has two numbers.
fn size(kind: u16) -> Option<usize> {
    unit(kind).map(|unit| if matches!(kind, 5 | 10) { 2 * unit } else { unit })
}

fn reverse_each(data: &mut [u8], unit: usize) {
    data.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
}

/// What describes the picture in a file's first directory.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) directory: Directory,
    /// Tags of the first directory that are neither descriptive nor `structural`.
    pub(super) others: Vec<u16>,
    /// Whether there was a MakerNote.
    pub(super) maker_note: bool,
    /// Whether values were too many.
    pub(super) overfull: bool,
}

/// A TIFF structure: classic or big, of either byte order.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// BigTIFF: offsets and counts of 8 bytes.
    wide: bool,
}

/// An entry as it stands in a file.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a> {
    pub(super) tag: u16,
    kind: u16,
    /// The value's bytes, in the file's order.
    pub(super) data: &'a [u8],
}

impl<'a> File<'a> {
    /// The structure in `bytes`, if its first bytes are those of one.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, wide) = match bytes.get(..8)? {
            [b'I', b'I', 42, 0, ..] => (false, false),
            [b'M', b'M', 0, 42, ..] => (true, false),
            [b'I', b'I', 43, 0, 8, 0, 0, 0] => (false, true),
            [b'M', b'M', 0, 43, 0, 8, 0, 0] => (true, true),
            _ => return None,
        };
        Some(Self { bytes, big_endian, wide })
    }

    /// The entries of the first directory; none if it does not lie in the file.
    pub(super) fn first(self) -> Vec<Raw<'a>> {
        let at = self.offset(if self.wide { 8 } else { 4 });
        at.and_then(|at| self.entries(at)).unwrap_or_default()
    }

    /// The number that `raw` holds, if it is one.
    pub(super) fn number(self, raw: &Raw<'_>) -> Option<u64> {
        self.read(raw.data)
    }

    /// What describes the picture. `elsewhere` says which tags of the first directory the caller has dealt with or knows
    /// to speak of the pixels alone.
    pub(super) fn described(self, elsewhere: impl Fn(u16) -> bool) -> Described {
        let mut found = Described::default();
        let mut budget = TREE_BYTES_MAX;
        for raw in self.first() {
            match raw.tag {
                EXIF | GPS => {
                    if let Some(child) = self.child(&raw, 1, &mut budget, &mut found) {
                        found.directory.children.push((raw.tag, child));
                    }
                }
                // What tifffile writes for every array tells a size that is no longer true.
                IMAGE_DESCRIPTION if raw.data.starts_with(b"{\"shape\":") => found.others.push(raw.tag),
                tag if DESCRIPTIVE.contains(&tag) => {
                    let entry = self.copied(&raw, &mut budget, &mut found);
                    found.directory.entries.extend(entry);
                }
                tag if elsewhere(tag) => {}
                tag => found.others.push(tag),
            }
        }
        found
    }

    fn child(self, raw: &Raw<'_>, depth: u8, budget: &mut usize, found: &mut Described) -> Option<Directory> {
        let entries = self.number(raw).and_then(|at| self.entries(usize::try_from(at).ok()?))?;
        let mut directory = Directory::default();
        for raw in entries {
            match raw.tag {
                MAKER_NOTE => found.maker_note = true,
                INTEROPERABILITY if depth == 1 => {
                    if let Some(child) = self.child(&raw, 2, budget, found) {
                        directory.children.push((raw.tag, child));
                    }
                }
                _ => directory.entries.extend(self.copied(&raw, budget, found)),
            }
        }
        (!directory.is_empty()).then_some(directory)
    }

    fn copied(self, raw: &Raw<'_>, budget: &mut usize, found: &mut Described) -> Option<Entry> {
        // Twelve bytes are what the entry itself takes.
        let Some(left) = budget.checked_sub(raw.data.len() + 12) else {
            found.overfull = true;
            return None;
        };
        *budget = left;
        let mut data = raw.data.to_vec();
        if !self.big_endian {
            reverse_each(&mut data, unit(raw.kind)?);
        }
        Some(Entry { tag: raw.tag, kind: raw.kind, data })
    }

    /// The entries of the directory at `at` whose values lie in the file and are of a kind that is known.
    fn entries(self, at: usize) -> Option<Vec<Raw<'a>>> {
        let (head, length) = if self.wide { (8, 20) } else { (2, 12) };
        // A BigTIFF may claim more entries than a classic one can; none has.
        let count = usize::from(u16::try_from(self.read(self.bytes.get(at..at.checked_add(head)?)?)?).ok()?);
        let start = at + head;
        let table = self.bytes.get(start..start.checked_add(count * length)?)?;
        Some(table.chunks_exact(length).filter_map(|entry| self.entry(entry)).collect())
    }

    fn entry(self, entry: &'a [u8]) -> Option<Raw<'a>> {
        let tag = u16::try_from(self.read(entry.get(..2)?)?).ok()?;
        let kind = u16::try_from(self.read(entry.get(2..4)?)?).ok()?;
        let (count, slot) = entry.get(4..)?.split_at(if self.wide { 8 } else { 4 });
        // LONG8 and IFD8 are BigTIFF's: pointers, and numbers that no descriptive tag has.
        let width = size(kind).or(matches!(kind, 16..=18).then_some(8))?;
        let length = usize::try_from(self.read(count)?).ok()?.checked_mul(width)?;
        let data = match slot.get(..length) {
            Some(inline) => inline,
            None => {
                let at = usize::try_from(self.read(slot)?).ok()?;
                self.bytes.get(at..at.checked_add(length)?)?
            }
        };
        Some(Raw { tag, kind, data })
    }

    fn offset(self, at: usize) -> Option<usize> {
        let length = if self.wide { 8 } else { 4 };
        usize::try_from(self.read(self.bytes.get(at..at + length)?)?).ok()
    }

    /// A number of 1 to 8 bytes, in the file's order.
    pub(super) fn read(self, bytes: &[u8]) -> Option<u64> {
        let push = |n: u64, &b: &u8| n << 8 | u64::from(b);
        match (bytes.len(), self.big_endian) {
            (1..=8, true) => Some(bytes.iter().fold(0, push)),
            (1..=8, false) => Some(bytes.iter().rev().fold(0, push)),
            _ => None,
        }
    }
}

impl Directory {
    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.children.is_empty()
    }

    /// Adds an ASCII entry. Exif says ASCII and everybody writes UTF-8.
    pub(super) fn push_text(&mut self, tag: u16, text: &str) {
        self.entries.push(Entry { tag, kind: ASCII, data: [text.as_bytes(), &[0]].concat() });
    }

    /// Adds an Exif directory with a comment (Exif 2.32, 4.6.5, UserComment).
    pub(super) fn push_comment(&mut self, text: &str) {
        let data = match text.is_ascii() {
            true => [b"ASCII\0\0\0", text.as_bytes()].concat(),
            false => {
                b"UNICODE\0".iter().copied().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect()
            }
        };
        let version = Entry { tag: 0x9000, kind: UNDEFINED, data: b"0232".to_vec() };
        let comment = Entry { tag: 0x9286, kind: UNDEFINED, data };
        self.children.push((EXIF, Self { entries: vec![version, comment], children: Vec::new() }));
    }

    /// The tree as an EXIF block, most significant byte first.
    pub(super) fn to_block(&self) -> Vec<u8> {
        let mut block = b"MM\0\x2a\0\0\0\x08".to_vec();
        self.append(&mut block);
        block
    }

    fn append(&self, block: &mut Vec<u8>) {
        let start = block.len();
        let own = self.entries.iter().map(|entry| (entry.tag, Ok(entry)));
        let mut slots: Vec<_> =
            own.chain(self.children.iter().map(|(tag, child)| (*tag, Err(child)))).collect();
        slots.sort_by_key(|slot| slot.0);
        slots.dedup_by_key(|slot| slot.0);
        block.extend((slots.len() as u16).to_be_bytes());
        block.resize(block.len() + 12 * slots.len() + 4, 0);
        for (i, (tag, content)) in slots.into_iter().enumerate() {
            let (kind, count) = match content {
                Ok(entry) => (entry.kind, entry.data.len() / size(entry.kind).unwrap_or(1)),
                Err(_) => (LONG, 1),
            };
            let mut value = [0; 4];
            match content {
                Ok(entry) if entry.data.len() <= 4 => value[..entry.data.len()].copy_from_slice(&entry.data),
                _ => {
                    block.resize(block.len().next_multiple_of(2), 0);
                    value = (block.len() as u32).to_be_bytes();
                    match content {
                        Ok(entry) => block.extend(&entry.data),
                        Err(child) => child.append(block),
                    }
                }
            }
            let slot = start + 2 + 12 * i;
            block[slot..slot + 2].copy_from_slice(&tag.to_be_bytes());
            block[slot + 2..slot + 4].copy_from_slice(&kind.to_be_bytes());
            block[slot + 4..slot + 8].copy_from_slice(&(count as u32).to_be_bytes());
            block[slot + 8..slot + 12].copy_from_slice(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Directory {
        let interoperability = Directory {
            entries: vec![Entry { tag: 1, kind: ASCII, data: b"R98\0".to_vec() }],
            children: vec![],
        };
        let mut root = Directory::default();
        root.push_text(0x010f, "Maker");
        root.push_text(0x8298, "©");
        root.push_comment("größer");
        root.children[0].1.entries.push(Entry { tag: 0x829a, kind: 5, data: vec![0, 0, 0, 1, 0, 0, 0, 125] });
        root.children[0].1.children.push((INTEROPERABILITY, interoperability));
        root.children.push((
            GPS,
            Directory { entries: vec![Entry { tag: 0, kind: 1, data: vec![2, 3, 0, 0] }], children: vec![] },
        ));
        root
    }

    fn sorted(mut directory: Directory) -> Directory {
        directory.entries.sort_by_key(|entry| entry.tag);
        directory.children =
            directory.children.into_iter().map(|(tag, child)| (tag, sorted(child))).collect();
        directory
    }

    #[test]
    fn a_tree_that_is_written_reads_back() {
        let block = tree().to_block();
        let found = File::open(&block).unwrap().described(|_| false);
        assert_eq!(sorted(found.directory), sorted(tree()));
        assert!(found.others.is_empty() && !found.maker_note && !found.overfull);
        assert_eq!(super::super::exif::facts(&block).unwrap().orientation, None);
    }

    #[test]
    fn damage_costs_entries_not_more() {
        let block = tree().to_block();
        for at in 0..block.len() {
            for value in [0, 1, 8, 0x7f, 0xff] {
                let mut damaged = block.clone();
                damaged[at] = value;
                if let Some(file) = File::open(&damaged) {
                    let _ = file.described(|_| false).directory.to_block();
                }
            }
            if let Some(file) = File::open(&block[..at]) {
                let _ = file.described(|_| false);
            }
        }
    }

    #[test]
    fn entries_that_share_their_bytes_are_bounded() {
        // 20,000 copyrights of 60,000 bytes each, all at the same place.
        let mut file = b"II\x2a\0\x08\0\0\0".to_vec();
        file.extend(20_000_u16.to_le_bytes());
        for _ in 0..20_000 {
            file.extend([0x98, 0x82, 2, 0, 0x60, 0xea, 0, 0, 0, 0, 0, 0]);
        }
        let found = File::open(&file).unwrap().described(|_| false);
        assert!(found.overfull);
        assert!(
            found.directory.entries.iter().map(|entry| entry.data.len()).sum::<usize>() <= TREE_BYTES_MAX
        );
    }

    #[test]
    fn a_bigtiff_is_read_like_a_classic_one() {
        let mut file = b"MM\0\x2b\0\x08\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x02".to_vec();
        file.extend(b"\x01\x3b\0\x02\0\0\0\0\0\0\0\x05Jane\0\0\0\0");
        file.extend(b"\x82\x98\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x48");
        file.extend(b"\0\0\0\0\0\0\0\0(c) Jane\0");
        let found = File::open(&file).unwrap().described(|_| false);
        let mut wanted = Directory::default();
        wanted.push_text(0x013b, "Jane");
        wanted.push_text(0x8298, "(c) Jane");
        assert_eq!(found.directory, wanted);
    }

    #[test]
    fn a_directory_inside_itself_is_not_followed_for_ever() {
        // The Exif pointer of the first directory points at that directory.
        let mut file = b"II\x2a\0\x08\0\0\0\x02\0".to_vec();
        file.extend([0x69, 0x87, 4, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
        file.extend([0x05, 0xa0, 4, 0, 1, 0, 0, 0, 8, 0, 0, 0]);
        file.extend([0; 4]);
        let found = File::open(&file).unwrap().described(|_| false);
        assert_eq!(found.others, [INTEROPERABILITY]);
        assert!(found.directory.to_block().len() < 500);
    }
}
