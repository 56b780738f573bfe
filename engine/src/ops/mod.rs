//! Numeric kernels on channels-last `f32` buffers. `unsafe` lives here and nowhere else in this crate.

pub(crate) mod adam;
pub(crate) mod arena;
pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod conv;
mod conv2d;
#[cfg(test)]
mod conv_check;
pub(crate) mod conv_shape;
pub(crate) mod depthwise;
mod faster;
pub(crate) mod group_norm;
mod line;
pub(crate) mod liveness;
pub(crate) mod matmul;
pub(crate) mod pair_up;
pub mod peaks;
pub(crate) mod pointwise;
pub(crate) mod pool;
mod precision;
pub(crate) mod products;
pub(crate) mod rectangle;
pub mod resize;
pub(crate) mod scratch;
pub(crate) mod shared;
pub(crate) mod simd;
pub(crate) mod source;
pub(crate) mod winograd;

pub use conv2d::Conv2d;
pub use precision::Precision;
pub use simd::Isa;
