//! EXIF blocks: reading the few facts that concern the pixels, and renewing a block for a picture of another size.
//!
//! A block is a small TIFF structure whose entries point at each other by offset, and MakerNotes hold offsets that only
//! their maker understands. So a block is never rebuilt: it keeps its length, and only the values that would be wrong
//! beside the new pixels are overwritten where they stand. Every read and write is checked against the block's end;
//! entries that point outside are left alone. No loop follows a chain of more than two directories.

use super::metadata::Density;

const ORIENTATION: u16 = 0x0112;
const IMAGE_WIDTH: u16 = 0x0100;
const IMAGE_LENGTH: u16 = 0x0101;
const STRIP_OFFSETS: u16 = 0x0111;
const STRIP_BYTE_COUNTS: u16 = 0x0117;
const X_RESOLUTION: u16 = 0x011a;
const Y_RESOLUTION: u16 = 0x011b;
const RESOLUTION_UNIT: u16 = 0x0128;
const THUMBNAIL_OFFSET: u16 = 0x0201;
const THUMBNAIL_LENGTH: u16 = 0x0202;
const EXIF_DIRECTORY: u16 = 0x8769;
const PIXEL_X_DIMENSION: u16 = 0xa002;
const PIXEL_Y_DIMENSION: u16 = 0xa003;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

/// The block's first directory cannot be found: it is no EXIF, or it is cut or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it points outside itself or is no EXIF block")]
pub(super) struct ExifFault;

/// What a block says about the pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// The orientation tag as it stands, in range or not.
    pub(super) orientation: Option<u16>,
    /// Dots per inch, if the block says so plausibly.
    pub(super) density: Option<Density>,
}

/// Reads what `block` (a TIFF structure) says about the pixels.
///
/// # Errors
/// When the first directory does not lie inside the block.
pub(super) fn facts(block: &[u8]) -> Result<Facts, ExifFault> {
    let block = Block::open(block)?;
    let main = block.main()?;
    let orientation = block.find(&main, ORIENTATION).and_then(|entry| block.short(&entry));
    let resolution = |tag| block.find(&main, tag).and_then(|entry| block.rational(&entry));
    // Absent means inches (Exif 2.32, 4.6.4).
    let unit = block.find(&main, RESOLUTION_UNIT).and_then(|entry| block.short(&entry)).unwrap_or(2);
    let per_inch = match unit {
        2 => Some(1.0),
        3 => Some(2.54),
        _ => None,
    };
    let density = match (resolution(X_RESOLUTION), resolution(Y_RESOLUTION), per_inch) {
        (Some(x), Some(y), Some(scale)) => Density::checked(x * scale, y * scale),
        _ => None,
    };
    Ok(Facts { orientation, density })
}

/// The block for a picture of `width` × `height` upright pixels: orientation 1, the size tags that are there renewed,
/// the thumbnail unlinked and its bytes zeroed, all else as it was.
///
/// # Errors
/// When the first directory does not lie inside the block, or the block is so twisted that removing the thumbnail would
/// have destroyed it.
pub(super) fn renewed(block: &[u8], width: usize, height: usize) -> Result<Vec<u8>, ExifFault> {
    let view = Block::open(block)?;
    let main = view.main()?;
    let mut bytes = block.to_vec();

    if let Some(thumbnail) = view.next(&main) {
        for range in view.thumbnail_ranges(&thumbnail) {
            bytes[range].fill(0);
        }
    }
    view.write(&mut bytes, main.next_at, LONG, 0);

    if let Some(entry) = view.find(&main, ORIENTATION) {
        view.set_number(&mut bytes, &entry, 1);
    }
    let exif = view
        .find(&main, EXIF_DIRECTORY)
        .and_then(|entry| view.number(&entry))
        .and_then(|at| view.directory(at));
    let sizes = [
        (Some(&main), IMAGE_WIDTH, width),
        (Some(&main), IMAGE_LENGTH, height),
        (exif.as_ref(), PIXEL_X_DIMENSION, width),
        (exif.as_ref(), PIXEL_Y_DIMENSION, height),
    ];
    for (directory, tag, size) in sizes {
        if let (Some(entry), Ok(size)) = (directory.and_then(|d| view.find(d, tag)), u32::try_from(size)) {
            view.set_number(&mut bytes, &entry, size);
        }
    }

    // A thumbnail that overlaps a directory has taken entries with it: then the block is not worth keeping.
    let after = Block::open(&bytes)?;
    let tags = |view: &Block<'_>, directory: &Directory| {
        (0..directory.count)
            .filter_map(|i| view.entry(directory, i))
            .map(|entry| entry.tag)
            .collect::<Vec<_>>()
    };
    let same_main = tags(&view, &main) == tags(&after, &after.main()?);
    let same_exif = exif
        .is_none_or(|d| tags(&view, &d) == after.directory(d.at as u32).map_or(vec![], |d| tags(&after, &d)));
    if same_main && same_exif { Ok(bytes) } else { Err(ExifFault) }
}

/// `block` without the `Exif\0\0` that JPEG puts before it and some writers of other formats too.
pub(super) fn without_prefix(block: &[u8]) -> &[u8] {
    block.strip_prefix(b"Exif\0\0").unwrap_or(block)
}

struct Block<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

/// A directory that lies inside the block: `count` entries of 12 bytes from `at + 2`.
#[derive(Clone, Copy)]
struct Directory {
    at: usize,
    count: usize,
    next_at: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    at: usize,
    tag: u16,
    kind: u16,
    count: u32,
}

impl<'a> Block<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ExifFault> {
        match bytes.get(..4) {
            Some([b'I', b'I', 42, 0]) => Ok(Self { bytes, big_endian: false }),
            Some([b'M', b'M', 0, 42]) => Ok(Self { bytes, big_endian: true }),
            _ => Err(ExifFault),
        }
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn main(&self) -> Result<Directory, ExifFault> {
        self.u32_at(4).and_then(|at| self.directory(at)).ok_or(ExifFault)
    }

    fn directory(&self, at: u32) -> Option<Directory> {
        let at = at as usize;
        let count = usize::from(self.u16_at(at)?);
        let next_at = at.checked_add(2)?.checked_add(12 * count)?;
        // Some writers leave the last four bytes out at the very end of the block.
        (at >= 8 && next_at <= self.bytes.len()).then_some(Directory { at, count, next_at })
    }

    fn next(&self, directory: &Directory) -> Option<Directory> {
        let at = self.u32_at(directory.next_at).filter(|&at| at != 0)?;
        self.directory(at).filter(|next| next.at != directory.at)
    }

    fn entry(&self, directory: &Directory, index: usize) -> Option<Entry> {
        let at = directory.at + 2 + 12 * index;
        Some(Entry { at, tag: self.u16_at(at)?, kind: self.u16_at(at + 2)?, count: self.u32_at(at + 4)? })
    }

    fn find(&self, directory: &Directory, tag: u16) -> Option<Entry> {
        (0..directory.count).filter_map(|index| self.entry(directory, index)).find(|entry| entry.tag == tag)
    }

    /// A single SHORT or LONG, which stands in the entry itself.
    fn number(&self, entry: &Entry) -> Option<u32> {
        match (entry.kind, entry.count) {
            (SHORT, 1) => self.u16_at(entry.at + 8).map(u32::from),
            (LONG, 1) => self.u32_at(entry.at + 8),
            _ => None,
        }
    }

    fn short(&self, entry: &Entry) -> Option<u16> {
        self.number(entry).and_then(|value| u16::try_from(value).ok())
    }

    fn rational(&self, entry: &Entry) -> Option<f64> {
        if (entry.kind, entry.count) != (RATIONAL, 1) {
            return None;
        }
        let at = self.u32_at(entry.at + 8)? as usize;
        let (numerator, denominator) = (self.u32_at(at)?, self.u32_at(at.checked_add(4)?)?);
        (denominator != 0).then(|| f64::from(numerator) / f64::from(denominator))
    }

    /// Where the thumbnail that `directory` describes has its bytes, as far as they lie inside the block.
    fn thumbnail_ranges(&self, directory: &Directory) -> Vec<std::ops::Range<usize>> {
        let numbers = |tag| self.find(directory, tag).map_or(vec![], |entry| self.numbers(&entry));
        let mut ranges = Vec::new();
        for (offsets, lengths) in [(THUMBNAIL_OFFSET, THUMBNAIL_LENGTH), (STRIP_OFFSETS, STRIP_BYTE_COUNTS)] {
            for (at, length) in numbers(offsets).into_iter().zip(numbers(lengths)) {
                let start = (at as usize).min(self.bytes.len());
                let end = start.saturating_add(length as usize).min(self.bytes.len());
                ranges.push(start..end);
            }
        }
        ranges
    }

    /// The SHORTs or LONGs of an entry, wherever they stand; none when they lie outside.
    fn numbers(&self, entry: &Entry) -> Vec<u32> {
        let size = match entry.kind {
            SHORT => 2,
            LONG => 4,
            _ => return vec![],
        };
        let count = entry.count as usize;
        let start = if count.saturating_mul(size) <= 4 {
            entry.at + 8
        } else {
            match self.u32_at(entry.at + 8) {
                Some(at) => at as usize,
                None => return vec![],
            }
        };
        if start.saturating_add(count.saturating_mul(size)) > self.bytes.len() {
            return vec![];
        }
        (0..count)
            .filter_map(|i| match size {
                2 => self.u16_at(start + 2 * i).map(u32::from),
                _ => self.u32_at(start + 4 * i),
            })
            .collect()
    }

    /// Overwrites a single number in its entry; a SHORT becomes a LONG only when it must, both fit in the entry.
    fn set_number(&self, bytes: &mut [u8], entry: &Entry, value: u32) {
        if !matches!(entry.kind, SHORT | LONG) || entry.count != 1 {
            return;
        }
        let kind = if u16::try_from(value).is_ok() { entry.kind } else { LONG };
        self.write(bytes, entry.at + 2, SHORT, u32::from(kind));
        self.write(bytes, entry.at + 8, LONG, 0);
        self.write(bytes, entry.at + 8, kind, value);
    }

    /// Writes `value` as a SHORT or LONG at `at`, if that lies inside the block.
    fn write(&self, bytes: &mut [u8], at: usize, kind: u16, value: u32) {
        let encoded = match (kind, self.big_endian) {
            (SHORT, true) => value.to_be_bytes()[2..].to_vec(),
            (SHORT, false) => value.to_le_bytes()[..2].to_vec(),
            (_, true) => value.to_be_bytes().to_vec(),
            (_, false) => value.to_le_bytes().to_vec(),
        };
        if let Some(slot) = bytes.get_mut(at..at.saturating_add(encoded.len())) {
            slot.copy_from_slice(&encoded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A camera's block: main directory at 8, Exif directory, MakerNote, thumbnail directory and bytes.
    fn camera(big_endian: bool, orientation: u16) -> Vec<u8> {
        let short = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
        let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
            [&short(tag)[..], &short(kind), &long(count), &value].concat()
        };
        let in_entry = |v: u16| [&short(v)[..], &[0, 0]].concat().try_into().unwrap();
        let mut block = if big_endian { b"MM\0\x2a".to_vec() } else { b"II\x2a\0".to_vec() };
        block.extend(long(8));
        // Main: 6 entries, ends at 8 + 2 + 72 + 4 = 86; the rational lies there, the Exif directory at 94.
        block.extend(short(6));
        block.extend(entry(IMAGE_WIDTH, LONG, 1, long(192)));
        block.extend(entry(ORIENTATION, SHORT, 1, in_entry(orientation)));
        block.extend(entry(X_RESOLUTION, RATIONAL, 1, long(86)));
        block.extend(entry(Y_RESOLUTION, RATIONAL, 1, long(86)));
        block.extend(entry(RESOLUTION_UNIT, SHORT, 1, in_entry(3)));
        block.extend(entry(EXIF_DIRECTORY, LONG, 1, long(94)));
        block.extend(long(144));
        block.extend([long(236), long(2)].concat());
        // Exif: 3 entries, ends at 94 + 2 + 36 + 4 = 136; the MakerNote lies there, the thumbnail directory at 144.
        block.extend(short(3));
        block.extend(entry(PIXEL_X_DIMENSION, SHORT, 1, in_entry(192)));
        block.extend(entry(PIXEL_Y_DIMENSION, LONG, 1, long(128)));
        block.extend(entry(0x927c, 7, 8, long(136)));
        block.extend(long(0));
        block.extend(b"NotesNot");
        // Thumbnail: 2 entries, ends at 144 + 2 + 24 + 4 = 174, its bytes there.
        block.extend(short(2));
        block.extend(entry(THUMBNAIL_OFFSET, LONG, 1, long(174)));
        block.extend(entry(THUMBNAIL_LENGTH, LONG, 1, long(10)));
        block.extend(long(0));
        block.extend(b"\xff\xd8thumb!\xff\xd9");
        assert_eq!(block.len(), 184);
        block
    }

    #[test]
    fn a_block_tells_orientation_and_density() {
        for big_endian in [false, true] {
            let facts = facts(&camera(big_endian, 6)).unwrap();
            assert_eq!(facts.orientation, Some(6));
            let density = facts.density.unwrap();
            assert!((density.x - 118.0 * 2.54).abs() < 1e-9 && density.x == density.y, "{density:?}");
        }
        assert_eq!(facts(&camera(true, 77)).unwrap().orientation, Some(77));
    }

    #[test]
    fn a_renewed_block_tells_the_new_size_and_keeps_the_rest_in_place() {
        for big_endian in [false, true] {
            let old = camera(big_endian, 8);
            let new = renewed(&old, 70_000, 512).unwrap();
            let view = Block::open(&new).unwrap();
            let main = view.main().unwrap();
            let exif = view.directory(94).unwrap();
            let number = |directory, tag| view.number(&view.find(directory, tag).unwrap());
            assert_eq!(number(&main, ORIENTATION), Some(1));
            assert_eq!(number(&main, IMAGE_WIDTH), Some(70_000));
            // A SHORT holds no 70,000; a LONG was no need for 512.
            assert_eq!(view.find(&exif, PIXEL_X_DIMENSION).unwrap().kind, LONG);
            assert_eq!(number(&exif, PIXEL_X_DIMENSION), Some(70_000));
            assert_eq!(number(&exif, PIXEL_Y_DIMENSION), Some(512));
            assert_eq!(view.u32_at(main.next_at), Some(0), "the thumbnail is still linked");
            assert_eq!(new[174..], [0; 10], "the thumbnail is still there");
            assert_eq!(new[136..144], *b"NotesNot");
            assert_eq!(new.len(), old.len());
            assert_eq!(renewed(&new, 70_000, 512), Ok(new.clone()), "not the same the second time");
        }
    }

    #[test]
    fn a_block_that_points_outside_itself_is_refused() {
        let good = camera(false, 1);
        assert_eq!(facts(&[]), Err(ExifFault));
        assert_eq!(facts(b"no EXIF at all"), Err(ExifFault));
        let mut outside = good.clone();
        outside[4..8].copy_from_slice(&0xffff_fff0_u32.to_le_bytes());
        assert_eq!(facts(&outside), Err(ExifFault));
        assert_eq!(renewed(&outside, 1, 1), Err(ExifFault));
        // Cut anywhere and damaged anywhere it may lose facts, but never more than that.
        for length in 0..good.len() {
            let _ = facts(&good[..length]);
            assert!(renewed(&good[..length], 5, 5).is_err() || length >= 82);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = good.clone();
                damaged[at] = value;
                if let Ok(new) = renewed(&damaged, 5, 5) {
                    assert_eq!(new.len(), good.len());
                    assert_ne!(facts(&new).unwrap().orientation, Some(8));
                }
            }
        }
    }

    #[test]
    fn a_thumbnail_that_covers_the_directory_costs_the_block_not_more() {
        let mut twisted = camera(false, 6);
        // Thumbnail offset 0, length all.
        twisted[154..158].copy_from_slice(&0_u32.to_le_bytes());
        twisted[166..170].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(renewed(&twisted, 1, 1), Err(ExifFault));
    }
}
