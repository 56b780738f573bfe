//! TIFFs of several directories: the picture is found among previews, masks and SubIFDs, a camera's RAW is refused by any of
//! them, and lists that lead nowhere stay bounded.

use sr3_engine::image::{Channels, DecodeLimits, Decoded, Samples, decode};

const RAW: &str = "this is a camera RAW file, which is not read: develop it first";
const PREVIEW: &str = "the first picture in it is a preview or a mask: the full one was taken";
const ALL_PREVIEWS: &str = "every picture in it is marked as a preview: the largest was taken";

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A page of `side` × `side` gray pixels, all of the value `side`, with tags besides, and pages in its SubIFDs.
#[derive(Clone, Default)]
struct Page {
    side: u32,
    tags: Vec<(u16, u16, Vec<u32>)>,
    subs: Vec<Self>,
}

fn page(side: u32) -> Page {
    Page { side, ..Page::default() }
}

impl Page {
    /// With NewSubfileType.
    fn kind(self, flags: u32) -> Self {
        self.with(254, LONG, &[flags])
    }

    fn with(mut self, tag: u16, kind: u16, values: &[u32]) -> Self {
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    fn sub(mut self, page: Self) -> Self {
        self.subs.push(page);
        self
    }
}

/// A file being written.
struct File {
    bytes: Vec<u8>,
    big_endian: bool,
    big: bool,
}

impl File {
    fn of(pages: &[Page], big_endian: bool, big: bool) -> Vec<u8> {
        let mut file = Self { bytes: Vec::new(), big_endian, big };
        file.bytes.extend(if big_endian { b"MM" } else { b"II" });
        file.number(if big { 43 } else { 42 }, 2);
        if big {
            file.number(8, 2);
            file.number(0, 2);
        }
        let link = file.bytes.len();
        file.offset(0);
        file.list(pages, link);
        file.bytes
    }

    fn encoded(&self, value: u64, size: usize) -> Vec<u8> {
        match self.big_endian {
            true => value.to_be_bytes()[8 - size..].to_vec(),
            false => value.to_le_bytes()[..size].to_vec(),
        }
    }

    fn number(&mut self, value: u64, size: usize) {
        let encoded = self.encoded(value, size);
        self.bytes.extend(encoded);
    }

    fn offset(&mut self, value: u64) {
        self.number(value, if self.big { 8 } else { 4 });
    }

    fn link(&mut self, at: usize, target: usize) {
        let encoded = self.encoded(target as u64, if self.big { 8 } else { 4 });
        self.bytes[at..at + encoded.len()].copy_from_slice(&encoded);
    }

    /// Writes pages, each linked from the one before, the first from `link`.
    fn list(&mut self, pages: &[Page], mut link: usize) {
        for page in pages {
            link = self.page(page, link);
        }
    }

    /// Writes a page that `link` points at, and says where its own link stands.
    fn page(&mut self, page: &Page, link: usize) -> usize {
        let pixels = self.bytes.len() as u32;
        self.bytes.extend(vec![page.side as u8; (page.side * page.side) as usize]);
        let sub_list = self.bytes.len();
        page.subs.iter().for_each(|_| self.offset(0));
        let bytes = page.side * page.side;
        let mut tags = page.tags.clone();
        for (tag, kind, value) in [
            (256, LONG, page.side),
            (257, LONG, page.side),
            (258, SHORT, 8),
            (259, SHORT, 1),
            (262, SHORT, 1),
            (273, LONG, pixels),
            (277, SHORT, 1),
            (278, LONG, page.side),
            (279, LONG, bytes),
        ] {
            if tags.iter().all(|other| other.0 != tag) {
                tags.push((tag, kind, vec![value]));
            }
        }
        let inside = if self.big { 8 } else { 4 };
        let mut pointed = Vec::new();
        for (_, kind, values) in &tags {
            let size = if *kind == SHORT { 2 } else { 4 };
            pointed.push((size * values.len() > inside).then_some(self.bytes.len()));
            if size * values.len() > inside {
                values.iter().for_each(|&v| self.number(v.into(), size));
            }
        }
        let mut entries: Vec<_> = tags
            .iter()
            .zip(pointed)
            .map(|((tag, kind, values), at)| (*tag, *kind, values.len(), values.clone(), at))
            .collect();
        if !page.subs.is_empty() {
            // IFD8 in BigTIFF, LONG else; one alone stands in the entry.
            entries.push((330, if self.big { 18 } else { LONG }, page.subs.len(), vec![], Some(sub_list)));
        }
        entries.sort_by_key(|entry| entry.0);
        let at = self.bytes.len();
        self.link(link, at);
        self.number(entries.len() as u64, if self.big { 8 } else { 2 });
        let mut sub_links: Vec<_> = (0..page.subs.len()).map(|i| sub_list + i * inside).collect();
        for (tag, kind, count, values, at) in entries {
            self.number(tag.into(), 2);
            self.number(kind.into(), 2);
            self.number(count as u64, inside);
            let value_at = self.bytes.len();
            match at {
                Some(_) if tag == 330 && count == 1 => sub_links = vec![value_at],
                Some(at) => self.offset(at as u64),
                None => values.iter().for_each(|&v| self.number(v.into(), if kind == SHORT { 2 } else { 4 })),
            }
            self.bytes.resize(value_at + inside, 0);
        }
        let next = self.bytes.len();
        self.offset(0);
        for (sub, link) in page.subs.iter().zip(sub_links) {
            self.page(sub, link);
        }
        next
    }
}

fn each_kind(pages: &[Page]) -> impl Iterator<Item = Vec<u8>> {
    [(false, false), (true, false), (false, true), (true, true)]
        .map(|(end, big)| File::of(pages, end, big))
        .into_iter()
}

fn read(bytes: &[u8]) -> Decoded {
    decode(bytes, &DecodeLimits::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// In every byte order and size of offsets, `pages` give the page of that side and these notes.
fn gives(pages: &[Page], side: usize, notes: &[&str]) {
    for bytes in each_kind(pages) {
        let found = read(&bytes);
        assert_eq!((found.picture.width, found.picture.height), (side, side));
        assert_eq!(found.picture.samples, Samples::U8(vec![side as u8; side * side]));
        assert_eq!(found.notes, notes);
    }
}

fn refused(pages: &[Page], words: &str) {
    for bytes in each_kind(pages) {
        let error = decode(&bytes, &DecodeLimits::default()).map(|d| d.notes).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn the_picture_is_the_first_that_is_not_marked_as_a_preview() {
    gives(&[page(9)], 9, &[]);
    gives(&[page(9), page(8)], 9, &["first of several pages"]);
    gives(&[page(3).kind(1), page(9)], 9, &[PREVIEW]);
    gives(&[page(3).with(255, SHORT, &[2]), page(9)], 9, &[PREVIEW]);
    gives(&[page(3).kind(1), page(9), page(10)], 9, &[PREVIEW, "first of several pages"]);
    gives(&[page(4).kind(4), page(9)], 9, &[PREVIEW]);
    // A DNG's order without a RAW: the full picture hangs below the preview.
    gives(&[page(3).kind(1).sub(page(9))], 9, &[PREVIEW]);
    gives(&[page(3).kind(1).sub(page(5).kind(1)).sub(page(9)), page(7).kind(1)], 9, &[PREVIEW]);
}

#[test]
fn previews_and_masks_beside_the_picture_are_no_pages() {
    gives(&[page(9), page(4).kind(1), page(2).kind(1)], 9, &[]);
    gives(&[page(9), page(9).kind(4), page(3).with(255, SHORT, &[2])], 9, &[]);
    gives(&[page(9).sub(page(4).kind(1)).sub(page(2).kind(1))], 9, &[]);
    // Where only SubIFDs follow, the first page stays the picture.
    gives(&[page(9).sub(page(12))], 9, &[]);
}

#[test]
fn of_previews_alone_the_largest_is_taken() {
    gives(&[page(3).kind(1), page(6).kind(1), page(5).kind(1)], 6, &[ALL_PREVIEWS]);
    gives(&[page(3).kind(1).sub(page(7).kind(1))], 7, &[ALL_PREVIEWS]);
    gives(&[page(5).kind(1)], 5, &[ALL_PREVIEWS]);
}

#[test]
fn a_raw_is_known_by_any_of_its_directories() {
    let cfa = page(9).with(262, SHORT, &[32_803]);
    let linear = page(9).with(262, SHORT, &[34_892]);
    // DNG, NEF and ARW: previews first, the RAW below; PEF: the RAW first.
    refused(&[page(3).kind(1).with(50_706, LONG, &[0x0104_0000])], RAW);
    refused(&[page(3).kind(1).sub(cfa.clone())], RAW);
    refused(&[page(3).kind(1).sub(page(4).kind(1)).sub(linear)], RAW);
    refused(&[page(9), cfa.clone()], RAW);
    refused(&[cfa], RAW);
    for compression in [262, 32_767, 34_713, 65_000, 65_535] {
        refused(&[page(3).kind(1).sub(page(9).with(259, SHORT, &[compression]))], RAW);
    }
    // CR2 and IIQ say so in the header.
    for mark in [b"CR\x02\0", b"IIII"] {
        let mut bytes = File::of(&[page(9)], false, false);
        bytes[8..12].copy_from_slice(mark);
        let error = decode(&bytes, &DecodeLimits::default()).map(|d| d.notes).unwrap_err();
        assert_eq!(error.to_string(), RAW);
    }
}

#[test]
fn lists_that_lead_in_circles_end() {
    let many: Vec<_> = (0..600).map(|_| page(2).kind(1)).collect();
    gives(&many, 2, &[ALL_PREVIEWS]);
    // The SubIFD is the page itself, and the list's end its start.
    let mut bytes = File::of(&[page(3).kind(1).sub(page(9).kind(1)).sub(page(8).kind(1))], false, false);
    let first = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
    let subs = 8 + 9;
    bytes[subs..subs + 4].copy_from_slice(&first.to_le_bytes());
    let found = read(&bytes);
    assert_eq!((found.picture.width, &found.notes[..]), (8, &[ALL_PREVIEWS.to_owned()][..]));
    bytes[subs + 4..subs + 8].copy_from_slice(&[0xff; 4]);
    assert_eq!(read(&bytes).picture.width, 3);
}

#[test]
fn samples_that_nothing_is_said_of_are_left_out_with_a_note() {
    let path = |name: &str| crate::common::fixture("").join("../real/tiff_alpha").join(name);
    let file = |name: &str| std::fs::read(path(name)).unwrap();
    let note = "a further sample was left out: the file does not call it transparency";
    let unspecified = read(&file("tiff_rgba_unspecified.tif"));
    assert_eq!(
        (unspecified.picture.channels, unspecified.notes.first()),
        (Channels::Rgb, Some(&note.to_owned()))
    );
    // The same drawing with 256 colours.
    let palette = read(&file("tiff_palette8_big.tif"));
    assert_eq!(palette.picture.channels, Channels::Rgb);
    assert!(palette.notes.iter().all(|note| note.contains("description")), "{:?}", palette.notes);
    let (Samples::U8(a), Samples::U8(b)) = (&unspecified.picture.samples, &palette.picture.samples) else {
        panic!("not 8 bit")
    };
    let distance: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert_eq!(a.len(), b.len());
    assert!(distance < 5 * a.len() as u64, "{distance}");
}

#[test]
fn what_is_not_read_is_named() {
    let of = |what: &str| format!("this kind of TIFF is not read: {what}");
    for (code, name) in [
        (2, "CCITT run lengths"),
        (6, "JPEG of the old style"),
        (34_712, "JPEG 2000"),
        (50_002, "JPEG XL"),
        (999, "number 999, which is not known"),
    ] {
        let words = of(&format!(
            "its pixels are compressed as {name}: save it again with LZW, deflate or no compression"
        ));
        refused(&[page(9).with(259, SHORT, &[code])], &words);
    }
    for (photometric, what) in [
        (8, "its colours are Lab"),
        (9, "its colours are Lab"),
        (32_845, "its colours are LogLuv"),
        (7_000, "its colours are of an unknown kind"),
    ] {
        let words = of(&format!("{what}: save it again as RGB"));
        refused(&[page(9).with(262, SHORT, &[photometric])], &words);
    }
    for (tag, value, what) in [
        (339, 2, "its samples are signed"),
        (339, 6, "its samples are complex numbers"),
        (258, 12, "it has 12 bits a sample"),
        (258, 64, "it has 64 bits a sample"),
    ] {
        let words = of(&format!("{what}: save it again with 8 or 16 bits a sample"));
        refused(&[page(9).with(tag, SHORT, &[value])], &words);
    }
}
