//! Checkpoints of guided-diffusion and improved-diffusion as users have them.

use std::collections::BTreeMap;

use crate::common::adm::{Tiny, flags_of};
use crate::common::fixture;
use serde_json::Value;
use sr3_engine::diffusion::Objective;
use sr3_engine::model::checkpoint::{Checkpoint, NoiseSchedule, ResizeFilter, SamplerPreset};
use sr3_engine::model::import::{AdmFlags, ConvertOptions, ImportError, convert, infer_adm, read_pth};
use sr3_engine::model::tensors::{Dtype, HostTensor, ReadLimits, TensorMap};
use sr3_engine::model::{Graph, Layout, UNetConfig};

fn read(name: &str) -> TensorMap {
    read_pth(&std::fs::read(fixture(&format!("adm/{name}"))).unwrap(), &ReadLimits::default()).unwrap()
}

/// Tensors of zeros, of these shapes and this type.
fn zeros(shapes: impl Iterator<Item = (String, Vec<usize>)>, dtype: Dtype) -> TensorMap {
    let tensor = |shape: Vec<usize>| {
        let data = vec![0; shape.iter().product::<usize>() * dtype.size()];
        HostTensor { dtype, shape, data }
    };
    shapes.map(|(name, shape)| (name, tensor(shape))).collect()
}

/// The tensors that a file of a network of this configuration would hold.
fn file_of(config: &UNetConfig) -> TensorMap {
    let graph = Graph::build(config).unwrap();
    let of_line = |name: &str| name.ends_with("qkv.weight") || name.ends_with("proj_out.weight");
    let shapes = graph.params.into_iter().map(|mut p| {
        p.shape.truncate(if of_line(&p.name) { 3 } else { 4 });
        (p.name, p.shape)
    });
    zeros(shapes, Dtype::F16)
}

#[test]
fn parameters_and_views_of_shared_storages_hold_the_same_numbers() {
    let (parameters, views) = (read("adm_pickle_parameters.pt"), read("adm_sr_tiny.pt"));
    assert_eq!((parameters.len(), views.len()), (4, 217));
    for (name, tensor) in &parameters {
        assert_eq!(tensor, &views[name], "{name}");
    }
}

#[test]
fn both_tiny_networks_are_what_their_flags_say() {
    for (name, layout, attn_res) in
        [("adm_sr_tiny", Layout::Adm, [32, 8]), ("adm_base_tiny", Layout::Adm, [16, 8])]
    {
        let tiny = Tiny::load(name);
        let stated: Value = serde_json::from_str(&tiny.golden.metadata["config"]).unwrap();
        let config = &tiny.config;
        let of_levels = |n: &str| stated["architecture"][n].clone();
        assert_eq!(config.layout, layout);
        assert_eq!(config.attn_res, attn_res);
        assert_eq!(serde_json::to_value(&config.channel_mults).unwrap(), of_levels("channel_mult"));
        assert_eq!(config.res_blocks as u64, of_levels("num_res_blocks").as_u64().unwrap());
        assert_eq!((config.classes, config.learned_variance, config.use_affine_level), (10, true, true));
    }
}

/// An uncommon network of improved-diffusion, found by its names alone.
#[test]
fn convolutions_that_resample_tell_improved_diffusion() {
    let base = Tiny::load("adm_base_tiny");
    for (use_affine_level, classes, out_channel) in [(true, 0, 6), (false, 3, 3)] {
        let config = UNetConfig {
            layout: Layout::Iddpm,
            use_affine_level,
            classes,
            out_channel,
            learned_variance: out_channel == 6,
            timestep_scale: 0.25,
            ..base.config.clone()
        };
        let flags = AdmFlags { diffusion_steps: 4000, rescale_timesteps: true, ..base.flags };
        let found = infer_adm(file_of(&config), Some(&flags)).unwrap();
        assert_eq!(found.config, config);
    }
}

#[test]
fn a_network_that_is_not_known_needs_its_flags() {
    assert!(matches!(infer_adm(read("adm_sr_tiny.pt"), None), Err(ImportError::Flags)));
}

#[test]
fn what_is_not_one_network_is_refused() {
    let flags = Tiny::load("adm_sr_tiny").flags;
    let refused = |change: &dyn Fn(&mut TensorMap)| {
        let mut tensors = read("adm_sr_tiny.pt");
        change(&mut tensors);
        infer_adm(tensors, Some(&flags)).unwrap_err()
    };
    let missing = refused(&|t| drop(t.remove("middle_block.1.norm.bias")));
    assert!(matches!(missing, ImportError::Weights { .. }), "{missing}");
    let extra = refused(&|t| {
        let tensor = t["out.0.bias"].clone();
        t.insert("ema.decay".to_string(), tensor);
    });
    assert!(matches!(extra, ImportError::Weights { .. }), "{extra}");
    let level = refused(&|t| drop(t.remove("output_blocks.3.1.in_layers.2.weight")));
    assert!(matches!(level, ImportError::Lacks { .. }), "{level}");
    for name in ["input_blocks.0.0.weight", "out.2.weight", "input_blocks.1.0.emb_layers.1.weight"] {
        for shape in [vec![], vec![0], vec![0, 0, 0, 0], vec![7, 1, 2]] {
            let data = vec![0; shape.iter().product::<usize>() * 4];
            let tensor = HostTensor { dtype: Dtype::F32, shape, data };
            refused(&|t| drop(t.insert(name.to_string(), tensor.clone())));
        }
    }
    for image_size in [0, 2, 33] {
        let flags = AdmFlags { image_size, ..flags };
        let error = infer_adm(read("adm_sr_tiny.pt"), Some(&flags)).unwrap_err();
        assert!(matches!(error, ImportError::ImageSize { .. }), "{error}");
    }
}

#[test]
fn a_converted_checkpoint_says_how_it_is_used_and_survives_its_files() {
    let bytes = std::fs::read(fixture("adm/adm_sr_tiny.pt")).unwrap();
    let tiny = Tiny::load("adm_sr_tiny");
    let options =
        ConvertOptions { name: "tiny".to_string(), adm: Some(tiny.flags), ..ConvertOptions::default() };
    let checkpoint = convert(&bytes, &options).unwrap();
    let config = &checkpoint.config;
    assert_eq!((config.scale, config.objective, &config.model), (4, Objective::Noise, &tiny.config));
    assert_eq!(config.upsample.filter, ResizeFilter::Bilinear);
    assert_eq!(config.degradation.downsample, ResizeFilter::Area);
    assert_eq!(config.noise_schedule, NoiseSchedule::Linear { start: 1e-4, end: 0.02, timesteps: 1000 });
    let process = config.noise_schedule.process().unwrap();
    let timesteps = |preset: &str| -> Vec<f64> {
        config.presets[preset].noise_levels().iter().map(|level| process.timestep_of(*level)).collect()
    };
    assert!(matches!(config.presets["fine"], SamplerPreset::AncestralLearned { .. }));
    assert_eq!((timesteps("fine").len(), timesteps("fine")[0]), (250, 999.0));
    assert_eq!(timesteps("fast")[24], 0.0);

    let encoded = checkpoint.encode().unwrap();
    let [(_, weights), (_, json)] = &encoded.files;
    assert_eq!(Checkpoint::from_bytes(json, weights).unwrap(), checkpoint);
}

#[test]
fn flags_of_published_networks_are_read_as_they_are_written() {
    let json = std::fs::read(fixture("adm/adm_released_models.json")).unwrap();
    let models: BTreeMap<String, Value> = serde_json::from_slice(&json).unwrap();
    let scale = |file: &str| flags_of(&models[file]["flags"]).scale;
    assert_eq!((scale("64_256_upsampler.pt"), scale("64x64_diffusion.pt")), (4, 1));
    assert!(flags_of(&models["64x64_diffusion.pt"]["flags"]).new_attention_order);
}
