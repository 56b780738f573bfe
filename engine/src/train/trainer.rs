//! A network that learns: gradients of grains, and the weights that they change.
//!
//! A *grain* is the unit of summation: its gradient's bits are a function of its examples, of how they are cut into calls,
//! and of the weights; not of threads, of the instruction set, or of what else is computed. Its loss is divided by the
//! whole batch, so that the sum over all grains is the gradient of the batch's mean.

use super::{Examples, Task};
use crate::diffusion::NoiseSource;
use crate::model::{CpuUNet, Denoiser, DenoiserError, Dropout, Graph, ModelError, UNetConfig, Weights};
use crate::ops::{Isa, Precision};

/// A network that learns, on the CPU.
pub struct Trainer {
    network: CpuUNet,
    task: Task,
    dropout: NoiseSource,
}

/// Why a grain has no gradient.
#[derive(Debug, thiserror::Error)]
pub enum GrainError {
    /// The network refuses it.
    #[error(transparent)]
    Network(#[from] DenoiserError),
    /// Its loss is no number.
    #[error("the loss of the sample at place {place} is {value}")]
    NotFinite {
        /// Place in the batch.
        place: u32,
        /// The loss.
        value: f64,
    },
}

impl Trainer {
    /// Builds the network and takes its weights. `isa` is the instruction set to use: [`Isa::detect`] finds the best; bits do
    /// not depend on it in f32.
    ///
    /// # Errors
    /// [`ModelError`] where the configuration describes no network or the weights are not its own.
    pub fn new(
        config: &UNetConfig,
        weights: &Weights,
        precision: Precision,
        task: &Task,
        dropout: NoiseSource,
        isa: Isa,
    ) -> Result<Self, ModelError> {
        let network = CpuUNet::new(config, weights, isa)?.with_precision(precision);
        Ok(Self { network, task: task.clone(), dropout })
    }

    /// The nodes and parameters.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        self.network.graph()
    }

    /// Adds the gradient of a grain to `to`, which has a value for each parameter. `calls` are its examples, in calls of the
    /// network; `batch` is how many there are in the whole step. Yields the loss of each example, in order.
    ///
    /// # Errors
    /// [`GrainError`]; then `to` holds anything.
    pub fn grain(
        &mut self,
        calls: &[Examples],
        batch: usize,
        to: &mut [f32],
    ) -> Result<Vec<f64>, GrainError> {
        let mut losses = Vec::new();
        for call in calls {
            let dropout = Dropout { source: self.dropout, step: call.step as u32, places: &call.places };
            let mut found = Vec::new();
            let of_call = |prediction: &[f32], out: &mut [f32]| {
                found = self.task.losses(call, prediction, Some((out, batch)));
            };
            self.network.accumulate(call.shape, &call.input, call.conditions(), &dropout, to, of_call)?;
            if let Some((place, &value)) = call.places.iter().zip(&found).find(|(_, loss)| !loss.is_finite())
            {
                return Err(GrainError::NotFinite { place: *place, value });
            }
            losses.append(&mut found);
        }
        Ok(losses)
    }

    /// All weights as one list, in the order of [`Graph::params`].
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        self.network.parameters()
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        self.network.parameters_mut()
    }

    /// The network as it is now, to be evaluated.
    pub fn denoiser(&mut self) -> &mut dyn Denoiser {
        &mut self.network
    }
}
