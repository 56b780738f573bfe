//! One network, two executors: the CPU plan computes what the candle executor does, in output and every gradient.

use crate::common::{max_difference, max_magnitude, to_channels_last};
use candle_core::{DType, Device, Tensor, Var};
use sr3_engine::model::{CandleUNet, CpuUNet, Graph, Heads, Layout, UNetConfig, random_weights};
use sr3_engine::ops::Isa;

fn wave(count: usize, pace: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * pace).sin()).collect()
}

fn agree(config: &UNetConfig, [n, height, width]: [usize; 3]) {
    let graph = Graph::build(config).unwrap();
    let weights = random_weights(&graph, 5);
    let (inputs, outputs) = (config.in_channel, config.out_channel);
    let x = wave(n * inputs * height * width, 0.37);
    let levels: Vec<f32> = (0..n).map(|i| 0.9 - 0.35 * i as f32).collect();
    let probe = wave(n * outputs * height * width, 0.73);

    // The reference in f64, so that differences are the plan's own.
    let reference = CandleUNet::with_dtype(config, &weights, &Device::Cpu, DType::F64).unwrap();
    let f64_tensor = |values: &[f32], shape: &[usize]| {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F64).unwrap()
    };
    let input = Var::from_tensor(&f64_tensor(&x, &[n, inputs, height, width])).unwrap();
    let level = Var::from_tensor(&f64_tensor(&levels, &[n])).unwrap();
    let output = reference.forward(&input, &level, None).unwrap();
    let scalar = (&output * f64_tensor(&probe, &[n, outputs, height, width])).unwrap().sum_all().unwrap();
    let expected = scalar.backward().unwrap();
    let values = |tensor: &Tensor| -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };

    let cotangent = to_channels_last(&probe, [n, outputs, height, width]);
    let mut plan = CpuUNet::new(config, &weights, Isa::detect()).unwrap();
    let found = plan
        .gradients(
            [n, height, width],
            &to_channels_last(&x, [n, inputs, height, width]),
            &levels,
            |_, out| out.copy_from_slice(&cotangent),
        )
        .unwrap();

    let error =
        max_difference(&found.prediction, &to_channels_last(&values(&output), [n, outputs, height, width]));
    assert!(error < 3e-5, "{config:?}: the output is {error} off");
    let compare = |what: &str, found: &[f32], expected: &[f32]| {
        let error = max_difference(found, expected) / max_magnitude(expected);
        assert!(error < 5e-5, "{config:?}: the gradient of {what} is {error} of its largest value off");
    };
    let of_input = values(expected.get(&input).unwrap());
    compare("the input", &found.input, &to_channels_last(&of_input, [n, inputs, height, width]));
    compare("the noise level", &found.noise_level, &values(expected.get(&level).unwrap()));
    for ((param, var), gradient) in graph.params.iter().zip(reference.vars()).zip(&found.params) {
        compare(&param.name, gradient, &values(expected.get(var).unwrap()));
    }
}

fn config(layout: Layout) -> UNetConfig {
    UNetConfig {
        layout,
        in_channel: 6,
        out_channel: 3,
        inner_channel: 12,
        norm_groups: 4,
        channel_mults: vec![1, 2, 3],
        attn_res: vec![8],
        res_blocks: 1,
        dropout: 0.0,
        use_affine_level: false,
        image_size: Some(16),
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    }
}

#[test]
fn on_the_public_layout() {
    agree(&config(Layout::Janspiry), [2, 16, 24]);
}

#[test]
fn on_the_papers_layout() {
    agree(&config(Layout::Paper), [2, 16, 24]);
}

#[test]
fn with_scale_and_shift_on_the_papers_layout() {
    agree(&UNetConfig { use_affine_level: true, ..config(Layout::Paper) }, [1, 8, 12]);
}

#[test]
fn on_odd_channel_counts_and_a_single_level() {
    let single = UNetConfig {
        in_channel: 5,
        out_channel: 1,
        inner_channel: 10,
        norm_groups: 5,
        channel_mults: vec![1],
        attn_res: vec![],
        image_size: None,
        ..config(Layout::Janspiry)
    };
    agree(&single, [3, 7, 5]);
}
