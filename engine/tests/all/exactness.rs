//! One result wherever it is computed: pinned to the bit, and near what exact arithmetic gives.

use std::ops::ControlFlow;

use sha2::{Digest, Sha256};
use sr3_engine::model::bundled::Bundled;
use sr3_engine::model::{CpuUNet, Denoiser};
use sr3_engine::ops::{Isa, Precision};
use sr3_engine::upscaler::{LowRes, Recipe, RecipeRequest, Upscaler};

/// A small picture of whole numbers, the same everywhere: 8×6, in [-1, 1].
fn low_res() -> Vec<f32> {
    (0..8 * 6 * 3).map(|i: u32| (i * i * 7 + i * 13) as f32 % 251.0 / 125.0 - 1.0).collect()
}

fn recipe(preset: Option<&str>, sampler: Option<&str>, steps: Option<usize>) -> Recipe {
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    let request = RecipeRequest {
        preset,
        sampler,
        steps,
        tile: None,
        batch: None,
        class: None,
        seed: 7,
        projection: true,
        precision: Precision::F32,
    };
    Recipe::new(&checkpoint.config, &request).unwrap()
}

fn upscale(network: impl Denoiser, recipe: Recipe) -> Vec<f32> {
    let rgb = low_res();
    let input = LowRes { width: 8, height: 6, rgb: &rgb, key: "pinned.png", lossy: false };
    let mut upscaler = Upscaler::new(network, recipe).unwrap();
    let mut results = upscaler.upscale(&[input], &mut |_| ControlFlow::Continue(())).unwrap();
    results.remove(0).rgb
}

fn on_cpu(isa: Isa, recipe: Recipe) -> Vec<f32> {
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    upscale(CpuUNet::new(&checkpoint.config.model, &checkpoint.weights, isa).unwrap(), recipe)
}

/// The whole path with the shipped model: noise, 4 evaluations, sampler, projection. If this digest changes, results of
/// earlier versions can no longer be reproduced: say so in CHANGELOG.md.
const PINNED: &str = "ab8fd315181eb5ebff927d6b38e1e0d52701a3e1816313becc9590dbc274dde4";

#[test]
fn a_whole_upscale_has_the_pinned_bits_on_every_instruction_set_and_number_of_threads() {
    for isa in Isa::available() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let rgb = pool.install(|| on_cpu(isa, recipe(Some("fast"), None, None)));
            let bytes: Vec<u8> = rgb.iter().flat_map(|v| v.to_le_bytes()).collect();
            let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(digest, PINNED, "{isa} on {threads} threads");
        }
    }
}

#[test]
#[cfg(feature = "candle")]
fn a_hundred_ancestral_steps_stay_above_90_db_of_the_network_in_f64() {
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    let exact = sr3_engine::model::CandleUNet::with_dtype(
        &checkpoint.config.model,
        &checkpoint.weights,
        &candle_core::Device::Cpu,
        candle_core::DType::F64,
    )
    .unwrap();
    let recipe = recipe(None, Some("ancestral"), Some(100));
    let expected = upscale(exact, recipe.clone());
    let found = on_cpu(Isa::detect(), recipe);
    let squares = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2));
    let psnr = 10.0 * (4.0 * found.len() as f64 / squares.sum::<f64>()).log10();
    println!("PSNR against the network in f64: {psnr:.1} dB");
    assert!(psnr > 90.0, "{psnr} dB");
}
