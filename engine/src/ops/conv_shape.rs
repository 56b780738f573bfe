//! What a convolution is: its size, its weights, and what happens to its outputs. How it is computed is not known here.

use super::precision::Precision;
use super::source::Window;

/// Floats of a packed band: half of a common L2 cache.
pub(super) const BAND_FLOATS: usize = 128 * 1024;

/// A convolution over a source of a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    /// 1 or 3.
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Whether the source is doubled first.
    pub(crate) upsample: bool,
    /// Of the source.
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Of [`forward`], and of what Winograd multiplies for the gradients; others are f32.
    pub(crate) precision: Precision,
}

impl ConvShape {
    pub(super) const fn repeat(&self) -> usize {
        if self.upsample { 2 } else { 1 }
    }

    pub(crate) const fn out_height(&self) -> usize {
        self.height * self.repeat() / self.stride
    }

    pub(crate) const fn out_width(&self) -> usize {
        self.width * self.repeat() / self.stride
    }

    pub(crate) const fn window(&self) -> Window {
        let repeat = self.repeat();
        Window { height: self.height, width: self.width, repeat, pad: self.kernel / 2 }
    }

    /// The window through which the gradient of the output is seen.
    pub(super) const fn gradient_window(&self) -> Window {
        Window { height: self.out_height(), width: self.out_width(), repeat: 1, pad: self.kernel / 2 }
    }

    /// The shape of its weights.
    pub(crate) const fn weights(&self) -> WeightShape {
        let oihw = [self.out_channels, self.in_channels, self.kernel, self.kernel];
        WeightShape { oihw, stride: self.stride, upsample: self.upsample, precision: self.precision }
    }

    /// Whether each output sees one pixel: then an image is its own packed input.
    pub(super) const fn sees_pixels_alone(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && !self.upsample
    }

    /// Floats of one item's whole packed input.
    pub(super) const fn packed_len(&self) -> usize {
        let window = self.window();
        window.padded_height() * window.padded_width() * self.in_channels
    }
}

/// What happens to an output after its chain: (sum + bias + shift + add) · scale.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    /// (C), or empty.
    pub(crate) bias: &'a [f32],
    /// (C) of this item, or empty.
    pub(crate) shift: &'a [f32],
    /// (H, W, C) of this item, or empty.
    pub(crate) add: &'a [f32],
    pub(crate) scale: f32,
}

/// A convolution's weights: OIHW and stride decide how they are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightShape {
    pub(crate) oihw: [usize; 4],
    pub(crate) stride: usize,
    /// Whether the source is doubled first.
    pub(crate) upsample: bool,
    /// As [`ConvShape::precision`].
    pub(crate) precision: Precision,
}

/// Which way weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    /// For the gradient of the input: input and output exchanged, the window turned around.
    Back,
}

impl WeightShape {
    /// Output and input channels of the convolution that is computed.
    pub(super) const fn channels(&self, way: Way) -> [usize; 2] {
        let [o, i, ..] = self.oihw;
        match way {
            Way::Forward => [o, i],
            Way::Back => [i, o],
        }
    }
}
