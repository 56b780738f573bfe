//! ST-LPIPS and EfficientNet-Lite0 with their real weights against PyTorch's numbers.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use sr3_engine::image::{DecodeLimits, Samples, decode};
use sr3_engine::metrics::Picture;
use sr3_engine::model::import::{read_pth, read_wheel};
use sr3_engine::model::tensors::{ReadLimits, TensorMap};
use sr3_engine::ops::Isa;
use sr3_engine::vision::{
    CLASSES, EFFICIENTNET_LITE0_DIGEST, EfficientNetLite0, ST_LPIPS_DIGEST, StLpips, VisionError,
};

use crate::common::{Golden, fixture, max_difference};

/// The tensors of a package's file, whose name ends so.
fn tensors(package: &str, file: &str) -> TensorMap {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/wheel.sh");
    let found = Command::new("bash").arg(script).arg(package).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let wheel = std::fs::read(String::from_utf8(found.stdout).unwrap().trim()).unwrap();
    let files = read_wheel(&wheel, &ReadLimits::default()).unwrap().unwrap();
    let found = files.iter().find(|found| found.name.ends_with(file)).unwrap();
    read_pth(&found.bytes, &ReadLimits::default()).unwrap()
}

fn of_st_lpips() -> &'static TensorMap {
    static TENSORS: OnceLock<TensorMap> = OnceLock::new();
    TENSORS.get_or_init(|| tensors("st-lpips", "/alex_shift_tolerant.pth"))
}

fn of_efficientnet() -> &'static TensorMap {
    static TENSORS: OnceLock<TensorMap> = OnceLock::new();
    TENSORS.get_or_init(|| tensors("efficientnet-lite0", "/efficientnet-lite0-57934424.pth"))
}

fn numbers() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("vision.json")).unwrap()).unwrap()
}

/// A picture under `tests`.
struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Image {
    fn read(name: &Value) -> Self {
        let bytes = std::fs::read(fixture("..").join(name.as_str().unwrap())).unwrap();
        let picture = decode(&bytes, &DecodeLimits::default()).unwrap().picture;
        let Samples::U8(rgb) = picture.samples else { panic!("{name} has 16 bits") };
        Self { width: picture.width, height: picture.height, rgb }
    }

    /// Its left upper corner.
    fn corner(&self, width: usize, height: usize) -> Self {
        let row = |y: usize| &self.rgb[y * self.width * 3..][..width * 3];
        Self { width, height, rgb: (0..height).flat_map(row).copied().collect() }
    }

    fn view(&self) -> Picture<'_> {
        Picture::new(self.width, self.height, &self.rgb).unwrap()
    }
}

#[test]
fn distances_are_those_of_the_package_at_any_size() {
    let numbers = numbers();
    let mut network = StLpips::new(of_st_lpips(), Isa::detect()).unwrap();
    assert_eq!(network.digest(), ST_LPIPS_DIGEST);
    let mut largest = 0.0_f64;
    let mut check = |truth: &Image, picture: &Image, expected: &Value| {
        let found = network.distances(truth.view(), &[picture.view()]).unwrap()[0];
        let difference = (found - expected.as_f64().unwrap()).abs();
        assert!(difference < 1e-5, "{}×{}: {found} {expected}", truth.width, truth.height);
        largest = largest.max(difference);
    };
    for pair in numbers["st_lpips"]["pairs"].as_array().unwrap() {
        check(&Image::read(&pair[0]), &Image::read(&pair[1]), &pair[2]);
    }
    let corners = &numbers["st_lpips"]["corners"];
    let [truth, picture] = [0, 1].map(|at| Image::read(&corners["of"][at]));
    for corner in corners["width_height_distance"].as_array().unwrap() {
        let [width, height] = [0, 1].map(|at| corner[at].as_u64().unwrap() as usize);
        check(&truth.corner(width, height), &picture.corner(width, height), &corner[2]);
    }
    println!("ST-LPIPS: largest difference {largest:.1e}");
}

#[test]
fn a_distance_has_the_same_bits_beside_any_others_on_any_threads_with_any_instructions() {
    let names = &numbers()["st_lpips"]["pairs"];
    let [truth, near, far] = [(0, 0), (0, 1), (1, 1)].map(|(pair, at)| Image::read(&names[pair][at]));
    let of = |isa: Isa, pictures: &[Picture<'_>]| {
        StLpips::new(of_st_lpips(), isa).unwrap().distances(truth.view(), pictures).unwrap()
    };
    let all = of(Isa::detect(), &[near.view(), far.view(), truth.view()]);
    assert_eq!(all[2], 0.0, "a picture is at no distance from itself");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let alone = pool.install(|| of(Isa::detect(), &[far.view()]));
        assert_eq!(alone, all[1..2], "{threads} threads");
    }
    for isa in Isa::available() {
        assert_eq!(of(isa, &[near.view()]), all[..1], "{isa}");
    }
    // After a picture of another size nothing is left of it.
    let mut network = StLpips::new(of_st_lpips(), Isa::detect()).unwrap();
    let small = truth.corner(33, 40);
    network.distances(small.view(), &[near.corner(33, 40).view()]).unwrap();
    assert_eq!(network.distances(truth.view(), &[near.view()]).unwrap(), all[..1]);
    let refused = network.distances(truth.corner(20, 40).view(), &[]);
    assert!(matches!(refused, Err(VisionError::TooSmall { width: 20, least: 21, .. })));
    let refused = network.distances(truth.view(), &[small.view()]);
    assert!(matches!(refused, Err(VisionError::SizesDiffer { other_width: 33, .. })));
}

#[test]
fn classes_are_those_of_the_package_in_any_batch_on_any_threads_with_any_instructions() {
    let names = numbers()["efficientnet_lite0"]["images"].as_array().unwrap().clone();
    let images: Vec<Image> = names.iter().map(Image::read).collect();
    let views: Vec<Picture<'_>> = images.iter().map(Image::view).collect();
    let golden = Golden::load("vision.safetensors");
    let expected = golden.values("logits");
    let mut network = EfficientNetLite0::new(of_efficientnet(), Isa::detect()).unwrap();
    assert_eq!(network.digest(), EFFICIENTNET_LITE0_DIGEST);
    let found = network.logits(&views).unwrap();
    let difference = max_difference(&found, expected);
    println!("EfficientNet-Lite0: largest difference of a logit {difference:.1e}");
    assert!(difference < 1e-3, "{difference:e}");
    for (picture, logits) in views.iter().zip(found.chunks_exact(CLASSES)) {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| network.logits(&[*picture]).unwrap()), logits, "{threads} threads");
        }
    }
    let many: Vec<Picture<'_>> = views.iter().cycle().take(17).copied().collect();
    assert_eq!(network.logits(&many).unwrap()[..found.len()], found);
    for isa in Isa::available() {
        let mut network = EfficientNetLite0::new(of_efficientnet(), isa).unwrap();
        assert_eq!(network.logits(&views[..1]).unwrap(), found[..CLASSES], "{isa}");
    }
}

#[test]
fn what_is_no_such_network_is_refused_by_the_first_tensor() {
    let mut changed = of_st_lpips().clone();
    changed.remove("lin3.model.1.weight");
    let missing = StLpips::new(&changed, Isa::detect()).err();
    assert!(matches!(missing, Some(VisionError::Missing { name }) if name == "lin3.model.1.weight"));
    let extra = StLpips::new(of_efficientnet(), Isa::detect()).err();
    assert!(matches!(extra, Some(VisionError::Missing { name }) if name == "scaling_layer.shift"));
    let mut changed = of_efficientnet().clone();
    changed.insert("lin.weight".into(), changed["_fc.bias"].clone());
    let extra = EfficientNetLite0::new(&changed, Isa::detect()).err();
    assert!(matches!(extra, Some(VisionError::Extra { name }) if name == "lin.weight"));
}
