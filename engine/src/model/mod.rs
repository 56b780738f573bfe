//! Networks: their configuration, the graph it builds, the executors that run it, and their files.

mod config;
mod denoiser;

pub use config::{ConfigError, Layout, UNetConfig};
pub use denoiser::{Denoiser, DenoiserError};
