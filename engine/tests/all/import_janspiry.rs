//! Checkpoints of the public SR3 implementation: the network is found from names and shapes, and becomes a checkpoint.

use std::collections::BTreeMap;

use crate::common::{Golden, fixture};
use sr3_engine::diffusion::Objective;
use sr3_engine::model::checkpoint::{Checkpoint, NoiseSchedule, SamplerPreset, Target, WeightsError};
use sr3_engine::model::import::{ConvertOptions, ImportError, InferOptions, convert, infer};
use sr3_engine::model::tensors::{Dtype, HostTensor, ReadLimits, TensorMap, read_safetensors};
use sr3_engine::model::{Graph, Heads, Layout, UNetConfig, presets};

const TINY: InferOptions = InferOptions { norm_groups: 8, image_size: 16 };

fn model_tensors(file: &str, prefix: &str) -> TensorMap {
    let bytes = std::fs::read(fixture(file)).unwrap();
    let (tensors, _) = read_safetensors(&bytes, &ReadLimits::default()).unwrap();
    let model = |(name, tensor): (String, HostTensor)| {
        Some((format!("{prefix}{}", name.strip_prefix("model.")?), tensor))
    };
    tensors.into_iter().filter_map(model).collect()
}

/// The configuration that a fixture states.
fn stated_config(file: &str) -> UNetConfig {
    let stated: serde_json::Value = serde_json::from_str(&Golden::load(file).metadata["config"]).unwrap();
    let number = |field: &str| stated[field].as_u64().unwrap() as usize;
    let numbers = |field: &str| serde_json::from_value(stated[field].clone()).unwrap();
    let attn_res: Vec<usize> = numbers("attn_res");
    UNetConfig {
        layout: Layout::Janspiry,
        in_channel: number("in_channel"),
        out_channel: number("out_channel"),
        inner_channel: number("inner_channel"),
        norm_groups: number("norm_groups"),
        channel_mults: numbers("channel_mults"),
        image_size: (!attn_res.is_empty()).then(|| number("image_size")),
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
        attn_res,
        res_blocks: number("res_blocks"),
        dropout: 0.0,
        use_affine_level: stated["use_affine_level"].as_bool().unwrap(),
    }
}

/// Tensors of zeros as a configuration asks for them.
fn blank_tensors(config: &UNetConfig) -> TensorMap {
    let blank = |shape: Vec<usize>| {
        let data = vec![0; shape.iter().product()];
        HostTensor { dtype: Dtype::U8, shape, data }
    };
    Graph::build(config).unwrap().params.into_iter().map(|param| (param.name, blank(param.shape))).collect()
}

#[test]
fn the_fixtures_networks_are_found() {
    let files =
        [("unet_ddpm_tiny", 8, 16), ("unet_ddpm_affine_64", 8, 64), ("unet_ddpm_mid_attn_32", 16, 32)];
    for (file, norm_groups, image_size) in files {
        let file = format!("{file}.safetensors");
        for prefix in ["", "denoise_fn.", "state_dict.module.denoise_fn."] {
            let mut tensors = model_tensors(&file, prefix);
            let buffer = HostTensor { dtype: Dtype::F32, shape: vec![1], data: vec![0; 4] };
            tensors.insert(format!("{}betas", prefix.trim_end_matches("denoise_fn.")), buffer);
            let (config, weights) = infer(tensors, InferOptions { norm_groups, image_size }).unwrap();
            assert_eq!(config, stated_config(&file), "{file} under {prefix:?}");
            assert!(weights == model_tensors(&file, ""), "{file} under {prefix:?}");
        }
    }
}

#[test]
fn published_configurations_are_found_from_their_shapes() {
    let mut found = 0;
    for preset in presets().iter().filter(|preset| preset.config.layout == Layout::Janspiry) {
        let config = &preset.config;
        let image_size = config.image_size.unwrap_or(512);
        let options = InferOptions { norm_groups: config.norm_groups, image_size };
        let (mut inferred, _) = infer(blank_tensors(config), options).unwrap();
        inferred.dropout = config.dropout;
        // Not found where it would mean nothing.
        inferred.image_size = inferred.image_size.or(config.image_size);
        assert_eq!(&inferred, config, "{}", preset.name);
        found += 1;
    }
    assert!(found > 0);
}

#[test]
fn a_missing_extra_or_misshapen_tensor_is_named() {
    let tensors = model_tensors("unet_ddpm_tiny.safetensors", "denoise_fn.");
    for name in tensors.keys() {
        let mut without = tensors.clone();
        without.remove(name);
        let line = infer(without, TINY).unwrap_err().to_string();
        assert!(!line.contains('\n') && line.len() > 20, "{name}: {line}");
    }
    let named = "denoise_fn.ups.3.attn.out.bias";
    let mut without = tensors.clone();
    without.remove(named);
    let error = infer(without, TINY).unwrap_err();
    assert!(
        matches!(&error, ImportError::Weights { source: WeightsError::Missing { name, .. } } if named.ends_with(name)),
        "{error}"
    );

    let mut misshapen = tensors.clone();
    misshapen.get_mut(named).unwrap().shape = vec![4, 8];
    let error = infer(misshapen, TINY).unwrap_err();
    assert!(
        matches!(&error, ImportError::Weights { source: WeightsError::Shape { name, .. } } if named.ends_with(name)),
        "{error}"
    );

    for (extra, kind) in [("denoise_fn.head.weight", "inside"), ("optimizer.step", "beside")] {
        let mut more = tensors.clone();
        more.insert(extra.to_string(), HostTensor { dtype: Dtype::U8, shape: vec![], data: vec![1] });
        let line = infer(more, TINY).unwrap_err().to_string();
        assert!(line.contains(extra.trim_start_matches("denoise_fn.")), "{kind}: {line}");
    }
}

#[test]
fn options_that_do_not_fit_the_network_are_refused() {
    let tensors = || model_tensors("unet_ddpm_tiny.safetensors", "denoise_fn.");
    let line = infer(tensors(), InferOptions::default()).unwrap_err().to_string();
    assert!(line.contains("norm_groups 32 does not divide"), "{line}");
    for image_size in [0, 2, 17] {
        let error = infer(tensors(), InferOptions { image_size, ..TINY }).unwrap_err();
        assert!(matches!(error, ImportError::ImageSize { .. }), "{error}");
    }
    assert!(infer(tensors(), InferOptions { norm_groups: 0, ..TINY }).is_err());
}

#[test]
fn files_of_something_else_or_of_two_networks_are_refused() {
    let mut two = model_tensors("unet_ddpm_tiny.safetensors", "netG.");
    two.extend(model_tensors("unet_ddpm_tiny.safetensors", "ema."));
    assert!(matches!(infer(two, TINY).unwrap_err(), ImportError::SeveralNetworks { .. }));
    let other = model_tensors("unet_ddpm_tiny.safetensors", "")
        .into_iter()
        .filter(|(name, _)| name.starts_with("mid"));
    assert!(matches!(infer(other.collect(), TINY).unwrap_err(), ImportError::NotThisLayout { .. }));
    assert!(infer(TensorMap::new(), TINY).is_err());
}

#[test]
fn shapes_from_a_stranger_never_panic() {
    // Any axis may be anything: the result is an error or a network that has exactly these tensors.
    let tensors = model_tensors("unet_ddpm_tiny.safetensors", "");
    let names: Vec<_> = tensors.keys().cloned().collect();
    let mut refused = 0;
    for (round, name) in names.iter().enumerate() {
        for shape in
            [vec![], vec![0], vec![0, 0, 3, 3], vec![usize::MAX, 2], vec![1; 9], vec![1 << 40, round]]
        {
            let mut changed = tensors.clone();
            changed.get_mut(name).unwrap().shape = shape;
            refused += usize::from(infer(changed, TINY).is_err());
        }
    }
    assert_eq!(refused, names.len() * 6);
}

#[test]
fn a_generator_checkpoint_becomes_a_checkpoint_that_reads_back() {
    let options =
        ConvertOptions { norm_groups: 8, image_size: 16, scale: 4, name: "tiny".to_string(), adm: None };
    let mut digests = vec![];
    for file in ["jan_tiny_gen.pth", "jan_tiny_gen_legacy.pth"] {
        let checkpoint = convert(&std::fs::read(fixture(file)).unwrap(), &options).unwrap();
        let config = &checkpoint.config;
        assert_eq!(config.model, stated_config("unet_ddpm_tiny.safetensors"));
        assert_eq!((config.objective, config.target), (Objective::Noise, Target::Image));
        assert_eq!((config.scale, config.name.as_str()), (4, "tiny"));
        assert_eq!(config.licence, "unknown: as the source");
        assert_eq!(config.noise_schedule, NoiseSchedule::Linear { start: 1e-6, end: 1e-2, timesteps: 2000 });
        let golden = Golden::load("unet_ddpm_tiny.safetensors");
        assert_eq!(checkpoint.weights.len(), 162);
        for (name, (shape, values)) in &checkpoint.weights {
            let name = format!("model.{name}");
            assert_eq!(shape, golden.shape(&name));
            assert_eq!(values, golden.values(&name));
        }
        let temporary = tempfile::tempdir().unwrap();
        assert_eq!(checkpoint.write_folder(temporary.path()).unwrap(), checkpoint.digest);
        assert_eq!(Checkpoint::read_folder(temporary.path()).unwrap(), checkpoint);
        digests.push(checkpoint.digest);
    }
    assert_eq!(digests[0], digests[1], "both formats hold the same weights");
}

#[test]
fn presets_use_the_levels_of_the_training_schedule() {
    let options = ConvertOptions { norm_groups: 8, image_size: 16, ..ConvertOptions::default() };
    let pth = std::fs::read(fixture("jan_tiny_gen.pth")).unwrap();
    let config = convert(&pth, &options).unwrap().config;
    let counts: BTreeMap<_, _> =
        config.presets.iter().map(|(name, preset)| (name.as_str(), preset.noise_levels().len())).collect();
    assert_eq!(counts, BTreeMap::from([("default", 50), ("fast", 20), ("fine", 100), ("reference", 2000)]));
    assert!(matches!(config.presets["reference"], SamplerPreset::AncestralPosterior { .. }));

    let buffers = Golden::load("jan_tiny_gen_buffers.safetensors");
    let trained: Vec<f32> = buffers.values("sqrt_alphas_cumprod").iter().rev().copied().collect();
    let reference = config.presets["reference"].noise_levels();
    for (level, trained) in reference.iter().zip(&trained) {
        assert!((*level as f32 - trained).abs() <= trained * f32::EPSILON, "{level} {trained}");
    }
    for preset in config.presets.values() {
        let levels = preset.noise_levels();
        assert_eq!((levels.first(), levels.last()), (reference.first(), reference.last()));
        assert!(levels.iter().all(|level| reference.contains(level)));
    }
}

#[test]
fn conversion_options_that_make_no_sense_are_refused() {
    let pth = std::fs::read(fixture("jan_tiny_gen.pth")).unwrap();
    let good =
        ConvertOptions { norm_groups: 8, image_size: 16, scale: 4, name: "tiny".to_string(), adm: None };
    assert!(convert(&pth, &ConvertOptions { scale: 0, ..good.clone() }).is_err());
    assert!(convert(&pth, &ConvertOptions { name: "a/b".to_string(), ..good.clone() }).is_err());
    assert!(convert(&pth[..1000], &good).is_err());
    let views = std::fs::read(fixture("pth_views.pth")).unwrap();
    assert!(matches!(convert(&views, &good).unwrap_err(), ImportError::NotThisLayout { .. }));
}
