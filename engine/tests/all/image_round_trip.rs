//! What is written reads back: samples, profile, EXIF and density, for every format that promises it.

use proptest::prelude::*;
use sr3_engine::image::{
    Channels, DecodeLimits, Decoded, Density, EncodeError, Metadata, OutputFormat, Picture, Samples, decode,
    encode,
};

const ALL_CHANNELS: [Channels; 4] = [Channels::Gray, Channels::GrayAlpha, Channels::Rgb, Channels::Rgba];

fn hard(path: &str) -> Decoded {
    let bytes = std::fs::read(crate::common::fixture("").join("../hard").join(path)).unwrap();
    decode(&bytes, &DecodeLimits::default()).unwrap()
}

fn back(picture: &Picture, format: OutputFormat) -> (Decoded, Vec<String>) {
    let encoded = encode(picture, format, 95).unwrap();
    let decoded = decode(&encoded.bytes, &DecodeLimits::default()).unwrap();
    assert!(decoded.notes.is_empty(), "{format}: {:?}", decoded.notes);
    (decoded, encoded.notes)
}

/// Noise with some structure, from a seed.
fn noise(length: usize, seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed | 1;
    (0..length).map(move |i| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if i % 3 == 0 { state >> 40 } else { i as u64 * 37 + (state >> 61) }
    })
}

fn picture(width: usize, height: usize, channels: Channels, sixteen_bit: bool, seed: u64) -> Picture {
    let noise = noise(width * height * channels.count(), seed);
    let samples = match sixteen_bit {
        true => Samples::U16(noise.map(|v| v as u16).collect()),
        false => Samples::U8(noise.map(|v| v as u8).collect()),
    };
    Picture { width, height, channels, samples, metadata: Metadata::default() }
}

/// The smallest profile for gray: a header and an empty tag table.
fn gray_profile() -> Vec<u8> {
    let mut profile = vec![0; 132];
    profile[3] = 132;
    profile[16..20].copy_from_slice(b"GRAY");
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

fn metadata(channels: Channels) -> Metadata {
    let icc = match channels.is_colour() {
        true => hard("colour/png_display_p3.png").picture.metadata.icc,
        false => Some(gray_profile()),
    };
    assert!(icc.is_some());
    let exif = hard("orientation/exif_orientation_1.jpg").picture.metadata.exif;
    assert!(exif.is_some());
    Metadata { icc, exif, density: Some(Density { x: 300.0, y: 240.0 }), ..Metadata::default() }
}

fn near(found: Option<Density>, wanted: Density, tolerance: f64) -> bool {
    found.is_some_and(|d| (d.x - wanted.x).abs() <= tolerance && (d.y - wanted.y).abs() <= tolerance)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lossless_formats_give_every_sample_back(
        width in 1_usize..70,
        height in 1_usize..70,
        channels in 0_usize..4,
        sixteen_bit in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let channels = ALL_CHANNELS[channels];
        let source = picture(width, height, channels, sixteen_bit, seed);
        for format in [OutputFormat::Png, OutputFormat::Tiff] {
            let (decoded, notes) = back(&source, format);
            prop_assert_eq!(&decoded.picture, &source);
            prop_assert!(!decoded.lossy && notes.is_empty());
        }
        let eight = picture(width, height, channels, false, seed);
        let (decoded, notes) = back(&eight, OutputFormat::Webp);
        prop_assert!(!decoded.lossy && notes.is_empty());
        let Samples::U8(stored) = &eight.samples else { unreachable!() };
        let widened: Vec<u8> = match channels {
            Channels::Gray => stored.iter().flat_map(|&v| [v; 3]).collect(),
            Channels::GrayAlpha => stored.chunks(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect(),
            _ => stored.clone(),
        };
        prop_assert_eq!(decoded.picture.samples, Samples::U8(widened));
    }
}

#[test]
fn metadata_travel_with_the_pixels() {
    for channels in ALL_CHANNELS {
        for sixteen_bit in [false, true] {
            let mut source = picture(80, 60, channels, sixteen_bit, 7);
            source.metadata = metadata(channels);
            let wanted = source.metadata.density.unwrap();

            let (png, notes) = back(&source, OutputFormat::Png);
            assert!(notes.is_empty());
            assert_eq!(png.picture.metadata.icc, source.metadata.icc);
            assert_eq!(png.picture.samples, source.samples);
            // Whole dots a metre.
            assert!(near(png.picture.metadata.density, wanted, 0.0127), "{:?}", png.picture.metadata.density);
            let exif = png.picture.metadata.exif.unwrap();

            let (tiff, notes) = back(&source, OutputFormat::Tiff);
            assert!(notes.is_empty(), "{notes:?}");
            assert!(tiff.picture.metadata.exif.is_some());
            assert_eq!(tiff.picture.metadata.icc, source.metadata.icc);
            assert!(near(tiff.picture.metadata.density, wanted, 0.0));

            let (webp, _) = back(&source, OutputFormat::Webp);
            assert_eq!(webp.picture.metadata.icc.is_some(), channels.is_colour());
            assert_eq!(webp.picture.metadata.exif.as_ref(), Some(&exif));

            if !channels.has_alpha() {
                let (jpeg, notes) = back(&source, OutputFormat::Jpeg);
                assert_eq!(notes.len(), usize::from(sixteen_bit), "{notes:?}");
                assert_eq!(jpeg.picture.channels, channels);
                assert_eq!(jpeg.picture.metadata.icc, source.metadata.icc);
                assert_eq!(jpeg.picture.metadata.exif.as_ref(), Some(&exif));
                assert!(near(jpeg.picture.metadata.density, wanted, 0.0));
                assert!(jpeg.lossy);
            }
        }
    }
}

#[test]
fn a_jpeg_keeps_a_profile_of_three_segments() {
    let source = hard("colour/jpeg_icc_150k_three_chunks.jpg").picture;
    assert_eq!(source.metadata.icc.as_ref().map(Vec::len), Some(150_608));
    for format in [OutputFormat::Jpeg, OutputFormat::Png, OutputFormat::Webp, OutputFormat::Tiff] {
        assert_eq!(back(&source, format).0.picture.metadata.icc, source.metadata.icc, "{format}");
    }
}

#[test]
fn a_turned_photograph_is_not_turned_again() {
    for path in ["exif_orientation_3.jpg", "exif_orientation_6.jpg", "png_exif_orientation_6.png"] {
        let source = hard(&format!("orientation/{path}")).picture;
        for format in [OutputFormat::Png, OutputFormat::Webp, OutputFormat::Tiff] {
            let (again, _) = back(&source, format);
            assert_eq!(again.picture.samples, source.samples, "{path} as {format}");
        }
        let (again, _) = back(&source, OutputFormat::Jpeg);
        assert_eq!((again.picture.width, again.picture.height), (192, 128), "{path}");
    }
}

#[test]
fn a_jpeg_is_close_to_its_picture() {
    let source = hard("formats/bmp_rgb24.bmp").picture;
    let (jpeg, _) = back(&source, OutputFormat::Jpeg);
    let (Samples::U8(a), Samples::U8(b)) = (&source.samples, &jpeg.picture.samples) else {
        panic!("not 8 bit")
    };
    let mean = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64;
    assert!(mean < 4.0, "mean difference {mean}");
    let smaller = encode(&source, OutputFormat::Jpeg, 40).unwrap().bytes.len();
    assert!(smaller * 2 < encode(&source, OutputFormat::Jpeg, 98).unwrap().bytes.len());
}

#[test]
fn the_same_picture_gives_the_same_bytes() {
    let source = picture(123, 45, Channels::Rgb, false, 3);
    for format in [OutputFormat::Png, OutputFormat::Jpeg, OutputFormat::Webp, OutputFormat::Tiff] {
        assert_eq!(encode(&source, format, 90), encode(&source, format, 90));
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_or_said() {
    let alpha = picture(4, 4, Channels::Rgba, false, 1);
    assert_eq!(encode(&alpha, OutputFormat::Jpeg, 90), Err(EncodeError::AlphaInJpeg));
    let rgb = picture(4, 4, Channels::Rgb, false, 1);
    for quality in [0, 101] {
        assert_eq!(encode(&rgb, OutputFormat::Jpeg, quality), Err(EncodeError::Quality { quality }));
    }
    let strip = picture(70_000, 1, Channels::Gray, false, 1);
    for (format, fits) in [
        (OutputFormat::Png, true),
        (OutputFormat::Tiff, true),
        (OutputFormat::Jpeg, false),
        (OutputFormat::Webp, false),
    ] {
        let result = encode(&strip, format, 90);
        assert_eq!(result.is_ok(), fits, "{format}");
        assert!(fits || matches!(result, Err(EncodeError::TooLarge { .. })));
    }
    let mut torn = rgb.clone();
    torn.height = 5;
    assert!(matches!(encode(&torn, OutputFormat::Png, 90), Err(EncodeError::NotWhole { .. })));
    let deep = picture(4, 4, Channels::Rgb, true, 1);
    assert_eq!(encode(&deep, OutputFormat::Webp, 90).unwrap().notes.len(), 1);
    assert!(encode(&deep, OutputFormat::Png, 90).unwrap().notes.is_empty());
}

#[test]
fn limits_are_those_that_were_given() {
    let encoded = encode(&picture(50, 20, Channels::Rgb, false, 1), OutputFormat::Png, 90).unwrap().bytes;
    let fits = DecodeLimits { side_max: 50, pixels_max: 1000, ..DecodeLimits::default() };
    assert!(decode(&encoded, &fits).is_ok());
    assert!(decode(&encoded, &DecodeLimits { side_max: 49, ..fits }).is_err());
    assert!(decode(&encoded, &DecodeLimits { pixels_max: 999, ..fits }).is_err());
    assert!(decode(&encoded, &DecodeLimits { encoded_bytes_max: encoded.len() as u64 - 1, ..fits }).is_err());
}
