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
use sr3_engine::upscaler::{LowRes, Recipe, RecipeError, RecipeRequest, UpscaleError, Upscaler};

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

fn enlarge(request: RecipeRequest<'_>, class: Option<u32>) -> Result<Vec<f32>, UpscaleError> {
    let checkpoint = checkpoint();
    let recipe = Recipe::new(&checkpoint.config, &request).unwrap();
    let network = CpuUNet::new(&checkpoint.config.model, &checkpoint.weights, Isa::detect()).unwrap();
    let rgb = picture();
    let low = LowRes { width: WIDTH, height: HEIGHT, rgb: &rgb, key: "hills.png", lossy: false, class };
    let mut results = Upscaler::new(network, recipe)?.upscale(&[low], &mut |_| ControlFlow::Continue(()))?;
    Ok(results.remove(0).rgb)
}

#[test]
fn an_upsampler_s_result_averages_to_its_input_and_shows_its_class() {
    let request = |projection| RecipeRequest {
        preset: Some("fine"),
        steps: Some(12),
        projection,
        seed: 5,
        ..RecipeRequest::default()
    };
    let made = enlarge(request(true), Some(3)).unwrap();
    let low = resize(&made, [4 * HEIGHT, 4 * WIDTH, 3], [HEIGHT, WIDTH], Filter::Area);
    let squares = low.iter().zip(picture()).map(|(found, given)| (found - given).powi(2)).sum::<f32>();
    let free = enlarge(request(false), Some(3)).unwrap();
    let low = resize(&free, [4 * HEIGHT, 4 * WIDTH, 3], [HEIGHT, WIDTH], Filter::Area);
    let without = low.iter().zip(picture()).map(|(found, given)| (found - given).powi(2)).sum::<f32>();
    println!("{squares} projected, {without} free");
    assert!(squares < 0.05 * without, "{squares} {without}");
    assert!(max_difference(&free, &enlarge(request(false), Some(4)).unwrap()) > 1e-3, "all classes are one");
}

#[test]
fn tiles_at_once_change_no_bit() {
    let request = |batch| RecipeRequest {
        preset: Some("fine"),
        steps: Some(4),
        tile: Some(16),
        batch: Some(batch),
        ..RecipeRequest::default()
    };
    assert!(enlarge(request(1), Some(0)).unwrap() == enlarge(request(5), Some(0)).unwrap());
}

#[test]
fn a_picture_without_its_class_is_refused() {
    for class in [None, Some(10)] {
        let refused = enlarge(RecipeRequest::default(), class).unwrap_err();
        assert!(matches!(refused, UpscaleError::Class { classes: 10, .. }), "{refused}");
    }
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
    Recipe::new(&checkpoint().config, &request).unwrap();
}
