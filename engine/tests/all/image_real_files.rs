//! Files as people have them (`tests/real`), and their siblings made here: each gives the right pixels, with a note where
//! something is amiss, or is refused in words of our own.

use sr3_engine::image::{Channels, DecodeLimits, Decoded, Samples, decode};

fn real(path: &str) -> Vec<u8> {
    let path = crate::common::fixture("").join("../real").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn hard(path: &str) -> Vec<u8> {
    std::fs::read(crate::common::fixture("").join("../hard").join(path)).unwrap()
}

fn read(bytes: &[u8]) -> Decoded {
    decode(bytes, &DecodeLimits::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes, &DecodeLimits::default()).map(|d| d.notes).unwrap_err().to_string()
}

fn bytes_of(decoded: &Decoded) -> &[u8] {
    let Samples::U8(samples) = &decoded.picture.samples else { panic!("not 8 bit") };
    samples
}

/// The same picture as `whole`, with `note` and no other.
fn assert_whole_with_note(bytes: &[u8], whole: &[u8], note: &str, what: &str) {
    let (found, wanted) = (read(bytes), read(whole));
    assert_eq!(found.picture.samples, wanted.picture.samples, "{what}");
    let notes = [wanted.notes, vec![note.to_owned()]].concat();
    assert_eq!(found.notes, notes, "{what}");
}

const CUT: &str = "the JPEG data end too early: the file is cut short";
const COARSE: &str = "the picture is coarse: its finer scans are missing";
const NO_END: &str = "the end marker is missing; every block of the picture is there";

#[test]
fn a_camera_raw_file_is_refused_by_its_content() {
    let raw = "this is a camera RAW file, which is not read: develop it first";
    assert_eq!(refusal(&real("raw_thumbnail/IMG_0001.dng")), raw);
    assert_eq!(refusal(b"FUJIFILMCCD-RAW 0201FF383501"), raw);
    assert_eq!(refusal(b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom"), raw);
}

/// Progressive JPEGs with and without refining scans, restart markers and sampling.
fn progressives() -> Vec<(String, Vec<u8>)> {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
    let mut files = vec![("by Pillow".to_owned(), hard("formats/jpeg_progressive.jpg"))];
    let (width, height) = (75, 53);
    for (channels, colours) in [(1, ColorType::Luma), (3, ColorType::Rgb)] {
        let pixels: Vec<u8> =
            (0..width * height * channels).map(|i| (i * i / 37 % 251 + i * 7 % 5) as u8).collect();
        for sampling in [SamplingFactor::F_1_1, SamplingFactor::F_2_1, SamplingFactor::F_2_2] {
            for restarts in [0, 3] {
                let mut bytes = Vec::new();
                let mut encoder = Encoder::new(&mut bytes, 85);
                encoder.set_progressive(true);
                encoder.set_sampling_factor(sampling);
                encoder.set_restart_interval(restarts);
                encoder.encode(&pixels, width as u16, height as u16, colours).unwrap();
                files.push((format!("{colours:?} {sampling:?} {restarts}"), bytes));
            }
        }
    }
    files
}

#[test]
fn a_cut_progressive_scan_is_set_aside() {
    for file in ["prog_cut30_eoi.jpg", "prog_cut60_eoi.jpg"] {
        assert_eq!(refusal(&real(&format!("jpeg_cut_progressive/{file}"))), CUT, "{file}");
    }
    for (name, whole) in progressives() {
        assert!(read(&whole).notes.is_empty(), "{name}");
        for percent in (5..100).step_by(5) {
            let cut = [&whole[..whole.len() * percent / 100], &[0xff, 0xd9]].concat();
            match decode(&cut, &DecodeLimits::default()) {
                Ok(decoded) => assert_eq!(decoded.notes, [COARSE], "{name} at {percent} %"),
                Err(error) => assert_eq!(error.to_string(), CUT, "{name} at {percent} %"),
            }
        }
    }
}

#[test]
fn whole_scans_without_the_finer_ones_are_called_coarse() {
    let whole = hard("formats/jpeg_progressive.jpg");
    let scans: Vec<_> = (0..whole.len() - 1).filter(|&i| whole[i..i + 2] == [0xff, 0xda]).collect();
    let tables = (0..*scans.last().unwrap()).rev().find(|&i| whole[i..i + 2] == [0xff, 0xc4]).unwrap();
    let coarse = read(&[&whole[..tables], &[0xff, 0xd9]].concat());
    assert_eq!(coarse.notes, [COARSE]);
    // The last scan refines by one bit: the picture is nearly the same.
    let exact = read(&whole);
    let pairs = bytes_of(&coarse).iter().zip(bytes_of(&exact));
    let distance: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(distance > 0 && distance < 8 * bytes_of(&exact).len() as u64, "{distance}");
    assert_eq!(refusal(&whole[..tables]), CUT, "nothing says that it was meant to end there");
}

#[test]
fn a_jpeg_whose_blocks_are_all_there_needs_no_end_marker() {
    let file = real("complete_but_no_end_marker/jpeg_no_eoi.jpg");
    let whole = [&file[..], &[0xff, 0xd9]].concat();
    assert!(read(&whole).notes.is_empty());
    assert_whole_with_note(&file, &whole, NO_END, "no marker");
    let trailer = real("complete_but_no_end_marker/jpeg_no_eoi_trailer.jpg");
    assert_whole_with_note(&trailer, &whole, NO_END, "a trailer");
    let sequential = ["jpeg_gray.jpg", "jpeg_420_odd_size.jpg", "jpeg_restart_markers.jpg", "jpeg_cmyk.jpg"];
    let sequential = sequential.map(|name| (name.to_owned(), hard(&format!("formats/{name}"))));
    for (name, whole) in sequential.into_iter().chain(progressives()) {
        let end = whole.windows(2).rposition(|w| w == [0xff, 0xd9]).unwrap();
        let open = &whole[..end];
        assert_whole_with_note(open, &whole, NO_END, &name);
        assert_whole_with_note(&[open, &[0xff]].concat(), &whole, NO_END, &name);
        assert_whole_with_note(&[open, &[0; 300][..]].concat(), &whole, NO_END, &name);
        assert_whole_with_note(&[open, b"\0\0\x01\x0aImage_UTC_DataSEFT"].concat(), &whole, NO_END, &name);
        // A maker's preview has an end marker of its own.
        assert_whole_with_note(&[open, &trailer, &[0xff, 0xd9]].concat(), &whole, NO_END, &name);
    }
}

#[test]
fn a_jpeg_that_is_not_proved_whole_stays_set_aside() {
    let whole = hard("formats/jpeg_420_odd_size.jpg");
    let end = whole.windows(2).rposition(|w| w == [0xff, 0xd9]).unwrap();
    assert_eq!(refusal(&whole[..end - 1]), CUT);
    for percent in (30..100).step_by(10) {
        let cut = &whole[..end * percent / 100];
        assert_eq!(refusal(cut), CUT, "{percent} %");
        // A download that stopped in a file of full size: zeros are valid codes in many tables.
        for fill in [0, b' '] {
            let filled = [cut, &vec![fill; 2 * whole.len()][..]].concat();
            assert_eq!(refusal(&filled), CUT, "{percent} %, filled with {fill}");
        }
    }
    // Each colour in a scan of its own, and the last scans missing: nothing ends early, but colours are not there.
    let pixels: Vec<u8> = (0..40 * 40 * 3).map(|i| (i * i / 29 % 251) as u8).collect();
    let mut separate = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut separate, 85);
    encoder.set_optimized_huffman_tables(true);
    encoder.set_sampling_factor(jpeg_encoder::SamplingFactor::F_1_1);
    encoder.encode(&pixels, 40, 40, jpeg_encoder::ColorType::Rgb).unwrap();
    assert!(read(&separate).notes.is_empty());
    let scans: Vec<_> = (0..separate.len() - 1).filter(|&i| separate[i..i + 2] == [0xff, 0xda]).collect();
    assert_eq!(scans.len(), 3);
    for scan in &scans[1..] {
        assert_eq!(refusal(&[&separate[..*scan], &[0xff, 0xd9]].concat()), CUT);
        assert_eq!(refusal(&separate[..*scan]), CUT);
    }
}

#[test]
fn a_png_whose_pixels_are_all_there_needs_no_end_marker() {
    let note = "the end marker is missing; every pixel is there";
    for path in ["png_interlaced.png", "png_palette_4bit.png", "png_rgba16.png", "png_rgb16.png"] {
        let whole = hard(&format!("formats/{path}"));
        let end = whole.windows(4).rposition(|w| w == b"IEND").unwrap() - 4;
        for left in [0, 1, 4, 7, 8, 11] {
            assert_whole_with_note(&whole[..end + left], &whole, note, path);
        }
        for cut in [1, 4, 12, 60] {
            let error = refusal(&whole[..end - cut]);
            assert_eq!(error, "the PNG data end too early: the file is cut short", "{path} -{cut}");
        }
        let text = [&whole[..end], b"\0\0\0\x20tEXtComm"].concat();
        let note = "the file is cut short after its pixels, which are all there";
        assert_whole_with_note(&text, &whole, note, path);
    }
}

#[test]
fn a_gif_and_a_webp_that_lack_only_their_end_are_read() {
    let gif = hard("formats/gif_transparent.gif");
    assert_eq!(*gif.last().unwrap(), 0x3b);
    let note = "the end marker is missing; the first frame is whole";
    assert_whole_with_note(&gif[..gif.len() - 1], &gif, note, "gif");
    assert_eq!(refusal(&gif[..gif.len() * 3 / 4]), "the GIF data end too early: the file is cut short");

    let note = "the size in its header does not fit the file; the picture is whole";
    for path in ["webp_lossy.webp", "webp_lossless_alpha.webp", "webp_lossy_alpha.webp"] {
        let whole = hard(&format!("formats/{path}"));
        let size = u32::from_le_bytes(whole[4..8].try_into().unwrap());
        let claiming = |size: u32| [&whole[..4], &size.to_le_bytes(), &whole[8..]].concat();
        for claim in [size - 4, size + 4, size + 1000, 0, u32::MAX] {
            let (found, wanted) = (read(&claiming(claim)), read(&whole));
            assert_eq!(found.picture, wanted.picture, "{path}: {claim}");
            assert!(found.notes.iter().any(|n| n == note), "{path}: {claim}: {:?}", found.notes);
        }
        assert!(!read(&[&whole[..], b"some other bytes"].concat()).notes.iter().any(|n| n == note), "{path}");
        for cut in [2, 20, whole.len() / 2] {
            let error = refusal(&whole[..whole.len() - cut]);
            assert_eq!(error, "the WebP data end too early: the file is cut short", "{path} -{cut}");
        }
    }
}

/// A bitmap of 3 × 2 pixels of 32 bits (blue, green, red, 40 + index), rows from the bottom.
fn bitmap(header: u32, compression: u32, alpha_mask: u32, alpha: impl Fn(u8) -> u8) -> Vec<u8> {
    let long = |v: u32| v.to_le_bytes();
    let pixels: Vec<u8> =
        [3, 4, 5, 0, 1, 2].into_iter().flat_map(|i| [i, 10 + i, 20 + i, alpha(i)]).collect();
    let mut head = [long(header), long(3), long(2), [1, 0, 32, 0], long(compression), long(24)].concat();
    head.extend([long(3000), long(3000), long(0), long(0)].concat());
    head.extend([0xff_0000, 0xff00, 0xff, alpha_mask].map(long).concat());
    head.resize(header as usize, 0);
    if header == 40 && compression == 3 {
        head.extend([0xff_0000, 0xff00, 0xff].map(long).concat());
    }
    let start = 14 + head.len() as u32;
    [b"BM", &long(start + 24)[..], &long(0), &long(start), &head, &pixels].concat()
}

#[test]
fn the_alpha_of_a_bitmap_is_kept_if_it_says_something() {
    let masked = read(&real("bmp_alpha/bmp32_v5_birgb_alphamask.bmp"));
    assert_eq!((masked.picture.channels, masked.notes.len()), (Channels::Rgba, 0));
    let flat = read(&real("bmp_alpha/bmp32_v5_bitfields_alpha_all0.bmp"));
    assert_eq!((flat.picture.channels, flat.notes.len()), (Channels::Rgb, 0));
    // The two hold the same drawing.
    let colours: Vec<u8> = bytes_of(&masked).chunks(4).flat_map(|p| &p[..3]).copied().collect();
    assert_eq!(colours, bytes_of(&flat));
    let alpha = bytes_of(&masked).iter().skip(3).step_by(4);
    assert_eq!(alpha.map(|&a| u32::from(a)).sum::<u32>(), 258_916);

    let opaque: Vec<u8> = (0..6).flat_map(|i| [20 + i, 10 + i, i]).collect();
    let clear: Vec<u8> = (0..6).flat_map(|i| [20 + i, 10 + i, i, 40 + i]).collect();
    const MASK: u32 = 0xff00_0000;
    for header in [56, 108, 124] {
        for compression in [0, 3] {
            let made = |mask, alpha: fn(u8) -> u8| read(&bitmap(header, compression, mask, alpha));
            let kept = made(MASK, |i| 40 + i);
            assert_eq!((kept.picture.channels, bytes_of(&kept)), (Channels::Rgba, &clear[..]), "{header}");
            for alpha in [(|_| 0) as fn(u8) -> u8, |_| 255] {
                let plain = made(MASK, alpha);
                assert_eq!((plain.picture.channels, bytes_of(&plain)), (Channels::Rgb, &opaque[..]));
                assert!(plain.notes.is_empty());
            }
        }
    }
    let spare = read(&bitmap(40, 0, 0, |i| 40 + i));
    assert_eq!((spare.picture.channels, bytes_of(&spare)), (Channels::Rgb, &opaque[..]));
    assert!(spare.notes[0].starts_with("the fourth byte of its pixels was left out"), "{:?}", spare.notes);
    assert!(read(&bitmap(40, 0, 0, |_| 0)).notes.is_empty());
}

#[test]
fn a_sound_file_of_a_kind_that_is_not_read_is_not_called_damaged() {
    let of = |kind: &str, reason: &str| format!("this kind of {kind} is not read: {reason}");
    let arithmetic = real("wrong_words/arith.jpg");
    let again = "save it again as ordinary JPEG";
    assert_eq!(refusal(&arithmetic), of("JPEG", &format!("it is arithmetic-coded: {again}")));
    let unusual = format!("its colours are stored at an unusual size (3x1 sampling): {again}");
    assert_eq!(refusal(&real("wrong_words/s3x1.jpg")), of("JPEG", &unusual));
    assert!(
        refusal(&real("wrong_words/cgbi.png")).starts_with(&of("PNG", "it is Apple's CgBI variant: save"))
    );

    let frame = arithmetic.windows(2).position(|w| w == [0xff, 0xc9]).unwrap();
    for (marker, what) in [
        (0xc3, "it is lossless JPEG"),
        (0xc5, "it is hierarchical JPEG"),
        (0xca, "it is arithmetic-coded"),
        (0xcb, "it is lossless and arithmetic-coded"),
        (0xcd, "it is hierarchical JPEG"),
        (0xf7, "it is JPEG-LS"),
    ] {
        let mut other = arithmetic.clone();
        other[frame + 1] = marker;
        assert_eq!(refusal(&other), of("JPEG", &format!("{what}: {again}")));
    }
    let ordinary = hard("formats/jpeg_420_odd_size.jpg");
    let frame = ordinary.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    // Depth, height, and the sampling of the first component.
    for (place, bytes, what) in [
        (4, &[12][..], "it has 12 bits a sample"),
        (5, &[0, 0], "its height is told only after its first scan"),
        (11, &[0x11], "its colours are stored at an unusual size (1x1 sampling)"),
    ] {
        let mut other = ordinary.clone();
        other[frame + place..][..bytes.len()].copy_from_slice(bytes);
        if place == 11 {
            other[frame + 14] = 0x22;
        }
        assert_eq!(refusal(&other), of("JPEG", &format!("{what}: {again}")));
    }
    for (compression, what) in [
        (4, "it is a JPEG in a bitmap's clothes"),
        (5, "it is a PNG in a bitmap's clothes"),
        (6, "its colours and alpha are told by masks of Windows CE"),
        (11, "it is CMYK"),
        (77, "its compression is not known"),
    ] {
        assert_eq!(
            refusal(&bitmap(40, compression, 0, |_| 0)),
            of("BMP", &format!("{what}: save it again as PNG"))
        );
    }
}

#[test]
fn no_refusal_speaks_a_librarys_language() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let limits = DecodeLimits { pixels_max: 200_000, ..DecodeLimits::default() };
    let folder = crate::common::fixture("").join("../hard/formats");
    let mut seen = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for round in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                let reach = damaged.len().min(if round % 2 == 0 { 200 } else { 4000 });
                damaged[random() % reach] = random() as u8;
            }
            if let Err(error) = decode(&damaged, &limits) {
                seen.insert(error.to_string());
            }
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
    for words in &seen {
        let own = ["the ", "this "].iter().any(|start| words.starts_with(start));
        let foreign = ['{', '`', '“', '"', '_'].iter().any(|&c| words.contains(c));
        // What libraries say begins with a capital letter after the colon; so do these names, which are ours.
        let told = words.split(": ").nth(1).unwrap_or_default();
        let capital = told.starts_with(|c: char| c.is_ascii_uppercase());
        assert!(own && !foreign && !capital, "{words}");
    }
}
