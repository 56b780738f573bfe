//! q_sample, the loss and the draw of noise levels against the fixtures.

use crate::common::{Golden, fixture, max_difference};
use serde_json::Value;
use sr3_engine::diffusion::{
    Betas, LevelDraw, Loss, NoiseSchedule, NoiseScheduleConfig, NoiseSource, draw_noise_level, q_sample,
};

#[test]
fn q_sample_matches_the_reference() {
    let golden = Golden::load("diffusion.safetensors");
    for (levels, x0, noise, x_t) in [
        ("q_sample.noise_level", "q_sample.x_start", "q_sample.noise", "q_sample.x_t"),
        ("loss.noise_level", "loss.high_res", "loss.noise", "loss.x_noisy"),
    ] {
        let (x0, noise, expected) = (golden.values(x0), golden.values(noise), golden.values(x_t));
        let count = x0.len() / 2;
        let mut ours = vec![0.0; x0.len()];
        for (i, &level) in golden.values(levels).iter().enumerate() {
            let item = i * count..(i + 1) * count;
            q_sample(level.into(), &x0[item.clone()], &noise[item.clone()], &mut ours[item]);
        }
        assert!(max_difference(&ours, expected) <= 1e-6, "{x_t}");
    }
}

#[test]
fn losses_match_the_reference() {
    let golden = Golden::load("diffusion.safetensors");
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("diffusion.json")).unwrap()).unwrap();
    for (loss, name) in [(Loss::L1, "l1"), (Loss::L2, "l2")] {
        let ours = loss.mean(golden.values("loss.prediction"), golden.values("loss.noise"));
        assert!((ours - json["loss"][name]["mean"].as_f64().unwrap()).abs() <= 2e-6, "{name}: {ours}");
    }
}

#[test]
fn gradients_are_the_loss_s_slope() {
    let golden = Golden::load("diffusion.safetensors");
    let (prediction, target) = (golden.values("loss.prediction"), golden.values("loss.noise"));
    let mut gradient = vec![0.0; prediction.len()];
    for loss in [Loss::L1, Loss::L2] {
        let mean = loss.mean_and_gradient(prediction, target, &mut gradient);
        assert_eq!(mean, loss.mean(prediction, target));
        for i in (0..prediction.len()).step_by(97) {
            let mut moved = prediction.to_vec();
            let step = 2e-5;
            moved[i] += step;
            let slope = (loss.mean(&moved, target) - mean) / f64::from(moved[i] - prediction[i]);
            let expected = f64::from(gradient[i]);
            // The parabola's own curvature adds step/count to a finite difference.
            assert!(
                (slope - expected).abs() <= 1e-6 * expected.abs() + 2e-8,
                "{loss:?} {i}: {slope} {expected}"
            );
        }
    }
    let mut none = [1.0];
    Loss::L1.mean_and_gradient(&[0.5], &[0.5], &mut none);
    assert_eq!(none, [0.0]);
    assert_eq!(Loss::L2.mean(&[], &[]), 0.0);
}

#[test]
fn noise_levels_are_piecewise_uniform_and_each_sample_has_its_own() {
    let config = NoiseScheduleConfig { betas: Betas::Linear { start: 1e-4, end: 0.5 }, timesteps: 8 };
    let schedule = NoiseSchedule::new(&config).unwrap();
    let source = NoiseSource::new(7, "training");
    for draw in [LevelDraw::Gamma, LevelDraw::NoiseLevel] {
        let mut hits = [0_u32; 8];
        let mut place = [0.0; 8];
        let count = 40_000;
        for index in 0..count {
            let level = draw_noise_level(&schedule, draw, &source, index, 3);
            let t = (1..=8).find(|&t| level >= schedule.noise_level(t)).unwrap();
            let of = |level: f64| if draw == LevelDraw::Gamma { level * level } else { level };
            let (low, high) = (of(schedule.noise_level(t)), of(schedule.noise_level(t - 1)));
            hits[t - 1] += 1;
            place[t - 1] += (of(level) - low) / (high - low);
        }
        for (hits, place) in hits.into_iter().zip(place) {
            assert!((f64::from(hits) - 5000.0).abs() < 5.0 * 5000_f64.sqrt(), "{hits}");
            assert!(
                (place / f64::from(hits) - 0.5).abs() < 5.0 * (1.0 / 12.0 / f64::from(hits)).sqrt(),
                "{place}"
            );
        }
        let first = |index| draw_noise_level(&schedule, draw, &source, index, 3);
        assert_eq!(first(5), first(5));
        assert_ne!(first(5), first(6));
    }
}
