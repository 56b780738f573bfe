//! Networks: their configuration, the graph it builds, the executors that run it, and their files.

pub mod bundled;
#[cfg(feature = "candle")]
mod candle;
pub mod checkpoint;
mod config;
mod denoiser;
mod graph;
pub mod import;
mod initial;
mod plan;
mod presets;
pub mod tensors;
mod weights;

#[cfg(feature = "candle")]
pub use candle::CandleUNet;
#[cfg(feature = "candle")]
pub(crate) use candle::{first_line, is_out_of_memory};
pub use config::{Conditioning, ConfigError, Heads, Layout, UNetConfig};
pub use denoiser::{Conditions, Denoiser, DenoiserError};
pub use graph::{Graph, NORM_EPS, Node, NodeId, Op, Param, ParamId, Shape};
pub use initial::initial_weights;
pub use plan::{CpuUNet, Dropout, Gradients, Packed};
pub use presets::{Preset, presets};
pub use weights::{ModelError, Weights, order_weights, random_weights};
