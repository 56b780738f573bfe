//! Gradients of grains: a grain's bits depend on the grain alone, and the batch's gradient is PyTorch's.
//!
//! A binary of its own: another one watches the peak of its process's memory.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

#[path = "../all/common/mod.rs"]
mod common;

use std::sync::Arc;

use proptest::prelude::*;
use sr3_engine::diffusion::{Loss, NoiseSource, Objective, Target};
use sr3_engine::model::checkpoint::NoiseSchedule;
use sr3_engine::model::{Conditioning, Graph, Heads, Layout, UNetConfig, initial_weights};
use sr3_engine::ops::{Isa, Precision};
use sr3_engine::train::{
    Adam, AdamConfig, Draws, Example, Examples, Noise, Square, Task, Trainer, TrainingLevels, norm,
};

use common::{Golden, golden_network, max_difference, max_magnitude};

fn task(loss: Loss) -> Task {
    let schedule = NoiseSchedule::Linear { start: 1e-6, end: 0.01, timesteps: 2000 };
    let levels = TrainingLevels::new(&schedule, Default::default()).unwrap();
    Task {
        low_res: true,
        objective: Some(Objective::Noise),
        target: Target::Image,
        loss,
        noise: Noise::Levels(levels),
        classes: 0,
        label_dropout: 0.0,
        learned_variance: false,
    }
}

fn config(layout: Layout, inner_channel: usize, dropout: f64) -> UNetConfig {
    UNetConfig {
        layout,
        in_channel: 6,
        out_channel: 3,
        inner_channel,
        norm_groups: 4,
        channel_mults: vec![1, 2],
        attn_res: vec![],
        res_blocks: 1,
        dropout,
        use_affine_level: false,
        image_size: None,
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    }
}

fn examples(count: usize, side: usize, step: u64) -> Vec<Example> {
    let square = |side: usize, seed: usize| Square {
        width: side,
        height: side,
        rgb: (0..side * side * 3).map(|i| ((i * 31 + seed * 97) % 251) as u8).collect(),
    };
    let one = |place| Example {
        high: square(side, place),
        low: Some(square(side / 4, place + 1000)),
        label: place as u32 % 3,
        step,
        place: place as u32,
    };
    (0..count).map(one).collect()
}

/// What a network with this configuration learns.
fn task_of(config: &UNetConfig) -> Task {
    if config.layout.conditioning() == Conditioning::NoiseLevel {
        return task(Loss::L1);
    }
    let process = NoiseSchedule::Cosine { timesteps: 100, s: 0.008 }.process().unwrap();
    Task {
        low_res: false,
        noise: Noise::Timesteps(Arc::new(process)),
        classes: config.classes,
        label_dropout: 0.2,
        learned_variance: true,
        ..task(Loss::L2)
    }
}

/// One that makes pictures of noise, by class.
fn base(dropout: f64) -> UNetConfig {
    UNetConfig {
        in_channel: 3,
        out_channel: 6,
        use_affine_level: true,
        heads: Heads::Count(2),
        classes: 4,
        learned_variance: true,
        ..config(Layout::Iddpm, 8, dropout)
    }
}

fn trainer(config: &UNetConfig, draws: &Draws, isa: Isa) -> Trainer {
    let mut weights = initial_weights(&Graph::build(config).unwrap(), 3);
    // Zeros would hide what comes before them.
    for (_, values) in weights.values_mut() {
        values.iter_mut().enumerate().for_each(|(i, v)| *v += (i % 17) as f32 * 0.003 - 0.024);
    }
    Trainer::new(config, &weights, Precision::F32, &task_of(config), draws.dropout(), isa).unwrap()
}

fn calls(config: &UNetConfig, grain: &[Example], microbatch: usize, draws: &Draws) -> Vec<Examples> {
    grain.chunks(microbatch).map(|call| task_of(config).examples(call, draws)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_grain_has_the_same_bits_alone_and_in_company_on_any_threads_and_instructions(
        layout in prop_oneof![Just(Layout::Janspiry), Just(Layout::Paper), Just(Layout::Iddpm)],
        inner in prop_oneof![Just(8usize), Just(20)],
        side in prop_oneof![Just(8usize), Just(16), Just(24)],
        grain_size in 1usize..4,
        microbatch in 1usize..4,
        dropout in prop_oneof![Just(0.0), Just(0.3)],
    ) {
        let config = if layout == Layout::Iddpm { base(dropout) } else { config(layout, inner, dropout) };
        let draws = Draws::new(5);
        let all = examples(3 * grain_size, side, 7);
        let grains: Vec<_> = all.chunks(grain_size).map(|g| calls(&config, g, microbatch, &draws)).collect();
        let gradient = |trainer: &mut Trainer, grain: &[Examples]| {
            let mut to = vec![0.0; trainer.parameters().len()];
            let losses = trainer.grain(grain, all.len(), &mut to).unwrap();
            (losses, to)
        };
        let mut together = trainer(&config, &draws, Isa::detect());
        let expected: Vec<_> = grains.iter().map(|grain| gradient(&mut together, grain)).collect();
        for isa in Isa::available() {
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut alone = trainer(&config, &draws, isa);
                let found = pool.install(|| gradient(&mut alone, &grains[1]));
                prop_assert!(found == expected[1], "{isa}, {threads} threads");
            }
        }
        prop_assert!(expected[0].1 != expected[1].1);
    }
}

#[test]
fn the_sum_over_grains_is_the_gradient_of_the_batch_and_dropout_keeps_its_mean() {
    let draws = Draws::new(1);
    let all = examples(8, 16, 0);
    let sum = |config: &UNetConfig, size: usize| {
        let mut trainer = trainer(config, &draws, Isa::detect());
        let mut to = vec![0.0; trainer.parameters().len()];
        for grain in all.chunks(size) {
            trainer.grain(&calls(config, grain, size, &draws), all.len(), &mut to).unwrap();
        }
        to
    };
    let whole = config(Layout::Janspiry, 16, 0.0);
    let expected = sum(&whole, 8);
    for size in [1, 2, 4] {
        assert!(max_difference(&sum(&whole, size), &expected) < 2e-6 * max_magnitude(&expected).max(1.0));
    }
    let dropped = sum(&config(Layout::Janspiry, 16, 0.2), 8);
    let length = |g: &[f32]| norm(Isa::detect(), g);
    assert!(dropped != expected);
    assert!((length(&dropped) / length(&expected) - 1.0).abs() < 0.5);
}

#[test]
fn the_gradient_of_the_hybrid_loss_is_its_slope() {
    let (config, draws) = (base(0.0), Draws::new(2));
    let all = examples(4, 16, 3);
    let call = calls(&config, &all, 4, &draws);
    let mut trainer = trainer(&config, &draws, Isa::detect());
    let mut gradient = vec![0.0; trainer.parameters().len()];
    trainer.grain(&call, all.len(), &mut gradient).unwrap();
    // The bound's gradient stops at the predicted noise: the slope is that of the loss along the last layer's part that says
    // the variance, which nothing else reads.
    let (weight, bias) = (config.inner_channel * 6 * 9, 6);
    let last = gradient.len() - weight - bias..gradient.len();
    let of_bias = gradient.len() - 3..gradient.len();
    assert!(gradient[last].iter().any(|value| *value != 0.0));
    let mut loss = |shift: f32| {
        let range = of_bias.clone();
        trainer.parameters_mut()[range].iter_mut().for_each(|bias| *bias += shift);
        let mut unasked = vec![0.0; gradient.len()];
        let losses = trainer.grain(&call, all.len(), &mut unasked).unwrap();
        trainer.parameters_mut()[of_bias.clone()].iter_mut().for_each(|bias| *bias -= shift);
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
    let expected: f64 = gradient[gradient.len() - 3..].iter().map(|g| f64::from(*g)).sum();
    assert!((slope / expected - 1.0).abs() < 0.02, "{slope} and {expected}");
}

#[test]
fn labels_are_kept_from_the_network_in_their_share_and_timesteps_are_even() {
    let (config, draws) = (base(0.0), Draws::new(9));
    let task = task_of(&config);
    let (mut unlabelled, mut early) = (0, 0);
    for step in 0..100 {
        let call = task.examples(&examples(8, 8, step), &draws);
        unlabelled += call.labels.iter().filter(|label| **label == 3).count();
        early += call.told.iter().filter(|timestep| **timestep < 25.0).count();
        assert!(call.told.iter().all(|t| t.fract() == 0.0 && (0.0..100.0).contains(t)));
        assert_eq!(call.input.len(), 8 * 8 * 8 * 3, "no low resolution");
        for (place, label) in call.labels.iter().enumerate() {
            assert!(*label == 3 || *label == place as u32 % 3);
        }
    }
    // Binomial, of 800: deviations of 11 and 12.
    assert!((120..200).contains(&unlabelled), "{unlabelled}");
    assert!((155..245).contains(&early), "{early}");
}

#[test]
fn one_step_is_pytorch_s() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let (config, weights) = golden_network(&golden);
    let step = Golden::load("diffusion.safetensors");
    for (loss, name) in [(Loss::L1, "l1"), (Loss::L2, "l2")] {
        let &[n, _, height, width] = step.shape("loss.x_noisy") else { panic!() };
        let (low, noisy) = (step.channels_last("loss.low_res_upsampled"), step.channels_last("loss.x_noisy"));
        let both = low.chunks_exact(3).zip(noisy.chunks_exact(3));
        let call = Examples {
            shape: [n, height, width],
            input: both.flat_map(|(low, x)| [low, x].concat()).collect(),
            levels: step.values("loss.noise_level").to_vec(),
            told: step.values("loss.noise_level").to_vec(),
            labels: vec![],
            images: vec![],
            target: step.channels_last("loss.noise"),
            places: (0..n as u32).collect(),
            step: 0,
        };
        let dropout = NoiseSource::new(0, "dropout");
        let (task, isa) = (task(loss), Isa::detect());
        let mut trainer = Trainer::new(&config, &weights, Precision::F32, &task, dropout, isa).unwrap();
        let mut gradient = vec![0.0; trainer.parameters().len()];
        let losses = trainer.grain(&[call], n, &mut gradient).unwrap();
        let json = std::fs::read(common::fixture("diffusion.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let expected = json["loss"][name]["mean"].as_f64().unwrap();
        assert!((losses.iter().sum::<f64>() / n as f64 - expected).abs() < 2e-6, "{name}");

        let (mut at, mut compared) = (0, 0);
        let before = trainer.parameters().to_vec();
        let mut adam = Adam::new(AdamConfig::default(), &before, isa);
        let length = norm(isa, &gradient);
        adam.step(trainer.parameters_mut(), &gradient, length, 1e-3, n as u64);
        let graph = trainer.graph().clone();
        for param in &graph.params {
            let count: usize = param.shape.iter().product();
            let ours = &gradient[at..at + count];
            let key = format!("loss.{name}_grad.{}", param.name);
            if step.names().any(|name| name == key) {
                let theirs = step.values(&key);
                assert!(max_difference(ours, theirs) < 5e-5 * max_magnitude(theirs), "{key}");
                // A first step of Adam is the learning rate with the gradient's sign.
                for ((after, before), g) in
                    trainer.parameters()[at..at + count].iter().zip(&before[at..at + count]).zip(theirs)
                {
                    let expected = 1e-3 * g / (g.abs() + 1e-8);
                    assert!(g.abs() < 1e-5 || (before - after - expected).abs() < 2e-5);
                }
                compared += 1;
            }
            at += count;
        }
        assert!(compared >= 3, "{compared} gradients compared");
    }
}
