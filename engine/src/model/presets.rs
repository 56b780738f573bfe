//! The published networks by name.

use super::config::{Heads, Layout, UNetConfig};

/// A published network.
#[derive(Clone, Debug)]
pub struct Preset {
    /// What `sr3 models info` takes.
    pub name: &'static str,
    /// What it is for.
    pub task: &'static str,
    /// Parameters in millions as published; `None` where the source gives none.
    pub published_millions: Option<f64>,
    /// Its shape.
    pub config: UNetConfig,
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
        preset("sr3-16-128", "faces 16→128", Some(550.0), paper(128, &[1, 2, 4, 8, 8], 3, 0.2, 128)),
        preset(
            "sr3-64-256",
            "faces and natural images 64→256",
            Some(625.0),
            paper(128, &[1, 2, 4, 4, 8, 8], 3, 0.0, 256),
        ),
        preset("sr3-64-512", "faces 64→512", Some(625.0), paper(64, &[1, 2, 4, 8, 8, 16, 16], 3, 0.0, 512)),
        preset(
            "sr3-256-1024",
            "faces 256→1024",
            Some(150.0),
            paper(16, &[1, 2, 4, 8, 16, 32, 32, 32], 2, 0.0, 1024),
        ),
        preset("janspiry-16-128", "faces 16→128", None, public(&[1, 2, 4, 8, 8], 32, &[16], 2, 0.2, 128)),
        preset("janspiry-64-512", "faces 64→512", None, public(&[1, 2, 4, 8, 16], 16, &[], 1, 0.0, 512)),
    ]
}

const fn preset(
    name: &'static str,
    task: &'static str,
    published_millions: Option<f64>,
    config: UNetConfig,
) -> Preset {
    Preset { name, task, published_millions, config }
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
        preset("adm-64", "natural images by class, 64", Some(296.0), adm_64),
        preset(
            "adm-64-256",
            "natural images by class 64→256",
            Some(312.0),
            network(Layout::Adm, 6, 192, upsampler, 2, 256),
        ),
        preset("adm-128-512", "natural images by class 128→512", Some(309.0), adm_128_512),
        preset("iddpm-64-cond", "natural images by class, 64", Some(270.0), iddpm(3, 192, base, 3, 64)),
        preset("iddpm-64-uncond", "natural images, 64", Some(121.0), uncond),
        preset(
            "iddpm-64-256",
            "natural images by class 64→256",
            Some(280.0),
            iddpm(6, 192, upsampler, 2, 256),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Graph;

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
