//! Convolutions of each channel by itself, with zeros or a mirror image beyond the edges: forward only.
//!
//! Each output is one chain over the window's rows and columns, products and sums each rounded; images, rows and threads
//! only decide who computes it.

use rayon::prelude::*;

use super::rectangle::Finish;
use super::simd::{Isa, Kernel, Simd, dispatch};

/// What windows see beyond the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// Zeros.
    Zeros,
    /// The image, mirrored at the middle of its outermost pixels.
    Mirror,
}

/// A square window over each channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Depthwise {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Pixels that windows reach beyond the image [above and to the left, below and to the right].
    pub(crate) pad: [usize; 2],
    pub(crate) beyond: Beyond,
}

impl Depthwise {
    /// [height, width] of the output. A mirrored image has more pixels than are mirrored.
    pub(crate) fn output(&self, size: [usize; 2]) -> [usize; 2] {
        size.map(|length| (length + self.pad[0] + self.pad[1] - self.kernel) / self.stride + 1)
    }

    /// The pixel of a row or column that a window sees; none for a zero.
    fn seen(&self, at: usize, length: usize) -> Option<usize> {
        let [before, _] = self.pad;
        match self.beyond {
            Beyond::Zeros => at.checked_sub(before).filter(|at| *at < length),
            Beyond::Mirror => {
                let at = at.abs_diff(before);
                Some(if at < length { at } else { 2 * (length - 1) - at })
            }
        }
    }
}

/// Weights (C, 1, K, K) as [`forward`] takes them: (K, K, C).
pub(crate) fn pack_weights(weights: &[f32], channels: usize) -> Vec<f32> {
    let taps = weights.len() / channels;
    (0..weights.len()).map(|at| weights[at % channels * taps + at / channels]).collect()
}

/// Convolves every image: `input` is (N, H, W, C), `size` [H, W], `out` (N, H', W', C).
pub(crate) fn forward(
    isa: Isa,
    shape: &Depthwise,
    size: [usize; 2],
    (input, weights): (&[f32], &[f32]),
    finish: Finish<'_>,
    out: &mut [f32],
) {
    let channels = finish.bias.len();
    let ([height, width], item) = (shape.output(size), size[0] * size[1] * channels);
    assert!(out.len() / (height * width * channels) == input.len() / item, "as many images");
    assert!(weights.len() == shape.kernel * shape.kernel * channels, "weights of their shape");
    let is_wide = |length: &usize| shape.beyond == Beyond::Zeros || shape.pad.iter().all(|pad| pad < length);
    assert!(size.iter().all(is_wide), "more pixels than are mirrored");
    out.par_chunks_mut(width * channels).enumerate().for_each(|(y, out)| {
        let (image, y) = (&input[y / height * item..][..item], y % height);
        dispatch(isa, Row { shape, size, image, weights, finish, y, out });
    });
}

/// A row of outputs.
struct Row<'a> {
    shape: &'a Depthwise,
    size: [usize; 2],
    image: &'a [f32],
    weights: &'a [f32],
    finish: Finish<'a>,
    y: usize,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { shape, size: [height, width], image, weights, finish, .. } = self;
        let Depthwise { kernel, stride, .. } = *shape;
        let channels = finish.bias.len();
        for (x, out) in self.out.chunks_exact_mut(channels).enumerate() {
            out.fill(0.0);
            for (tap, weights) in weights.chunks_exact(channels).enumerate() {
                let row = shape.seen(self.y * stride + tap / kernel, height);
                let column = shape.seen(x * stride + tap % kernel, width);
                let (Some(row), Some(column)) = (row, column) else { continue };
                let pixel = &image[(row * width + column) * channels..][..channels];
                for ((out, v), weight) in out.iter_mut().zip(pixel).zip(weights) {
                    *out += v * weight;
                }
            }
            for (out, bias) in out.iter_mut().zip(finish.bias) {
                *out = finish.activation.of(*out + bias);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::rectangle::Activation;

    /// Two images of `size`, each channel of the second ten times that of the first, on every kind of processor.
    fn convolved(shape: Depthwise, size: [usize; 2], weights: &[f32], activation: Activation) -> Vec<f32> {
        let channels = 2;
        let bias = [0.5, -1.0];
        let image = (0..size[0] * size[1]).flat_map(|i| [i as f32, -(i as f32)]);
        let input: Vec<f32> = image.clone().chain(image.map(|v| 10.0 * v)).collect();
        let [height, width] = shape.output(size);
        let weights = pack_weights(weights, channels);
        let mut first = vec![];
        for isa in Isa::available() {
            let mut out = vec![7.0; 2 * height * width * channels];
            forward(isa, &shape, size, (&input, &weights), Finish { bias: &bias, activation }, &mut out);
            assert!(first.is_empty() || first == out, "{isa}");
            first = out;
        }
        first
    }

    #[test]
    fn each_channel_has_its_own_weights_and_zeros_lie_beyond() {
        // Ones over the first channel; the second sees the pixel below and to the right alone.
        let weights: Vec<f32> = [[1.0; 9], [0., 0., 0., 0., 0., 0., 0., 0., 1.]].concat();
        let shape = Depthwise { kernel: 3, stride: 2, pad: [0, 1], beyond: Beyond::Zeros };
        let out = convolved(shape, [4, 4], &weights, Activation::None);
        assert_eq!(shape.output([4, 4]), [2, 2]);
        // Rows 0..3 and columns 0..3 of 0 1 2 3 / 4 5 6 7 / …; then what is left of them at the edges.
        let first = [45.5, -11.0, 39.5, -1.0, 66.5, -1.0, 50.5, -1.0];
        assert_eq!(out[..8], first);
        assert_eq!(out[8..12], [450.5, -101.0, 390.5, -1.0]);
        let bounded = convolved(shape, [4, 4], &weights, Activation::Relu6);
        assert_eq!(bounded[..4], [6.0, 0.0, 6.0, 0.0]);
    }

    #[test]
    fn a_mirror_lies_beyond_where_asked() {
        let weights: Vec<f32> = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|w| w / 16.0).repeat(2);
        let shape = Depthwise { kernel: 3, stride: 2, pad: [2, 2], beyond: Beyond::Mirror };
        let out = convolved(shape, [3, 4], &weights, Activation::None);
        let [height, width] = shape.output([3, 4]);
        assert_eq!([height, width], [3, 3]);
        let first: Vec<f32> = out[..18].iter().step_by(2).map(|v| v - 0.5).collect();
        // Pixels are 4y + x: blurred, 4 · row + column, where windows at 2, 1, 0 and 0, 1, 2 see 1 on average, the last
        // three rows 2, 1, 0 as well, and columns 2, 3, 2 two and a half.
        let columns = [1.0, 1.0, 2.5];
        let expected: Vec<f32> = (0..3).flat_map(|_| columns.map(|column| 4.0 + column)).collect();
        assert_eq!(first, expected);
    }
}
