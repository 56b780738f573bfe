//! Training: what a step does with the gradients that a network yields.

mod candle;
mod optimizer;

pub use candle::{CandleTrainer, device};
pub use candle_core::Tensor;
pub use optimizer::{Adam, AdamConfig};
