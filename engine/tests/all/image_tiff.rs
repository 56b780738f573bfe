//! The kinds of TIFF that scanners and editors make, built here byte by byte, and those that must be refused.

use sr3_engine::image::{
    Channels, DecodeError, DecodeLimits, Decoded, OutputFormat, Samples, decode, encode,
};

const WIDTH: usize = 5;
const HEIGHT: usize = 3;
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// A page of 5 × 3 pixels: its own tags, and strips that follow the directory.
struct Page {
    big_endian: bool,
    tags: Vec<(u16, u16, Vec<u32>)>,
    strips: Vec<Vec<u8>>,
}

impl Page {
    fn new(photometric: u32, bits: u32, samples: u32, strips: Vec<Vec<u8>>) -> Self {
        let tags = vec![
            (256, SHORT, vec![WIDTH as u32]),
            (257, SHORT, vec![HEIGHT as u32]),
            (258, SHORT, vec![bits; samples as usize]),
            (259, SHORT, vec![1]),
            (262, SHORT, vec![photometric]),
            (277, SHORT, vec![samples]),
            (278, SHORT, vec![HEIGHT as u32]),
            (279, LONG, strips.iter().map(|strip| strip.len() as u32).collect()),
        ];
        Self { big_endian: false, tags, strips }
    }

    fn with(mut self, tag: u16, kind: u16, values: &[u32]) -> Self {
        self.tags.retain(|other| other.0 != tag);
        self.tags.push((tag, kind, values.to_vec()));
        self
    }

    fn number(&self, kind: u16, value: u32) -> Vec<u8> {
        match (kind, self.big_endian) {
            (SHORT, true) => (value as u16).to_be_bytes().to_vec(),
            (SHORT, false) => (value as u16).to_le_bytes().to_vec(),
            (_, true) => value.to_be_bytes().to_vec(),
            (_, false) => value.to_le_bytes().to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tags = self.tags.clone();
        let values_start = 8 + 2 + 12 * (tags.len() + 1) + 4;
        let value_bytes = |kind: u16, count: usize| count * if kind == SHORT { 2 } else { 4 };
        let outside = |bytes: usize| if bytes > 4 { bytes.next_multiple_of(4) } else { 0 };
        let values: usize = tags.iter().map(|(_, kind, v)| outside(value_bytes(*kind, v.len()))).sum();
        let mut at = values_start + values + outside(4 * self.strips.len());
        let mut offsets = Vec::new();
        for strip in &self.strips {
            offsets.push(at as u32);
            at += strip.len();
        }
        tags.push((273, LONG, offsets));
        tags.sort_by_key(|tag| tag.0);

        let mut file = if self.big_endian { b"MM\0\x2a".to_vec() } else { b"II\x2a\0".to_vec() };
        file.extend(self.number(LONG, 8));
        file.extend(self.number(SHORT, tags.len() as u32));
        let mut blob = Vec::new();
        for (tag, kind, values) in &tags {
            file.extend(self.number(SHORT, (*tag).into()));
            file.extend(self.number(SHORT, (*kind).into()));
            file.extend(self.number(LONG, values.len() as u32));
            let mut value: Vec<u8> = values.iter().flat_map(|&v| self.number(*kind, v)).collect();
            if value.len() > 4 {
                file.extend(self.number(LONG, (values_start + blob.len()) as u32));
                value.resize(value.len().next_multiple_of(4), 0);
                blob.extend(value);
            } else {
                value.resize(4, 0);
                file.extend(value);
            }
        }
        file.extend([0; 4]);
        file.extend(blob);
        self.strips.iter().for_each(|strip| file.extend(strip));
        file
    }

    fn read(&self) -> Result<Decoded, DecodeError> {
        decode(&self.bytes(), &DecodeLimits::default())
    }

    fn samples(&self) -> (Channels, Samples) {
        let picture = self.read().unwrap().picture;
        assert_eq!((picture.width, picture.height), (WIDTH, HEIGHT));
        (picture.channels, picture.samples)
    }
}

/// Distinct values for 5 × 3 pixels of `count` samples.
fn values(count: usize) -> Vec<u8> {
    (0..WIDTH * HEIGHT * count).map(|i| (i * 5 + 3) as u8).collect()
}

#[test]
fn planes_are_interleaved() {
    let rgb = values(3);
    let plane = |c: usize| rgb.iter().skip(c).step_by(3).copied().collect::<Vec<u8>>();
    for big_endian in [false, true] {
        let page = Page::new(2, 8, 3, (0..3).map(plane).collect()).with(284, SHORT, &[2]);
        let page = Page { big_endian, ..page };
        assert_eq!(page.samples(), (Channels::Rgb, Samples::U8(rgb.clone())));
        let wide = |c: usize| {
            plane(c).into_iter().flat_map(|v| page.number(SHORT, u32::from(v) * 200)).collect::<Vec<u8>>()
        };
        let deep = Page::new(2, 16, 3, (0..3).map(wide).collect()).with(284, SHORT, &[2]);
        let deep = Page { big_endian, ..deep };
        let wanted = rgb.iter().map(|&v| u16::from(v) * 200).collect();
        assert_eq!(deep.samples(), (Channels::Rgb, Samples::U16(wanted)));
    }
}

#[test]
fn premultiplied_alpha_becomes_plain() {
    let pixels: Vec<[u8; 4]> = (0..15).map(|i| [200, 100, 10 * i, 17 * (i + 1)]).collect();
    let multiplied = pixels.iter().flat_map(|p| {
        let times = |v: u8| ((u32::from(v) * u32::from(p[3]) + 127) / 255) as u8;
        [times(p[0]), times(p[1]), times(p[2]), p[3]]
    });
    let (channels, samples) = Page::new(2, 8, 4, vec![multiplied.collect()]).with(338, SHORT, &[1]).samples();
    let Samples::U8(samples) = samples else { panic!("not 8 bit") };
    assert_eq!(channels, Channels::Rgba);
    for (found, wanted) in samples.chunks(4).zip(&pixels) {
        let tolerance = 255 / u16::from(wanted[3]);
        assert_eq!(found[3], wanted[3]);
        assert!(
            found.iter().zip(wanted).all(|(f, w)| u16::from(f.abs_diff(*w)) <= tolerance),
            "{found:?} {wanted:?}"
        );
    }
    let plain = Page::new(2, 8, 4, vec![values(4)]).with(338, SHORT, &[2]);
    assert_eq!(plain.samples(), (Channels::Rgba, Samples::U8(values(4))));
    let gray = Page::new(1, 8, 2, vec![values(2)]).with(338, SHORT, &[2]);
    assert_eq!(gray.samples(), (Channels::GrayAlpha, Samples::U8(values(2))));
}

#[test]
fn a_palette_is_expanded() {
    let map: Vec<u32> = (0..3 * 256).map(|i| (i * 83 % 256) * 257).collect();
    for big_endian in [false, true] {
        let page = Page::new(3, 8, 1, vec![values(1)]).with(320, SHORT, &map);
        let (channels, samples) = Page { big_endian, ..page }.samples();
        let wanted = values(1)
            .iter()
            .flat_map(|&i| [0, 1, 2].map(|c| (map[c * 256 + usize::from(i)] / 257) as u8))
            .collect();
        assert_eq!((channels, samples), (Channels::Rgb, Samples::U8(wanted)));
    }
    // Four bits: indices 1 to 5 in each row, padded to three bytes.
    let map: Vec<u32> = (0..3 * 16).map(|i| i * 1000).collect();
    let page = Page::new(3, 4, 1, vec![[0x12, 0x34, 0x50].repeat(3)]).with(320, SHORT, &map);
    let row = (1..=5).flat_map(|i| [i, 16 + i, 32 + i].map(|i| (i * 1000 / 256) as u8)).collect::<Vec<_>>();
    assert_eq!(page.samples(), (Channels::Rgb, Samples::U8(row.repeat(3))));
    assert!(Page::new(3, 8, 1, vec![values(1)]).read().is_err(), "a palette type without a palette");
}

#[test]
fn narrow_gray_is_widened_and_white_is_zero_is_turned() {
    let page = Page::new(0, 4, 1, vec![[0xfe, 0xdc, 0xb0].repeat(3)]);
    let row = [0_u8, 17, 34, 51, 68];
    assert_eq!(page.samples(), (Channels::Gray, Samples::U8(row.repeat(3))));
    let page = Page::new(1, 1, 1, vec![vec![0b1010_1000; 3]]);
    assert_eq!(page.samples(), (Channels::Gray, Samples::U8([255, 0, 255, 0, 255].repeat(3))));
}

#[test]
fn cmyk_becomes_rgb_with_a_note() {
    let page =
        Page::new(5, 8, 4, vec![[0, 255, 128, 0].repeat(14).into_iter().chain([0, 0, 0, 255]).collect()]);
    let decoded = page.read().unwrap();
    let wanted = [255, 0, 127].repeat(14).into_iter().chain([0, 0, 0]).collect();
    assert_eq!(decoded.picture.samples, Samples::U8(wanted));
    assert_eq!(decoded.notes, ["CMYK became RGB"]);
}

#[test]
fn the_orientation_tag_turns_the_page() {
    let page = Page::new(1, 8, 1, vec![values(1)]);
    let upright = page.read().unwrap().picture;
    let turned = page.with(274, SHORT, &[6]).read().unwrap().picture;
    assert_eq!((turned.width, turned.height), (upright.height, upright.width));
    let (Samples::U8(upright), Samples::U8(turned)) = (upright.samples, turned.samples) else {
        panic!("not 8 bit")
    };
    assert_eq!(turned[..3], [upright[10], upright[5], upright[0]]);
    let odd = Page::new(1, 8, 1, vec![values(1)]).with(274, SHORT, &[9]).read().unwrap();
    assert!(odd.notes[0].contains("orientation 9"), "{:?}", odd.notes);
}

#[test]
fn what_cannot_be_right_is_refused() {
    let rgb = || Page::new(2, 8, 3, vec![values(3)]);
    assert!(rgb().read().is_ok());
    assert!(
        matches!(rgb().with(339, SHORT, &[2, 2, 2]).read(), Err(DecodeError::Unsupported { .. })),
        "signed"
    );
    assert!(matches!(rgb().with(262, SHORT, &[8]).read(), Err(DecodeError::Unsupported { .. })), "Lab");
    assert!(
        matches!(rgb().with(279, LONG, &[1 << 30]).read(), Err(DecodeError::Truncated { .. })),
        "strip too long"
    );
    let huge = [256, 257, 278].into_iter().fold(rgb(), |page, tag| page.with(tag, LONG, &[60_000]));
    assert!(matches!(huge.read(), Err(DecodeError::TooLarge { .. })), "60000 x 60000");
    assert!(rgb().with(278, SHORT, &[0]).read().is_err(), "no rows in a strip");
    assert!(rgb().with(256, SHORT, &[0]).read().is_err(), "no columns");

    // A JPEG of 64 x 64 in a place for 5 x 3: its decoder would allocate by the JPEG's word.
    let gray =
        decode(&Page::new(1, 8, 1, vec![values(1)]).bytes(), &DecodeLimits::default()).unwrap().picture;
    let mut large = gray.clone();
    (large.width, large.height, large.samples) = (64, 64, Samples::U8(vec![128; 64 * 64]));
    for (picture, fits) in [(&gray, true), (&large, false)] {
        let jpeg = encode(picture, OutputFormat::Jpeg, 90).unwrap().bytes;
        let page = Page::new(1, 8, 1, vec![jpeg]).with(259, SHORT, &[7]);
        assert_eq!(page.read().is_ok(), fits, "{:?}", page.read().err());
    }
    // And one that ends early would be filled with gray.
    let mut wide = gray.clone();
    wide.samples = Samples::U8((0..15).map(|i| i * 17).collect());
    let jpeg = encode(&wide, OutputFormat::Jpeg, 95).unwrap().bytes;
    for cut in [2, 6, 10] {
        let strip = [&jpeg[..jpeg.len() - cut], &[0xff, 0xd9]].concat();
        let page = Page::new(1, 8, 1, vec![strip]).with(259, SHORT, &[7]);
        let is_cut = matches!(page.read(), Err(DecodeError::Truncated { .. }));
        assert_eq!(is_cut, cut > 2, "{cut}");
    }
}
