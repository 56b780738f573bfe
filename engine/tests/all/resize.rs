//! Resampling against PIL, OpenCV and MATLAB's algorithm, and its own promises.

use crate::common::{Golden, max_difference};
use proptest::prelude::*;
use sr3_engine::ops::resize::{Axis, Filter, ResizePlan, resize, resize_u8};

const PIL: [(&str, &str, Filter); 4] = [
    ("bicubic_128_32", "crop_128", Filter::Bicubic),
    ("bicubic_32_128", "bicubic_128_32", Filter::Bicubic),
    ("bicubic_100x75_33x25", "crop_100x75", Filter::Bicubic),
    ("box_200_64", "crop_200", Filter::Box),
];

fn shape(golden: &Golden, name: &str) -> [usize; 3] {
    golden.shape(name).try_into().unwrap()
}

#[test]
fn the_float_path_matches_pil_and_the_exact_area() {
    let golden = Golden::load("resize.safetensors");
    for (name, source, filter) in PIL.into_iter().chain([("area_200_64", "crop_200", Filter::Area)]) {
        let (source, name) = (format!("{source}_u8"), format!("{name}_float"));
        let [height, width, _] = shape(&golden, &name);
        let ours = resize(golden.values(&source), shape(&golden, &source), [height, width], filter);
        let difference = max_difference(&ours, golden.values(&name));
        assert!(difference <= 1e-4, "{name}: {difference}");
    }
}

#[test]
fn the_8_bit_path_is_pil_bit_for_bit() {
    let golden = Golden::load("resize.safetensors");
    for (name, source, filter) in PIL {
        let (source, name) = (format!("{source}_u8"), format!("{name}_u8"));
        let [height, width, _] = shape(&golden, &name);
        let pixels: Vec<u8> = golden.values(&source).iter().map(|&v| v as u8).collect();
        let ours = resize_u8(&pixels, shape(&golden, &source), [height, width], filter);
        let theirs: Vec<u8> = golden.values(&name).iter().map(|&v| v as u8).collect();
        assert_eq!(ours.iter().zip(&theirs).filter(|(a, b)| a != b).count(), 0, "{name}");
    }
}

#[test]
fn matlab_bicubic_reflects_at_the_border() {
    let golden = Golden::load("resize.safetensors");
    for (name, source) in [
        ("matlab_bicubic_128_32_float", "crop_128_u8"),
        ("matlab_bicubic_100x75_25x19_float", "crop_100x75_u8"),
    ] {
        let [height, width, channels] = shape(&golden, source);
        let plan =
            ResizePlan::from_axes(Axis::matlab_bicubic(height, 0.25), Axis::matlab_bicubic(width, 0.25));
        let mut ours = vec![0.0; golden.values(name).len()];
        plan.apply(golden.values(source), channels, &mut ours);
        assert_eq!(plan.output_size(), shape(&golden, name)[..2]);
        let difference = max_difference(&ours, golden.values(name));
        assert!(difference <= 1e-4, "{name}: {difference}");
    }
}

#[test]
fn lanczos_keeps_a_constant_and_sums_to_one() {
    for (input, output) in [(7, 3), (3, 7), (100, 33), (1, 5), (5, 1)] {
        let axis = Axis::new(Filter::Lanczos3, input, output);
        for i in 0..output {
            let (start, weights) = axis.row(i);
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            assert!(start + weights.len() <= input);
        }
    }
    // sinc(1/2) sinc(1/6) and its neighbours, normalised: doubling gives even rows phase 1/4.
    let axis = Axis::new(Filter::Lanczos3, 16, 32);
    let (_, weights) = axis.row(16);
    let sinc = |x: f64| (std::f64::consts::PI * x).sin() / (std::f64::consts::PI * x);
    let raw: Vec<f64> = (-3..3).map(|k| f64::from(k) + 0.25).map(|x| sinc(x) * sinc(x / 3.0)).collect();
    let sum: f64 = raw.iter().sum();
    assert_eq!(weights.len(), raw.len());
    for (w, r) in weights.iter().zip(&raw) {
        assert!((w - r / sum).abs() < 1e-12, "{weights:?} against {raw:?}");
    }
}

#[test]
fn any_number_of_channels_is_resampled_channel_by_channel() {
    let (height, width) = (19, 23);
    let planes: Vec<Vec<f32>> =
        (0..5).map(|c| (0..height * width).map(|i| ((i * (c + 3)) % 17) as f32).collect()).collect();
    for channels in 1..=5 {
        let mixed: Vec<f32> =
            (0..height * width * channels).map(|i| planes[i % channels][i / channels]).collect();
        let ours = resize(&mixed, [height, width, channels], [40, 9], Filter::Bicubic);
        for (c, plane) in planes.iter().take(channels).enumerate() {
            let alone = resize(plane, [height, width, 1], [40, 9], Filter::Bicubic);
            let ours: Vec<f32> = ours.iter().skip(c).step_by(channels).copied().collect();
            assert_eq!(ours, alone, "channel {c} of {channels}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let src: Vec<f32> = (0..200 * 150 * 3).map(|i| ((i * 7919) % 1009) as f32 / 1009.0).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| resize(&src, [200, 150, 3], [333, 77], Filter::Lanczos3))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn a_transposed_axis_is_the_transposed_matrix() {
    for (input, output) in [(64, 16), (16, 64), (100, 33), (33, 100), (5, 5)] {
        let axis = Axis::new(Filter::Bicubic, input, output);
        let transposed = axis.transposed();
        let at = |axis: &Axis, i: usize, x: usize| {
            let (start, weights) = axis.row(i);
            x.checked_sub(start).and_then(|k| weights.get(k).copied()).unwrap_or(0.0)
        };
        assert_eq!((transposed.input_len(), transposed.output_len()), (output, input));
        for i in 0..output {
            for x in 0..input {
                assert_eq!(at(&axis, i, x), at(&transposed, x, i));
            }
        }
    }
}

#[test]
fn empty_images_stay_empty() {
    assert!(resize(&[], [0, 0, 3], [0, 4], Filter::Bicubic).is_empty());
    assert_eq!(resize(&[], [0, 0, 3], [1, 1], Filter::Bicubic), [0.0; 3]);
    assert_eq!(Axis::matlab_bicubic(8, f64::NAN).output_len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_constant_image_keeps_its_colour(
        from in [1_usize..40, 1..40], to in [1_usize..40, 1..40], level in 0_u8..=255, filter in 0_usize..4,
    ) {
        let filter = [Filter::Bicubic, Filter::Box, Filter::Lanczos3, Filter::Area][filter];
        let bytes = vec![level; from[0] * from[1] * 3];
        prop_assert!(resize_u8(&bytes, [from[0], from[1], 3], to, filter).iter().all(|&v| v == level));
        let floats = vec![f32::from(level); bytes.len()];
        let ours = resize(&floats, [from[0], from[1], 3], to, filter);
        prop_assert!(ours.iter().all(|v| (v - f32::from(level)).abs() < 1e-3));
    }
}
