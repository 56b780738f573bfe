//! Every step of the golden sampling traces, the golden eps standing in for the network.

use crate::common::{Golden, fixture, max_difference};
use serde_json::Value;
use sr3_engine::diffusion::{Objective, Sampler, SamplerError, Target, noise_from_x0};

const TOLERANCE: f32 = 3e-5;

fn levels(trace: &str) -> (Vec<f64>, bool) {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    let about = &json["sampling"]["traces"][trace];
    let list = &json["sampling"][about["levels"].as_str().unwrap()]["noise_level"];
    let levels = list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    (levels, about["x0_clamped"].as_bool().unwrap())
}

/// The part of a stacked tensor that belongs to one step.
fn at<'a>(golden: &'a Golden, name: &str, step: usize) -> &'a [f32] {
    let count = golden.shape(name)[1..].iter().product::<usize>();
    &golden.values(name)[step * count..][..count]
}

fn follow(trace: &str, sampler: Sampler) {
    let golden = Golden::load("diffusion.safetensors");
    let (levels, clamped) = levels(trace);
    let mut x = golden.values("sample.x_start").to_vec();
    let mut previous = vec![];
    for (s, step) in sampler.steps(&levels).unwrap().iter().enumerate() {
        assert_eq!(step.noise_level, levels[s]);
        let mut x0 = at(&golden, &format!("{trace}.eps"), s).to_vec();
        Objective::Noise.to_x0(step.noise_level, &x, &mut x0);
        if clamped {
            Target::Image.clamp(&[], &mut x0);
        }
        step.advance(&mut x, &x0, &previous, at(&golden, "sample.noise", s));
        previous = x0;
        let difference = max_difference(&x, at(&golden, &format!("{trace}.x"), s + 1));
        println!("{trace} step {s}: x {difference:.1e}");
        assert!(difference <= TOLERANCE, "{trace} after step {s}: {difference}");
    }
    assert_eq!(levels.len(), 8);
}

#[test]
fn ancestral_posterior_follows_the_reference() {
    follow("ancestral_posterior", Sampler::AncestralPosterior);
}

#[test]
fn ancestral_follows_the_paper() {
    follow("ancestral_paper", Sampler::Ancestral);
}

#[test]
fn ddim_follows_its_trace() {
    follow("ddim", Sampler::Ddim { eta: 0.0 });
}

#[test]
fn clamped_ddim_recomputes_the_noise() {
    follow("ddim_clamped", Sampler::Ddim { eta: 0.0 });
}

#[test]
fn dpmpp_2m_follows_its_trace() {
    follow("dpmpp_2m", Sampler::Dpmpp2m);
}

#[test]
fn clamped_dpmpp_2m_follows_its_trace() {
    follow("dpmpp_2m_clamped", Sampler::Dpmpp2m);
}

#[test]
fn ddim_with_eta_one_is_the_posterior() {
    let levels = [0.2, 0.5, 0.9];
    let ddim = Sampler::Ddim { eta: 1.0 }.steps(&levels).unwrap();
    let posterior = Sampler::AncestralPosterior.steps(&levels).unwrap();
    let input: Vec<f32> = (0..96).map(|i| (i as f32 * 0.37).sin()).collect();
    for (a, b) in ddim.iter().zip(&posterior) {
        let (mut x, mut y) = (input[..32].to_vec(), input[..32].to_vec());
        a.advance(&mut x, &input[32..], &[], &input[64..]);
        b.advance(&mut y, &input[32..], &[], &input[64..]);
        assert!(max_difference(&x, &y) < 1e-6);
    }
}

#[test]
fn the_shipped_model_s_steps_are_followed_from_its_own_v() {
    let golden = Golden::load("photo_4x_reference.safetensors");
    let target = Target::Residual { scale: 4.0 };
    for (trace, sampler) in [("ddim", Sampler::Ddim { eta: 0.0 }), ("dpmpp_2m", Sampler::Dpmpp2m)] {
        let levels: Vec<f64> =
            golden.values(&format!("{trace}.noise_levels")).iter().map(|&a| a.into()).collect();
        let up = golden.values("upsampled");
        let mut x = golden.values("x_start").to_vec();
        let mut previous = vec![];
        for (s, step) in sampler.steps(&levels[..levels.len() - 1]).unwrap().iter().enumerate() {
            let name = |what: &str| format!("{trace}.step{s:02}.{what}");
            let mut x0 = golden.values(&name("v")).to_vec();
            Objective::V.to_x0(step.noise_level, &x, &mut x0);
            target.clamp(up, &mut x0);
            step.advance(&mut x, &x0, &previous, &[]);
            let mut image = x0.clone();
            target.to_image(up, &mut image);
            previous = x0;
            let differences = [
                ("image", 6e-6, max_difference(&image, golden.values(&name("image")))),
                ("x_next", 2e-5, max_difference(&x, golden.values(&name("x_next")))),
            ];
            for (what, tolerance, difference) in differences {
                println!("{}: {difference:.1e}", name(what));
                assert!(difference <= tolerance, "{}: {difference}", name(what));
            }
        }
    }
}

#[test]
fn every_objective_gives_back_the_x0_it_was_made_from() {
    let x0: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin()).collect();
    let noise: Vec<f32> = (0..64).map(|i| (i as f32 * 1.3).cos() * 2.0).collect();
    for level in [0.02, 0.5, 0.999] {
        let mut x = vec![0.0; 64];
        sr3_engine::diffusion::q_sample(level, &x0, &noise, &mut x);
        for objective in [Objective::Noise, Objective::Image, Objective::V] {
            let mut prediction = vec![0.0; 64];
            objective.training_target(level, &x0, &noise, &mut prediction);
            objective.to_x0(level, &x, &mut prediction);
            assert!(max_difference(&prediction, &x0) < 3e-5, "{objective:?} at {level}");
        }
        noise_from_x0(level, &x0, &mut x);
        assert!(max_difference(&x, &noise) < 3e-5, "{level}");
    }
}

#[test]
fn clamping_a_residual_clamps_the_image() {
    let (up, target) = ([0.9, -0.5, 0.0], Target::Residual { scale: 4.0 });
    let mut x0 = [2.0, 1.0, -40.0];
    target.clamp(&up, &mut x0);
    target.to_image(&up, &mut x0);
    assert!(max_difference(&x0, &[1.0, -0.25, -1.0]) < 1e-6);
    target.from_image(&up, &mut x0);
    assert!(max_difference(&x0, &[0.4, 1.0, -4.0]) < 1e-6);
}

#[test]
fn levels_at_the_ends_divide_by_nothing() {
    for objective in [Objective::Noise, Objective::Image, Objective::V] {
        for level in [0.0, 1.0] {
            assert!(objective.x0_coefficients(level).iter().all(|c| c.is_finite()), "{objective:?}");
        }
    }
    for sampler in
        [Sampler::Ancestral, Sampler::AncestralPosterior, Sampler::Ddim { eta: 0.5 }, Sampler::Dpmpp2m]
    {
        for step in sampler.steps(&[1e-6, 2e-6, 0.5, 1.0 - 1e-12]).unwrap() {
            let mut x = [1.0];
            step.advance(&mut x, &[0.5], &[0.5], &[1.0]);
            assert!(x[0].is_finite(), "{step:?}");
        }
    }
}

#[test]
fn lists_that_cannot_be_sampled_are_refused() {
    let steps = |levels: &[f64]| Sampler::Dpmpp2m.steps(levels).unwrap_err();
    assert_eq!(steps(&[]), SamplerError::NoLevels);
    assert!(matches!(steps(&[0.0]), SamplerError::Level { index: 0, .. }));
    assert!(matches!(steps(&[0.5, 1.0]), SamplerError::Level { index: 1, .. }));
    assert!(matches!(steps(&[f64::NAN]), SamplerError::Level { index: 0, .. }));
    assert!(matches!(steps(&[0.5, 0.5]), SamplerError::NotRising { index: 1, .. }));
    assert_eq!(Sampler::Ddim { eta: 1.5 }.steps(&[0.5]).unwrap_err(), SamplerError::Eta { eta: 1.5 });
}

#[test]
fn names_are_those_of_checkpoints() {
    let sampler = |text| serde_json::from_str::<Sampler>(text).unwrap();
    assert_eq!(sampler(r#"{"sampler": "dpmpp_2m"}"#), Sampler::Dpmpp2m);
    assert_eq!(sampler(r#"{"sampler": "ddim"}"#), Sampler::Ddim { eta: 0.0 });
    assert_eq!(sampler(r#"{"sampler": "ddim", "eta": 0.5}"#), Sampler::Ddim { eta: 0.5 });
    assert_eq!(sampler(r#"{"sampler": "ancestral"}"#), Sampler::Ancestral);
    assert_eq!(sampler(r#"{"sampler": "ancestral_posterior"}"#), Sampler::AncestralPosterior);
    let target = |text| serde_json::from_str::<Target>(text).unwrap();
    assert_eq!(target(r#"{"target": "image"}"#), Target::Image);
    assert_eq!(target(r#"{"target": "residual", "residual_scale": 4.0}"#), Target::Residual { scale: 4.0 });
    let objective = |text| serde_json::from_str::<Objective>(text).unwrap();
    assert_eq!(
        [objective("\"noise\""), objective("\"image\""), objective("\"v\"")],
        [Objective::Noise, Objective::Image, Objective::V]
    );
}
