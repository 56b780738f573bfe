//! A convolution by itself, for programs that want one kernel and for measuring it.

use super::conv::{ConvShape, Epilogue, Way, WeightShape, forward, pack_weights};
use super::simd::Isa;
use super::source::Source;

/// A 1×1 or 3×3 convolution of stride 1 with zero padding, weights packed.
#[derive(Clone, Debug)]
pub struct Conv2d {
    isa: Isa,
    out_channels: usize,
    in_channels: usize,
    kernel: usize,
    packed: Vec<f32>,
    bias: Vec<f32>,
}

impl Conv2d {
    /// Takes OIHW weights of the shape given, and a bias per output channel.
    ///
    /// # Panics
    /// If the lengths are not those of the shape, or the window is neither 1×1 nor 3×3.
    #[must_use]
    pub fn new(isa: Isa, weights: &[f32], [o, i, k]: [usize; 3], bias: &[f32]) -> Self {
        assert!(k == 1 || k == 3, "a window of 1×1 or 3×3");
        assert_eq!(
            (weights.len(), bias.len()),
            (o * i * k * k, o),
            "weights and bias have the shape's length"
        );
        let shape = WeightShape { oihw: [o, i, k, k], stride: 1 };
        let mut packed = vec![0.0; shape.packed_len(Way::Forward)];
        pack_weights(isa, weights, &shape, Way::Forward, &mut packed);
        Self { isa, out_channels: o, in_channels: i, kernel: k, packed, bias: bias.to_vec() }
    }

    /// `input` is (N, H, W, I), `out` (N, H, W, O); `size` is [H, W].
    ///
    /// # Panics
    /// If the buffers are not whole images of the size, equally many.
    pub fn forward(&self, [height, width]: [usize; 2], input: &[f32], out: &mut [f32]) {
        let (i, o) = (height * width * self.in_channels, height * width * self.out_channels);
        assert!(i > 0 && input.len().is_multiple_of(i) && out.len() == input.len() / i * o, "whole images");
        let shape = ConvShape {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            stride: 1,
            upsample: false,
            height,
            width,
        };
        let source = |n: usize| Source::plain(&input[n * i..(n + 1) * i], self.in_channels);
        let epilogue = Epilogue { bias: &self.bias, shift: &[], add: &[], scale: 1.0 };
        forward(self.isa, &shape, source, &self.packed, |_| epilogue, out);
    }
}
