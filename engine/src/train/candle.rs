//! One training step on candle tensors: the way to GPUs, and what the CPU plan's step is held to.

use candle_core::{Result, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use super::AdamConfig;
use crate::model::CandleUNet;

/// A network and its optimizer on one device.
pub struct CandleTrainer {
    network: CandleUNet,
    optimizer: AdamW,
}

impl CandleTrainer {
    /// Takes the network; of the configuration, what candle's Adam knows: neither clipping nor averages.
    ///
    /// # Errors
    /// Candle's, where the device has no room for the optimizer's state.
    pub fn new(network: CandleUNet, config: &AdamConfig, learning_rate: f64) -> Result<Self> {
        let params = ParamsAdamW {
            lr: learning_rate,
            beta1: config.betas[0],
            beta2: config.betas[1],
            eps: config.eps,
            weight_decay: config.weight_decay,
        };
        let optimizer = AdamW::new(network.vars().to_vec(), params)?;
        Ok(Self { network, optimizer })
    }

    /// The network as it is now.
    #[must_use]
    pub const fn network(&self) -> &CandleUNet {
        &self.network
    }

    /// One step on the mean absolute error of the prediction: `input` is (N, C, H, W), `noise_level` (N), `target`
    /// (N, out_channels, H, W), all on the network's device. Yields the loss before the step, a scalar there.
    ///
    /// # Errors
    /// Candle's, where shapes do not fit or memory runs out.
    pub fn step(&mut self, input: &Tensor, noise_level: &Tensor, target: &Tensor) -> Result<Tensor> {
        let loss = (self.network.forward(input, noise_level, None)? - target)?.abs()?.mean_all()?;
        self.optimizer.backward_step(&loss)?;
        Ok(loss)
    }
}
