//! From a file of guided-diffusion to an enlarged picture.

use std::ops::ControlFlow;

use crate::common::adm::Tiny;
use crate::common::{fixture, max_difference};
use sr3_engine::model::CpuUNet;
use sr3_engine::model::bundled::Bundled;
use sr3_engine::model::checkpoint::Checkpoint;
use sr3_engine::model::import::{ConvertOptions, convert};
use sr3_engine::ops::Isa;
use sr3_engine::ops::resize::{Filter, resize};
use sr3_engine::upscaler::{LowRes, Recipe, RecipeError, RecipeRequest, Upscaler};

const HEIGHT: usize = 6;
const WIDTH: usize = 9;

fn checkpoint() -> Checkpoint {
    let bytes = std::fs::read(fixture("adm/adm_sr_tiny.pt")).unwrap();
    let adm = Some(Tiny::load("adm_sr_tiny").flags);
    convert(&bytes, &ConvertOptions { adm, ..ConvertOptions::default() }).unwrap()
}

fn picture() -> Vec<f32> {
    (0..HEIGHT * WIDTH * 3).map(|i| 0.6 * ((i / 3) as f32 * 0.41 + (i % 3) as f32).sin()).collect()
}

fn enlarge(request: RecipeRequest<'_>) -> Vec<f32> {
    let checkpoint = checkpoint();
    let recipe = Recipe::new(&checkpoint.config, &request).unwrap();
    let network = CpuUNet::new(&checkpoint.config.model, &checkpoint.weights, Isa::detect()).unwrap();
    let rgb = picture();
    let low = LowRes { width: WIDTH, height: HEIGHT, rgb: &rgb, key: "hills.png", lossy: false };
    let results = Upscaler::new(network, recipe).unwrap().upscale(&[low], &mut |_| ControlFlow::Continue(()));
    results.unwrap().remove(0).rgb
}

#[test]
fn an_upsampler_s_result_averages_to_its_input_and_shows_its_class() {
    let request = |projection, class| RecipeRequest {
        preset: Some("fine"),
        class: Some(class),
        steps: Some(12),
        projection,
        seed: 5,
        ..RecipeRequest::default()
    };
    let made = enlarge(request(true, 3));
    let low = resize(&made, [4 * HEIGHT, 4 * WIDTH, 3], [HEIGHT, WIDTH], Filter::Area);
    let squares = low.iter().zip(picture()).map(|(found, given)| (found - given).powi(2)).sum::<f32>();
    let free = enlarge(request(false, 3));
    let low = resize(&free, [4 * HEIGHT, 4 * WIDTH, 3], [HEIGHT, WIDTH], Filter::Area);
    let without = low.iter().zip(picture()).map(|(found, given)| (found - given).powi(2)).sum::<f32>();
    println!("{squares} projected, {without} free");
    assert!(squares < 0.05 * without, "{squares} {without}");
    assert!(max_difference(&free, &enlarge(request(false, 4))) > 1e-3, "all classes are one");
}

#[test]
fn tiles_at_once_change_no_bit() {
    let request = |batch| RecipeRequest {
        preset: Some("fine"),
        steps: Some(4),
        tile: Some(16),
        batch: Some(batch),
        class: Some(0),
        ..RecipeRequest::default()
    };
    assert!(enlarge(request(1)) == enlarge(request(5)));
}

#[test]
fn a_class_is_asked_for_where_there_are_some_and_only_there() {
    let config = checkpoint().config;
    for class in [None, Some(10)] {
        let refused = Recipe::new(&config, &RecipeRequest { class, ..RecipeRequest::default() }).unwrap_err();
        assert!(matches!(refused, RecipeError::Class { last: 9 }), "{refused}");
    }
    let bundled = Bundled::find("photo-4x").unwrap().config().unwrap();
    let request = RecipeRequest { class: Some(0), ..RecipeRequest::default() };
    let refused = Recipe::new(&bundled, &request).unwrap_err();
    assert!(matches!(refused, RecipeError::NoClasses), "{refused}");
}

#[test]
fn a_network_whose_variance_is_fixed_has_no_sampler_of_a_learned_one() {
    let bundled = Bundled::find("photo-4x").unwrap().config().unwrap();
    let request = RecipeRequest { sampler: Some("ancestral_learned"), ..RecipeRequest::default() };
    let refused = Recipe::new(&bundled, &request).unwrap_err();
    assert!(
        matches!(refused, RecipeError::Sampler { ref known, .. } if !known.contains("learned")),
        "{refused}"
    );
    Recipe::new(&checkpoint().config, &RecipeRequest { class: Some(0), ..request }).unwrap();
}
