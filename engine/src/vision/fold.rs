//! Inception's weights under the names of two kinds of files, with each batch norm multiplied into its convolution; or drawn.

use sha2::{Digest, Sha256};

use super::VisionError;
use super::taken::{Norm, Taken, hex};
use crate::diffusion::NoiseSource;
use crate::model::tensors::TensorMap;

/// A layer's names: pytorch-fid's and the TorchScript's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// Such as `Mixed_5b.branch5x5_2`.
    pub(super) module: &'a str,
    /// Such as `mixed.tower.conv_1`.
    pub(super) script: &'a str,
}

/// Takes layers out of a file's tensors.
pub(super) struct Layers<'a> {
    tensors: Taken<'a>,
    scripted: bool,
    digest: Sha256,
    /// Decides what layers that are not there are like.
    seed: Option<u64>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(tensors: &'a TensorMap) -> Self {
        let scripted = tensors.contains_key("net.layers.conv.weight");
        Self { tensors: Taken::new(tensors), scripted, digest: Sha256::new(), seed: None }
    }

    /// Layers that are drawn when they are asked for.
    pub(super) fn drawn(seed: u64) -> Layers<'static> {
        Layers { tensors: Taken::none(), scripted: false, digest: Sha256::new(), seed: Some(seed) }
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
        let (mut weight, norm) = match self.scripted {
            true => {
                let layer = format!("net.layers.{}", names.script);
                let weight = self.tensors.take(&format!("{layer}.weight"), &oihw)?;
                let shift = self.tensors.take(&format!("{layer}.beta"), &[outputs])?;
                let mean = self.tensors.take(&format!("{layer}.mean"), &[outputs])?;
                let variance = self.tensors.variance(&format!("{layer}.var"), outputs)?;
                // The original network has no scales: 1 everywhere.
                (weight, Norm { scale: vec![1.0; outputs], shift, mean, variance })
            }
            false => {
                let weight = self.tensors.take(&format!("{}.conv.weight", names.module), &oihw)?;
                (weight, self.tensors.norm(&format!("{}.bn", names.module), outputs)?)
            }
        };
        // Scales of 1 are left out: files without them hold the same network.
        let scales: &[f32] = if norm.scale.iter().all(|v| *v == 1.0) { &[] } else { &norm.scale };
        let hashed = [&weight, &norm.shift, &norm.mean, &norm.variance].into_iter().flatten().chain(scales);
        hashed.for_each(|v| self.digest.update(v.to_le_bytes()));
        let bias = norm.fold(&mut weight);
        Ok((weight, bias))
    }

    /// The classifier's weights, (classes, features), if the file has them. Its bias is known, and not used.
    pub(super) fn classifier(
        &mut self,
        classes: usize,
        features: usize,
    ) -> Result<Option<Vec<f32>>, VisionError> {
        if !self.tensors.has("fc.weight") {
            return Ok(None);
        }
        let weights = self.tensors.take("fc.weight", &[classes, features])?;
        self.tensors.take("fc.bias", &[classes])?;
        Ok(Some(weights))
    }

    /// The sha256 of all convolutions that were taken; an error where something was left.
    pub(super) fn finish(self) -> Result<String, VisionError> {
        self.tensors.finish()?;
        Ok(hex(self.digest))
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
