//! JPEG XL, AVIF, PNM, and the TIFFs that are laid out anew: what comes out is what other software reads (`tests/real/formats`,
//! made with Pillow, libjxl, libavif and libtiff), and hostile files end in one line.

use sr3_engine::image::{
    Channels, DecodeError, DecodeLimits, Decoded, InputFormat, Picture, Samples, decode, probe,
};

fn file(name: &str) -> Vec<u8> {
    let path = crate::common::fixture("").join("../real/formats").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn read(bytes: &[u8]) -> Decoded {
    decode(bytes, &DecodeLimits::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes, &DecodeLimits::default()).map(|d| d.notes).unwrap_err().to_string()
}

/// What another program made of it.
fn reference(name: &str) -> Picture {
    read(&file(&format!("as_png/{name}.png"))).picture
}

/// The mean and the largest difference, in levels of 8 bits.
fn distance(found: &Picture, wanted: &Picture) -> (f64, f64) {
    let levels = |samples: &Samples| -> Vec<f64> {
        match samples {
            Samples::U8(samples) => samples.iter().map(|&v| f64::from(v)).collect(),
            Samples::U16(samples) => samples.iter().map(|&v| f64::from(v) / 257.0).collect(),
        }
    };
    assert_eq!((found.width, found.height, found.channels), (wanted.width, wanted.height, wanted.channels));
    assert_eq!(found.samples.bits(), wanted.samples.bits());
    let (found, wanted) = (levels(&found.samples), levels(&wanted.samples));
    let differences = found.iter().zip(&wanted).map(|(f, w)| (f - w).abs());
    let (sum, most) = differences.fold((0.0, 0.0_f64), |(sum, most), d| (sum + d, most.max(d)));
    (sum / found.len() as f64, most)
}

#[test]
fn what_was_stored_without_loss_comes_out_to_the_last_bit() {
    for (name, png) in [
        ("lossless_rgb8.jxl", "rgb8"),
        ("lossless_rgba8.jxl", "rgba8"),
        ("lossless_rgb16.jxl", "rgb16"),
        ("lossless_gray16.jxl", "gray16"),
        ("zstd_rgb8.tif", "rgb8"),
        ("zstd_rgb16_predictor.tif", "rgb16"),
        ("zstd_tiles.tif", "rgb8"),
    ] {
        let (found, wanted) = (read(&file(name)), reference(png));
        assert_eq!(found.picture.samples, wanted.samples, "{name}");
        assert_eq!(found.picture.channels, wanted.channels, "{name}");
        assert!(!found.lossy && found.notes.is_empty(), "{name}: {:?}", found.notes);
    }
}

#[test]
fn what_was_stored_with_loss_is_what_others_see() {
    for (name, mean_max, most_max) in [
        ("lossy_rgb8.jxl", 0.3, 2.0),
        ("lossy_rgba8.jxl", 0.3, 2.0),
        ("from_jpeg.jxl", 0.3, 2.0),
        // To be turned by its own header, and by EXIF once more, which does not count.
        ("from_jpeg_o6.jxl", 0.3, 2.0),
        ("yuv420.avif", 1.0, 4.0),
        ("yuv422.avif", 1.0, 4.0),
        ("yuv444.avif", 1.0, 4.0),
        ("limited.avif", 1.0, 4.0),
        ("alpha.avif", 1.0, 4.0),
        ("gray.avif", 0.5, 1.0),
        ("10bit.avif", 0.5, 1.0),
        ("12bit.avif", 0.5, 1.0),
        ("metadata.avif", 1.0, 4.0),
        ("animated.avif", 1.0, 4.0),
        // Others bring chroma to full size across the seams of tiles.
        ("grid.avif", 1.0, 8.0),
        ("ycbcr_1x1.tif", 0.5, 1.0),
        ("ycbcr_2x1_mm.tif", 0.5, 1.0),
        ("ycbcr_2x2_lzw.tif", 0.5, 1.0),
        ("ycbcr_2x2_tiles.tif", 0.5, 1.0),
        ("ycbcr_4x2_zstd.tif", 0.5, 1.0),
    ] {
        let found = read(&file(name));
        let (mean, most) = distance(&found.picture, &reference(name));
        assert!(mean <= mean_max && most <= most_max, "{name}: mean {mean}, most {most}");
        assert_eq!(found.lossy, found.format != InputFormat::Tiff, "{name}");
    }
}

#[test]
fn what_belongs_to_a_picture_comes_with_it() {
    let p3 = crate::common::fixture("").join("../hard/colour/png_display_p3.png");
    let p3 = read(&std::fs::read(p3).unwrap()).picture.metadata.icc;
    for name in ["from_jpeg.jxl", "metadata.avif"] {
        assert_eq!(read(&file(name)).picture.metadata.icc, p3, "{name}");
    }
    for name in ["metadata.jxl", "metadata_packed.jxl", "metadata.avif"] {
        let Decoded { picture, notes, .. } = read(&file(name));
        let metadata = &picture.metadata;
        let exif = metadata.exif.as_deref().unwrap();
        assert!(exif.windows(5).any(|w| w == b"Maker"), "{name}");
        assert!(metadata.xmp.as_deref().unwrap().contains("dc:format=\"sample\""), "{name}");
        assert_eq!(metadata.density.map(|d| d.x), Some(300.0), "{name}");
        assert!(notes.is_empty(), "{name}: {notes:?}");
    }
}

#[test]
fn a_picture_is_upright_by_the_containers_word() {
    // EXIF asks for a turn; JPEG XL's own header, which counts, does not.
    let jxl = read(&file("metadata.jxl")).picture;
    assert_eq!((jxl.width, jxl.height), (57, 39));
    assert_eq!(jxl.samples, reference("rgb8").samples);
    // AVIF says it again with a box of its own.
    let avif = read(&file("metadata.avif")).picture;
    assert_eq!((avif.width, avif.height), (39, 57));
    // All eight, as libavif writes them: a turn against the clock, then a mirror.
    let upright = read(&file("metadata.avif"));
    let bytes = file("metadata.avif");
    let at = bytes.windows(4).position(|w| w == b"irot").unwrap() + 4;
    assert_eq!(bytes[at], 3);
    let mut half = bytes.clone();
    half[at] = 1;
    let Samples::U8(mut samples) = read(&half).picture.samples else { panic!("not 8 bit") };
    samples.reverse();
    samples.chunks_exact_mut(3).for_each(<[u8]>::reverse);
    assert_eq!(Samples::U8(samples), upright.picture.samples);
}

#[test]
fn of_an_animation_the_first_frame_is_read_with_a_note() {
    for name in ["animated.jxl", "animated.avif"] {
        assert_eq!(read(&file(name)).notes, ["first frame of an animation"], "{name}");
    }
    let first = read(&file("animated.jxl"));
    assert_eq!(first.picture.samples, reference("rgb8").samples);
}

#[test]
fn the_first_bytes_tell_the_size() {
    for (name, size) in [
        ("lossless_rgb8.jxl", [57, 39]),
        ("metadata.jxl", [57, 39]),
        ("yuv420.avif", [57, 39]),
        ("grid.avif", [100, 90]),
    ] {
        let bytes = file(name);
        assert_eq!(probe(&bytes), Some(size), "{name}");
        let known = (0..bytes.len()).find(|&end| probe(&bytes[..end]) == Some(size));
        assert!(known.unwrap() < 1024, "{name}: {known:?}");
    }
    assert_eq!(probe(b"P6 #x\n640 480 255\n"), Some([640, 480]));
    assert_eq!(probe(b"P7\nHEIGHT 7\nWIDTH 9\nDEPTH 1\nMAXVAL 1\nENDHDR\n"), Some([9, 7]));
}

const ALL: [&str; 14] = [
    "lossless_rgba8.jxl",
    "lossless_gray16.jxl",
    "lossy_rgb8.jxl",
    "from_jpeg.jxl",
    "metadata.jxl",
    "animated.jxl",
    "yuv420.avif",
    "alpha.avif",
    "12bit.avif",
    "grid.avif",
    "animated.avif",
    "zstd_rgb16_predictor.tif",
    "ycbcr_2x2_lzw.tif",
    "ycbcr_4x2_zstd.tif",
];

#[test]
fn a_file_that_is_cut_is_refused_or_whole() {
    for name in ALL {
        let bytes = file(name);
        let whole = read(&bytes).picture.samples;
        let mut refused = 0;
        for end in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
            match decode(&bytes[..end], &DecodeLimits::default()) {
                Ok(decoded) => assert_eq!(decoded.picture.samples, whole, "{name} cut at {end}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 20, "{name}: {refused}");
        let half = refusal(&bytes[..bytes.len() / 2]);
        if !name.starts_with("animated") {
            assert!(half.contains("cut short") || name.ends_with("tif"), "{name}: {half}");
        }
    }
}

#[test]
fn damage_ends_in_a_picture_within_the_limits_or_in_one_line() {
    let limits = DecodeLimits { pixels_max: 20_000, ..DecodeLimits::default() };
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut read = 0;
    for name in ALL {
        let bytes = file(name);
        let mut refused = 0;
        for round in 0..400 {
            let mut damaged = bytes.clone();
            for _ in 0..=round % 4 {
                // Headers are where the traps are; a TIFF has its own at the end.
                let at = match round % 3 {
                    0 => random() % damaged.len().min(400),
                    1 => damaged.len() - 1 - random() % damaged.len().min(200),
                    _ => random() % damaged.len(),
                };
                damaged[at] = match random() % 3 {
                    0 => random() as u8,
                    1 => damaged[at] ^ 1 << (random() % 8),
                    _ => 0xff,
                };
            }
            match decode(&damaged, &limits) {
                Ok(decoded) => {
                    read += 1;
                    assert!(
                        decoded.picture.is_whole()
                            && decoded.picture.width * decoded.picture.height <= 20_000
                    );
                }
                Err(error) => {
                    refused += 1;
                    let words = error.to_string();
                    assert!(!words.contains('\n') && words.len() < 200, "{words}");
                }
            }
        }
        assert!(refused > 10, "{name}: {refused} refused");
    }
    assert!(read > 1000, "{read} read");
}

#[test]
fn a_size_past_the_limits_is_refused_by_the_header() {
    let limits = DecodeLimits { pixels_max: 1000, ..DecodeLimits::default() };
    for name in ALL {
        let error = decode(&file(name), &limits).unwrap_err();
        assert!(matches!(error, DecodeError::TooLarge { .. }), "{name}: {error}");
    }
    // The container's word alone is changed: what lies inside is of another size, and is not believed.
    let mut avif = file("yuv420.avif");
    let size = avif.windows(4).position(|w| w == b"ispe").unwrap() + 8;
    avif[size..size + 8].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    assert_eq!(refusal(&avif), "the AVIF data are damaged: it gives its size twice, differently");
    avif[size..size + 4].copy_from_slice(&[0, 0, 0x27, 0x11]);
    assert!(refusal(&avif).starts_with("the picture says it is 10001x10000"));
    assert!(refusal(b"P5 4000000000 4000000000 255 ").starts_with("the picture says it is 4000000000x"));
    assert!(refusal(b"P2 9000 9000 255 1 2 3").contains("cut short"));
    // A bare JPEG XL of 2^30 x 2^30.
    let jxl = [0xff, 0x0a, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(refusal(&jxl).starts_with("the picture says it is"), "{}", refusal(&jxl));
}

/// The samples, 8 or 16 bit, as numbers.
fn numbers(bytes: &[u8]) -> (Channels, Vec<u16>) {
    let Decoded { picture, format, lossy, .. } = read(bytes);
    assert_eq!((format, lossy), (InputFormat::Pnm, false));
    let samples = match picture.samples {
        Samples::U8(samples) => samples.into_iter().map(u16::from).collect(),
        Samples::U16(samples) => samples,
    };
    (picture.channels, samples)
}

#[test]
fn netpbm_pictures_are_read_in_every_form() {
    let bits = (Channels::Gray, vec![0, 255, 0, 255, 0, 255]);
    assert_eq!(numbers(b"P1\n# bits\n3 2\n1 0 1\n010"), bits);
    assert_eq!(numbers(b"P4 3 2\n\xa0\x40"), bits);
    assert_eq!(numbers(b"P2 3 1 255\n0 7\n255"), (Channels::Gray, vec![0, 7, 255]));
    assert_eq!(numbers(b"P3 1 1 1023 0 512 1023 "), (Channels::Rgb, vec![0, 32_800, 65_535]));
    assert_eq!(numbers(b"P5 2 1 15\n\x00\x0f"), (Channels::Gray, vec![0, 255]));
    assert_eq!(
        numbers(b"P6 1 1 65535\n\x01\x02\x03\x04\x05\x06"),
        (Channels::Rgb, vec![0x102, 0x304, 0x506])
    );
    let pam = b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n\x09\x80";
    assert_eq!(numbers(pam), (Channels::GrayAlpha, vec![9, 128]));
    assert_eq!(read(b"P6 1 1 65535\n123456").picture.samples.bits(), 16);
}

#[test]
fn a_netpbm_picture_says_what_is_wrong_with_it() {
    let damaged = |what: &str| format!("the PNM data are damaged: {what}");
    assert_eq!(refusal(b"P5 2 2 255\n123"), "the PNM data end too early: the file is cut short");
    assert_eq!(refusal(b"P2 2 1 9 5 12"), damaged("a sample is brighter than its white"));
    assert_eq!(refusal(b"P2 2 1 9 5 x1 "), damaged("there is something else where a number is due"));
    assert_eq!(refusal(b"P5 2 1 70000\n12"), damaged("its white is not 1 to 65535"));
    assert_eq!(refusal(b"P5 0 1 255\n"), "the picture says it is 0x1: there are no pixels in it");
    let two = read(b"P5 1 1 255\n7P5 1 1 255\n8");
    assert_eq!(two.notes, ["first of several pictures"]);
    let comment = read(b"P5\n# by a scanner\n1 1 255\n7").picture.metadata.texts;
    assert_eq!(comment[0].text, "by a scanner");
}

#[test]
fn what_an_avif_needs_and_is_not_read_is_said() {
    let with = |kind: &[u8; 4], other: &[u8; 4]| {
        let mut bytes = file("metadata.avif");
        let at = bytes.windows(4).position(|w| w == kind).unwrap();
        bytes[at..at + 4].copy_from_slice(other);
        refusal(&bytes)
    };
    let of = |what: &str| format!("this kind of AVIF is not read: {what}: save it again as PNG");
    assert_eq!(with(b"irot", b"clap"), of("a part of it is to be cut out"));
    assert_eq!(with(b"irot", b"abcd"), of("it has a property that is not known"));
    assert_eq!(with(b"av01", b"iden"), of("its picture is put together of others"));
}
