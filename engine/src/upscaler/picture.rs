//! What goes into an upscaler and what comes out: pictures, and the reasons why there is none.

use crate::diffusion::{ConsistencyError, SamplerError, TileError};
use crate::model::DenoiserError;

/// Channels of an image.
pub(super) const RGB: usize = 3;
/// An image to enlarge.
#[derive(Clone, Copy, Debug)]
pub struct LowRes<'a> {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// (H, W, 3) in [-1, 1].
    pub rgb: &'a [f32],
    /// Names the image's noise: its path relative to the job's source.
    pub key: &'a str,
    /// Whether the image has been through lossy compression, so that it need not be met exactly.
    pub lossy: bool,
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub struct Upscaled {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// (H, W, 3) in [-1, 1].
    pub rgb: Vec<f32>,
    /// Mean squared error between the result, reduced to the input's size, and the input, in [0, 1] units; before any
    /// rounding of the result.
    pub consistency_error: f64,
}

/// Why nothing was enlarged.
#[derive(Debug, thiserror::Error)]
pub enum UpscaleError {
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The network is not one for RGB conditioned on RGB.
    #[error(
        "the network has {inputs} input and {outputs} output channels: upscaling needs 6 and 3 (6 and 6 where the variance is learned), or 3 and 3 of one that says the image itself"
    )]
    Channels {
        /// Channels that it takes.
        inputs: usize,
        /// Channels that it gives.
        outputs: usize,
    },
    /// A number of the recipe lies outside what makes sense.
    #[error("{name} is 0: take at least 1")]
    Zero {
        /// Which one.
        name: &'static str,
    },
    /// The residual's scale is no scale.
    #[error("a residual scale of {scale}: take a finite number above 0")]
    ResidualScale {
        /// What was given.
        scale: f32,
    },
    /// The sampler cannot run along these levels.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// Images cannot be cut like this.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// An image has no pixels, or not as many as its size says.
    #[error(
        "{key}: {width}×{height} pixels with {found} values: three per pixel and at least one pixel are needed"
    )]
    Pixels {
        /// The image.
        key: String,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Values that came.
        found: usize,
    },
    /// The output would not fit an address space.
    #[error("{key}: {width}×{height} times {scale} is too large: cut the image or take a smaller scale")]
    TooLarge {
        /// The image.
        key: String,
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Output pixels per input pixel and axis.
        scale: usize,
    },
    /// The result holds values that are no numbers.
    #[error("{key}: the result is not finite: check the model's weights and the image")]
    NotFinite {
        /// The image.
        key: String,
    },
    /// There is no reduction from the output's size to the input's.
    #[error(transparent)]
    Consistency(#[from] ConsistencyError),
    /// The network failed.
    #[error(transparent)]
    Denoiser(#[from] DenoiserError),
}
