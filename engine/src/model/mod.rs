//! Networks: their configuration, the graph it builds, the executors that run it, and their files.

pub mod bundled;
mod candle;
pub mod checkpoint;
mod config;
mod denoiser;
mod graph;
pub mod import;
mod plan;
mod presets;
pub mod tensors;
mod weights;

pub use candle::CandleUNet;
pub use config::{ConfigError, Layout, UNetConfig};
pub use denoiser::{Denoiser, DenoiserError};
pub use graph::{Graph, NORM_EPS, Node, NodeId, Op, Param, ParamId, Shape};
pub use plan::{CpuUNet, Gradients};
pub use presets::{Preset, presets};
pub use weights::{ModelError, Weights, order_weights, random_weights};
