//! Colours under full transparency, through the real command: they come back, and nothing that shows depends on them.

use std::fs;
use std::process::Command;

use serde_json::Value;
use sr3::engine::image::{Channels, DecodeLimits, Metadata, OutputFormat, Picture, Samples, decode, encode};

const WIDTH: usize = 12;
const HEIGHT: usize = 8;
const SCALE: usize = 4;

/// The picture whose left half is hidden, with these colours, enlarged; its samples and its consistency error.
fn enlarged(hidden: fn(usize, usize) -> [u8; 3]) -> (Vec<u8>, f64) {
    let pixel = |x: usize, y: usize| match hidden(x, y) {
        [r, g, b] if x < WIDTH / 2 => [r, g, b, 0],
        _ => [(20 * x) as u8, (30 * y) as u8, 120, 255],
    };
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let samples = Samples::U8(pixels.flat_map(|(x, y)| pixel(x, y)).collect());
    let (channels, metadata) = (Channels::Rgba, Metadata::default());
    let picture = Picture { width: WIDTH, height: HEIGHT, channels, samples, metadata };
    let folder = tempfile::tempdir().unwrap();
    let (inputs, outputs) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir(&inputs).unwrap();
    fs::write(inputs.join("a.png"), encode(&picture, OutputFormat::Png, 90).unwrap().bytes).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .arg("upscale")
        .args([&inputs, &outputs])
        .args(["--preset", "one", "--quiet"])
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let report = fs::read_to_string(outputs.join(".sr3/report.jsonl")).unwrap();
    let record: Value = serde_json::from_str(report.lines().next().unwrap()).unwrap();
    let made = decode(&fs::read(outputs.join("a.png")).unwrap(), &DecodeLimits::default()).unwrap().picture;
    assert_eq!((made.width, made.height, made.channels), (SCALE * WIDTH, SCALE * HEIGHT, Channels::Rgba));
    let Samples::U8(samples) = made.samples else { panic!("not 8 bit") };
    (samples, record["consistency_error"].as_f64().unwrap())
}

#[test]
fn hidden_colours_come_back_and_change_nothing_that_shows() {
    let (flat, flat_error) = enlarged(|_, _| [255, 0, 255]);
    let (varied, varied_error) = enlarged(|x, y| [(7 * x) as u8, (9 * y) as u8, 77]);
    assert_eq!(flat_error, varied_error);
    let (mut hidden, mut shown) = (0, 0);
    for (i, (a, b)) in flat.chunks(4).zip(varied.chunks(4)).enumerate() {
        if a[3] > 0 {
            shown += 1;
            assert_eq!(a, b, "pixel {i} shows");
            continue;
        }
        hidden += 1;
        let (x, y) = (i % (SCALE * WIDTH) / SCALE, i / (SCALE * WIDTH) / SCALE);
        assert_eq!(a, [255, 0, 255, 0]);
        if x < WIDTH / 2 {
            assert_eq!(b, [(7 * x) as u8, (9 * y) as u8, 77, 0], "pixel {i}");
        }
    }
    assert!(hidden > 500 && shown > 500, "{hidden} hidden, {shown} shown");
}
