//! What the fixture tests share: loading golden numbers and comparing with them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part of this, and a panic is a failure"
)]

pub mod adm;

use std::collections::BTreeMap;
use std::path::PathBuf;

use sr3_engine::model::{UNetConfig, Weights};

/// A file under `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

/// The tensors of one safetensors fixture, as f32 (f64 ones rounded), with its metadata.
pub struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub metadata: BTreeMap<String, String>,
}

impl Golden {
    pub fn load(name: &str) -> Self {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let data = view.data();
                let values = match view.dtype() {
                    safetensors::Dtype::F32 => {
                        data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
                    }
                    safetensors::Dtype::F64 => {
                        data.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect()
                    }
                    safetensors::Dtype::U8 => data.iter().map(|&b| f32::from(b)).collect(),
                    safetensors::Dtype::I64 => {
                        data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f32).collect()
                    }
                    other => panic!("{name}: {other:?} is not read here"),
                };
                (name.to_string(), (view.shape().to_vec(), values))
            })
            .collect();
        Self { tensors, metadata }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).0
    }

    pub fn values(&self, name: &str) -> &[f32] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).1
    }

    /// A (N, C, H, W) tensor in the order (N, H, W, C).
    pub fn channels_last(&self, name: &str) -> Vec<f32> {
        let &[n, c, h, w] = self.shape(name) else { panic!("{name} has not four axes") };
        to_channels_last(self.values(name), [n, c, h, w])
    }
}

/// (N, C, H, W) → (N, H, W, C).
pub fn to_channels_last(values: &[f32], [n, c, h, w]: [usize; 4]) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (i, v) in values.iter().enumerate() {
        let (ni, ci, p) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
        out[(ni * h * w + p) * c + ci] = *v;
    }
    assert_eq!(values.len(), n * c * h * w);
    out
}

/// Largest absolute difference; NaN anywhere is infinite.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

/// Largest magnitude.
pub fn max_magnitude(a: &[f32]) -> f32 {
    a.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// A U-Net fixture's network: its configuration (the metadata has the public implementation's keys) and weights.
pub fn golden_network(golden: &Golden) -> (UNetConfig, Weights) {
    let mut config: serde_json::Value = serde_json::from_str(&golden.metadata["config"]).unwrap();
    let fields = config.as_object_mut().unwrap();
    fields.remove("with_noise_level_emb");
    fields.insert("layout".into(), "janspiry".into());
    let weight = |full: &str| {
        let name = full.strip_prefix("model.")?;
        Some((name.to_string(), (golden.shape(full).to_vec(), golden.values(full).to_vec())))
    };
    (serde_json::from_value(config).unwrap(), golden.names().filter_map(weight).collect())
}
