//! The science of SR3 (Saharia et al., "Image Super-Resolution via Iterative Refinement", 2021) as a library:
//! kernels, networks, diffusion, images and metrics.
//!
//! Everything here is a plain function of its arguments: no network, no clock, no global state. Results do not
//! depend on the number of threads, on the batch, or on what else is in it.

pub mod diffusion;
pub mod image;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod train;
pub mod upscaler;
