//! Training: what a step does with the gradients that a network yields.

#[cfg(feature = "candle")]
mod candle;
mod optimizer;

#[cfg(feature = "candle")]
pub use candle::CandleTrainer;
#[cfg(feature = "candle")]
pub use candle_core::Tensor;
pub use optimizer::{Adam, AdamConfig};
