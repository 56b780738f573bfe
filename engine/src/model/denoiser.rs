//! What a sampler needs of a network, whatever runs it.

/// What a network is told about each item of a batch, beside its image.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// (N): noise levels, each sqrt(alphas_cumprod) in (0, 1], or 0 where the network sees no x_t; timesteps where the
    /// layout's [`Conditioning`](super::Conditioning) says so.
    pub noise: &'a [f32],
    /// (N): what the items show, counted from 0; empty for a network without classes.
    pub labels: &'a [u32],
}

/// Noise alone, for a network without classes.
impl<'a, T: AsRef<[f32]> + ?Sized> From<&'a T> for Conditions<'a> {
    fn from(noise: &'a T) -> Self {
        Self { noise: noise.as_ref(), labels: &[] }
    }
}

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
    /// Labels that the network does not know, or none where it needs some.
    #[error("{found} labels, the largest {largest}, where the network needs {expected} below {classes}")]
    Labels {
        /// How many there are.
        found: usize,
        /// The largest; 0 of none.
        largest: u32,
        /// How many it needs.
        expected: usize,
        /// Its classes.
        classes: usize,
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

    /// Classes that it can be told items to be of; 0 where it is told nothing of the kind.
    fn classes(&self) -> usize {
        0
    }

    /// Evaluates the network.
    ///
    /// `input` is (N, H, W, in_channels), the condition's channels first; `prediction` is (N, H, W, out_channels) and is
    /// overwritten.
    ///
    /// # Errors
    /// [`DenoiserError`] where buffers and shape disagree, labels are not those of a batch, or the device fails.
    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError>;

    /// Evaluates a network without classes; `noise_levels` is (N), what [`Conditions::noise`] is.
    ///
    /// # Errors
    /// As [`Self::predict_conditioned`].
    fn predict(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        self.predict_conditioned(shape, input, noise_levels.into(), prediction)
    }
}

/// Checks that there is a label for each item, or none at all where there are no classes.
pub(super) fn check_labels(labels: &[u32], items: usize, classes: usize) -> Result<(), DenoiserError> {
    let expected = if classes > 0 { items } else { 0 };
    let (found, largest) = (labels.len(), labels.iter().copied().max().unwrap_or(0));
    if found == expected && (found == 0 || (largest as usize) < classes) {
        return Ok(());
    }
    Err(DenoiserError::Labels { found, largest, expected, classes })
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

    fn classes(&self) -> usize {
        (**self).classes()
    }

    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        (**self).predict_conditioned(shape, input, conditions, prediction)
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

    fn classes(&self) -> usize {
        (**self).classes()
    }

    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        (**self).predict_conditioned(shape, input, conditions, prediction)
    }
}
