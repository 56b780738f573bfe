//! The CPU plan against golden numbers made with PyTorch in f64, on every instruction set of the machine.

use crate::common::{Golden, golden_network, max_difference, max_magnitude};
use sr3_engine::model::{CpuUNet, Denoiser, Graph, Packed};
use sr3_engine::ops::{Isa, Precision};

fn threads(count: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap()
}

fn agrees_with_pytorch(name: &str) {
    let golden = Golden::load(name);
    let (config, weights) = golden_network(&golden);
    let graph = Graph::build(&config).unwrap();
    let &[n, _, height, width] = golden.shape("x") else { panic!() };
    let (x, levels) = (golden.channels_last("x"), golden.values("noise_level"));
    let (expected, probe) = (golden.channels_last("output"), golden.channels_last("probe"));
    let mut first = None;
    for isa in Isa::available() {
        // Without a fused multiply-add in hardware a network takes seconds: the smallest one stands for all.
        if isa == Isa::Portable && !name.contains("tiny") {
            continue;
        }
        for threads in [1, 2].map(threads) {
            let mut unet = CpuUNet::new(&config, &weights, isa).unwrap();
            let mut prediction = vec![0.0; expected.len()];
            threads.install(|| unet.predict([n, height, width], &x, levels, &mut prediction)).unwrap();
            let error = max_difference(&prediction, &expected);
            assert!(error < 3e-5, "{name} on {isa}: output off by {error}");

            let gradients = threads
                .install(|| {
                    unet.gradients([n, height, width], &x, levels, |_, out| out.copy_from_slice(&probe))
                })
                .unwrap();
            let threads = threads.current_num_threads();
            assert_eq!(gradients.prediction, prediction, "training and evaluation differ");
            let mut worst = ("none".to_string(), 0.0);
            let mut compare = |what: &str, found: &[f32], expected: &[f32]| {
                let error = max_difference(found, expected) / max_magnitude(expected);
                if error > worst.1 {
                    worst = (what.to_string(), error);
                }
            };
            compare("x", &gradients.input, &golden.channels_last("grad_x"));
            compare("noise_level", &gradients.noise_level, golden.values("grad_noise_level"));
            let mut compared = 0;
            for (param, gradient) in graph.params.iter().zip(&gradients.params) {
                let key = format!("grad.{}", param.name);
                if golden.names().any(|name| name == key) {
                    compare(&param.name, gradient, golden.values(&key));
                    compared += 1;
                }
            }
            assert!(compared >= 4);
            println!(
                "{name} {isa} {threads} threads: output {error:.1e}, gradient of {} {:.1e}",
                worst.0, worst.1
            );
            assert!(
                worst.1 < 5e-5,
                "{name} on {isa}: gradient of {} is off by {} of its largest",
                worst.0,
                worst.1
            );

            let all = (prediction, gradients.params, gradients.input, gradients.noise_level);
            assert!(
                *first.get_or_insert_with(|| all.clone()) == all,
                "{isa} with {threads} threads differs in a bit"
            );
        }
    }
}

#[test]
fn the_small_network_agrees_with_pytorch() {
    agrees_with_pytorch("unet_ddpm_tiny.safetensors");
}

#[test]
fn scale_and_shift_conditioning_and_unequal_sides_agree_with_pytorch() {
    agrees_with_pytorch("unet_ddpm_affine_64.safetensors");
}

#[test]
fn attention_in_the_middle_only_agrees_with_pytorch() {
    agrees_with_pytorch("unet_ddpm_mid_attn_32.safetensors");
}

/// How far bf16 turns the gradient of all weights, and that it stays the same for any number of threads.
#[test]
fn in_bf16_the_gradient_points_the_same_way() {
    let golden = Golden::load("unet_ddpm_affine_64.safetensors");
    let (config, weights) = golden_network(&golden);
    let &[n, _, height, width] = golden.shape("x") else { panic!() };
    let (x, levels, probe) =
        (golden.channels_last("x"), golden.values("noise_level"), golden.channels_last("probe"));
    let gradient = |precision, count| {
        let mut unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap().with_precision(precision);
        let shape = [n, height, width];
        let of = |unet: &mut CpuUNet| {
            unet.backward(shape, &x, levels, |_, out| out.copy_from_slice(&probe)).unwrap();
            unet.update(|_, gradient| gradient.to_vec())
        };
        threads(count).install(|| of(&mut unet))
    };
    let (exact, found) = (gradient(Precision::F32, 2), gradient(Precision::Bf16, 2));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(&exact, &found) / (dot(&exact, &exact) * dot(&found, &found)).sqrt();
    println!("cosine {cosine}");
    assert!(cosine > 0.998 && found != exact, "cosine {cosine}");
    assert!(gradient(Precision::Bf16, 1) == found, "one thread differs in a bit");
}

#[test]
fn no_bit_depends_on_when_weights_are_packed() {
    for name in ["unet_ddpm_tiny.safetensors", "unet_ddpm_affine_64.safetensors"] {
        let golden = Golden::load(name);
        let (config, weights) = golden_network(&golden);
        let &[n, _, height, width] = golden.shape("x") else { panic!() };
        let (x, levels) = (golden.channels_last("x"), golden.values("noise_level"));
        for precision in [Precision::F32, Precision::Bf16] {
            let made = [Packed::Once, Packed::WhereUsed].map(|packed| {
                let unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
                let mut unet = unet.with_precision(precision).with_weights_packed(packed);
                let mut out = vec![0.0; n * height * width * unet.out_channels()];
                unet.predict([n, height, width], &x, levels, &mut out).unwrap();
                out
            });
            assert!(made[0] == made[1], "{name} in {precision}");
        }
    }
}

#[test]
fn an_item_does_not_depend_on_its_batch() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let (config, weights) = golden_network(&golden);
    let mut unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
    let (x, levels) = (golden.channels_last("x"), golden.values("noise_level"));
    let mut both = vec![0.0; 2 * 16 * 16 * 3];
    unet.predict([2, 16, 16], &x, levels, &mut both).unwrap();
    for n in 0..2 {
        let mut alone = vec![0.0; both.len() / 2];
        unet.predict([1, 16, 16], &x[n * x.len() / 2..][..x.len() / 2], &levels[n..=n], &mut alone).unwrap();
        assert_eq!(alone, both[n * alone.len()..][..alone.len()]);
    }
}

/// The slope of a loss that the network itself shows when a parameter is moved along its gradient and back, for each
/// parameter of the smallest network. The loss is a weighted sum of the prediction, so that its slope is curved by the
/// network alone.
#[test]
fn a_gradient_is_the_slope_that_a_small_step_finds() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let (config, weights) = golden_network(&golden);
    let &[n, _, height, width] = golden.shape("x") else { panic!() };
    let (x, levels) = (golden.channels_last("x"), golden.values("noise_level"));
    let probe = golden.channels_last("probe");
    let mut unet = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
    let shape = [n, height, width];
    let gradients = unet.gradients(shape, &x, levels, |_, out| out.copy_from_slice(&probe)).unwrap().params;
    let names: Vec<String> = unet.graph().params.iter().map(|param| param.name.clone()).collect();
    let mut start = 0;
    for (name, gradient) in names.iter().zip(&gradients) {
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let step = (1e-2 / length).min(5e-2);
        let mut loss = |sign: f64| {
            let original = unet.update(|parameters, _| {
                let original = parameters.to_vec();
                for (parameter, g) in parameters[start..].iter_mut().zip(gradient) {
                    *parameter += (sign * step * f64::from(*g) / length) as f32;
                }
                original
            });
            let mut prediction = vec![0.0; probe.len()];
            unet.predict(shape, &x, levels, &mut prediction).unwrap();
            unet.update(|parameters, _| parameters.copy_from_slice(&original));
            prediction.iter().zip(&probe).map(|(p, w)| f64::from(*p) * f64::from(*w)).sum::<f64>()
        };
        let slope = (loss(1.0) - loss(-1.0)) / (2.0 * step);
        assert!((slope - length).abs() < 0.01 * length + 5e-4, "{name}: slope {slope}, gradient {length}");
        start += gradient.len();
    }
}
