//! The tiny networks of guided-diffusion: their files are read as a user's are.

use std::collections::BTreeMap;

use serde_json::Value;
use sr3_engine::model::import::{AdmFlags, AdmNetwork, AdmSchedule, infer_adm, read_pth};
use sr3_engine::model::tensors::ReadLimits;
use sr3_engine::model::{Conditions, Graph, Heads, UNetConfig, Weights};

use super::{Golden, fixture};

/// The flags that a reference's set of flags holds.
pub fn flags_of(flags: &Value) -> AdmFlags {
    let number = |name: &str| flags[name].as_i64();
    let image_size = number("image_size").or(number("large_size")).unwrap() as usize;
    AdmFlags {
        image_size,
        scale: number("small_size").map_or(1, |small| image_size / small as usize),
        heads: match number("num_head_channels") {
            Some(channels) if channels > 0 => Heads::Channels(channels as usize),
            _ => Heads::Count(number("num_heads").unwrap() as usize),
        },
        new_attention_order: flags["use_new_attention_order"].as_bool().unwrap_or(false),
        noise_schedule: match flags["noise_schedule"].as_str().unwrap() {
            "cosine" => AdmSchedule::Cosine,
            _ => AdmSchedule::Linear,
        },
        diffusion_steps: number("diffusion_steps").unwrap() as usize,
        rescale_timesteps: flags["rescale_timesteps"].as_bool().unwrap(),
    }
}

/// A tiny network and its golden numbers.
pub struct Tiny {
    pub golden: Golden,
    pub config: UNetConfig,
    pub weights: Weights,
    pub flags: AdmFlags,
    /// Which of `golden`'s tensors are inputs: images in, with what comes before them.
    pub has_low_res: bool,
}

/// What a network is shown.
pub struct Shown {
    /// N, H, W.
    pub shape: [usize; 3],
    /// (N, H, W, C).
    pub input: Vec<f32>,
    pub timesteps: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Shown {
    pub fn conditions(&self) -> Conditions<'_> {
        Conditions { noise: &self.timesteps, labels: &self.labels }
    }
}

impl Tiny {
    /// `adm_sr_tiny` or `adm_base_tiny`.
    pub fn load(name: &str) -> Self {
        let golden = Golden::load(&format!("adm/{name}.safetensors"));
        let stated: Value = serde_json::from_str(&golden.metadata["config"]).unwrap();
        let flags = flags_of(&stated["flags"]);
        let bytes = std::fs::read(fixture(&format!("adm/{name}.pt"))).unwrap();
        let tensors = read_pth(&bytes, &ReadLimits::default()).unwrap();
        let AdmNetwork { published, config, flags, weights } = infer_adm(tensors, Some(&flags)).unwrap();
        assert_eq!(published, None);
        Self { has_low_res: config.in_channel == 6, golden, config, weights, flags }
    }

    pub fn graph(&self) -> Graph {
        Graph::build(&self.config).unwrap()
    }

    /// The images under `prefix` (`""` or `"rect."`).
    pub fn shown(&self, prefix: &str) -> Shown {
        let golden = &self.golden;
        let name = |what: &str| format!("{prefix}{what}");
        let &[n, _, height, width] = golden.shape(&name("x")) else { panic!() };
        let x = golden.channels_last(&name("x"));
        let low_res = self.has_low_res.then(|| {
            let &[_, _, h, w] = golden.shape(&name("low_res")) else { panic!() };
            enlarge(&golden.channels_last(&name("low_res")), n, [h, w], [height, width])
        });
        Shown {
            shape: [n, height, width],
            input: join(low_res.as_deref(), &x),
            timesteps: golden.values(&name("timesteps")).to_vec(),
            labels: golden.values(&name("y")).iter().map(|label| *label as u32).collect(),
        }
    }
}

/// Bilinear enlargement of N images of 3 channels.
pub fn enlarge(low: &[f32], n: usize, from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    use sr3_engine::ops::resize::{Filter, ResizePlan};
    let plan = ResizePlan::new(Filter::Bilinear, from, to);
    let mut high = vec![0.0; n * to[0] * to[1] * 3];
    for (low, high) in low.chunks(low.len() / n).zip(high.chunks_mut(to[0] * to[1] * 3)) {
        plan.apply(low, 3, high);
    }
    high
}

/// Pixels of the condition, where there is one, beside those of the noisy image.
pub fn join(condition: Option<&[f32]>, x: &[f32]) -> Vec<f32> {
    let Some(condition) = condition else { return x.to_vec() };
    condition.chunks(3).zip(x.chunks(3)).flat_map(|(a, b)| [a, b].concat()).collect()
}

/// The values of a parameter (or its gradient) of this engine in the reference's order: the noisy image's channels before the
/// condition's, and legacy attention head by head.
pub fn in_reference_order(tiny: &Tiny, name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    let row: usize = shape[1..].iter().product();
    for (i, value) in values.iter().enumerate() {
        let (o, rest) = (i / row, i % row);
        let at = if name == "input_blocks.0.0.weight" && tiny.has_low_res {
            let channel = (rest / 9 + 3) % 6;
            o * row + channel * 9 + rest % 9
        } else if name.contains(".qkv.") && !tiny.flags.new_attention_order {
            let width = shape[0] / 3;
            let c = width / tiny.config.heads.of(width);
            let (part, head, channel) = (o / width, o % width / c, o % c);
            (head * 3 * c + part * c + channel) * row + rest
        } else {
            i
        };
        out[at] = *value;
    }
    out
}

/// The parameters of a graph with their values, by name, in the reference's order.
pub fn by_name(tiny: &Tiny, graph: &Graph, values: &[Vec<f32>]) -> BTreeMap<String, Vec<f32>> {
    let named = graph.params.iter().zip(values);
    named.map(|(p, values)| (p.name.clone(), in_reference_order(tiny, &p.name, &p.shape, values))).collect()
}
