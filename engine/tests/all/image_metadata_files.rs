//! Metadata in files made here: extended XMP, Photoshop's resources and second pictures of JPEGs; TIFF's tags; GIF, BMP and
//! WebP. And the makers of such files.

use sr3_engine::image::{Channels, Picture};
use sr3_engine::image::{DecodeLimits, Decoded, Metadata, OutputFormat, Samples, Text, decode, encode};

/// A file of `tests/real`.
pub(crate) fn real(path: &str) -> Vec<u8> {
    let path = crate::common::fixture("").join("../real").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn text(keyword: &str, text: &str) -> Text {
    Text { keyword: keyword.to_owned(), text: text.to_owned() }
}

/// An XMP packet around `inner`.
pub(crate) fn packet(inner: &str) -> String {
    let names = "xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"";
    format!("<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF {names}>{inner}</rdf:RDF></x:xmpmeta>")
}

/// 8 × 4 gray pixels, encoded.
fn plain(format: OutputFormat) -> Vec<u8> {
    let samples = Samples::U8((0..32).collect());
    let picture =
        Picture { width: 8, height: 4, channels: Channels::Gray, samples, metadata: Metadata::default() };
    encode(&picture, format, 95).unwrap().bytes
}

/// A PNG with `extra` chunks behind its header.
pub(crate) fn png_with(extra: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let plain = plain(OutputFormat::Png);
    let mut bytes = plain[..33].to_vec();
    for (name, data) in extra {
        let checked = [&name[..], data].concat();
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(&checked);
        bytes.extend(crc32fast::hash(&checked).to_be_bytes());
    }
    bytes.extend(&plain[33..]);
    bytes
}

/// A PNG's chunks before its pixels.
pub(crate) fn chunks(png: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = 8;
    while &png[at + 4..at + 8] != b"IDAT" {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        found.push((png[at + 4..at + 8].try_into().unwrap(), png[at + 8..at + 8 + length].to_vec()));
        at += 12 + length;
    }
    found
}

/// A JPEG with `extra` segments behind its start.
pub(crate) fn jpeg_with(extra: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let plain = plain(OutputFormat::Jpeg);
    let mut bytes = plain[..2].to_vec();
    for (marker, data) in extra {
        bytes.extend([0xff, *marker]);
        bytes.extend(u16::try_from(data.len() + 2).unwrap().to_be_bytes());
        bytes.extend(data);
    }
    bytes.extend(&plain[2..]);
    bytes
}

/// A JPEG's segments before its first scan.
pub(crate) fn segments(jpeg: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    let mut at = 2;
    while jpeg[at + 1] != 0xda {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        found.push((jpeg[at + 1], jpeg[at + 4..at + 2 + length].to_vec()));
        at += 2 + length;
    }
    found
}

fn read(bytes: &[u8]) -> Decoded {
    decode(bytes, &DecodeLimits::default()).unwrap()
}

fn again(decoded: &Decoded, format: OutputFormat) -> (Vec<u8>, Metadata) {
    let encoded = encode(&decoded.picture, format, 95).unwrap();
    assert_eq!(encoded.notes, [] as [String; 0], "{format}");
    let metadata = read(&encoded.bytes).picture.metadata;
    (encoded.bytes, metadata)
}

#[test]
fn extended_xmp_stays_split_in_a_jpeg_and_is_joined_elsewhere() {
    let digest = "0123456789ABCDEF0123456789ABCDEF";
    let main = packet(&format!("<rdf:Description xmpNote:HasExtendedXMP=\"{digest}\"/>"));
    let extension = packet(&format!("<rdf:Description a:b=\"{}\"/>", "long ".repeat(30_000)));
    let piece = |offset: usize, end: usize| {
        let numbers = [(extension.len() as u32).to_be_bytes(), (offset as u32).to_be_bytes()].concat();
        let data = &extension.as_bytes()[offset..end];
        (0xe1, [b"http://ns.adobe.com/xmp/extension/\0", digest.as_bytes(), &numbers, data].concat())
    };
    let first = (0xe1, [b"http://ns.adobe.com/xap/1.0/\0", main.as_bytes()].concat());
    let (a, b, c) = (piece(0, 60_000), piece(60_000, 120_000), piece(120_000, extension.len()));
    // Out of order, as the standard allows.
    let source = read(&jpeg_with(&[first.clone(), c.clone(), a.clone(), b.clone()]));
    assert_eq!(source.notes, [] as [String; 0]);
    assert_eq!(source.picture.metadata.xmp_extension.as_ref(), Some(&extension));
    let (jpeg, metadata) = again(&source, OutputFormat::Jpeg);
    assert_eq!(metadata, source.picture.metadata);
    assert_eq!(segments(&jpeg).iter().filter(|segment| segment.0 == 0xe1).count(), 4);
    for format in [OutputFormat::Png, OutputFormat::Webp, OutputFormat::Tiff] {
        let metadata = again(&source, format).1;
        let joined = metadata.xmp.unwrap();
        assert!(joined.contains("a:b=\"long ") && !joined.contains(digest), "{format}");
        assert_eq!(joined.matches("<rdf:RDF").count(), 1, "{format}");
    }
    for broken in
        [vec![first.clone(), a.clone(), c], vec![first, a.clone(), a.clone(), b.clone()], vec![a, b]]
    {
        assert_eq!(read(&jpeg_with(&broken)).notes, ["left out: damaged extended XMP"]);
    }
}

#[test]
fn the_records_among_photoshops_resources_are_found() {
    let resources = b"8BIM\x03\xed\0\0\0\0\0\x02xx8BIM\x04\x04\0\0\0\0\0\x0b\x1c\x02\x50\0\x06Jane D\0";
    let (a, b) = resources.split_at(20);
    let segment = |piece: &[u8]| (0xed, [b"Photoshop 3.0\0", piece].concat());
    let source = read(&jpeg_with(&[segment(a), segment(b)]));
    assert_eq!(source.picture.metadata.iptc.as_deref(), Some(&b"\x1c\x02\x50\0\x06Jane D"[..]));
    assert_eq!(source.notes, ["left out: Photoshop resources"]);
}

#[test]
fn second_pictures_in_a_jpeg_are_told_of_and_previews_are_not() {
    let index = |kind: u32| {
        let mut data = b"MPF\0MM\0\x2a\0\0\0\x08\0\x01\xb0\x02\0\x07\0\0\0\x20\0\0\0\x1a\0\0\0\0".to_vec();
        data.extend([0x20, 3, 0, 0].into_iter().chain([0; 12]));
        data.extend(kind.to_be_bytes().into_iter().chain([0; 12]));
        (0xe2, data)
    };
    let xmp = |inner: &str| (0xe1, [b"http://ns.adobe.com/xap/1.0/\0", packet(inner).as_bytes()].concat());
    let notes = |segments: &[(u8, Vec<u8>)]| read(&jpeg_with(segments)).notes;
    assert_eq!(notes(&[index(0x0001_0001)]), [] as [String; 0]);
    assert_eq!(notes(&[index(0x0002_0002)]), ["other pictures in the file are left out: the first is read"]);
    let gain_map = ["a second picture in the file, its gain map for HDR, is left out"];
    assert_eq!(notes(&[index(0), xmp("<rdf:Description hdrgm:Version=\"1.0\"/>")]), gain_map);
    assert_eq!(notes(&[(0xe2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0".to_vec())]), gain_map);

    let motion = read(&jpeg_with(&[xmp("<rdf:Description GCamera:MotionPhoto=\"1\"/>")]));
    assert_eq!(motion.notes, ["the film of a motion photo is left out"]);
    assert!(motion.picture.metadata.xmp.unwrap().contains("MotionPhoto=\"0\""));

    let others = [
        (0xeb, b"JP\0\x01\0\0\0\x01".to_vec()),
        (0xe2, b"FPXR\0\0".to_vec()),
        (0xe7, vec![0, 1, 2]),
        (0xee, b"Adobe\0d\0\0\0\0\x01".to_vec()),
        (0xe0, b"JFXX\0\x10".to_vec()),
        (0xfe, b"\x01\x02binary".to_vec()),
        (0xfe, b"caf\xe9\0".to_vec()),
    ];
    let decoded = read(&jpeg_with(&others));
    let wanted = "left out: content credentials (JUMBF), APP2 FPXR, APP7, a comment that is no text";
    assert_eq!(decoded.notes, [wanted]);
    assert_eq!(decoded.picture.metadata.texts, [text("Comment", "café")]);
}

/// A TIFF of 2 × 2 gray pixels: 4 bytes at 8, then directories made by `place`.
fn tiff(tags: &[(u16, u16, Vec<u8>)], exif: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
    fn directory(file: &mut Vec<u8>, tags: &[(u16, u16, Vec<u8>)]) -> u32 {
        let mut table = (tags.len() as u16).to_le_bytes().to_vec();
        for (tag, kind, data) in tags {
            let count = data.len() / [1, 1, 1, 2, 4, 8, 1, 1][usize::from(*kind)];
            table.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
            table.extend((count as u32).to_le_bytes());
            if data.len() <= 4 {
                table.extend(data.iter().copied().chain([0; 4]).take(4));
            } else {
                table.extend((file.len() as u32).to_le_bytes());
                file.extend(data);
            }
        }
        table.extend([0; 4]);
        let at = file.len() as u32;
        file.extend(table);
        at
    }
    let mut file = b"II\x2a\0\0\0\0\0\x01\x02\x03\x04".to_vec();
    let below = directory(&mut file, exif);
    let short = |v: u16| v.to_le_bytes().to_vec();
    let long = |v: u32| v.to_le_bytes().to_vec();
    let mut all = vec![
        (256, 3, short(2)),
        (257, 3, short(2)),
        (258, 3, short(8)),
        (259, 3, short(1)),
        (262, 3, short(1)),
        (273, 4, long(8)),
        (277, 3, short(1)),
        (278, 3, short(2)),
        (279, 4, long(4)),
        (34_665, 4, long(below)),
    ];
    all.extend_from_slice(tags);
    all.sort_by_key(|tag| tag.0);
    let first = directory(&mut file, &all);
    file[4..8].copy_from_slice(&first.to_le_bytes());
    file
}

#[test]
fn what_a_tiff_says_is_carried() {
    let words = packet("<rdf:Description tiff:Orientation=\"1\"/>");
    let file = tiff(
        &[
            (271, 2, b"Maker\0".to_vec()),
            (315, 2, b"Jane\0".to_vec()),
            (700, 1, words.clone().into_bytes()),
            (33_550, 4, vec![0; 24]),
            // Photoshop says LONG and means bytes.
            (33_723, 4, b"\x1c\x02\x50\0\x01J\x1c\x02\x50\0\x06Ja".to_vec()),
            // The same again, whole.
            (34_377, 1, b"8BIM\x04\x04\0\0\0\0\0\x11\x1c\x02\x50\0\x01J\x1c\x02\x50\0\x06Jane D\0".to_vec()),
            (50_000, 3, vec![1, 0]),
        ],
        &[
            (33_434, 5, [1_u32.to_le_bytes(), 125_u32.to_le_bytes()].concat()),
            (36_867, 2, b"2024:01:01 00:00:00\0".to_vec()),
            (37_500, 7, b"maker's own".to_vec()),
            (40_962, 3, vec![2, 0]),
        ],
    );
    let source = read(&file);
    assert_eq!(source.notes, ["left out: MakerNote, GeoTIFF tags, tag 50000"]);
    let metadata = &source.picture.metadata;
    assert_eq!(metadata.xmp.as_ref(), Some(&words));
    assert_eq!(metadata.iptc.as_deref(), Some(&b"\x1c\x02\x50\0\x01J\x1c\x02\x50\0\x06Jane D"[..]));
    let exif = metadata.exif.clone().unwrap();
    for value in [&b"Maker\0"[..], b"Jane\0", b"2024:01:01 00:00:00\0", b"\0\0\0\x01\0\0\0\x7d"] {
        assert!(exif.windows(value.len()).any(|window| window == value), "{value:?}");
    }
    assert!(!exif.windows(11).any(|window| window == b"maker's own"));
    for format in [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Tiff] {
        assert_eq!(&Metadata { density: None, ..again(&source, format).1 }, metadata, "{format}");
    }
    let webp = encode(&source.picture, OutputFormat::Webp, 95).unwrap();
    assert_eq!(read(&webp.bytes).picture.metadata.exif, metadata.exif);
    assert_eq!(webp.notes, ["IPTC left out: WebP has no place for it"]);
}

#[test]
fn a_tiffs_primaries_become_a_pngs() {
    let adobe = [31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000_u32];
    let rationals = |values: &[u32]| -> Vec<u8> {
        values.iter().flat_map(|v| [v.to_le_bytes(), 100_000_u32.to_le_bytes()].concat()).collect()
    };
    let source = read(&tiff(&[(318, 5, rationals(&adobe[..2])), (319, 5, rationals(&adobe[2..]))], &[]));
    assert_eq!((source.picture.metadata.colour.chromaticities, source.notes.len()), (Some(adobe), 0));
    assert_eq!(again(&source, OutputFormat::Png).1.colour, source.picture.metadata.colour);
    let notes = encode(&source.picture, OutputFormat::Tiff, 95).unwrap().notes;
    assert!(notes[0].starts_with("primaries left out"), "{notes:?}");
    let zero = read(&tiff(&[(318, 5, vec![0; 16]), (319, 5, vec![0; 48])], &[]));
    assert_eq!(zero.picture.metadata, Metadata::default());
}

#[test]
fn a_tiff_that_describes_its_array_does_not_keep_the_old_size() {
    let file = tiff(&[(270, 2, b"{\"shape\": [2, 2]}\0".to_vec())], &[]);
    let source = read(&file);
    assert_eq!(source.notes, ["left out: a description that tells the old size"]);
    assert_eq!(source.picture.metadata.exif, None);
}

#[test]
fn a_maker_note_does_not_reach_a_tiff_and_that_is_told() {
    let path = crate::common::fixture("").join("../hard/orientation/exif_orientation_6.jpg");
    let mut source = read(&std::fs::read(path).unwrap());
    let exif = source.picture.metadata.exif.as_mut().unwrap();
    // UserComment, or whichever of the Exif directory's tags comes first, becomes a MakerNote.
    let little = exif.starts_with(b"II");
    let number = |at: usize| match little {
        true => u16::from_le_bytes([exif[at], exif[at + 1]]),
        false => u16::from_be_bytes([exif[at], exif[at + 1]]),
    };
    let entries = usize::from(number(8));
    let pointer = (0..entries).map(|i| 10 + 12 * i).find(|&at| number(at) == 0x8769).unwrap();
    let below = usize::from(number(pointer + if little { 8 } else { 10 }));
    let tag = if little { 0x927c_u16.to_le_bytes() } else { 0x927c_u16.to_be_bytes() };
    exif[below + 2..below + 4].copy_from_slice(&tag);
    let notes = encode(&source.picture, OutputFormat::Tiff, 95).unwrap().notes;
    assert_eq!(notes, ["MakerNote left out: it holds only at its place in the block it came in"]);
}

#[test]
fn a_gif_gives_its_comment_and_xmp() {
    let words = packet("<rdf:Description dc:rights=\"Jane\"/>");
    let plain = real("name_collision/photo.gif");
    let colours = 13 + if plain[10] & 0x80 == 0 { 0 } else { 3 << ((plain[10] & 7) + 1) };
    let mut file = plain[..colours].to_vec();
    file.extend(b"\x21\xfe\x05hello\x06 world\0");
    file.extend(b"\x21\xff\x0bXMP DataXMP");
    file.extend(words.as_bytes());
    file.push(1);
    file.extend((0..=255_u8).rev());
    file.push(0);
    file.extend(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0\x21\xff\x0bODDAPP 1.23\x01x\0");
    file.extend(&plain[colours..]);
    let source = read(&file);
    assert_eq!(source.picture.metadata.texts, [text("Comment", "hello world")]);
    assert_eq!(source.picture.metadata.xmp.as_ref(), Some(&words));
    assert_eq!(source.notes, ["left out: ODDAPP 1.23"]);
    assert_eq!(again(&source, OutputFormat::Png).1, source.picture.metadata);
    for cut in colours..colours + 40 {
        let _ = decode(&file[..cut], &DecodeLimits::default());
    }
}

#[test]
fn a_bmp_gives_its_embedded_profile() {
    let path = crate::common::fixture("").join("../hard/colour/png_display_p3.png");
    let profile = read(&std::fs::read(path).unwrap()).picture.metadata.icc.unwrap();
    let mut file = real("bmp_alpha/bmp32_v5_birgb_alphamask.bmp");
    let before = read(&file);
    assert_eq!((before.picture.metadata.icc, before.notes.len()), (None, 0));
    let start = (file.len() - 14) as u32;
    file[70..74].copy_from_slice(b"DEBM");
    file[126..130].copy_from_slice(&start.to_le_bytes());
    file[130..134].copy_from_slice(&(profile.len() as u32).to_le_bytes());
    let mut linked = file.clone();
    linked[70..74].copy_from_slice(b"KNIL");
    assert_eq!(read(&linked).notes, ["left out: a profile in another file"]);
    assert_eq!(read(&file).notes, ["profile dropped: it lies outside the file"]);
    file.extend(&profile);
    assert_eq!(read(&file).picture.metadata.icc, Some(profile));
}

#[test]
fn a_webp_gives_its_xmp_and_names_what_else_is_in_it() {
    let words = packet("");
    let samples = Samples::U8((0..32).collect());
    let metadata = Metadata { xmp: Some(words.clone()), ..Metadata::default() };
    let picture = Picture { width: 8, height: 4, channels: Channels::Gray, samples, metadata };
    let mut file = encode(&picture, OutputFormat::Webp, 95).unwrap().bytes;
    assert_eq!(read(&file).picture.metadata.xmp.as_ref(), Some(&words));
    if file.len() % 2 == 1 {
        file.push(0);
    }
    file.extend(b"C2PA\x02\0\0\0xx");
    let size = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    assert_eq!(read(&file).notes, ["left out: C2PA"]);
    let name = file.windows(4).position(|window| window == b"XMP ").unwrap();
    file[name + 3] = 0;
    // The container's header does not promise a packet then.
    file[20] &= !4;
    assert_eq!(read(&file).picture.metadata.xmp, Some(words), "as ImageMagick writes it");
}
