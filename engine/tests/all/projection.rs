//! The consistency projection in closed form.

use crate::common::{Golden, max_difference};
use sr3_engine::diffusion::{Consistency, ConsistencyError};

const CASES: [&str; 6] =
    ["random_4x", "one_row_4x", "single_4x", "random_2x", "random_8x", "photo_noisy_shifted_4x"];

fn size(golden: &Golden, name: &str) -> [usize; 2] {
    golden.shape(name)[..2].try_into().unwrap()
}

#[test]
fn every_case_of_the_fixture_is_met() {
    let golden = Golden::load("projection.safetensors");
    for case in CASES {
        let of = |what: &str| format!("{case}.{what}");
        let projector = Consistency::new(size(&golden, &of("y")), size(&golden, &of("x"))).unwrap();
        let (y, mut x) = (golden.values(&of("y")), golden.values(&of("x")).to_vec());
        let reduced = projector.reduce(&x);
        let pseudo_inverse = projector.pseudo_inverse(y);
        projector.project(&mut x, y);
        for (what, ours) in [("reduced", &reduced), ("pseudo_inverse", &pseudo_inverse), ("projected", &x)] {
            let difference = max_difference(ours, golden.values(&of(what)));
            println!("{case} {what}: {difference:.1e}");
            assert!(difference <= 2e-6, "{case} {what}: {difference}");
        }
        let error = projector.mean_squared_error(&x, y);
        println!("{case} error {error:.1e}");
        assert!(error < 1e-12, "{case}: {error}");
    }
}

#[test]
fn two_clamped_passes_leave_less_than_one() {
    let golden = Golden::load("projection.safetensors");
    let y = golden.values("photo_noisy_shifted_4x.y");
    let mut x = golden.values("photo_noisy_shifted_4x.x").to_vec();
    let projector = Consistency::new([24, 32], [96, 128]).unwrap();
    let rounded = |x: &[f32]| {
        let bytes: Vec<f32> = x.iter().map(|v| (v * 255.0).round() / 255.0).collect();
        projector.mean_squared_error(&bytes, y)
    };
    let mut errors = vec![];
    for _ in 0..2 {
        projector.project(&mut x, y);
        x.iter_mut().for_each(|v| *v = v.clamp(0.0, 1.0));
        errors.push(rounded(&x));
    }
    println!("after clamping and rounding: {:.2e} {:.2e}", errors[0], errors[1]);
    assert!(
        (errors[0] - 2.1363526406593e-6).abs() < 1e-7,
        "the fixture's error after one pass: {}",
        errors[0]
    );
    assert!(errors[1] < errors[0] / 2.0);
}

#[test]
fn a_damped_projection_stops_where_it_was_asked_to() {
    let golden = Golden::load("projection.safetensors");
    let y = golden.values("photo_noisy_shifted_4x.y");
    let start = golden.values("photo_noisy_shifted_4x.x");
    let projector = Consistency::new([24, 32], [96, 128]).unwrap();
    let mut x = start.to_vec();
    projector.project_within(&mut x, y, 4e-5);
    let error = projector.mean_squared_error(&x, y);
    assert!((error - 4e-5).abs() < 1e-8, "{error}");
    let before = x.clone();
    projector.project_within(&mut x, y, 5e-5);
    assert_eq!(x, before, "an image that is good enough stays as it is");
}

#[test]
fn any_size_pair_is_projected() {
    for (low, high) in [
        ([1, 1], [1, 1]),
        ([5, 7], [5, 7]),
        ([5, 7], [5, 28]),
        ([3, 4], [10, 9]),
        ([100, 10], [101, 11]),
        ([1, 3], [1000, 3]),
    ] {
        let projector = Consistency::new(low, high).unwrap();
        let mut x: Vec<f32> = (0..high[0] * high[1] * 3).map(|i| (i as f32 * 0.71).sin()).collect();
        let y: Vec<f32> = (0..low[0] * low[1] * 3).map(|i| (i as f32 * 0.37).cos()).collect();
        let before = projector.mean_squared_error(&x, &y);
        projector.project(&mut x, &y);
        let after = projector.mean_squared_error(&x, &y);
        println!(
            "{low:?} {high:?}: {before:.2} to {after:.1e}, up to {:.2}",
            crate::common::max_magnitude(&x)
        );
        assert!(
            after < 1e-2 * before && crate::common::max_magnitude(&x) < 50.0,
            "{low:?} {high:?}: {before} {after}"
        );
    }
    let refused = Consistency::new([4, 4], [3, 8]).unwrap_err();
    assert_eq!(refused, ConsistencyError { low: [4, 4], high: [3, 8] });
    assert!(Consistency::new([0, 4], [3, 8]).is_err());
}

#[test]
fn the_number_of_threads_does_not_show() {
    let projector = Consistency::new([33, 41], [132, 164]).unwrap();
    let y: Vec<f32> = (0..33 * 41 * 3).map(|i| (i as f32 * 0.37).cos()).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut x: Vec<f32> = (0..132 * 164 * 3).map(|i| (i as f32 * 0.71).sin()).collect();
        pool.install(|| projector.project_within(&mut x, &y, 1e-3));
        x
    };
    assert_eq!(with(1), with(3));
}
