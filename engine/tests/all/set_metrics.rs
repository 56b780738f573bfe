//! Distances between sets of features against SciPy, NumPy and torch-fidelity, and against what must hold of any set.

use std::collections::BTreeMap;

use crate::common::{Golden, fixture};
use serde_json::Value;
use sr3_engine::metrics::{
    FeatureError, Features, KidOptions, Statistics, bootstrap, frechet_distance, inception_score, kid,
    memorisation, mmd, monge_distance, neighbour_radii, precision_recall,
};

fn numbers() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("fid.json")).unwrap()).unwrap()
}

/// The fixture's f64 and i64 tensors, not rounded.
fn doubles() -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(fixture("fid.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let wide = file.iter().filter_map(|(name, view)| {
        let eight = view.data().as_chunks().0.iter();
        let values = match view.dtype() {
            safetensors::Dtype::F64 => eight.map(|&b| f64::from_le_bytes(b)).collect(),
            safetensors::Dtype::I64 => eight.map(|&b| i64::from_le_bytes(b) as f64).collect(),
            _ => return None,
        };
        Some((name.to_string(), values))
    });
    wide.collect()
}

fn set<'a>(golden: &'a Golden, name: &str) -> Features<'a> {
    Features::new(golden.values(name), golden.shape(name)[1]).unwrap()
}

fn rows(from: Features<'_>, images: impl Iterator<Item = usize>) -> Vec<f32> {
    images.flat_map(|i| from.row(i).to_vec()).collect()
}

#[test]
fn mean_and_covariance_are_numpys() {
    let (golden, doubles) = (Golden::load("fid.safetensors"), doubles());
    for name in ["a", "b", "a_20", "b_20"] {
        let statistics = Statistics::of(set(&golden, &format!("features_{name}"))).unwrap();
        for (ours, theirs) in [
            (statistics.mean(), &doubles[&format!("mean_{name}")]),
            (statistics.covariance(), &doubles[&format!("covariance_{name}")]),
        ] {
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((ours - theirs).abs() <= 1e-12, "{name}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn the_frechet_distance_is_the_exact_one_for_any_number_of_images() {
    let (golden, numbers) = (Golden::load("fid.safetensors"), numbers());
    let pairs = numbers["fid"].as_object().unwrap();
    assert_eq!(pairs.len(), 5);
    for (pair, of) in pairs {
        let [a, b] = ["set_1", "set_2"].map(|key| set(&golden, of[key].as_str().unwrap()));
        let [a, b] = [a, b].map(|set| Statistics::of(set).unwrap());
        let (found, exact) = (frechet_distance(&a, &b).unwrap(), of["exact"].as_f64().unwrap());
        assert!((found - exact).abs() <= 1e-10 * exact.abs().max(10.0), "{pair}: {found} {exact}");
        // From the matrices alone, what is singular loses digits, as in every tool.
        let [a, b] = [a, b].map(|s| Statistics::new(s.mean().to_vec(), s.covariance().to_vec()).unwrap());
        let found = frechet_distance(&a, &b).unwrap();
        let allowed = if pair.contains("20") { 5e-5 } else { 1e-6 * exact.abs().max(1e-3) };
        assert!((found - exact).abs() <= allowed, "{pair} from matrices: {found} {exact}");
    }
}

#[test]
fn statistics_and_distances_have_the_same_bits_on_any_number_of_threads() {
    let golden = Golden::load("fid.safetensors");
    let (a, b) = (set(&golden, "features_a"), set(&golden, "features_b_20"));
    let all = || {
        let distance = frechet_distance(&Statistics::of(a).unwrap(), &Statistics::of(b).unwrap()).unwrap();
        let options = KidOptions { subsets: 3, size: 15, seed: 4 };
        (distance.to_bits(), kid(a, b, &options).unwrap(), monge_distance(a, b, 70, 1).unwrap().to_bits())
    };
    let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all);
    let one = on(1);
    for threads in [2, 5] {
        assert_eq!(one, on(threads), "{threads} threads");
    }
}

#[test]
fn the_discrepancy_of_whole_sets_and_of_given_subsets_is_torch_fidelitys() {
    let (golden, numbers, doubles) = (Golden::load("fid.safetensors"), numbers(), doubles());
    let near = |found: f64, key: &str| {
        let expected = numbers["kid"][key].as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-9, "{key}: {found} {expected}");
    };
    let (a, b) = (set(&golden, "features_a"), set(&golden, "features_b"));
    near(mmd(a, b).unwrap(), "full_block");
    near(mmd(a, a).unwrap(), "full_block_same");
    near(mmd(set(&golden, "features_a_20"), set(&golden, "features_b_20")).unwrap(), "full_block_20");
    for (subset, expected) in doubles["kid_subset_values"].iter().enumerate() {
        let [x, y] = [("kid_index_a", a), ("kid_index_b", b)].map(|(index, from)| {
            rows(from, doubles[index][subset * 100..][..100].iter().map(|i| *i as usize))
        });
        let found = mmd(Features::new(&x, 64).unwrap(), Features::new(&y, 64).unwrap()).unwrap();
        assert!((found - expected).abs() <= 1e-9, "subset {subset}: {found} {expected}");
    }
}

#[test]
fn kernel_distances_are_averages_over_subsets_that_the_seed_decides() {
    let golden = Golden::load("fid.safetensors");
    let (a, b) = (set(&golden, "features_a"), set(&golden, "features_b"));
    let options = KidOptions { subsets: 20, size: 100, seed: 1 };
    let found = kid(a, b, &options).unwrap();
    assert_eq!(found, kid(a, b, &options).unwrap());
    assert_ne!(found, kid(a, b, &KidOptions { seed: 2, ..options }).unwrap());
    assert_eq!(found.values.len(), 20);
    let whole = mmd(a, b).unwrap();
    let error = found.deviation / (found.values.len() as f64).sqrt();
    assert!((found.mean - whole).abs() < 4.0 * error, "{} is far from {whole} ± {error}", found.mean);
    // A subset of everything is everything.
    let all = kid(a, b, &KidOptions { subsets: 2, size: 400, seed: 1 }).unwrap();
    assert!(all.values.iter().all(|v| (v - whole).abs() < 1e-9));
}

#[test]
fn inception_scores_and_their_splits_are_torch_fidelitys() {
    let (golden, numbers, doubles) = (Golden::load("fid.safetensors"), numbers(), doubles());
    let logits = set(&golden, "logits");
    let of = &numbers["inception_score"];
    let near = |found: f64, expected: &Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() <= 1e-10, "{what}: {found} {expected}");
    };
    let one = inception_score(logits, 1, None).unwrap();
    near(one.mean, &of["one_split"], "one split");
    let permuted = rows(logits, doubles["inception_score_permutation"].iter().map(|i| *i as usize));
    let permuted = Features::new(&permuted, logits.dimensions()).unwrap();
    for (key, logits) in [("ten_splits", logits), ("ten_splits_permuted", permuted)] {
        let found = inception_score(logits, 10, None).unwrap();
        near(found.mean, &of[key]["mean"], key);
        near(found.deviation, &of[key]["std"], key);
        for (found, expected) in found.values.iter().zip(of[key]["values"].as_array().unwrap()) {
            near(*found, expected, key);
        }
    }
    // Shuffling changes the splits, and nothing of the whole.
    let shuffled = |splits| inception_score(logits, splits, Some(3)).unwrap();
    assert!((shuffled(1).mean - one.mean).abs() < 1e-12);
    assert_ne!(shuffled(10).values, inception_score(logits, 10, None).unwrap().values);
}

#[test]
fn precision_recall_and_radii_are_exact() {
    let (golden, numbers, doubles) = (Golden::load("fid.safetensors"), numbers(), doubles());
    let (a, b) = (set(&golden, "features_a"), set(&golden, "features_b"));
    for (key, k) in [("k3", 3), ("k5", 5)] {
        let of = &numbers["precision_recall"][key];
        let found = precision_recall(a, b, k).unwrap();
        assert_eq!(Some(found.precision), of["precision"].as_f64(), "{key}");
        assert_eq!(Some(found.recall), of["recall"].as_f64(), "{key}");
        for (name, features) in [("a", a), ("b", b)] {
            let radii = neighbour_radii(features, k).unwrap();
            for (found, expected) in radii.iter().zip(&doubles[&format!("radius_{name}_{key}")]) {
                assert!((found - expected).abs() <= 1e-9 * expected, "{name}, {key}: {found} {expected}");
            }
        }
    }
    let same = precision_recall(a, a, 1).unwrap();
    assert_eq!((same.precision, same.recall), (1.0, 1.0));
}

/// The paper's formula on a line, where the one direction is ±1: both sets in order, their differences squared.
#[test]
fn the_monge_distance_on_a_line_is_that_of_the_ordered_sets() {
    let (a, b) = ([0.5f32, -2.0, 7.0, 1.0], [3.0f32, 0.0, -1.0, 6.5]);
    let expected = 3.0 * ((-2.0f64 + 1.0).powi(2) + 0.5 * 0.5 + (1.0f64 - 3.0).powi(2) + 0.5 * 0.5) / 4.0;
    let [a, b] = [&a, &b].map(|set| Features::new(set, 1).unwrap());
    let found = monge_distance(a, b, 9, 1).unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn the_monge_distance_of_a_shift_is_three_times_its_square() {
    let golden = Golden::load("fid.safetensors");
    let a = set(&golden, "features_a");
    let shift: Vec<f32> = (0..64).map(|k| (k % 5) as f32 / 4.0).collect();
    let shifted: Vec<f32> = (0..a.count())
        .flat_map(|i| a.row(i).iter().zip(&shift).map(|(v, s)| v + s).collect::<Vec<_>>())
        .collect();
    let b = Features::new(&shifted, 64).unwrap();
    // Every sorted projection moves by u · shift; the mean of its square over the sphere is |shift|² / D.
    let expected = 3.0 * shift.iter().map(|s| f64::from(s * s)).sum::<f64>();
    let found = monge_distance(a, b, 4000, 2).unwrap();
    assert!((found / expected - 1.0).abs() < 0.07, "{found} {expected}");
    assert_eq!(monge_distance(a, a, 10, 1).unwrap(), 0.0);
    // Of sets that differ in size, what is common counts.
    let part = Features::new(&golden.values("features_b")[..100 * 64], 64).unwrap();
    assert!(monge_distance(a, part, 50, 1).unwrap() > 0.0);
}

#[test]
fn copies_lie_nearer_to_the_training_set_than_unseen_images_and_others_do_not() {
    let golden = Golden::load("fid.safetensors");
    let values = golden.values("features_a");
    let part = |from: usize, to: usize| Features::new(&values[from * 64..to * 64], 64).unwrap();
    let (training, held_out) = (part(0, 200), part(200, 300));
    let copied = memorisation(part(50, 120), held_out, training).unwrap();
    assert_eq!((copied.generated, copied.nearer), (0.0, 1.0));
    let honest = memorisation(part(300, 400), held_out, training).unwrap();
    assert!((honest.nearer - 0.5).abs() < 0.12, "{honest:?}");
    let same = memorisation(held_out, held_out, training).unwrap();
    assert_eq!((same.nearer, same.generated), (0.5, same.held_out));
}

#[test]
fn the_interval_of_a_mean_is_as_wide_as_the_central_limit_says() {
    let items: Vec<f64> = (0..400).map(|i| f64::from(i * 7919 % 401) / 401.0).collect();
    let mean = |of: &[usize]| of.iter().map(|i| items[*i]).sum::<f64>() / of.len() as f64;
    let found = bootstrap(items.len(), 2000, 5, mean).unwrap();
    assert_eq!(found, bootstrap(items.len(), 2000, 5, mean).unwrap());
    // Uniform numbers: deviation 1/√12, of the mean of 400 of them 1/√4800; ± 1.96 of that.
    let width = 2.0 * 1.96 / 4800f64.sqrt();
    assert!(((found.high - found.low) / width - 1.0).abs() < 0.1, "{found:?}");
    assert!(found.low < 0.5 && found.high > 0.5);
}

#[test]
fn sets_that_have_no_number_are_refused() {
    let values = [0.0f32; 12];
    assert!(matches!(Features::new(&values, 5), Err(FeatureError::Length { found: 12, dimensions: 5 })));
    assert!(matches!(Features::new(&values, 0), Err(FeatureError::Length { .. })));
    let mut broken = values;
    broken[7] = f32::NAN;
    assert!(matches!(Features::new(&broken, 4), Err(FeatureError::NotFinite { image: 1, feature: 3 })));
    let (three, two) = (Features::new(&values, 4).unwrap(), Features::new(&values, 6).unwrap());
    let one = Features::new(&values, 12).unwrap();
    assert!(matches!(Statistics::of(one), Err(FeatureError::TooFew { found: 1, needed: 2 })));
    assert!(matches!(mmd(three, two), Err(FeatureError::DimensionsDiffer { found: 4, other: 6 })));
    assert!(matches!(precision_recall(three, three, 3), Err(FeatureError::TooFew { found: 3, needed: 4 })));
    assert!(matches!(precision_recall(three, three, 0), Err(FeatureError::Option { .. })));
    assert!(matches!(kid(three, three, &KidOptions::default()), Err(FeatureError::TooFew { .. })));
    assert!(matches!(inception_score(three, 4, None), Err(FeatureError::TooFew { .. })));
    assert!(matches!(monge_distance(three, three, 0, 0), Err(FeatureError::Option { .. })));
    assert!(matches!(bootstrap(3, 39, 0, |_| 0.0), Err(FeatureError::Option { .. })));
    let wrong = |mean: Vec<f64>, covariance: Vec<f64>| {
        assert!(matches!(Statistics::new(mean, covariance), Err(FeatureError::Statistics { .. })));
    };
    wrong(vec![], vec![]);
    wrong(vec![0.0; 2], vec![1.0; 3]);
    wrong(vec![0.0; 2], vec![1.0, 0.5, -0.5, 1.0]);
    wrong(vec![f64::NAN], vec![1.0]);
    let (a, b) = (Statistics::of(three).unwrap(), Statistics::of(two).unwrap());
    assert!(matches!(frechet_distance(&a, &b), Err(FeatureError::DimensionsDiffer { .. })));
}
