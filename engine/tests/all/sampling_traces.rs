//! Networks and samplers together, running free: golden traces, the training loss, and the shipped model's reference.

use crate::common::{Golden, fixture, golden_network, max_difference, max_magnitude, to_channels_last};
use serde_json::Value;
use sr3_engine::diffusion::{Loss, Objective, Sampler, Target};
use sr3_engine::model::bundled::Bundled;
use sr3_engine::model::{CpuUNet, Denoiser, Graph};
use sr3_engine::ops::Isa;

/// One step of a (steps, N, C, H, W) tensor, channels last.
fn at(golden: &Golden, name: &str, step: usize) -> Vec<f32> {
    let &[_, n, c, h, w] = golden.shape(name) else { panic!("{name}") };
    let count = n * c * h * w;
    to_channels_last(&golden.values(name)[step * count..][..count], [n, c, h, w])
}

/// Condition and noisy image side by side: (N, H, W, 6).
fn join(condition: &[f32], x: &[f32]) -> Vec<f32> {
    condition.chunks_exact(3).zip(x.chunks_exact(3)).flat_map(|(c, x)| [c, x].concat()).collect()
}

fn predict(unet: &mut CpuUNet, shape: [usize; 3], condition: &[f32], x: &[f32], level: f64) -> Vec<f32> {
    let mut prediction = vec![0.0; x.len()];
    let levels = vec![level as f32; shape[0]];
    unet.predict(shape, &join(condition, x), &levels, &mut prediction).unwrap();
    prediction
}

#[test]
fn every_step_of_every_golden_trace_is_met_with_the_real_network() {
    let golden = Golden::load("diffusion.safetensors");
    let (config, weights) = golden_network(&Golden::load("unet_ddpm_tiny.safetensors"));
    let mut unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
    let about: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    let condition = golden.channels_last("sample.condition");
    let traces = [
        ("ancestral_posterior", Sampler::AncestralPosterior),
        ("ancestral_paper", Sampler::Ancestral),
        ("ddim", Sampler::Ddim { eta: 0.0 }),
        ("ddim_clamped", Sampler::Ddim { eta: 0.0 }),
        ("dpmpp_2m", Sampler::Dpmpp2m),
        ("dpmpp_2m_clamped", Sampler::Dpmpp2m),
    ];
    for (trace, sampler) in traces {
        let facts = &about["sampling"]["traces"][trace];
        let levels = &about["sampling"][facts["levels"].as_str().unwrap()]["noise_level"];
        let levels: Vec<f64> = levels.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let (mut x, mut previous) = (golden.channels_last("sample.x_start"), Vec::new());
        let mut worst = 0.0f32;
        for (s, step) in sampler.steps(&levels).unwrap().iter().enumerate() {
            let mut x0 = predict(&mut unet, [2, 16, 16], &condition, &x, step.noise_level);
            Objective::Noise.to_x0(step.noise_level, &x, &mut x0);
            if facts["x0_clamped"].as_bool().unwrap() {
                Target::Image.clamp(&[], &mut x0);
            }
            step.advance(&mut x, &x0, &previous, &at(&golden, "sample.noise", s));
            previous = x0;
            worst = worst.max(max_difference(&x, &at(&golden, &format!("{trace}.x"), s + 1)));
            assert!(worst <= 3e-5, "{trace} after step {s}: {worst}");
        }
        println!("{trace}: {worst:.1e}");
    }
}

#[test]
fn the_training_loss_and_its_gradients_are_golden() {
    let golden = Golden::load("diffusion.safetensors");
    let (config, weights) = golden_network(&Golden::load("unet_ddpm_tiny.safetensors"));
    let graph = Graph::build(&config).unwrap();
    let mut unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
    let about: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    let input = join(&golden.channels_last("loss.low_res_upsampled"), &golden.channels_last("loss.x_noisy"));
    let noise = golden.channels_last("loss.noise");
    for (name, loss) in [("l1", Loss::L1), ("l2", Loss::L2)] {
        let mut mean = f64::NAN;
        let found = unet
            .gradients([2, 16, 16], &input, golden.values("loss.noise_level"), |prediction, out| {
                mean = loss.mean_and_gradient(prediction, &noise, out);
            })
            .unwrap();
        let expected = about["loss"][name]["mean"].as_f64().unwrap();
        assert!((mean - expected).abs() < 2e-6, "{name}: {mean} where {expected} belongs");
        let mut compared = 0;
        for (param, gradient) in graph.params.iter().zip(&found.params) {
            let key = format!("loss.{name}_grad.{}", param.name);
            if golden.names().any(|n| n == key) {
                let error =
                    max_difference(gradient, golden.values(&key)) / max_magnitude(golden.values(&key));
                assert!(error < 5e-5, "{key}: {error} of the largest value off");
                compared += 1;
            }
        }
        assert_eq!(compared, 4);
    }
}

#[test]
fn the_shipped_model_runs_as_its_reference_did_step_by_step() {
    let golden = Golden::load("photo_4x_reference.safetensors");
    let checkpoint = Bundled::find("photo-4x").unwrap().checkpoint().unwrap();
    let target = checkpoint.config.x0_target();
    let objective = checkpoint.config.objective;
    let up = golden.channels_last("upsampled");
    for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Portable) {
        let mut unet = CpuUNet::new(&checkpoint.config.model, &checkpoint.weights, isa).unwrap();
        for (run, sampler) in [("ddim", Sampler::Ddim { eta: 0.0 }), ("dpmpp_2m", Sampler::Dpmpp2m)] {
            let levels: Vec<f64> =
                golden.values(&format!("{run}.noise_levels")).iter().map(|v| f64::from(*v)).collect();
            let (mut x, mut previous, mut image) = (golden.channels_last("x_start"), vec![], vec![]);
            for (s, step) in sampler.steps(&levels[..levels.len() - 1]).unwrap().iter().enumerate() {
                let near = |what: &str, found: &[f32], tolerance: f32| {
                    let expected = golden.channels_last(&format!("{run}.step{s:02}.{what}"));
                    let error = max_difference(found, &expected);
                    assert!(error <= tolerance, "{isa}, {run}, step {s}: {what} is off by {error}");
                };
                let mut x0 = predict(&mut unet, [1, 96, 96], &up, &x, step.noise_level);
                near("v", &x0, 5e-5);
                objective.to_x0(step.noise_level, &x, &mut x0);
                target.clamp(&up, &mut x0);
                image.clone_from(&x0);
                target.to_image(&up, &mut image);
                near("image", &image, 6e-6);
                step.advance(&mut x, &x0, &previous, &[]);
                previous = x0;
                near("x_next", &x, 2e-5);
            }
            let expected = golden.channels_last(&format!("{run}.image_u8"));
            let bytes = image.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0));
            let differ: Vec<f32> =
                bytes.zip(&expected).map(|(a, b)| (a - b).abs()).filter(|d| *d > 0.0).collect();
            println!("{isa}, {run}: {} of {} bytes differ", differ.len(), expected.len());
            assert!(differ.len() <= 5 && differ.iter().all(|d| *d <= 1.0), "{isa}, {run}: {differ:?}");
        }
    }
}
