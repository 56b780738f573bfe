//! Networks that look at pictures, with their real weights, against PyTorch's: a binary of its own, as it takes memory. Here FID's
//! Inception.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

#[path = "../all/common/mod.rs"]
mod common;
mod wheels;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use common::{Golden, fixture, max_difference};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sr3_engine::image::{DecodeLimits, Samples, decode};
use sr3_engine::metrics::Picture;
use sr3_engine::model::import::read_pth;
use sr3_engine::model::tensors::{Dtype, HostTensor, ReadLimits, TensorMap};
use sr3_engine::ops::Isa;
use sr3_engine::vision::{FidMode, INCEPTION_DIGEST, Inception, LOGITS, POOL, SPATIAL, VisionError};

/// The tensors of the network, as the TorchScript of a package has them.
fn tensors() -> &'static TensorMap {
    static TENSORS: OnceLock<TensorMap> = OnceLock::new();
    TENSORS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/inception.sh");
        let found = Command::new("bash").arg(script).arg("install").output().unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let path = String::from_utf8(found.stdout).unwrap();
        read_pth(&std::fs::read(path.trim()).unwrap(), &ReadLimits::default()).unwrap()
    })
}

fn numbers() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("fid.json")).unwrap()).unwrap()
}

fn weight_list(numbers: &Value) -> &[Value] {
    numbers["inception"]["weights"]["list"].as_array().unwrap()
}

/// The fixture's images: three of 64×64, three of 256×256.
fn images() -> Vec<(usize, usize, Vec<u8>)> {
    let read = |name: &Value| {
        let bytes = std::fs::read(fixture(name.as_str().unwrap())).unwrap();
        let picture = decode(&bytes, &DecodeLimits::default()).unwrap().picture;
        let Samples::U8(samples) = picture.samples else { panic!("{name} has 16 bits") };
        (picture.width, picture.height, samples)
    };
    numbers()["inception"]["images"].as_array().unwrap().iter().map(read).collect()
}

fn pictures(images: &[(usize, usize, Vec<u8>)]) -> Vec<Picture<'_>> {
    images.iter().map(|(width, height, rgb)| Picture::new(*width, *height, rgb).unwrap()).collect()
}

/// One network for all tests that do not need their own.
fn shared() -> &'static Mutex<Inception> {
    static NETWORK: OnceLock<Mutex<Inception>> = OnceLock::new();
    NETWORK.get_or_init(|| Mutex::new(Inception::new(tensors(), Isa::detect()).unwrap()))
}

/// The same network as pytorch-fid's file has it, with a classifier that can be told.
fn as_pytorch_fid() -> TensorMap {
    let numbers = numbers();
    let floats = |shape: Vec<usize>, value: &dyn Fn(usize) -> f32| {
        let data = (0..shape.iter().product()).flat_map(|i| value(i).to_le_bytes()).collect();
        HostTensor { dtype: Dtype::F32, shape, data }
    };
    let mut renamed = TensorMap::new();
    for entry in weight_list(&numbers) {
        let name = entry["pytorch_name"].as_str().unwrap();
        let tensor = tensors()[entry["name"].as_str().unwrap()].clone();
        if let Some(norm) = name.strip_suffix(".running_mean") {
            renamed.insert(format!("{norm}.weight"), floats(tensor.shape.clone(), &|_| 1.0));
            let count = HostTensor { dtype: Dtype::I64, shape: vec![], data: vec![0; 8] };
            renamed.insert(format!("{norm}.num_batches_tracked"), count);
        }
        renamed.insert(name.to_string(), tensor);
    }
    renamed.insert("fc.weight".into(), floats(vec![LOGITS, POOL], &|i| (i / POOL == i % POOL).into()));
    renamed.insert("fc.bias".into(), floats(vec![LOGITS], &|_| 5.0));
    renamed
}

#[test]
fn a_torchscript_gives_the_tensors_of_its_modules_bit_for_bit() {
    let numbers = numbers();
    let list = weight_list(&numbers);
    assert_eq!((list.len(), tensors().len()), (376, 376));
    for entry in list {
        let tensor = &tensors()[entry["name"].as_str().unwrap()];
        let digest: String = Sha256::digest(&tensor.data).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(digest.as_str()), entry["sha256"].as_str(), "{}", entry["name"]);
    }
}

#[test]
fn features_are_those_of_the_public_tools_for_images_of_mixed_sizes() {
    let (images, golden) = (images(), Golden::load("fid.safetensors"));
    let clean = Golden::load("fid/clean_fid.safetensors");
    for (mode, expected) in [
        (FidMode::PytorchFid, golden.values("inception.features_pytorch_fid_2048")),
        (FidMode::TorchFidelity, golden.values("inception.features_torch_fidelity_2048")),
        (FidMode::CleanFid, clean.values("features")),
    ] {
        let found = shared().lock().unwrap().features(&pictures(&images), mode).unwrap();
        let difference = max_difference(&found.pool, expected);
        println!("{mode}: largest difference of a feature {difference:.1e}");
        assert!(difference < 1e-4, "{mode}: {difference:e}");
        assert_eq!((found.spatial.len(), found.logits.len()), (6 * SPATIAL, 0));
    }
}

#[test]
fn the_spatial_features_are_the_first_seven_channels_in_the_middle() {
    let (images, golden) = (images(), Golden::load("fid.safetensors"));
    let found = shared().lock().unwrap().features(&pictures(&images), FidMode::PytorchFid).unwrap();
    for (image, name) in [(0, "crop_64_a"), (3, "crop_256_a")] {
        let means = golden.values(&format!("inception.stage_mean.{name}.mixed_6"));
        let pixels = found.spatial[image * SPATIAL..(image + 1) * SPATIAL].chunks_exact(7);
        for channel in 0..7 {
            let sum: f32 = pixels.clone().map(|pixel| pixel[channel]).sum();
            assert!((sum / 289.0 - means[channel]).abs() < 1e-4, "{name}, channel {channel}");
        }
    }
}

#[test]
fn both_kinds_of_files_give_one_network_and_a_classifier_gives_logits() {
    let images = images();
    let mut network = Inception::new(&as_pytorch_fid(), Isa::detect()).unwrap();
    let mut scripted = shared().lock().unwrap();
    assert_eq!(network.digest(), scripted.digest());
    assert_eq!(scripted.digest(), INCEPTION_DIGEST, "the digest of the weights of 2015-12-05");
    assert!(network.classifies() && !scripted.classifies());
    let found = network.features(&pictures(&images[..2]), FidMode::TorchFidelity).unwrap();
    let other = scripted.features(&pictures(&images[..2]), FidMode::TorchFidelity).unwrap();
    assert_eq!((&found.pool, &found.spatial), (&other.pool, &other.spatial));
    // The classifier here takes class i to be feature i; its bias does not count.
    for (logits, pool) in found.logits.chunks_exact(LOGITS).zip(found.pool.chunks_exact(POOL)) {
        assert_eq!(logits, &pool[..LOGITS]);
    }
}

#[test]
fn features_have_the_same_bits_in_any_batch_on_any_threads_with_any_instructions() {
    let images = images();
    // Ten of them: more than go through together.
    let many: Vec<_> = images.iter().cycle().take(10).cloned().collect();
    let all = shared().lock().unwrap().features(&pictures(&many), FidMode::CleanFid).unwrap();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let one = pool.install(|| {
            shared().lock().unwrap().features(&pictures(&images[4..5]), FidMode::CleanFid).unwrap()
        });
        assert_eq!(one.pool, all.pool[4 * POOL..5 * POOL], "{threads} threads");
        assert_eq!(one.spatial, all.spatial[4 * SPATIAL..5 * SPATIAL], "{threads} threads");
    }
    for isa in Isa::available() {
        let one = Inception::new(tensors(), isa)
            .unwrap()
            .features(&pictures(&images[..1]), FidMode::CleanFid)
            .unwrap();
        assert_eq!(one.pool, all.pool[..POOL], "{isa}");
    }
}

#[test]
fn what_is_no_such_network_is_refused_by_the_first_tensor() {
    let refused = |change: &dyn Fn(&mut TensorMap)| {
        let mut changed = tensors().clone();
        change(&mut changed);
        Inception::new(&changed, Isa::detect()).err().unwrap()
    };
    let victim = "net.layers.mixed_3.conv.weight";
    let missing = refused(&|t| drop(t.remove(victim)));
    assert!(matches!(missing, VisionError::Missing { name } if name == victim));
    let extra = refused(&|t| drop(t.insert("aux.weight".into(), tensors()[victim].clone())));
    assert!(matches!(extra, VisionError::Extra { name } if name == "aux.weight"));
    let misshapen = refused(&|t| t.get_mut(victim).unwrap().shape.swap(0, 1));
    assert!(matches!(misshapen, VisionError::Shape { name, .. } if name == victim));
    let broken = refused(&|t| t.get_mut(victim).unwrap().data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(matches!(broken, VisionError::Values { name } if name == victim));
    let variance = "net.layers.mixed_3.conv.var";
    let broken = refused(&|t| t.get_mut(variance).unwrap().data[..4].copy_from_slice(&(-1f32).to_le_bytes()));
    assert!(matches!(broken, VisionError::Values { name } if name == variance));
    let empty = Picture::new(0, 3, &[]).unwrap();
    let refused = shared().lock().unwrap().features(&[empty], FidMode::CleanFid);
    assert!(matches!(refused, Err(VisionError::Empty { image: 0 })));
    assert!("fid".parse::<FidMode>().is_err());
    assert_eq!("clean-fid".parse::<FidMode>().unwrap(), FidMode::CleanFid);
}
