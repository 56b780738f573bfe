//! The candle executor against golden networks, against finite differences, and against the shipped model's traces.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test binary: a panic is a failure, and nobody links to it"
)]

use std::path::PathBuf;

use crate::common::{Golden, golden_network, max_difference, max_magnitude, to_channels_last};
use candle_core::{D, DType, Device, Tensor, Var};
use sr3_engine::model::{
    CandleUNet, Denoiser, DenoiserError, Graph, Heads, Layout, ModelError, Op, UNetConfig, Weights,
    random_weights,
};

fn tensor(golden: &Golden, name: &str) -> Tensor {
    Tensor::from_slice(golden.values(name), golden.shape(name), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn network(golden: &Golden) -> CandleUNet {
    let (config, weights) = golden_network(golden);
    CandleUNet::new(&config, &weights, &Device::Cpu).unwrap()
}

fn output_and_gradients_are_golden(file: &str, gradients: usize) {
    let golden = Golden::load(file);
    let net = network(&golden);
    let x = Var::from_tensor(&tensor(&golden, "x")).unwrap();
    let level = Var::from_tensor(&tensor(&golden, "noise_level")).unwrap();

    let output = net.forward(&x, &level, None).unwrap();
    let error = max_difference(&values(&output), golden.values("output"));
    println!("{file}: output {error:.1e}");
    assert!(error < 3e-5, "{file}: the output is {error} off");

    let grads = (output * tensor(&golden, "probe")).unwrap().sum_all().unwrap().backward().unwrap();
    let (mut compared, mut worst) = (0, 0.0f32);
    let mut compare = |name: &str, var: &Var| {
        let found = grads.get(var).unwrap_or_else(|| panic!("{file}: {name} has no gradient"));
        assert_eq!(found.dims(), golden.shape(name), "{file}: {name}");
        let expected = golden.values(name);
        let error = max_difference(&values(found), expected) / max_magnitude(expected);
        assert!(error < 5e-5, "{file}: {name} is {error} of its largest value off");
        compared += 1;
        worst = worst.max(error);
    };
    compare("grad_x", &x);
    compare("grad_noise_level", &level);
    for name in golden.names().filter(|name| name.starts_with("grad.")) {
        compare(name, net.var(&name["grad.".len()..]).unwrap());
    }
    println!("{file}: {compared} gradients, worst {worst:.1e} of the largest value");
    assert_eq!(compared, gradients, "{file}");
}

#[test]
fn the_tiny_network_matches_in_output_and_every_gradient() {
    output_and_gradients_are_golden("unet_ddpm_tiny.safetensors", 162 + 2);
}

#[test]
fn scale_and_shift_conditioning_on_an_oblong_image_matches() {
    output_and_gradients_are_golden("unet_ddpm_affine_64.safetensors", 4 + 2);
}

#[test]
fn attention_in_the_middle_only_matches() {
    output_and_gradients_are_golden("unet_ddpm_mid_attn_32.safetensors", 4 + 2);
}

/// For every module of the public implementation ("downs.0", "mid.1", …), the node that is its output.
fn module_outputs(graph: &Graph) -> Vec<(String, usize)> {
    let mut outputs: Vec<(String, usize)> = Vec::new();
    let mut module = String::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        match node.op {
            Op::Linear { weight, .. } | Op::Conv { weight, .. } | Op::Norm { weight, .. } => {
                module = graph.params[weight.0].name.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
            }
            // It belongs to the module after it.
            Op::Concat => continue,
            Op::Encoding { .. } => module = "noise_encoding".into(),
            _ => {}
        }
        let name = if module == "noise_level_mlp.3" { "noise_embedding" } else { &module };
        match outputs.last_mut() {
            Some(last) if last.0 == name => last.1 = i,
            _ => outputs.push((name.into(), i)),
        }
    }
    outputs
}

#[test]
fn every_module_yields_its_golden_activation() {
    for file in ["unet_ddpm_tiny.safetensors", "unet_ddpm_mid_attn_32.safetensors"] {
        let golden = Golden::load(file);
        let net = network(&golden);
        let nodes = net.activations(&tensor(&golden, "x"), &tensor(&golden, "noise_level"), None).unwrap();
        assert_eq!(nodes.len(), net.graph().nodes.len());
        let (mut compared, mut worst) = (0, 0.0f32);
        for (module, node) in module_outputs(net.graph()) {
            let name = format!("act.{module}");
            if golden.names().any(|n| n == name) {
                let expected = golden.values(&name);
                let error = max_difference(&values(&nodes[node]), expected) / max_magnitude(expected);
                assert!(error < 1e-5, "{file}: {name} is {error} of its largest value off");
                compared += 1;
                worst = worst.max(error);
            }
        }
        println!("{file}: {compared} activations, worst {worst:.1e} of the largest value");
        assert_eq!(compared, golden.names().filter(|n| n.starts_with("act.")).count(), "{file}");
        assert!(compared >= 18, "{file}: {compared} activations");
    }
}

/// The paper's layout with all its kinds of nodes: blocks that halve and double, attention, scale and shift.
fn paper_config() -> UNetConfig {
    UNetConfig {
        layout: Layout::Paper,
        in_channel: 6,
        out_channel: 3,
        inner_channel: 8,
        norm_groups: 4,
        channel_mults: vec![1, 2, 3],
        attn_res: vec![8],
        res_blocks: 1,
        dropout: 0.0,
        use_affine_level: true,
        image_size: Some(16),
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    }
}

/// Numbers in (-1, 1), a function of place and seed.
fn noise(shape: &[usize], seed: f64) -> Tensor {
    let count = shape.iter().product();
    let value = |i: usize| (i as f64).mul_add(12.9898, seed).sin() * 43758.5453;
    let values: Vec<f64> = (0..count).map(|i| 2.0 * (value(i) - value(i).floor()) - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn the_gradients_of_the_papers_layout_are_finite_differences() {
    let config = paper_config();
    let weights = random_weights(&Graph::build(&config).unwrap(), 3);
    let net = CandleUNet::with_dtype(&config, &weights, &Device::Cpu, DType::F64).unwrap();
    for wanted in [Op::AvgPool, Op::Upsample, Op::Attention { heads: 1 }, Op::Affine] {
        assert!(net.graph().nodes.iter().any(|node| node.op == wanted), "{wanted:?} is not covered");
    }
    let x = Var::from_tensor(&noise(&[2, 6, 8, 12], 0.3)).unwrap();
    let level = Var::from_vec(vec![0.9, 0.2], 2, &Device::Cpu).unwrap();
    let probe = noise(&[2, 3, 8, 12], 0.7);
    let scalar = || (net.forward(&x, &level, None).unwrap() * &probe).unwrap().sum_all().unwrap();
    let grads = scalar().backward().unwrap();

    // Along one direction in each variable: every element of every gradient has its part in what is compared.
    let names = net.graph().params.iter().map(|param| param.name.as_str());
    let vars = names.zip(net.vars()).chain([("x", &x), ("noise_level", &level)]);
    let mut worst = 0.0f64;
    for (i, (name, var)) in vars.enumerate() {
        let direction = noise(var.dims(), i as f64);
        let gradient = grads.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let found = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();

        let (home, h) = (var.copy().unwrap(), 1e-6);
        let at = |distance: f64| {
            var.set(&(&home + (&direction * distance).unwrap()).unwrap()).unwrap();
            scalar().to_scalar::<f64>().unwrap()
        };
        let expected = (at(h) - at(-h)) / (2.0 * h);
        var.set(&home).unwrap();

        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(error < 1e-7, "{name}: gradient {found}, finite difference {expected}");
        worst = worst.max(error);
    }
    println!("finite differences: worst {worst:.1e}");
}

#[test]
fn f32_and_f64_agree() {
    let config = paper_config();
    let weights = random_weights(&Graph::build(&config).unwrap(), 5);
    let run = |dtype| {
        let net = CandleUNet::with_dtype(&config, &weights, &Device::Cpu, dtype).unwrap();
        let x = noise(&[1, 6, 16, 8], 0.1).to_dtype(dtype).unwrap();
        let level = Tensor::new(&[0.5], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        values(&net.forward(&x, &level, None).unwrap())
    };
    let error = max_difference(&run(DType::F32), &run(DType::F64));
    println!("f32 against f64: {error:.1e}");
    assert!(error < 1e-5, "{error}");
    let refused = CandleUNet::with_dtype(&config, &weights, &Device::Cpu, DType::U8).unwrap_err();
    assert!(matches!(refused, ModelError::Precision { found: "u8" }));
}

/// The checkpoint that is compiled into the command.
fn shipped_model() -> CandleUNet {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/photo-4x");
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let config: UNetConfig = serde_json::from_value(config["model"].clone()).unwrap();
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let weights =
        tensors.iter().map(|(name, t)| (name.clone(), (t.dims().to_vec(), values(t)))).collect::<Weights>();
    CandleUNet::new(&config, &weights, &Device::Cpu).unwrap()
}

#[test]
fn the_shipped_model_predicts_what_its_reference_does_at_every_step() {
    let golden = Golden::load("photo_4x_reference.safetensors");
    let mut net = shipped_model();
    let &[1, 3, height, width] = golden.shape("upsampled") else { panic!("the trace is of one RGB image") };
    for run in ["ddim", "dpmpp_2m"] {
        let levels = golden.values(&format!("{run}.noise_levels"));
        let steps = levels.len() - 1;
        let mut worst = 0.0f32;
        for step in 0..steps {
            let x = match step {
                0 => "x_start".into(),
                _ => format!("{run}.step{:02}.x_next", step - 1),
            };
            let joined = [golden.values("upsampled"), golden.values(&x)].concat();
            let input = to_channels_last(&joined, [1, 6, height, width]);
            let mut prediction = vec![f32::NAN; height * width * 3];
            net.predict([1, height, width], &input, &levels[step..=step], &mut prediction).unwrap();
            let error = max_difference(&prediction, &golden.channels_last(&format!("{run}.step{step:02}.v")));
            assert!(error < 5e-5, "{run}, step {step}: v is {error} off");
            worst = worst.max(error);
        }
        println!("{run}: {steps} steps, worst {worst:.1e}");
    }
}

#[test]
fn an_item_does_not_depend_on_its_batch_and_a_prediction_is_the_forward_pass() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let mut net = network(&golden);
    let (input, levels) = (golden.channels_last("x"), golden.values("noise_level"));
    let mut together = vec![f32::NAN; 2 * 16 * 16 * 3];
    net.predict([2, 16, 16], &input, levels, &mut together).unwrap();

    let (first, second) = together.split_at(16 * 16 * 3);
    for (i, item) in [first, second].into_iter().enumerate() {
        let mut alone = vec![f32::NAN; item.len()];
        let own = &input[i * 16 * 16 * 6..][..16 * 16 * 6];
        net.predict([1, 16, 16], own, &levels[i..=i], &mut alone).unwrap();
        assert_eq!(alone, item, "item {i}");
    }
    let forward = net.forward(&tensor(&golden, "x"), &tensor(&golden, "noise_level"), None).unwrap();
    let error = max_difference(&together, &to_channels_last(&values(&forward), [2, 3, 16, 16]));
    assert!(error < 1e-5, "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let golden = Golden::load("unet_ddpm_tiny.safetensors");
    let mut net = network(&golden);
    let multiple = net.size_multiple();
    assert_eq!((net.in_channels(), net.out_channels()), (6, 3));
    let mut predict = |shape, input: usize, levels: usize, out: usize| {
        net.predict(shape, &vec![0.0; input], &vec![0.5; levels], &mut vec![0.0; out])
    };
    predict([0, 16, 16], 0, 0, 0).unwrap();
    for (height, width) in [(16, multiple + 1), (multiple + 1, 16), (0, 16), (16, 0)] {
        let pixels = height * width;
        let refused = predict([1, height, width], pixels * 6, 1, pixels * 3).unwrap_err();
        assert!(matches!(refused, DenoiserError::Size { .. }), "{height}×{width}: {refused}");
    }
    let huge = usize::MAX - usize::MAX % multiple;
    for (shape, input, levels, out, wrong) in [
        ([1, 16, 16], 1535, 1, 768, "input"),
        ([1, 16, 16], 1536, 2, 768, "noise_levels"),
        ([1, 16, 16], 1536, 1, 769, "prediction"),
        ([usize::MAX, 16, 16], 1536, 1, 768, "input"),
        ([1, huge, huge], 1536, 1, 768, "input"),
    ] {
        let refused = predict(shape, input, levels, out).unwrap_err();
        assert!(matches!(refused, DenoiserError::BufferLength { name, .. } if name == wrong), "{refused}");
    }

    let level = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
    for shape in [[1, 5, 16, 16], [1, 6, 16, multiple + 1], [0, 6, 16, 16], [2, 6, 16, 16]] {
        let input = Tensor::zeros(&shape, DType::F32, &Device::Cpu).unwrap();
        assert!(net.forward(&input, &level, None).is_err(), "{shape:?}");
    }
}

/// Why [`sr3_engine`] does not call candle's own upsampling: should this fail after an upgrade of candle, it can.
#[test]
fn candles_upsampling_loses_the_gradient_of_other_readers() {
    let x = Var::from_tensor(&noise(&[1, 2, 3, 3], 0.0)).unwrap();
    let hidden = (x.as_tensor() * 1.0).unwrap();
    let enlarged = hidden.upsample_nearest2d(6, 6).unwrap().sum_all().unwrap();
    let beside = (hidden.sum(D::Minus1).unwrap().sum_all().unwrap() * 10.0).unwrap();
    // Each pixel is read four times by one reader and ten times by the other.
    let gradient =
        |scalar: candle_core::Result<Tensor>| values(scalar.unwrap().backward().unwrap().get(&x).unwrap())[0];
    let sums = [gradient(&enlarged + &beside), gradient(&beside + &enlarged)];
    assert!(sums.iter().any(|sum| *sum != 14.0), "{sums:?}");
}
