//! What a sampler needs of a network, whatever runs it.

/// Why a network could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum DenoiserError {
    /// The buffers do not have the sizes that the shape asks for.
    #[error("{name} holds {found} values where {expected} belong")]
    BufferLength {
        /// Which buffer.
        name: &'static str,
        /// Values in it.
        found: usize,
        /// Values it needs.
        expected: usize,
    },
    /// Height and width must be multiples of the network's total reduction.
    #[error("{height}×{width} is not a multiple of {multiple}, which this network's levels ask for")]
    Size {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// What both must be a multiple of.
        multiple: usize,
    },
    /// The tensor library refused.
    #[error("the tensor library failed")]
    Candle(#[from] candle_core::Error),
}

/// A network that is ready to be evaluated: weights loaded, device chosen.
///
/// The result for one item never depends on the other items of its batch.
pub trait Denoiser: Send {
    /// Channels of the input (condition and noisy image together).
    fn in_channels(&self) -> usize;

    /// Channels of the prediction.
    fn out_channels(&self) -> usize;

    /// Height and width of every input must be multiples of this: 2^(levels - 1).
    fn size_multiple(&self) -> usize;

    /// Evaluates the network.
    ///
    /// `input` is (N, H, W, in_channels), the condition's channels first; `noise_levels` is (N), each
    /// sqrt(alphas_cumprod) in (0, 1]; `prediction` is (N, H, W, out_channels) and is overwritten.
    ///
    /// # Errors
    /// [`DenoiserError`] where buffers and shape disagree, or the device fails.
    fn predict(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError>;
}
