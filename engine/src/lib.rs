//! The science of SR3 (Saharia et al., "Image Super-Resolution via Iterative Refinement", 2021) as a library:
//! kernels, networks, diffusion, images and metrics.
//!
//! Every result is a function of the arguments: of no network, clock or global state, nor of the number of threads,
//! the batch, or what else is in it. (A clock is read to measure: by benchmarks, and to find out whether this machine
//! is faster in bf16. Threads keep memory to work in, never values.)

#![deny(unsafe_code)]

pub mod augmentation;
pub mod device;
pub mod diffusion;
pub mod generator;
pub mod image;
pub mod metrics;
pub mod model;
#[allow(unsafe_code, reason = "kernels go by pointers; docs/unsafe.md lists them")]
pub mod ops;
pub mod train;
pub mod upscaler;
pub mod vision;
