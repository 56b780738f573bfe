//! A convolution by itself, for programs that want one kernel and for measuring it.

use super::conv;
use super::conv_shape::{ConvShape, Epilogue, Way, WeightShape};
use super::precision::Precision;
use super::simd::Isa;
use super::source::Source;

/// A 1×1 or 3×3 convolution of stride 1 with zero padding, and its gradients; weights packed.
#[derive(Clone, Debug)]
pub struct Conv2d {
    isa: Isa,
    precision: Precision,
    out_channels: usize,
    in_channels: usize,
    kernel: usize,
    forward: Vec<f32>,
    back: Vec<f32>,
    bias: Vec<f32>,
}

impl Conv2d {
    /// Takes OIHW weights of the shape given, and a bias per output channel. `precision` is that of [`Self::forward`].
    ///
    /// # Panics
    /// If the lengths are not those of the shape, or the window is neither 1×1 nor 3×3.
    #[must_use]
    pub fn new(isa: Isa, precision: Precision, weights: &[f32], [o, i, k]: [usize; 3], bias: &[f32]) -> Self {
        assert!(k == 1 || k == 3, "a window of 1×1 or 3×3");
        assert_eq!(
            (weights.len(), bias.len()),
            (o * i * k * k, o),
            "weights and bias have the shape's length"
        );
        let shape = WeightShape { oihw: [o, i, k, k], stride: 1, upsample: false, precision };
        let [forward, back] = [Way::Forward, Way::Back].map(|way| {
            let mut packed = vec![0.0; shape.packed_len(way)];
            conv::pack_weights(isa, weights, &shape, way, &mut packed);
            packed
        });
        Self {
            isa,
            precision,
            out_channels: o,
            in_channels: i,
            kernel: k,
            forward,
            back,
            bias: bias.to_vec(),
        }
    }

    fn shape(&self, [height, width]: [usize; 2], input: usize, output: usize) -> ConvShape {
        let (i, o) = (height * width * self.in_channels, height * width * self.out_channels);
        assert!(i > 0 && input.is_multiple_of(i) && output == input / i * o, "whole images");
        ConvShape {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: self.kernel,
            stride: 1,
            upsample: false,
            height,
            width,
            precision: self.precision,
        }
    }

    fn source<'a>(
        &self,
        [height, width]: [usize; 2],
        input: &'a [f32],
    ) -> impl Fn(usize) -> Source<'a> + Sync {
        let channels = self.in_channels;
        let item = height * width * channels;
        move |n| Source::plain(&input[n * item..(n + 1) * item], channels)
    }

    /// `input` is (N, H, W, I), `out` (N, H, W, O); `size` is [H, W].
    ///
    /// # Panics
    /// If the buffers are not whole images of the size, equally many.
    pub fn forward(&self, size: [usize; 2], input: &[f32], out: &mut [f32]) {
        let shape = self.shape(size, input.len(), out.len());
        let epilogue = Epilogue { bias: &self.bias, shift: &[], add: &[], scale: 1.0 };
        conv::forward(self.isa, &shape, self.source(size, input), &self.forward, |_| epilogue, out);
    }

    /// The gradient of the input, (N, H, W, I), from that of the output, (N, H, W, O).
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward_input(&self, size: [usize; 2], gradient: &[f32], out: &mut [f32]) {
        let shape = self.shape(size, out.len(), gradient.len());
        conv::backward_input(self.isa, &shape, gradient, &self.back, out);
    }

    /// Adds the gradient of the OIHW weights to `to`. `scratch` grows to what is needed and may be used again.
    ///
    /// # Panics
    /// As [`Self::forward`], and where `to` is not as long as the weights.
    pub fn backward_weights(
        &self,
        size: [usize; 2],
        input: &[f32],
        gradient: &[f32],
        scratch: &mut Vec<f32>,
        to: &mut [f32],
    ) {
        let shape = self.shape(size, input.len(), gradient.len());
        assert_eq!(
            to.len(),
            self.out_channels * self.in_channels * self.kernel * self.kernel,
            "the weights' length"
        );
        let needed =
            conv::backward_weights_scratch(&shape, input.len() / (size[0] * size[1] * self.in_channels));
        scratch.resize(scratch.len().max(needed), 0.0);
        conv::backward_weights(self.isa, &shape, self.source(size, input), gradient, scratch, to);
    }
}
