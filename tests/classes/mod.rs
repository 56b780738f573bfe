//! Models that are told what a picture shows, and a picture.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use sr3::{
    engine::{
        image::{DecodeLimits, OutputFormat, Picture, Planes, Samples, decode, encode, to_planes},
        model::tensors::{ReadLimits, read_safetensors, write_safetensors},
        ops::resize::{Filter, resize},
    },
    proto::Digest,
};

/// Rows and columns of the picture.
const SIDE: usize = 32;
/// What EfficientNet-Lite0 takes the Grand Canyon for when it is so small: a rotisserie.
pub(crate) const CANYON: &str = "766";

/// A file of the tests.
fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The Grand Canyon, small, as PNG.
pub(crate) fn canyon() -> Vec<u8> {
    let bytes = fs::read(file("photos/canyons/grand-canyon.png")).unwrap();
    let picture = decode(&bytes, &DecodeLimits::default()).unwrap().picture;
    let Planes { width, height, rgb, .. } = to_planes(&picture);
    let rgb = resize(&rgb, [height, width, 3], [SIDE; 2], Filter::Bicubic);
    let samples = rgb.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8).collect();
    let picture = Picture { width: SIDE, height: SIDE, samples: Samples::U8(samples), ..picture };
    encode(&picture, OutputFormat::Png, 100).unwrap().bytes
}

/// Writes a model of ten classes, and one of a thousand that shows the same ten over and over: `ten` and `thousand`.
pub(crate) fn models(folder: &Path) {
    let (ten, thousand) = (folder.join("ten"), folder.join("thousand"));
    let flags = "--noise-schedule linear --image-size 32 --scale 4 --heads 4";
    let mut convert = Command::new(env!("CARGO_BIN_EXE_sr3"));
    convert.arg("convert").arg(file("fixtures/adm/adm_sr_tiny.pt")).arg(&ten).args(flags.split(' '));
    let converted = convert.output().unwrap();
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    let weights = fs::read(ten.join("model.safetensors")).unwrap();
    let (mut tensors, about) = read_safetensors(&weights, &ReadLimits::default()).unwrap();
    let labels = tensors.get_mut("label_emb.weight").unwrap();
    labels.shape[0] = 1000;
    labels.data = labels.data.repeat(100);
    let weights = write_safetensors(&tensors, &about).unwrap();
    let config = fs::read(ten.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["model"]["classes"] = json!(1000);
    config["sha256"] = Digest::of(&weights).as_str().into();
    fs::create_dir(&thousand).unwrap();
    fs::write(thousand.join("config.json"), config.to_string()).unwrap();
    fs::write(thousand.join("model.safetensors"), weights).unwrap();
}
