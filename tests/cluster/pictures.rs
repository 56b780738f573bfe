//! Inputs: small cuts out of the sample photographs, in several formats, and files that cannot be read.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};

/// Names of the bad files that [`write`] adds.
pub(crate) const BAD: [&str; 3] = ["bad/cut.png", "bad/text.jpg", "zz-empty.png"];

/// Writes `count` small pictures into a tree below `folder`; with `bad`, the bad files too.
pub(crate) fn write(folder: &Path, count: usize, bad: bool) {
    write_of(folder, count, 16..25);
    if bad {
        let whole = fs::read(photos().join("mountain-lake.png")).unwrap();
        put(folder, BAD[0], &whole[..whole.len() / 2]);
        put(folder, BAD[1], b"this is no picture");
        put(folder, BAD[2], b"");
    }
}

fn photos() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos")
}

/// Writes `count` square pictures, whose sides go through `sides`.
pub(crate) fn write_of(folder: &Path, count: usize, sides: Range<usize>) {
    let photos = photos();
    let sources = ["canyons/grand-canyon.png", "mountain-lake.png"]
        .map(|name| decode(&fs::read(photos.join(name)).unwrap(), &DecodeLimits::default()).unwrap().picture);
    for number in 0..count {
        let source = &sources[number % sources.len()];
        let side = sides.start + number % sides.len();
        let left = number * 7 % (source.width - side);
        let top = number * 5 % (source.height - side);
        let (format, extension) = match number % 3 {
            0 => (OutputFormat::Jpeg, "jpg"),
            1 => (OutputFormat::Webp, "webp"),
            _ => (OutputFormat::Png, "png"),
        };
        let part = cut(source, [left, top], side);
        let name = format!("{}/cut {number:04}.{extension}", ["a", "b/c", "é#"][number / 3 % 3]);
        put(folder, &name, &encode(&part, format, 95).unwrap().bytes);
    }
}

fn cut(source: &Picture, [left, top]: [usize; 2], side: usize) -> Picture {
    let Samples::U8(samples) = &source.samples else { panic!("the samples are 8 bit") };
    let row = |y: usize| &samples[(y * source.width + left) * 3..][..side * 3];
    let samples = (top..top + side).flat_map(|y| row(y).to_vec()).collect();
    Picture { width: side, height: side, samples: Samples::U8(samples), ..source.clone() }
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every file below a folder but `.sr3/`, by name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    add(folder, "", &mut found);
    found
}

fn add(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if name == ".sr3" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            add(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}
