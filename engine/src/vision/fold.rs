//! Inception's weights under the names of two kinds of files, with each batch norm multiplied into its convolution; or drawn.

use std::borrow::Cow;
use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::VisionError;
use crate::diffusion::NoiseSource;
use crate::model::tensors::{HostTensor, TensorMap, one_line};

/// Of every batch norm.
const EPS: f64 = 1e-3;

/// A layer's names: pytorch-fid's and the TorchScript's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// Such as `Mixed_5b.branch5x5_2`.
    pub(super) module: &'a str,
    /// Such as `mixed.tower.conv_1`.
    pub(super) script: &'a str,
}

/// Takes tensors out by name, and remembers which.
pub(super) struct Layers<'a> {
    tensors: Cow<'a, TensorMap>,
    scripted: bool,
    used: BTreeSet<String>,
    digest: Sha256,
    /// Decides what layers that are not there are like.
    seed: Option<u64>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(tensors: &'a TensorMap) -> Self {
        let scripted = tensors.contains_key("net.layers.conv.weight");
        let tensors = Cow::Borrowed(tensors);
        Self { tensors, scripted, used: BTreeSet::new(), digest: Sha256::new(), seed: None }
    }

    /// Layers that are drawn when they are asked for.
    pub(super) fn drawn(seed: u64) -> Layers<'static> {
        let (tensors, digest) = (Cow::Owned(TensorMap::new()), Sha256::new());
        Layers { tensors, scripted: false, used: BTreeSet::new(), digest, seed: Some(seed) }
    }

    /// A convolution's OIHW weights and bias, the norm in them. Folded in f64, rounded once.
    pub(super) fn convolution(
        &mut self,
        names: Names<'_>,
        oihw: [usize; 4],
    ) -> Result<(Vec<f32>, Vec<f32>), VisionError> {
        let outputs = oihw[0];
        if let Some(seed) = self.seed {
            let weight = draw(seed, names.module, oihw);
            weight.iter().for_each(|v| self.digest.update(v.to_le_bytes()));
            return Ok((weight, vec![0.0; outputs]));
        }
        let (layer, parts) = if self.scripted {
            (format!("net.layers.{}", names.script), ["weight", "beta", "mean", "var"])
        } else {
            let parts = ["conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"];
            (names.module.to_string(), parts)
        };
        let [weight, shift, mean, variance] = parts.map(|part| format!("{layer}.{part}"));
        let mut weight = self.take(&weight, &oihw)?;
        let [shift, mean] = [shift, mean].map(|name| self.take(&name, &[outputs]));
        let (shift, mean) = (shift?, mean?);
        let name = variance;
        let variance = self.take(&name, &[outputs])?;
        if variance.iter().any(|v| *v < 0.0) {
            return Err(VisionError::Values { name });
        }
        let scale = match format!("{layer}.bn.weight") {
            // The original network has none: 1 everywhere.
            _ if self.scripted => vec![1.0; outputs],
            name => self.take(&name, &[outputs])?,
        };
        self.used.insert(format!("{layer}.bn.num_batches_tracked"));
        // Scales of 1 are left out: files without them hold the same network.
        let scales: &[f32] = if scale.iter().all(|v| *v == 1.0) { &[] } else { &scale };
        let hashed = [&weight, &shift, &mean, &variance].into_iter().flatten().chain(scales);
        hashed.for_each(|v| self.digest.update(v.to_le_bytes()));
        let inputs = weight.len() / outputs;
        let mut bias = Vec::with_capacity(outputs);
        for (o, weights) in weight.chunks_exact_mut(inputs).enumerate() {
            let factor = f64::from(scale[o]) / (f64::from(variance[o]) + EPS).sqrt();
            weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
            bias.push((f64::from(mean[o]).mul_add(-factor, f64::from(shift[o]))) as f32);
        }
        Ok((weight, bias))
    }

    /// The classifier's weights, (classes, features), if the file has them. Its bias is known, and not used.
    pub(super) fn classifier(
        &mut self,
        classes: usize,
        features: usize,
    ) -> Result<Option<Vec<f32>>, VisionError> {
        if !self.tensors.contains_key("fc.weight") {
            return Ok(None);
        }
        let weights = self.take("fc.weight", &[classes, features])?;
        self.take("fc.bias", &[classes])?;
        Ok(Some(weights))
    }

    /// The sha256 of all convolutions that were taken; an error where something was left.
    pub(super) fn finish(self) -> Result<String, VisionError> {
        if let Some(name) = self.tensors.keys().find(|name| !self.used.contains(*name)) {
            return Err(VisionError::Extra { name: one_line(name) });
        }
        Ok(self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, VisionError> {
        let tensor: &HostTensor =
            self.tensors.get(name).ok_or_else(|| VisionError::Missing { name: name.to_string() })?;
        if tensor.shape != shape {
            let (name, found, expected) = (name.to_string(), tensor.shape.clone(), shape.to_vec());
            return Err(VisionError::Shape { name, found, expected });
        }
        let values = tensor.to_f32();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(VisionError::Values { name: name.to_string() });
        }
        self.used.insert(name.to_string());
        Ok(values)
    }
}

/// Uniform weights of variance 2 / fan-in, which keep what goes through rectifiers of one size.
fn draw(seed: u64, layer: &str, [o, i, height, width]: [usize; 4]) -> Vec<f32> {
    let fan_in = i * height * width;
    let radius = (6.0 / fan_in as f64).sqrt();
    let source = NoiseSource::new(seed, &format!("weight\u{0}{layer}"));
    let mut values = vec![0.0; o * fan_in];
    for (block, values) in values.chunks_mut(4).enumerate() {
        for (value, word) in values.iter_mut().zip(source.words(block as u32, 0)) {
            *value = (((f64::from(word) + 0.5) / 2_147_483_648.0 - 1.0) * radius) as f32;
        }
    }
    values
}
