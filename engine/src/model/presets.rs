//! The published networks by name.

use super::checkpoint::{
    CheckpointConfig, Degradation, FORMAT, NoiseSchedule, ResizeFilter, SamplerPreset, Target, Upsample,
};
use super::config::{Conditioning, Heads, Layout, UNetConfig};
use crate::diffusion::{LevelSpacing, Objective};

/// A published network.
#[derive(Clone, Debug)]
pub struct Preset {
    /// What `sr3 models info` takes.
    pub name: &'static str,
    /// What it is for.
    pub task: &'static str,
    /// Parameters in millions as published; `None` where the source gives none.
    pub published_millions: Option<f64>,
    /// Side of the pictures that it enlarges; none of one that makes pictures of noise.
    pub low_res: Option<usize>,
    /// Its shape.
    pub config: UNetConfig,
}

impl Preset {
    /// What a checkpoint of it says of itself before there is one: for plans, not for samples. Its sampler has 50 steps even in
    /// log-SNR, and its digest is of nothing.
    #[must_use]
    pub fn untrained(&self) -> CheckpointConfig {
        let noise_schedule = match self.config.layout.conditioning() {
            Conditioning::NoiseLevel => NoiseSchedule::Linear { start: 1e-6, end: 0.01, timesteps: 2000 },
            Conditioning::Timestep => NoiseSchedule::Cosine { timesteps: 4000, s: 0.008 },
        };
        let noise_levels =
            LevelSpacing::LogSnr { first: -7.0, last: 9.0 }.levels(50).unwrap_or_else(|_| vec![0.5]);
        let high_res = self.config.image_size.unwrap_or(1);
        let preset = SamplerPreset::Ddim { eta: 0.0, noise_levels };
        CheckpointConfig {
            format: FORMAT.to_string(),
            name: self.name.to_string(),
            scale: self.low_res.map_or(1, |low_res| high_res / low_res),
            model: self.config.clone(),
            objective: Objective::Noise,
            target: Target::Image,
            residual_scale: 1.0,
            upsample: Upsample { filter: ResizeFilter::Bicubic, a: -0.5, clamp: Some([-1.0, 1.0]) },
            degradation: Degradation::PAPER,
            noise_schedule,
            tile: None,
            presets: [("default".to_string(), preset)].into(),
            default_preset: "default".to_string(),
            class_names: Vec::new(),
            any_class: false,
            licence: "none".to_string(),
            credits: Vec::new(),
            sha256: "0".repeat(64),
            provenance: None,
        }
    }
}

/// The networks of the paper (its table of architectures), of the public implementation's configuration files, and those
/// whose weights openai/guided-diffusion and openai/improved-diffusion publish.
///
/// The paper does not say where blocks attend; attention at 16 pixels and in the middle gives its parameter counts to
/// within 4 %.
#[must_use]
pub fn presets() -> Vec<Preset> {
    [sr3(), adm()].concat()
}

fn sr3() -> Vec<Preset> {
    let paper = |inner_channel, mults: &[usize], res_blocks, dropout, image_size| UNetConfig {
        layout: Layout::Paper,
        in_channel: 6,
        out_channel: 3,
        inner_channel,
        norm_groups: if inner_channel < 32 { 16 } else { 32 },
        channel_mults: mults.to_vec(),
        attn_res: vec![16],
        res_blocks,
        dropout,
        use_affine_level: false,
        image_size: Some(image_size),
        heads: Heads::ONE,
        classes: 0,
        learned_variance: false,
        timestep_scale: 1.0,
    };
    let public =
        |mults: &[usize], norm_groups, attn_res: &[usize], res_blocks, dropout, image_size| UNetConfig {
            layout: Layout::Janspiry,
            norm_groups,
            attn_res: attn_res.to_vec(),
            ..paper(64, mults, res_blocks, dropout, image_size)
        };
    vec![
        preset(
            "sr3-16-128",
            "faces 16→128",
            Some(550.0),
            Some(16),
            paper(128, &[1, 2, 4, 8, 8], 3, 0.2, 128),
        ),
        preset(
            "sr3-64-256",
            "faces and natural images 64→256",
            Some(625.0),
            Some(64),
            paper(128, &[1, 2, 4, 4, 8, 8], 3, 0.0, 256),
        ),
        preset(
            "sr3-64-512",
            "faces 64→512",
            Some(625.0),
            Some(64),
            paper(64, &[1, 2, 4, 8, 8, 16, 16], 3, 0.0, 512),
        ),
        preset(
            "sr3-256-1024",
            "faces 256→1024",
            Some(150.0),
            Some(256),
            paper(16, &[1, 2, 4, 8, 16, 32, 32, 32], 2, 0.0, 1024),
        ),
        preset(
            "janspiry-16-128",
            "faces 16→128",
            None,
            Some(16),
            public(&[1, 2, 4, 8, 8], 32, &[16], 2, 0.2, 128),
        ),
        preset(
            "janspiry-64-512",
            "faces 64→512",
            None,
            Some(64),
            public(&[1, 2, 4, 8, 16], 16, &[], 1, 0.0, 512),
        ),
    ]
}

const fn preset(
    name: &'static str,
    task: &'static str,
    published_millions: Option<f64>,
    low_res: Option<usize>,
    config: UNetConfig,
) -> Preset {
    Preset { name, task, published_millions, low_res, config }
}

/// Of ImageNet's 1,000 classes, where they have any; all learn the variance.
fn adm() -> Vec<Preset> {
    let network = |layout, in_channel, inner_channel, mults: &[usize], res_blocks, image_size| UNetConfig {
        layout,
        in_channel,
        out_channel: 6,
        inner_channel,
        norm_groups: 32,
        channel_mults: mults.to_vec(),
        attn_res: vec![32, 16, 8],
        res_blocks,
        dropout: 0.0,
        use_affine_level: true,
        image_size: Some(image_size),
        heads: Heads::Count(4),
        classes: 1000,
        learned_variance: true,
        timestep_scale: 1.0,
    };
    let (base, upsampler) = (&[1, 2, 3, 4], &[1, 1, 2, 2, 4, 4]);
    let adm_64 =
        UNetConfig { heads: Heads::Channels(64), dropout: 0.1, ..network(Layout::Adm, 3, 192, base, 3, 64) };
    let adm_128_512 = UNetConfig {
        heads: Heads::Channels(64),
        attn_res: vec![32, 16],
        ..network(Layout::Adm, 6, 192, upsampler, 2, 512)
    };
    let iddpm = |in_channel, inner_channel, mults, res_blocks, image_size| UNetConfig {
        attn_res: vec![16, 8],
        ..network(Layout::Iddpm, in_channel, inner_channel, mults, res_blocks, image_size)
    };
    // The one whose timesteps were rescaled, from 4,000 to the range of 1,000.
    let uncond = UNetConfig { classes: 0, timestep_scale: 0.25, ..iddpm(3, 128, base, 3, 64) };
    vec![
        preset("adm-64", "natural images by class, 64", Some(296.0), None, adm_64),
        preset(
            "adm-64-256",
            "natural images by class 64→256",
            Some(312.0),
            Some(64),
            network(Layout::Adm, 6, 192, upsampler, 2, 256),
        ),
        preset("adm-128-512", "natural images by class 128→512", Some(309.0), Some(128), adm_128_512),
        preset("iddpm-64-cond", "natural images by class, 64", Some(270.0), None, iddpm(3, 192, base, 3, 64)),
        preset("iddpm-64-uncond", "natural images, 64", Some(121.0), None, uncond),
        preset(
            "iddpm-64-256",
            "natural images by class 64→256",
            Some(280.0),
            Some(64),
            iddpm(6, 192, upsampler, 2, 256),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Graph;

    #[test]
    fn a_plan_is_a_configuration_that_reads_back() {
        for preset in presets() {
            let text = serde_json::to_vec(&preset.untrained()).unwrap();
            let read = CheckpointConfig::from_json(&text, preset.name).unwrap();
            assert_eq!(read.scale == 1, preset.low_res.is_none(), "{}", preset.name);
        }
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let count = |name: &str| {
            let preset = presets().into_iter().find(|p| p.name == name).unwrap();
            (Graph::build(&preset.config).unwrap().parameter_count(), preset.published_millions)
        };
        assert_eq!(count("janspiry-16-128").0, 97_807_491);
        assert_eq!(count("adm-64").0, 295_904_454);
        assert_eq!(count("adm-64-256").0, 311_795_910);
        assert_eq!(count("adm-128-512").0, 308_835_270);
        for name in ["iddpm-64-cond", "iddpm-64-uncond", "iddpm-64-256"] {
            let (parameters, published) = count(name);
            let ratio = parameters as f64 / 1e6 / published.unwrap();
            assert!((ratio - 1.0).abs() < 0.015, "{name}: {parameters} parameters, {ratio} of the published");
        }
        for name in ["sr3-16-128", "sr3-64-256", "sr3-64-512", "sr3-256-1024"] {
            let (parameters, published) = count(name);
            let ratio = parameters as f64 / 1e6 / published.unwrap();
            assert!((ratio - 1.0).abs() < 0.04, "{name}: {parameters} parameters, {ratio} of the published");
        }
    }
}
