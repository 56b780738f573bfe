//! The directories of a TIFF or BigTIFF, looked at before anything is decoded: which page is the picture, whether the
//! file is a camera's RAW, and what the chosen page says of itself.
//!
//! Hostile lists are bounded: each directory is visited once, at most [`DIRECTORIES_MAX`] of them, with at most
//! [`ENTRIES_MAX`] entries together. What lies outside the file is not there.

/// Directories that are looked at.
const DIRECTORIES_MAX: usize = 512;
/// Entries that are looked at, in all directories.
const ENTRIES_MAX: usize = 1 << 20;
/// Values of one entry that are looked at: SubIFDs, bits of samples.
const VALUES_MAX: usize = 64;

const NEW_SUBFILE_TYPE: u16 = 254;
const SUBFILE_TYPE: u16 = 255;
pub(super) const IMAGE_WIDTH: u16 = 256;
pub(super) const IMAGE_LENGTH: u16 = 257;
pub(super) const BITS_PER_SAMPLE: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const SAMPLES_PER_PIXEL: u16 = 277;
pub(super) const STRIP_OFFSETS: u16 = 273;
pub(super) const ROWS_PER_STRIP: u16 = 278;
pub(super) const STRIP_BYTE_COUNTS: u16 = 279;
const PLANAR_CONFIGURATION: u16 = 284;
const PREDICTOR: u16 = 317;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_LENGTH: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_BYTE_COUNTS: u16 = 325;
const YCBCR_SUBSAMPLING: u16 = 530;
const SUB_IFDS: u16 = 330;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const LEAF_DATA: u16 = 34_310;
const DNG_VERSION: u16 = 50_706;

/// The type of a value that is a fraction of two LONGs.
const RATIONAL: u16 = 5;

/// PhotometricInterpretation of indices into a palette.
pub(super) const PALETTE: u64 = 3;
/// PhotometricInterpretation of gray.
pub(super) const BLACK_IS_ZERO: u64 = 1;

/// What a directory says of its picture. Lists have no more than [`VALUES_MAX`] values.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    /// Where the directory stands.
    at: u64,
    /// Whether it stands in the file's own list of pages (else in a page's SubIFDs).
    in_list: bool,
    /// Marked as a smaller version of another picture.
    reduced: bool,
    /// Marked as a mask of another picture.
    mask: bool,
    pub(super) width: Option<u64>,
    pub(super) height: Option<u64>,
    pub(super) bits: Vec<u64>,
    pub(super) compression: u64,
    pub(super) photometric: Option<u64>,
    /// Where the value of PhotometricInterpretation stands, and in how many bytes.
    photometric_place: Option<(usize, usize)>,
    pub(super) samples: u64,
    pub(super) extra: Vec<u64>,
    pub(super) sample_format: Vec<u64>,
    /// Whether every sample of a pixel lies in a plane of its own.
    pub(super) planar: bool,
    pub(super) predictor: u64,
    pub(super) rows_per_strip: Option<u64>,
    pub(super) tile_width: Option<u64>,
    pub(super) tile_height: Option<u64>,
    /// Pixels along and across that share a Cb and a Cr.
    pub(super) subsampling: [u64; 2],
    /// Whether only a camera's RAW has such a directory.
    raw: bool,
}

impl Page {
    fn area(&self) -> u64 {
        self.width.unwrap_or(0).saturating_mul(self.height.unwrap_or(0))
    }
}

/// The page that is the picture.
pub(super) struct Choice {
    pub(super) page: Page,
    /// What a person should know about the choice.
    pub(super) note: Option<&'static str>,
    /// Whether the list has another page that is a picture of its own.
    pub(super) has_more: bool,
    /// Whether it is the page that the file begins with.
    is_first: bool,
}

/// The directories of a file.
pub(super) struct Pages<'a> {
    view: View<'a>,
    found: Vec<Page>,
}

impl<'a> Pages<'a> {
    /// Walks the list of pages and the SubIFDs of each; `None` if this is no TIFF.
    pub(super) fn walk(bytes: &'a [u8]) -> Option<Self> {
        let view = View::open(bytes)?;
        let mut walk = Walk { view: &view, found: Vec::new(), visited: Default::default(), entries: 0 };
        let mut next = view.offset(view.first_at());
        while let Some(at) = next {
            let Some((subs, after)) = walk.visit(at, true) else { break };
            for sub in subs {
                let mut next = Some(sub);
                while let Some(at) = next {
                    next = walk.visit(at, false).and_then(|(_, after)| after);
                }
            }
            next = after;
        }
        let found = walk.found;
        Some(Self { view, found })
    }

    /// Whether the file is a camera's RAW: a picture that is no picture before it is developed.
    pub(super) fn are_raw(&self) -> bool {
        // Canon's CR2 and Phase One's IIQ say so after the header.
        let mark = self.view.bytes.get(8..12).unwrap_or_default();
        mark.starts_with(b"CR") || matches!(mark, b"IIII" | b"MMMM") || self.found.iter().any(|page| page.raw)
    }

    /// The first page, unless it is marked as a small version or a mask: then the first that is not, where the SubIFDs
    /// of a page come right after it; the largest if all are marked. `None` if there is no page.
    pub(super) fn choose(&self) -> Option<Choice> {
        let whole = |page: &&Page| !page.reduced && !page.mask;
        let first = self.found.first()?;
        let (page, note) = match self.found.iter().find(whole) {
            Some(page) if page.at == first.at => (page, None),
            Some(page) => {
                (page, Some("the first picture in it is a preview or a mask: the full one was taken"))
            }
            None => {
                // The last of equal ones is the first of them backwards.
                let previews = self.found.iter().rev().filter(|page| !page.mask);
                let page = previews.max_by_key(|page| page.area()).unwrap_or(first);
                (page, Some("every picture in it is marked as a preview: the largest was taken"))
            }
        };
        let has_more = self.found.iter().filter(whole).any(|other| other.in_list && other.at != page.at);
        let is_first = page.at == first.at;
        Some(Choice { page: page.clone(), note, has_more, is_first })
    }

    /// The file as the `tiff` crate can read `choice`, where it cannot read it as it is: the list begins with that page,
    /// and indices into a palette are called gray (the crate knows no palettes, but then gives the indices).
    pub(super) fn patched(&self, choice: &Choice) -> Option<Vec<u8>> {
        let palette = choice.page.photometric == Some(PALETTE);
        if choice.is_first && !palette {
            return None;
        }
        let mut bytes = self.view.bytes.to_vec();
        if !choice.is_first {
            self.view.write(&mut bytes, self.view.first_at(), self.view.offset_size(), choice.page.at);
        }
        if let Some((at, size)) = choice.page.photometric_place.filter(|_| palette) {
            self.view.write(&mut bytes, at, size, BLACK_IS_ZERO);
        }
        Some(bytes)
    }

    /// The file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.view.bytes
    }

    /// Whether it is a BigTIFF.
    pub(super) fn is_big(&self) -> bool {
        self.view.big
    }

    /// The first `most` values of a tag of `page`, as far as they lie inside the file.
    pub(super) fn numbers(&self, page: &Page, tag: u16, most: u64) -> Vec<u64> {
        let Some(entry) = self.entry(page, tag).filter(|entry| entry.size > 0) else { return Vec::new() };
        (0..entry.count.min(most))
            .map_while(|i| {
                let at = usize::try_from(i).ok()?.checked_mul(entry.size)?.checked_add(entry.values_at)?;
                self.view.number(at, entry.size)
            })
            .collect()
    }

    /// `count` RATIONALs of a tag of `page`; none where there are not so many, or one is a fraction of zero.
    pub(super) fn rationals(&self, page: &Page, tag: u16, count: u64) -> Vec<f32> {
        let entry = self.entry(page, tag).filter(|entry| entry.kind == RATIONAL && entry.count == count);
        let Some(entry) = entry else { return Vec::new() };
        let value = |i: usize| {
            let at = entry.values_at.checked_add(8 * i)?;
            let [n, d] = [self.view.number(at, 4)?, self.view.number(at.checked_add(4)?, 4)?];
            (d > 0).then(|| n as f32 / d as f32)
        };
        (0..count as usize).map(value).collect::<Option<_>>().unwrap_or_default()
    }

    /// Gives a tag of `page` other values in `bytes`, a copy of the file that may be longer: inside the entry or, where
    /// there is no room, behind the end. A tag that is not there stays away.
    pub(super) fn set(&self, bytes: &mut Vec<u8>, page: &Page, tag: u16, values: &[u64]) {
        let Some(entry) = self.entry(page, tag) else { return };
        let (count_size, offset_size) = if self.view.big { (8, 8) } else { (4, 4) };
        let (kind, size) = match values.iter().max() {
            Some(0..=0xffff) | None => (3, 2),
            Some(0..=0xffff_ffff) => (4, 4),
            Some(_) => (16, 8),
        };
        let value_at = entry.at + 4 + count_size;
        let values_at = if values.len() * size <= offset_size {
            value_at
        } else {
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            let end = bytes.len();
            bytes.resize(end + values.len() * size, 0);
            self.view.write(bytes, value_at, offset_size, end as u64);
            end
        };
        self.view.write(bytes, entry.at + 2, 2, kind);
        self.view.write(bytes, entry.at + 4, count_size, values.len() as u64);
        for (i, &value) in values.iter().enumerate() {
            self.view.write(bytes, values_at + i * size, size, value);
        }
    }

    fn entry(&self, page: &Page, tag: u16) -> Option<Entry> {
        let directory = self.view.directory(page.at)?;
        (0..directory.count)
            .map_while(|index| self.view.entry(&directory, index))
            .find(|entry| entry.tag == tag)
    }
}

struct Walk<'v, 'a> {
    view: &'v View<'a>,
    found: Vec<Page>,
    visited: std::collections::BTreeSet<u64>,
    entries: usize,
}

impl Walk<'_, '_> {
    /// Takes the directory at `at`: its SubIFDs, and where the list goes on. `None` if it is not there, was visited
    /// before, or the walk has gone far enough.
    fn visit(&mut self, at: u64, in_list: bool) -> Option<(Vec<u64>, Option<u64>)> {
        if self.found.len() >= DIRECTORIES_MAX || self.entries >= ENTRIES_MAX || !self.visited.insert(at) {
            return None;
        }
        let directory = self.view.directory(at)?;
        self.entries += directory.count;
        let (page, subs) = self.view.page(at, &directory, in_list);
        self.found.push(page);
        Some((subs, self.view.offset(directory.next_at)))
    }
}

struct View<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// BigTIFF: 64-bit offsets.
    big: bool,
}

/// A directory whose entries lie inside the file.
struct Directory {
    entries_at: usize,
    count: usize,
    next_at: usize,
}

struct Entry {
    /// Where the entry stands.
    at: usize,
    tag: u16,
    kind: u16,
    /// Bytes of a value; 0 for what is no whole number.
    size: usize,
    count: u64,
    /// Where the values stand.
    values_at: usize,
}

impl<'a> View<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, big) = match bytes.get(..4)? {
            [b'I', b'I', 42, 0] => (false, false),
            [b'M', b'M', 0, 42] => (true, false),
            [b'I', b'I', 43, 0] => (false, true),
            [b'M', b'M', 0, 43] => (true, true),
            _ => return None,
        };
        Some(Self { bytes, big_endian, big })
    }

    /// Where the offset of the first directory stands.
    fn first_at(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn offset_size(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    /// `size` (1 to 8) bytes at `at` as a number.
    fn number(&self, at: usize, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let append = |number, &byte: &u8| number << 8 | u64::from(byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, append),
            false => bytes.iter().rev().fold(0, append),
        })
    }

    /// The offset that stands at `at`; `None` for the 0 that ends a list.
    fn offset(&self, at: usize) -> Option<u64> {
        self.number(at, self.offset_size()).filter(|&offset| offset != 0)
    }

    fn write(&self, bytes: &mut [u8], at: usize, size: usize, value: u64) {
        let Some(place) = bytes.get_mut(at..at + size) else { return };
        match self.big_endian {
            true => place.copy_from_slice(&value.to_be_bytes()[8 - size..]),
            false => place.copy_from_slice(&value.to_le_bytes()[..size]),
        }
    }

    fn directory(&self, at: u64) -> Option<Directory> {
        let at = usize::try_from(at).ok()?;
        let (count_size, entry_size) = if self.big { (8, 20) } else { (2, 12) };
        let count = usize::try_from(self.number(at, count_size)?).ok()?;
        let entries_at = at.checked_add(count_size)?;
        let next_at = count.checked_mul(entry_size)?.checked_add(entries_at)?;
        // As in the decoder, 65,535 entries are enough also where the header could count more.
        let fits = count <= usize::from(u16::MAX) && next_at <= self.bytes.len();
        fits.then_some(Directory { entries_at, count, next_at })
    }

    fn entry(&self, directory: &Directory, index: usize) -> Option<Entry> {
        let (entry_size, value_at) = if self.big { (20, 12) } else { (12, 8) };
        let at = directory.entries_at + index * entry_size;
        let count = self.number(at + 4, value_at - 4)?;
        // BYTE, SHORT, LONG, IFD, LONG8, IFD8 (TIFF 6.0 and its supplements).
        let kind = self.number(at + 2, 2)? as u16;
        let size = match kind {
            1 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => 0,
        };
        // A RATIONAL has no room inside, but in a BigTIFF.
        let taken = if kind == RATIONAL { 8 } else { size as u64 };
        let inside = count.saturating_mul(taken) <= self.offset_size() as u64;
        let values_at = match inside {
            true => at + value_at,
            false => usize::try_from(self.number(at + value_at, self.offset_size())?).ok()?,
        };
        Some(Entry { at, tag: self.number(at, 2)? as u16, kind, size, count, values_at })
    }

    fn values(&self, entry: &Entry) -> Vec<u64> {
        if entry.size == 0 {
            return Vec::new();
        }
        let count = entry.count.min(VALUES_MAX as u64) as usize;
        (0..count)
            .map_while(|i| self.number(entry.values_at.checked_add(i * entry.size)?, entry.size))
            .collect()
    }

    /// What the directory says, and where its SubIFDs are.
    fn page(&self, at: u64, directory: &Directory, in_list: bool) -> (Page, Vec<u64>) {
        let mut page = Page {
            at,
            in_list,
            compression: 1,
            samples: 1,
            predictor: 1,
            subsampling: [2, 2],
            ..Page::default()
        };
        let mut subs = Vec::new();
        for entry in (0..directory.count).map_while(|index| self.entry(directory, index)) {
            let values = || self.values(&entry);
            let value = || self.values(&entry).first().copied();
            match entry.tag {
                NEW_SUBFILE_TYPE => {
                    let flags = value().unwrap_or(0);
                    page.reduced |= flags & 1 != 0;
                    page.mask |= flags & 4 != 0;
                }
                SUBFILE_TYPE => page.reduced |= value() == Some(2),
                IMAGE_WIDTH => page.width = value(),
                IMAGE_LENGTH => page.height = value(),
                BITS_PER_SAMPLE => page.bits = values(),
                COMPRESSION => page.compression = value().unwrap_or(1),
                PHOTOMETRIC => {
                    page.photometric = value();
                    page.photometric_place = Some((entry.values_at, entry.size));
                }
                SAMPLES_PER_PIXEL => page.samples = value().unwrap_or(1),
                PLANAR_CONFIGURATION => page.planar = value() == Some(2),
                PREDICTOR => page.predictor = value().unwrap_or(1),
                ROWS_PER_STRIP => page.rows_per_strip = value(),
                TILE_WIDTH => page.tile_width = value(),
                TILE_LENGTH => page.tile_height = value(),
                YCBCR_SUBSAMPLING => page.subsampling = values().try_into().unwrap_or([0, 0]),
                SUB_IFDS => subs = values(),
                EXTRA_SAMPLES => page.extra = values(),
                SAMPLE_FORMAT => page.sample_format = values(),
                DNG_VERSION | LEAF_DATA => page.raw = true,
                _ => {}
            }
        }
        // A colour filter array and linear RAW; the compressions of Kodak, Sony, Nikon and Pentax.
        page.raw |= matches!(page.photometric, Some(32_803 | 34_892));
        page.raw |= matches!(page.compression, 262 | 32_767 | 34_713 | 65_000 | 65_535);
        page.mask |= page.photometric == Some(4);
        (page, subs)
    }
}
