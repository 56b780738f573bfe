//! Tensors taken out of a file's by name, each of its shape and finite, so that nothing is left over or made up.

use std::borrow::Cow;
use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::VisionError;
use crate::model::tensors::{Dtype, TensorMap, one_line};

/// Of every batch norm here: TensorFlow's default.
const EPS: f64 = 1e-3;

/// Takes tensors out by name, and remembers which.
pub(super) struct Taken<'a> {
    tensors: Cow<'a, TensorMap>,
    used: BTreeSet<String>,
}

impl<'a> Taken<'a> {
    pub(super) const fn new(tensors: &'a TensorMap) -> Self {
        Self { tensors: Cow::Borrowed(tensors), used: BTreeSet::new() }
    }

    /// There are none.
    pub(super) const fn none() -> Taken<'static> {
        Taken { tensors: Cow::Owned(TensorMap::new()), used: BTreeSet::new() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Its values, if it has this shape.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, VisionError> {
        let tensor = self.tensors.get(name).ok_or_else(|| VisionError::Missing { name: name.to_string() })?;
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

    /// A variance, which is not below zero.
    pub(super) fn variance(&mut self, name: &str, channels: usize) -> Result<Vec<f32>, VisionError> {
        let values = self.take(name, &[channels])?;
        match values.iter().any(|v| *v < 0.0) {
            true => Err(VisionError::Values { name: name.to_string() }),
            false => Ok(values),
        }
    }

    /// A batch norm as PyTorch's modules name its parts.
    pub(super) fn norm(&mut self, layer: &str, channels: usize) -> Result<Norm, VisionError> {
        let [scale, shift, mean] =
            ["weight", "bias", "running_mean"].map(|part| self.take(&format!("{layer}.{part}"), &[channels]));
        let (scale, shift, mean) = (scale?, shift?, mean?);
        let variance = self.variance(&format!("{layer}.running_var"), channels)?;
        self.used.insert(format!("{layer}.num_batches_tracked"));
        Ok(Norm { scale, shift, mean, variance })
    }

    /// An error where something was left.
    pub(super) fn finish(self) -> Result<(), VisionError> {
        match self.tensors.keys().find(|name| !self.used.contains(*name)) {
            Some(name) => Err(VisionError::Extra { name: one_line(name) }),
            None => Ok(()),
        }
    }
}

/// A batch norm that is not trained any more: (C) each.
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) variance: Vec<f32>,
}

impl Norm {
    /// Multiplied into the weights before it, (C, …); the bias that it becomes. In f64, rounded once.
    pub(super) fn fold(&self, weights: &mut [f32]) -> Vec<f32> {
        let inputs = weights.len() / self.scale.len();
        let mut bias = Vec::with_capacity(self.scale.len());
        for (channel, weights) in weights.chunks_exact_mut(inputs).enumerate() {
            let factor = f64::from(self.scale[channel]) / (f64::from(self.variance[channel]) + EPS).sqrt();
            weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
            bias.push(f64::from(self.mean[channel]).mul_add(-factor, f64::from(self.shift[channel])) as f32);
        }
        bias
    }
}

/// The sha256 of all that is f32, in the order of the names: of a network's weights, whatever file they came in.
pub(super) fn digest(tensors: &TensorMap) -> String {
    let mut digest = Sha256::new();
    tensors
        .values()
        .filter(|tensor| tensor.dtype == Dtype::F32)
        .for_each(|tensor| digest.update(&tensor.data));
    hex(digest)
}

pub(super) fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
