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
    /// The device has no room for it. Fewer items at once may fit.
    #[error(
        "the device is out of memory for {items} tiles of {height}×{width}: take a smaller --tile, or another device"
    )]
    OutOfMemory {
        /// Items of the batch.
        items: usize,
        /// Rows of each.
        height: usize,
        /// Columns of each.
        width: usize,
    },
    /// The tensor library refused.
    #[cfg(feature = "candle")]
    #[error("the tensor library failed: {}", super::first_line(.0))]
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
    /// sqrt(alphas_cumprod) in (0, 1], or 0 where the network sees no x_t; `prediction` is (N, H, W, out_channels) and is overwritten.
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

/// A network that is lent: whoever holds it uses it for one picture after the other, each in its own way.
impl<D: Denoiser + ?Sized> Denoiser for &mut D {
    fn in_channels(&self) -> usize {
        (**self).in_channels()
    }

    fn out_channels(&self) -> usize {
        (**self).out_channels()
    }

    fn size_multiple(&self) -> usize {
        (**self).size_multiple()
    }

    fn predict(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        (**self).predict(shape, input, noise_levels, prediction)
    }
}

/// A network whose executor is known only when it runs.
impl Denoiser for Box<dyn Denoiser> {
    fn in_channels(&self) -> usize {
        (**self).in_channels()
    }

    fn out_channels(&self) -> usize {
        (**self).out_channels()
    }

    fn size_multiple(&self) -> usize {
        (**self).size_multiple()
    }

    fn predict(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        (**self).predict(shape, input, noise_levels, prediction)
    }
}
