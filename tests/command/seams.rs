//! Tiles leave no seams: pixels differ across a tile's border no more than elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use sr3::engine::diffusion::{Tile, TileAxis, Tiling};
use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};

const SCALE: usize = 4;

/// Mean difference of neighbouring pixels along an axis, a number for every place between two rows (or columns).
fn gradients(picture: &Picture, down: bool) -> Vec<f64> {
    let Samples::U8(samples) = &picture.samples else { panic!("eight bits") };
    let (w, h) = (picture.width, picture.height);
    let at = |along: usize, across: usize| {
        let (y, x) = if down { (along, across) } else { (across, along) };
        &samples[(y * w + x) * 3..][..3]
    };
    let (length, width) = if down { (h, w) } else { (w, h) };
    let difference = |i: usize, j: usize| {
        at(i, j).iter().zip(at(i + 1, j)).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
    };
    (0..length - 1).map(|i| (0..width).map(|j| difference(i, j)).sum::<f64>() / (3 * width) as f64).collect()
}

/// For every border of a tile inside the image: the difference across it, over that at the nearest places that lie
/// between two input pixels as it does (every enlargement has its own difference there).
fn ratios(gradients: &[f64], axis: &TileAxis) -> Vec<f64> {
    let spans = (0..axis.starts().len()).map(|i| axis.span(i));
    let borders = spans.flat_map(|span| [span.start, span.end]).filter(|&b| b > 0 && b <= gradients.len());
    borders
        .map(|border| {
            let place = border as isize - 1;
            let near: Vec<f64> = (-4..=4)
                .filter(|k| *k != 0)
                .filter_map(|k| gradients.get(usize::try_from(place + k * SCALE as isize).ok()?).copied())
                .collect();
            gradients[border - 1] / (near.iter().sum::<f64>() / near.len() as f64)
        })
        .collect()
}

#[test]
fn a_photograph_of_100_by_75_has_no_seams() {
    let folder = tempfile::tempdir().unwrap();
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/canyons/antelope.png");
    let picture = decode(&fs::read(photo).unwrap(), &DecodeLimits::default()).unwrap().picture;
    let Samples::U8(samples) = &picture.samples else { panic!() };
    let rows = (30..105).flat_map(|y| samples[(y * picture.width + 40) * 3..][..300].to_vec());
    let part = Picture { width: 100, height: 75, samples: Samples::U8(rows.collect()), ..picture.clone() };
    let (source, out) = (folder.path().join("photo.png"), folder.path().join("out.png"));
    fs::write(&source, encode(&part, OutputFormat::Png, 100).unwrap().bytes).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_sr3")).arg("upscale").args([&source, &out]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let result = decode(&fs::read(out).unwrap(), &DecodeLimits::default()).unwrap().picture;
    let tiling = Tiling::new([300, 400], Tile { size: 192, overlap: 32 }, 4, SCALE).unwrap();
    let mut all = ratios(&gradients(&result, true), &tiling.rows);
    all.extend(ratios(&gradients(&result, false), &tiling.columns));
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    println!("across {} tile borders: {mean:.3} of the difference beside them, {all:.2?}", all.len());
    assert!(all.len() >= 6 && mean < 1.02, "{mean}: {all:?}");
}
