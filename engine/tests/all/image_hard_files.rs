//! Every file of `tests/hard` does what its `expected.json` says: what reads, reads right and upright; what does not is
//! refused with a reason, quickly, and without the memory that it claims.

use std::time::{Duration, Instant};

use serde_json::Value;
use sr3_engine::image::{Channels, DecodeLimits, Decoded, InputFormat, Picture, Samples, decode};

fn hard(path: &str) -> Vec<u8> {
    let path = crate::common::fixture("").join("../hard").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn entries() -> Vec<Value> {
    let expected: Value = serde_json::from_slice(&hard("expected.json")).unwrap();
    let files = expected["files"].as_array().unwrap().clone();
    assert_eq!(files.len() as u64, expected["count"].as_u64().unwrap());
    files
}

fn read(path: &str) -> Decoded {
    decode(&hard(path), &DecodeLimits::default()).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The sample at (x, y, c), 16 bit brought down to 8.
fn sample(picture: &Picture, x: usize, y: usize, c: usize) -> f64 {
    let at = (y * picture.width + x) * picture.channels.count() + c;
    match &picture.samples {
        Samples::U8(samples) => f64::from(samples[at]),
        Samples::U16(samples) => f64::from(samples[at]) / 257.0,
    }
}

/// The mean colour of a square of 20 pixels (less its rim, where JPEG smears) with its corner at a corner.
fn corner(picture: &Picture, right: bool, bottom: bool) -> [f64; 3] {
    let start = |far: bool, side: usize| if far { side - 20 } else { 0 };
    let (x0, y0) = (start(right, picture.width), start(bottom, picture.height));
    let mut sum = [0.0; 3];
    for (x, y) in (3..17).flat_map(|y| (3..17).map(move |x| (x0 + x, y0 + y))) {
        (0..3).for_each(|c| sum[c] += sample(picture, x, y, c) / (14.0 * 14.0));
    }
    sum
}

#[test]
fn every_file_does_what_is_expected_of_it() {
    let mut wrong = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for entry in entries() {
        let path = entry["path"].as_str().unwrap();
        let bytes = hard(path);
        let started = Instant::now();
        let result = decode(&bytes, &DecodeLimits::default());
        // Far above what any takes (milliseconds), far below what inflating a bomb or walking a loop would.
        if started.elapsed() > Duration::from_secs(5) {
            wrong.push(format!("{path}: took {:?}", started.elapsed()));
        }
        let may = |outcome: &str| entry["may"].as_array().is_some_and(|may| may.iter().any(|v| v == outcome));
        let due = entry["action"] == "ok";
        match result {
            Ok(decoded) if due => {
                read += 1;
                wrong.extend(faults(&entry, &decoded).into_iter().map(|fault| format!("{path}: {fault}")));
            }
            Ok(_) if may("ok") => read += 1,
            Ok(_) => wrong.push(format!("{path}: read, but must be refused")),
            Err(error) => {
                refused += 1;
                let reason = error.to_string();
                if reason.is_empty() || reason.contains('\n') || reason.len() > 300 {
                    wrong.push(format!("{path}: the reason is not one good line: {reason:?}"));
                }
                if due {
                    wrong.push(format!("{path}: refused: {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read > 80 && refused > 15, "{read} read, {refused} refused");
}

fn faults(entry: &Value, decoded: &Decoded) -> Vec<String> {
    let picture = &decoded.picture;
    let number = |key: &str| entry[key].as_u64().unwrap();
    let flag = |key: &str| entry[key] == true;
    let valid = |key: &str| entry[key] != false;
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: String, wanted: String| {
        if found != wanted {
            faults.push(format!("{what} is {found}, not {wanted}"));
        }
    };
    let size = (picture.width as u64, picture.height as u64);
    expect("size", format!("{size:?}"), format!("{:?}", (number("width"), number("height"))));
    let channels = if entry["colour"] == "cmyk" { 3 } else { number("channels") };
    expect("channels", picture.channels.count().to_string(), channels.to_string());
    let bits = match number("bit_depth") {
        1 => 8,
        32 => 16,
        bits => bits,
    };
    expect("depth", picture.samples.bits().to_string(), bits.to_string());
    expect("alpha", picture.channels.has_alpha().to_string(), flag("has_alpha").to_string());
    let has_icc = flag("has_icc") && valid("icc_valid");
    expect("profile", picture.metadata.icc.is_some().to_string(), has_icc.to_string());
    let has_exif = flag("has_exif") && valid("exif_valid");
    expect("EXIF", picture.metadata.exif.is_some().to_string(), has_exif.to_string());
    if let Some(bytes) = entry["icc_bytes"].as_u64() {
        let found = picture.metadata.icc.as_ref().map_or(0, Vec::len);
        expect("profile bytes", found.to_string(), bytes.to_string());
    }
    let format = entry["format"].as_str().unwrap();
    expect("format", decoded.format.to_string().to_lowercase(), format.to_owned());

    let said = |words: &str| decoded.notes.iter().any(|note| note.contains(words));
    if number("frames") > 1 && !said("first") {
        faults.push(format!("nothing says that only the first frame was read: {:?}", decoded.notes));
    }
    if !valid("icc_valid") && !said("profile dropped") || !valid("exif_valid") && !said("EXIF dropped") {
        faults.push(format!("nothing says that metadata were dropped: {:?}", decoded.notes));
    }
    if said("damaged:") {
        faults.push(format!("it is called damaged: {:?}", decoded.notes));
    }
    if picture.samples.len() != picture.width * picture.height * picture.channels.count() {
        faults.push("the samples do not fill it".to_owned());
    }
    for (name, right, bottom) in [
        ("top_left", false, false),
        ("top_right", true, false),
        ("bottom_left", false, true),
        ("bottom_right", true, true),
    ] {
        let Some(wanted) = entry["corners"][name].as_array() else { continue };
        let found = corner(picture, right, bottom);
        if found.iter().zip(wanted).any(|(f, w)| (f - w.as_f64().unwrap()).abs() > 12.0) {
            faults.push(format!("{name} is {found:?}, not {wanted:?}"));
        }
    }
    faults
}

#[test]
fn a_refusal_names_what_the_file_is() {
    let reason = |path: &str| decode(&hard(path), &DecodeLimits::default()).unwrap_err().to_string();
    for (path, words) in [
        ("broken/drawing.svg", "SVG"),
        ("broken/html_error_page.jpg", "HTML page"),
        ("broken/text_named.png", "text"),
        ("broken/zero_byte.jpg", "empty"),
        ("broken/random_bytes.jpg", "no picture"),
        ("broken/truncated.jpg", "cut short"),
        ("broken/truncated.png", "cut short"),
        ("broken/truncated.webp", "cut short"),
        ("broken/header_only.jpg", "cut short"),
        ("broken/signature_only.png", "cut short"),
        ("broken/zero_width.png", "no pixels"),
        ("broken/bomb_header_60000x60000.png", "60000x60000"),
        ("broken/bomb_valid_60000x60000_1bit.png", "60000x60000"),
        ("broken/bomb_65500x65500.jpg", "65500x65500"),
        ("broken/bomb_65535x65535.gif", "65535x65535"),
    ] {
        assert!(reason(path).contains(words), "{path}: {}", reason(path));
    }
}

#[test]
fn a_picture_cut_anywhere_is_refused_or_whole() {
    for path in [
        "formats/jpeg_progressive.jpg",
        "formats/jpeg_restart_markers.jpg",
        "formats/jpeg_gray.jpg",
        "formats/jpeg_cmyk.jpg",
        "formats/png_interlaced.png",
        "formats/png_palette_4bit.png",
        "formats/webp_lossy.webp",
        "formats/webp_lossless_alpha.webp",
        "formats/gif_transparent.gif",
        "formats/bmp_rgb24.bmp",
        "formats/tiff_rgb8_deflate.tif",
        "formats/tiff_gray16.tif",
    ] {
        let bytes = hard(path);
        let whole = decode(&bytes, &DecodeLimits::default()).unwrap().picture.samples;
        for percent in [3, 10, 25, 40, 55, 70, 85, 97] {
            let cut = &bytes[..bytes.len() * percent / 100];
            if let Ok(decoded) = decode(cut, &DecodeLimits::default()) {
                // TIFF may have its directory first and something unneeded last.
                assert_eq!(decoded.picture.samples, whole, "{path} cut at {percent} %");
            }
        }
    }
}

#[test]
fn damage_never_panics_and_never_passes_the_limits() {
    let limits = DecodeLimits { pixels_max: 200_000, ..DecodeLimits::default() };
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let (mut read, mut refused) = (0, 0);
    for entry in entries() {
        let bytes = hard(entry["path"].as_str().unwrap());
        if bytes.is_empty() || bytes.len() > 80_000 || entry["path"].as_str().unwrap().starts_with("names/") {
            continue;
        }
        for round in 0..12 {
            let mut damaged = bytes.clone();
            // Headers are where the traps are: half of the damage goes to the first 256 bytes.
            for _ in 0..=round / 3 {
                let reach = if round % 2 == 0 { damaged.len().min(256) } else { damaged.len() };
                let at = random() % reach;
                damaged[at] = random() as u8;
            }
            match decode(&damaged, &limits) {
                Ok(decoded) => {
                    read += 1;
                    assert!(decoded.picture.is_whole());
                    assert!(decoded.picture.width * decoded.picture.height <= 200_000);
                }
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains('\n'));
                }
            }
        }
    }
    assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
}

#[test]
fn a_cut_jpeg_with_an_end_marker_put_on_is_still_cut() {
    for path in ["jpeg_gray.jpg", "jpeg_420_odd_size.jpg", "jpeg_restart_markers.jpg", "jpeg_cmyk.jpg"] {
        let good = hard(&format!("formats/{path}"));
        for percent in [65, 75, 85, 95] {
            let mut bad = good[..good.len() * percent / 100].to_vec();
            // A lone 0xff would swallow the marker.
            bad.extend([0x00, 0xff, 0xd9]);
            let decoded = decode(&bad, &DecodeLimits::default());
            assert!(decoded.is_err(), "{path} at {percent} %: {:?}", decoded.map(|d| d.notes));
        }
        // The same by a header that claims more rows than there are: the height stands after SOF, length and depth.
        let mut taller = good.clone();
        let frame = good.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        taller[frame + 5] += 1;
        assert!(decode(&taller, &DecodeLimits::default()).is_err(), "{path}");
    }
}

#[test]
fn a_jpeg_that_was_overwritten_in_the_middle_is_called_damaged() {
    let said = |bytes: &[u8]| {
        let decoded = decode(bytes, &DecodeLimits::default());
        decoded.is_err() || decoded.unwrap().notes.iter().any(|note| note.contains("damaged:"))
    };
    assert!(said(&hard("broken/damaged_middle.jpg")));
    for path in ["jpeg_gray.jpg", "jpeg_420_odd_size.jpg", "jpeg_restart_markers.jpg", "jpeg_cmyk.jpg"] {
        let good = hard(&format!("formats/{path}"));
        assert!(!said(&good), "{path}");
        let mut caught = 0;
        for start in (0..32).map(|i| good.len() / 2 + i * good.len() / 96) {
            let mut bad = good.clone();
            // Not 0xff, which would make a marker; whatever stands there already may stay.
            bad[start..start + 24].iter_mut().zip(0_u8..).for_each(|(b, i)| *b ^= 0x35 ^ (i * 7));
            caught += usize::from(said(&bad));
        }
        // Not all: Huffman codes fall back into step, sometimes with the right number of blocks.
        assert!(caught >= 24, "{path}: {caught} of 32");
    }
}

#[test]
fn a_lossy_origin_is_told() {
    for (path, lossy) in [
        ("collide/same.jpg", true),
        ("collide/same.png", false),
        ("formats/webp_lossy.webp", true),
        ("formats/webp_lossless_alpha.webp", false),
        ("formats/gif_transparent.gif", false),
        ("formats/tiff_rgb16.tif", false),
    ] {
        assert_eq!(read(path).lossy, lossy, "{path}");
    }
}

#[test]
fn a_cmyk_photograph_is_no_negative() {
    let cmyk = read("formats/jpeg_cmyk.jpg").picture;
    let rgb = read("formats/webp_lossy.webp").picture;
    assert_eq!((cmyk.width, cmyk.height), (rgb.width, rgb.height));
    // The same photograph came both ways: inverted ink would put them far apart.
    let pixels = (0..cmyk.height).flat_map(|y| (0..cmyk.width).map(move |x| (x, y)));
    let distance: f64 = pixels
        .map(|(x, y)| (0..3).map(|c| (sample(&cmyk, x, y, c) - sample(&rgb, x, y, c)).abs()).sum::<f64>())
        .sum::<f64>()
        / (3 * cmyk.width * cmyk.height) as f64;
    assert!(distance < 12.0, "mean distance {distance}");
}

#[test]
fn rgb_stored_in_a_jpeg_is_not_taken_for_ycc() {
    let picture = read("formats/jpeg_rgb_no_ycc.jpg").picture;
    // The means that Pillow gives; taken for YCbCr they would be far off.
    for (c, wanted) in [41.3, 66.0, 67.7].into_iter().enumerate() {
        let pixels = (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (x, y)));
        let sum: f64 = pixels.map(|(x, y)| sample(&picture, x, y, c)).sum();
        let mean = sum / (picture.width * picture.height) as f64;
        assert!((mean - wanted).abs() < 1.0, "channel {c}: {mean}");
    }
}

#[test]
fn sixteen_bits_stay_sixteen_and_floats_never_wrap() {
    let Samples::U16(samples) = read("formats/png_rgb16.png").picture.samples else { panic!("not 16 bit") };
    assert!(samples.iter().any(|v| v % 257 != 0), "the low bits are gone");
    let gray = read("formats/tiff_float32_gray.tif");
    assert_eq!(gray.picture.channels, Channels::Gray);
    let Samples::U16(samples) = gray.picture.samples else { panic!("not 16 bit") };
    // The block at 1.75 and the one at -0.25.
    assert!(samples.contains(&u16::MAX) && samples.contains(&0));
    assert!(gray.notes.iter().any(|note| note.contains("clamped")), "{:?}", gray.notes);
    assert_eq!(gray.format, InputFormat::Tiff);
}
