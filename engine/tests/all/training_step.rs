//! One training step on candle tensors and one of the CPU plan change the weights alike.

use crate::common::{Golden, golden_network};
use candle_core::Device;
use sr3_engine::diffusion::Loss;
use sr3_engine::model::{CandleUNet, CpuUNet};
use sr3_engine::ops::Isa;
use sr3_engine::train::{Adam, AdamConfig, CandleTrainer, Tensor, norm};

#[test]
fn a_step_of_the_plan_is_a_step_on_candle_tensors() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let (config, weights) = golden_network(&golden);
    let &[n, channels, height, width] = golden.shape("x") else { panic!() };
    let (adam_config, learning_rate) = (AdamConfig::default(), 1e-3);
    let levels = golden.values("noise_level");
    // Far from every prediction, so that no error is near the kink of its absolute value.
    let target = vec![9.0; n * height * width * 3];

    let mut plan = CpuUNet::new(&config, &weights, Isa::detect()).unwrap();
    let mut adam = plan.update(|parameters, _| Adam::new(adam_config.clone(), parameters, Isa::detect()));
    let x = golden.channels_last("x");
    let mut loss = f64::NAN;
    plan.backward([n, height, width], &x, levels, |prediction, out| {
        loss = Loss::L1.mean_and_gradient(prediction, &target, out);
    })
    .unwrap();
    let (found, gradient) = plan.update(|parameters, gradient| {
        adam.step(parameters, gradient, norm(Isa::detect(), gradient), learning_rate, n as u64);
        (parameters.to_vec(), gradient.to_vec())
    });

    let network = CandleUNet::new(&config, &weights, &Device::Cpu).unwrap();
    let mut trainer = CandleTrainer::new(network, &adam_config, learning_rate).unwrap();
    let tensor = |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let input = tensor(golden.values("x"), &[n, channels, height, width]);
    let target = tensor(&target, &[n, 3, height, width]);
    let on_candle = trainer.step(&input, &tensor(levels, &[n]), &target).unwrap();
    assert!((f64::from(on_candle.to_scalar::<f32>().unwrap()) - loss).abs() < 1e-4);

    let expected = trainer.network().vars().iter().map(|var| {
        let flat = var.as_tensor().flatten_all().unwrap();
        flat.to_vec1::<f32>().unwrap()
    });
    let mut compared = 0;
    for ((found, expected), gradient) in found.iter().zip(expected.flatten()).zip(&gradient) {
        // The first step is the learning rate with the gradient's sign: a gradient near zero may have either.
        if gradient.abs() > 1e-5 {
            assert!(
                (found - expected).abs() < 2e-5,
                "{found} where {expected} belongs (gradient {gradient})"
            );
            compared += 1;
        }
    }
    assert!(2 * compared > found.len(), "{compared} of {} weights have a gradient", found.len());
}
