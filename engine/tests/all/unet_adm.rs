//! Networks of guided-diffusion on every executor, against the reference's numbers in f64 (`tests/fixtures/adm/README.md`).

use std::collections::BTreeMap;

use crate::common::adm::{Tiny, by_name, flags_of};
use crate::common::{fixture, max_difference, max_magnitude};
use serde_json::Value;
use sr3_engine::model::{CpuUNet, Denoiser, DenoiserError, Graph, Heads, Layout, UNetConfig, presets};
use sr3_engine::ops::Isa;

const TINY: [&str; 2] = ["adm_sr_tiny", "adm_base_tiny"];

/// The fixture's gradient of every parameter: whole where it has it, else by four numbers.
fn gradients_are_golden(tiny: &Tiny, found: &BTreeMap<String, Vec<f32>>, bound: f32) -> f32 {
    let golden = &tiny.golden;
    let names: Vec<String> = serde_json::from_str(&golden.metadata["param_names"]).unwrap();
    let zero: Vec<String> = serde_json::from_str(&golden.metadata["zero_gradient_params"]).unwrap();
    assert_eq!(found.len(), names.len());
    let summary = golden.values("grad_summary");
    let mut worst = 0.0_f32;
    for (name, expected) in names.iter().zip(summary.chunks_exact(4)) {
        let values = &found[name];
        let [sum, wave, squares] = values.iter().enumerate().fold([0.0_f64; 3], |[s, w, q], (i, v)| {
            let v = f64::from(*v);
            [s + v, w + v * (0.1 + 0.37 * i as f64).cos(), q + v * v]
        });
        if zero.contains(name) {
            assert!(max_magnitude(values) < 1e-3, "{name}: {}", max_magnitude(values));
            continue;
        }
        let (sum, wave, length) = (sum as f32, wave as f32, squares.sqrt() as f32);
        // Sums of many values of either sign are no more exact than their length.
        for (found, expected) in [(sum, expected[0]), (length, expected[1]), (wave, expected[2])] {
            let scale = expected.abs().max(summary_scale(values.len()) * length);
            let error = (found - expected).abs() / scale;
            assert!(error < bound, "{name}: {found} where {expected} belongs");
            worst = worst.max(error);
        }
        let key = format!("grad.{name}");
        if golden.names().any(|name| name == key) {
            let expected = golden.values(&key);
            let error = max_difference(values, expected) / max_magnitude(expected);
            assert!(error < bound, "{name} is {error} of its largest value off");
            worst = worst.max(error);
        }
    }
    worst
}

/// Of a sum of so many values, what its length may be multiplied by.
fn summary_scale(count: usize) -> f32 {
    (count as f32).sqrt().min(10.0)
}

#[test]
fn every_published_network_has_exactly_the_reference_s_parameters() {
    let json = std::fs::read(fixture("adm/adm_released_models.json")).unwrap();
    let models: BTreeMap<String, Value> = serde_json::from_slice(&json).unwrap();
    let mut compared = 0;
    for (file, model) in &models {
        let about = &model["architecture"];
        // One network halves the width of its first level; another's list is that of its like.
        let whole = about["channel_mult"].as_array().unwrap().iter().all(Value::is_u64);
        let (Some(expected), true) = (model["state_dict"].as_array(), whole) else { continue };
        let flags = flags_of(&model["flags"]);
        let numbers = |name: &str| -> Vec<usize> {
            about[name].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
        };
        let number = |name: &str| about[name].as_u64().unwrap_or(0) as usize;
        let factors = numbers("attention_downsample_factors");
        let config = UNetConfig {
            layout: Layout::Adm,
            in_channel: number("in_channels"),
            out_channel: number("out_channels"),
            inner_channel: number("model_channels"),
            norm_groups: 32,
            channel_mults: numbers("channel_mult"),
            attn_res: factors.iter().map(|factor| flags.image_size / factor).collect(),
            res_blocks: number("num_res_blocks"),
            dropout: about["dropout"].as_f64().unwrap(),
            use_affine_level: true,
            image_size: Some(flags.image_size),
            heads: flags.heads,
            classes: number("num_classes"),
            learned_variance: true,
            timestep_scale: 1.0,
        };
        let graph = Graph::build(&config).unwrap();
        let of_line = |name: &str| name.ends_with("qkv.weight") || name.ends_with("proj_out.weight");
        let found: Vec<_> = graph
            .params
            .iter()
            .map(|p| serde_json::json!([p.name, p.shape[..if of_line(&p.name) { 3 } else { p.shape.len() }]]))
            .collect();
        assert_eq!(&found, expected, "{file}");
        assert_eq!(graph.parameter_count() as u64, about["parameters"].as_u64().unwrap(), "{file}");
        compared += 1;
        let preset = match file.as_str() {
            "64x64_diffusion.pt" => "adm-64",
            "64_256_upsampler.pt" => "adm-64-256",
            "128_512_upsampler.pt" => "adm-128-512",
            _ => continue,
        };
        let preset = presets().into_iter().find(|p| p.name == preset).unwrap();
        assert_eq!(preset.config, config, "{file}");
    }
    assert_eq!(compared, 6);
}

#[test]
fn the_plan_is_golden_on_every_instruction_set_and_number_of_threads() {
    for name in TINY {
        let tiny = Tiny::load(name);
        let (graph, shown) = (tiny.graph(), tiny.shown(""));
        let (expected, probe) = (tiny.golden.channels_last("output"), tiny.golden.channels_last("probe"));
        let mut first = None;
        for isa in Isa::available() {
            for threads in [1, 2] {
                // Without a fused multiply-add in hardware one run takes seconds.
                if isa == Isa::Portable && threads == 2 {
                    continue;
                }
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, isa).unwrap();
                let mut prediction = vec![0.0; expected.len()];
                let predict = || {
                    unet.predict_conditioned(shown.shape, &shown.input, shown.conditions(), &mut prediction)
                };
                pool.install(predict).unwrap();
                let error = max_difference(&prediction, &expected);
                assert!(error < 3e-5, "{name} on {isa}: output off by {error}");
                let gradients = pool.install(|| {
                    let told = shown.conditions();
                    unet.gradients(shown.shape, &shown.input, told, |_, out| out.copy_from_slice(&probe))
                });
                let gradients = gradients.unwrap();
                assert_eq!(gradients.prediction, prediction, "training and evaluation differ");
                let worst = gradients_are_golden(&tiny, &by_name(&tiny, &graph, &gradients.params), 2e-4);
                let of_x = of_last_channels(&gradients.input, tiny.config.in_channel);
                let grad_x = tiny.golden.channels_last("grad_x");
                let error_x = max_difference(&of_x, &grad_x) / max_magnitude(&grad_x);
                assert!(error_x < 5e-5, "{name} on {isa}: the image's gradient is {error_x} off");
                println!(
                    "{name} {isa} {threads} threads: output {error:.1e}, gradients {worst:.1e}, {error_x:.1e}"
                );
                let all = (prediction, gradients.params, gradients.input, gradients.noise_level);
                assert!(*first.get_or_insert_with(|| all.clone()) == all, "{isa}, {threads}: a bit differs");
            }
        }
    }
}

/// The noisy image's channels of every pixel.
fn of_last_channels(values: &[f32], channels: usize) -> Vec<f32> {
    values.chunks_exact(channels).flat_map(|pixel| &pixel[channels - 3..]).copied().collect()
}

#[test]
fn the_gradient_of_the_low_resolution_is_golden() {
    use sr3_engine::ops::resize::{Axis, Filter, ResizePlan};
    let tiny = Tiny::load("adm_sr_tiny");
    let (shown, probe) = (tiny.shown(""), tiny.golden.channels_last("probe"));
    let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, Isa::detect()).unwrap();
    let told = shown.conditions();
    let found =
        unet.gradients(shown.shape, &shown.input, told, |_, out| out.copy_from_slice(&probe)).unwrap();
    let axis = || Axis::new(Filter::Bilinear, 8, 32).transposed();
    let back = ResizePlan::from_axes(axis(), axis());
    let of_condition: Vec<f32> = found.input.chunks_exact(6).flat_map(|pixel| &pixel[..3]).copied().collect();
    let mut low = vec![0.0; 3 * 8 * 8 * 3];
    for (high, low) in of_condition.chunks(32 * 32 * 3).zip(low.chunks_mut(8 * 8 * 3)) {
        back.apply(high, 3, low);
    }
    let expected = tiny.golden.channels_last("grad_low_res");
    let error = max_difference(&low, &expected) / max_magnitude(&expected);
    assert!(error < 5e-5, "{error}");
}

#[test]
fn an_oblong_image_is_golden_though_the_network_was_made_for_another_size() {
    for name in TINY {
        let tiny = Tiny::load(name);
        let (shown, expected) = (tiny.shown("rect."), tiny.golden.channels_last("rect.output"));
        let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, Isa::detect()).unwrap();
        let mut prediction = vec![0.0; expected.len()];
        unet.predict_conditioned(shown.shape, &shown.input, shown.conditions(), &mut prediction).unwrap();
        let error = max_difference(&prediction, &expected);
        assert!(error < 3e-5, "{name}: {error}");
    }
}

#[test]
fn an_item_depends_neither_on_its_company_nor_on_another_s_class() {
    let tiny = Tiny::load("adm_sr_tiny");
    let shown = tiny.shown("");
    let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, Isa::detect()).unwrap();
    let [n, height, width] = shown.shape;
    let mut all = vec![0.0; n * height * width * 6];
    unet.predict_conditioned(shown.shape, &shown.input, shown.conditions(), &mut all).unwrap();
    for i in 0..n {
        let input = &shown.input[i * height * width * 6..][..height * width * 6];
        let mut told = shown.conditions();
        (told.noise, told.labels) = (&told.noise[i..=i], &told.labels[i..=i]);
        let mut alone = vec![0.0; height * width * 6];
        unet.predict_conditioned([1, height, width], input, told, &mut alone).unwrap();
        assert_eq!(alone, all[i * alone.len()..][..alone.len()]);
    }
}

#[test]
fn a_label_that_is_missing_or_unknown_is_refused() {
    let tiny = Tiny::load("adm_base_tiny");
    let mut unet = CpuUNet::new(&tiny.config, &tiny.weights, Isa::detect()).unwrap();
    let (input, mut out) = (vec![0.0; 4 * 4 * 3], vec![0.0; 4 * 4 * 6]);
    assert_eq!(unet.classes(), 10);
    for labels in [&[][..], &[10], &[1, 2]] {
        let told = sr3_engine::model::Conditions { noise: &[5.0], labels };
        let refused = unet.predict_conditioned([1, 4, 4], &input, told, &mut out).unwrap_err();
        assert!(matches!(refused, DenoiserError::Labels { classes: 10, .. }), "{refused}");
    }
    assert!(matches!(unet.predict([1, 4, 4], &input, &[5.0], &mut out), Err(DenoiserError::Labels { .. })));
}

#[test]
fn a_configuration_says_what_its_network_cannot_be() {
    let good = Tiny::load("adm_sr_tiny").config;
    for wrong in [
        UNetConfig { heads: Heads::Count(0), ..good.clone() },
        UNetConfig { heads: Heads::Channels(24), ..good.clone() },
        UNetConfig { timestep_scale: 0.0, ..good.clone() },
        UNetConfig { layout: Layout::Paper, ..good.clone() },
        UNetConfig { out_channel: 5, ..good.clone() },
        UNetConfig { inner_channel: 48, channel_mults: vec![2, 4, 4], ..good.clone() },
    ] {
        assert!(wrong.validate().is_err(), "{wrong:?}");
    }
    let json = serde_json::to_string(&good).unwrap();
    assert!(json.contains(r#""heads":{"count":4},"classes":10,"learned_variance":true"#), "{json}");
    assert_eq!(serde_json::from_str::<UNetConfig>(&json).unwrap(), good);
}

#[test]
fn a_configuration_without_classes_and_heads_is_written_as_it_always_was() {
    let preset = presets().into_iter().find(|preset| preset.name == "sr3-64-256").unwrap();
    let json = serde_json::to_string(&preset.config).unwrap();
    let pinned = r#"{"layout":"paper","in_channel":6,"out_channel":3,"inner_channel":128,"norm_groups":32,"channel_mults":[1,2,4,4,8,8],"attn_res":[16],"res_blocks":3,"dropout":0.0,"use_affine_level":false,"image_size":256}"#;
    assert_eq!(json, pinned);
}

#[cfg(feature = "candle")]
mod candle {
    use candle_core::{DType, Device, Tensor, Var};
    use sr3_engine::model::{CandleUNet, Op};

    use super::*;
    use crate::common::adm::Shown;
    use crate::common::to_channels_last;

    fn tensors(shown: &Shown, channels: usize) -> (Tensor, Tensor, Tensor) {
        let [n, height, width] = shown.shape;
        let input = Tensor::from_slice(&shown.input, (n, height, width, channels), &Device::Cpu).unwrap();
        let input = input.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let timesteps = Tensor::from_slice(&shown.timesteps, n, &Device::Cpu).unwrap();
        let labels = Tensor::from_slice(&shown.labels, n, &Device::Cpu).unwrap();
        (input.to_dtype(DType::F64).unwrap(), timesteps.to_dtype(DType::F64).unwrap(), labels)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn output_and_every_gradient_are_golden() {
        for name in TINY {
            let tiny = Tiny::load(name);
            let net = CandleUNet::with_dtype(&tiny.config, &tiny.weights, &Device::Cpu, DType::F64).unwrap();
            let (input, timesteps, labels) = tensors(&tiny.shown(""), tiny.config.in_channel);
            let input = Var::from_tensor(&input).unwrap();
            let output = net.forward(&input, &timesteps, Some(&labels)).unwrap();
            let error = max_difference(&values(&output), tiny.golden.values("output"));
            assert!(error < 1e-6, "{name}: the output is {error} off");
            let probe = tiny.golden.values("probe");
            let probe = Tensor::from_slice(probe, output.dims(), &Device::Cpu).unwrap();
            let sum = (output * probe.to_dtype(DType::F64).unwrap()).unwrap().sum_all().unwrap();
            let gradients = sum.backward().unwrap();
            let of_params: Vec<_> =
                net.vars().iter().map(|var| values(gradients.get(var).unwrap())).collect();
            let worst = gradients_are_golden(&tiny, &by_name(&tiny, net.graph(), &of_params), 2e-6);
            let [n, c] = [3, tiny.config.in_channel];
            let of_input = to_channels_last(&values(gradients.get(&input).unwrap()), [n, c, 32, 32]);
            let grad_x = tiny.golden.channels_last("grad_x");
            let error_x = max_difference(&of_last_channels(&of_input, c), &grad_x) / max_magnitude(&grad_x);
            assert!(error_x < 1e-6, "{name}: {error_x}");
            println!("{name}: output {error:.1e}, gradients {worst:.1e}, {error_x:.1e}");
        }
    }

    /// The node that a module of the reference ends in: its name, and the node's index.
    fn module_outputs(graph: &Graph) -> BTreeMap<String, usize> {
        let (mut outputs, mut module) = (BTreeMap::new(), String::new());
        for (i, node) in graph.nodes.iter().enumerate() {
            if let Op::Conv { weight, .. } | Op::Norm { weight, .. } = node.op {
                let name = &graph.params[weight.0].name;
                let parts: Vec<_> = name.split('.').collect();
                module = match parts[0] {
                    "middle_block" => parts[0].to_string(),
                    "out" if parts[1] == "0" => "out.1".to_string(),
                    _ => parts[..2].join("."),
                };
            }
            match node.op {
                Op::Encoding { .. } => drop(outputs.insert("time_embedding".to_string(), i)),
                Op::Embedding { .. } => drop(outputs.insert("emb".to_string(), i + 1)),
                // A concatenation belongs to the module after it; a vector to a block's middle.
                Op::Concat | Op::Linear { .. } | Op::Silu | Op::Label | Op::NoiseLevel => {}
                _ => drop(outputs.insert(format!("act.{module}"), i)),
            }
        }
        outputs
    }

    #[test]
    fn every_module_yields_its_golden_activation() {
        for name in TINY {
            let tiny = Tiny::load(name);
            let net = CandleUNet::with_dtype(&tiny.config, &tiny.weights, &Device::Cpu, DType::F64).unwrap();
            let (input, timesteps, labels) = tensors(&tiny.shown(""), tiny.config.in_channel);
            let nodes = net.activations(&input, &timesteps, Some(&labels)).unwrap();
            let outputs = module_outputs(net.graph());
            let golden = &tiny.golden;
            let wanted: Vec<_> = golden
                .names()
                .filter(|n| n.starts_with("act.") || ["emb", "time_embedding"].contains(n))
                .collect();
            assert!(wanted.len() >= 16, "{wanted:?}");
            for wanted in wanted {
                let (found, expected) = (&nodes[outputs[wanted]], golden.values(wanted));
                let found = match found.dims() {
                    &[_, c, _, _] => {
                        let channels = [0, 1, 2, 3].map(|k| (k * c / 4) as u32);
                        let channels = Tensor::from_slice(&channels, 4, &Device::Cpu).unwrap();
                        values(&found.get(0).unwrap().index_select(&channels, 0).unwrap())
                    }
                    _ => values(found),
                };
                let error = max_difference(&found, expected) / max_magnitude(expected);
                assert!(error < 1e-6, "{name}: {wanted} is {error} of its largest value off");
            }
        }
    }

    #[test]
    fn in_f32_an_item_is_the_plan_s_to_rounding() {
        for name in TINY {
            let tiny = Tiny::load(name);
            let shown = tiny.shown("rect.");
            let mut net = CandleUNet::new(&tiny.config, &tiny.weights, &Device::Cpu).unwrap();
            let expected = tiny.golden.channels_last("rect.output");
            let mut found = vec![0.0; expected.len()];
            net.predict_conditioned(shown.shape, &shown.input, shown.conditions(), &mut found).unwrap();
            let error = max_difference(&found, &expected);
            assert!(error < 5e-5, "{name}: {error}");
            assert!(net.predict(shown.shape, &shown.input, &shown.timesteps, &mut found).is_err());
        }
    }
}
