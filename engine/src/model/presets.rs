//! The published networks by name.

use super::config::{Layout, UNetConfig};

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

/// The networks of the paper (its table of architectures) and of the public implementation's configuration files.
///
/// The paper does not say where blocks attend; attention at 16 pixels and in the middle gives its parameter counts to
/// within 4 %.
#[must_use]
pub fn presets() -> Vec<Preset> {
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
    };
    let public =
        |mults: &[usize], norm_groups, attn_res: &[usize], res_blocks, dropout, image_size| UNetConfig {
            layout: Layout::Janspiry,
            norm_groups,
            attn_res: attn_res.to_vec(),
            ..paper(64, mults, res_blocks, dropout, image_size)
        };
    let preset = |name, task, published_millions, config| Preset { name, task, published_millions, config };
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
        for name in ["sr3-16-128", "sr3-64-256", "sr3-64-512", "sr3-256-1024"] {
            let (parameters, published) = count(name);
            let ratio = parameters as f64 / 1e6 / published.unwrap();
            assert!((ratio - 1.0).abs() < 0.04, "{name}: {parameters} parameters, {ratio} of the published");
        }
    }
}
