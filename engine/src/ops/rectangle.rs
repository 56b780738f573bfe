//! Convolutions of any window, stride and padding, then a rectifier, as networks for recognition have them: forward only.
//!
//! Windows of 3×3 and stride 1 go by Winograd, those of seven in a line by Winograd in one dimension, all others as products
//! of packed rows. Outputs are written into a slice of the channels of a wider image, so that what runs side by side is
//! joined where it is made. Each output is one chain over the window's rows, columns and channels (or Winograd's sequence);
//! images, bands and threads only decide who computes it.

use rayon::prelude::*;

use super::conv_shape::{BAND_FLOATS, ConvShape, Epilogue};
use super::line::{self, Line};
use super::matmul::{Left, Right, Size, matmul};
use super::precision::Precision;
use super::scratch::with_scratch;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};
use super::source::Source;
use super::winograd;

/// A convolution's channels and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rectangle {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    /// [height, width]
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: usize,
    /// Zeros [above and below, left and right].
    pub(crate) pad: [usize; 2],
}

/// Pixels that meet the weights together, where each is seen alone: of whichever images.
const PIXELS: usize = 128;

/// Winograd's weights: as they are.
const PACKING: winograd::Packing =
    winograd::Packing { doubled: false, turned: false, precision: Precision::F32 };

impl Rectangle {
    /// [height, width] of the output.
    pub(crate) const fn output(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let ([kh, kw], [above, left]) = (self.kernel, self.pad);
        [(height + 2 * above - kh) / self.stride + 1, (width + 2 * left - kw) / self.stride + 1]
    }

    /// Whether each output sees one pixel.
    const fn sees_pixels_alone(&self) -> bool {
        matches!(self.kernel, [1, 1]) && self.stride == 1 && matches!(self.pad, [0, 0])
    }

    /// A matter of the channels and the window alone.
    const fn is_winograd(&self) -> bool {
        let [height, width] = self.kernel;
        height == width
            && self.pad[0] == self.pad[1]
            && self.pad[0] <= 1
            && winograd::applies(self.in_channels, height, self.stride)
    }

    /// Windows of seven in a line, where they gain by it: a matter of the channels and the window alone.
    const fn line(&self) -> Option<Line> {
        let Self { in_channels, out_channels, kernel, stride, pad } = *self;
        let (across, pad) = match (kernel, pad) {
            ([1, line::TAPS], [0, pad]) => (true, pad),
            ([line::TAPS, 1], [pad, 0]) => (false, pad),
            _ => return None,
        };
        if stride != 1 || !line::applies(in_channels) {
            return None;
        }
        Some(Line { in_channels, out_channels, across, pad })
    }

    /// Floats of the packed weights.
    pub(crate) const fn packed_len(&self) -> usize {
        if let Some(line) = self.line() {
            return line.packed_len();
        }
        if self.is_winograd() {
            return PACKING.len(self.in_channels, self.out_channels);
        }
        self.out_channels.next_multiple_of(LANES) * self.kernel[0] * self.kernel[1] * self.in_channels
    }

    /// Floats of an image that [`forward`] needs to work in: what Winograd gives, before it is cut and joined.
    pub(crate) const fn working_len(&self, [height, width]: [usize; 2]) -> usize {
        if self.is_winograd() { height * width * self.out_channels } else { 0 }
    }
}

/// Packs OIHW weights for [`forward`]: transformed, or as blocks of [`LANES`] output channels, (O / LANES, H, W, I, LANES), the
/// last block filled with zeros.
pub(crate) fn pack_weights(isa: Isa, oihw: &[f32], shape: &Rectangle, out: &mut [f32]) {
    let (i, o, taps) = (shape.in_channels, shape.out_channels, shape.kernel[0] * shape.kernel[1]);
    assert!(oihw.len() == o * i * taps && out.len() == shape.packed_len(), "weights of their shape");
    if let Some(line) = shape.line() {
        return line::pack_weights(&line, oihw, out);
    }
    if shape.is_winograd() {
        return winograd::pack_weights(isa, oihw, [o, i], &PACKING, out);
    }
    out.par_chunks_mut(taps * i * LANES).enumerate().for_each(|(block, out)| {
        out.fill(0.0);
        for oc in block * LANES..((block + 1) * LANES).min(o) {
            for (at, value) in oihw[oc * i * taps..(oc + 1) * i * taps].iter().enumerate() {
                out[(at % taps * i + at / taps) * LANES + oc % LANES] = *value;
            }
        }
    });
}

/// Where outputs go: channels `first` and following of images (N, H', W', `channels`).
pub(crate) struct Target<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) channels: usize,
    pub(crate) first: usize,
}

/// What an output becomes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Itself.
    None,
    /// What is below zero becomes zero.
    Relu,
    /// The same, and what is above six becomes six.
    Relu6,
}

impl Activation {
    #[inline(always)]
    pub(crate) fn of(self, v: f32) -> f32 {
        match self {
            Self::None => v,
            Self::Relu | Self::Relu6 if v <= 0.0 => 0.0,
            Self::Relu6 if v >= 6.0 => 6.0,
            Self::Relu | Self::Relu6 => v,
        }
    }
}

/// What happens to an output after its chain.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a> {
    /// (O)
    pub(crate) bias: &'a [f32],
    pub(crate) activation: Activation,
}

/// A convolution of every image: `input` is (N, H, W, I), `size` [H, W].
pub(crate) fn forward(
    isa: Isa,
    shape: &Rectangle,
    size: [usize; 2],
    (input, weights): (&[f32], &[f32]),
    finish: Finish<'_>,
    working: &mut [f32],
    target: Target<'_>,
) {
    let item = size[0] * size[1] * shape.in_channels;
    let [height, width] = shape.output(size);
    let row = width * target.channels;
    let count = input.len() / item;
    assert!(input.len() == count * item && target.data.len() == count * height * row, "whole images");
    assert!(target.first + shape.out_channels <= target.channels, "a slice of the channels");
    if let Some(line) = shape.line() {
        return line::forward(isa, &line, size, (input, weights), finish, target);
    }
    if shape.is_winograd() {
        return by_winograd(isa, shape, size, (input, weights), finish, working, target);
    }
    let task = Direct { isa, shape, size, weights, finish, channels: target.channels, first: target.first };
    if shape.sees_pixels_alone() {
        let pixels = PIXELS.min((count * height * width).div_ceil(2));
        let outs = target.data.par_chunks_mut(pixels * target.channels);
        return outs.zip(input.par_chunks(pixels * shape.in_channels)).for_each(|(out, input)| {
            let left = Left { data: input, row: shape.in_channels, outer_step: 0, inner_step: 1 };
            task.multiply(left, input.len() / shape.in_channels, out);
            task.finish(out);
        });
    }
    let padded = (size[1] + 2 * shape.pad[1]) * shape.in_channels;
    let most = (BAND_FLOATS / padded).saturating_sub(shape.kernel[0]) / shape.stride;
    let band = most.clamp(1, height.div_ceil(2));
    target.data.par_chunks_mut(height * row).zip(input.par_chunks(item)).for_each(|(out, input)| {
        out.par_chunks_mut(band * row).enumerate().for_each(|(b, out)| task.band(input, b * band, out));
    });
}

fn by_winograd(
    isa: Isa,
    shape: &Rectangle,
    size: [usize; 2],
    (input, weights): (&[f32], &[f32]),
    finish: Finish<'_>,
    working: &mut [f32],
    target: Target<'_>,
) {
    let (item, channels) = (size[0] * size[1] * shape.in_channels, shape.out_channels);
    let padded = ConvShape {
        in_channels: shape.in_channels,
        out_channels: channels,
        kernel: 3,
        stride: 1,
        upsample: false,
        height: size[0],
        width: size[1],
        precision: Precision::F32,
    };
    let source = |n: usize| Source::plain(&input[n * item..(n + 1) * item], shape.in_channels);
    let epilogue = Epilogue { bias: &[], shift: &[], add: &[], scale: 1.0 };
    let made = &mut working[..input.len() / item * shape.working_len(size)];
    winograd::forward(isa, &padded, source, weights, |_| epilogue, made);
    // Without padding, the outermost outputs have seen what is not there.
    let cut = 1 - shape.pad[0];
    let [height, width] = shape.output(size);
    let (made, row) = (&*made, width * target.channels);
    target.data.par_chunks_mut(row).enumerate().for_each(|(y, out)| {
        let (image, y) = (y / height, y % height);
        let from = ((image * size[0] + y + cut) * size[1] + cut) * channels;
        let (from, first, pitch) = (&made[from..from + width * channels], target.first, target.channels);
        dispatch(isa, Copied { from, finish, first, pitch, out });
    });
}

/// What is the same for all bands.
struct Direct<'a> {
    isa: Isa,
    shape: &'a Rectangle,
    size: [usize; 2],
    weights: &'a [f32],
    finish: Finish<'a>,
    channels: usize,
    first: usize,
}

impl Direct<'_> {
    /// Output rows from `first` on, of one image.
    fn band(&self, input: &[f32], first: usize, out: &mut [f32]) {
        let Self { shape, size, .. } = *self;
        let width = shape.output(size)[1];
        let count = out.len() / (width * self.channels);
        let padded = (size[1] + 2 * shape.pad[1]) * shape.in_channels;
        let rows = (count - 1) * shape.stride + shape.kernel[0];
        with_scratch(rows * padded, |packed| {
            self.pack(input, first * shape.stride, packed);
            let left = Left {
                data: packed,
                row: shape.stride * shape.in_channels,
                outer_step: padded,
                inner_step: 1,
            };
            if shape.kernel[1] == 1 && shape.pad[1] == 0 && shape.stride == 1 {
                // A column sees nothing beside itself: the rows' pixels follow each other.
                return self.multiply(left, count * width, out);
            }
            self.multiply_rows(left, [count, width], shape.stride * padded, out);
        });
        self.finish(out);
    }

    /// Rows of the padded image from `first` on.
    fn pack(&self, input: &[f32], first: usize, packed: &mut [f32]) {
        let ([height, width], [above, left]) = (self.size, self.shape.pad);
        let (row, left) = (width * self.shape.in_channels, left * self.shape.in_channels);
        for (y, out) in packed.chunks_exact_mut(row + 2 * left).enumerate() {
            out.fill(0.0);
            if let Some(y) = (first + y).checked_sub(above).filter(|y| *y < height) {
                out[left..left + row].copy_from_slice(&input[y * row..(y + 1) * row]);
            }
        }
    }

    /// `m` pixels that follow each other.
    fn multiply(&self, left: Left<'_>, m: usize, out: &mut [f32]) {
        self.multiply_rows(left, [1, m], 0, out);
    }

    /// Rows of `m` pixels, `step` floats apart. Four blocks of weights at a time stay in the cache for all of them.
    fn multiply_rows(&self, left: Left<'_>, [rows, m]: [usize; 2], step: usize, out: &mut [f32]) {
        let (outer, inner) = (self.shape.kernel[0], self.shape.kernel[1] * self.shape.in_channels);
        let block = outer * inner * LANES;
        for (group, column) in (0..self.shape.out_channels).step_by(4 * LANES).enumerate() {
            let n = (self.shape.out_channels - column).min(4 * LANES);
            let right = Right { data: &self.weights[group * 4 * block..], block, step: LANES, padded: true };
            for row in 0..rows {
                let left = Left { data: &left.data[row * step..], ..left };
                let out = &mut out[row * m * self.channels + self.first + column..];
                matmul(self.isa, Size { m, n, outer, inner }, left, right, out, self.channels, false);
            }
        }
    }

    fn finish(&self, out: &mut [f32]) {
        let (finish, first, pitch) = (self.finish, self.first, self.channels);
        dispatch(self.isa, InPlace { finish, first, pitch, out });
    }
}

/// Finishes a slice of the channels of some pixels where they are.
struct InPlace<'a> {
    finish: Finish<'a>,
    first: usize,
    pitch: usize,
    out: &'a mut [f32],
}

impl Kernel for InPlace<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { finish: Finish { bias, activation }, first, pitch, out } = self;
        for pixel in out.chunks_exact_mut(pitch) {
            for (x, bias) in pixel[first..].iter_mut().zip(bias) {
                *x = activation.of(*x + bias);
            }
        }
    }
}

/// Finishes pixels on their way into a slice of the channels of others.
struct Copied<'a> {
    from: &'a [f32],
    finish: Finish<'a>,
    first: usize,
    pitch: usize,
    out: &'a mut [f32],
}

impl Kernel for Copied<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { from, finish: Finish { bias, activation }, first, pitch, out } = self;
        for (pixel, from) in out.chunks_exact_mut(pitch).zip(from.chunks_exact(bias.len())) {
            for ((x, v), bias) in pixel[first..].iter_mut().zip(from).zip(bias) {
                *x = activation.of(*v + bias);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(n: usize, seed: u32) -> Vec<f32> {
        let value = |i: u32| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 8_388_608.0 - 1.0;
        (0..n as u32).map(value).collect()
    }

    fn plain(shape: &Rectangle, [h, w]: [usize; 2], input: &[f32], oihw: &[f32], bias: &[f32]) -> Vec<f64> {
        let ([oh, ow], [kh, kw]) = (shape.output([h, w]), shape.kernel);
        let (i, o) = (shape.in_channels, shape.out_channels);
        let mut out = vec![];
        for (y, x, c) in (0..oh * ow).flat_map(|p| (0..o).map(move |c| (p / ow, p % ow, c))) {
            let mut sum = f64::from(bias[c]);
            for (ky, kx, ic) in (0..kh * kw).flat_map(|t| (0..i).map(move |ic| (t / kw, t % kw, ic))) {
                let row = (y * shape.stride + ky).checked_sub(shape.pad[0]).filter(|y| *y < h);
                let column = (x * shape.stride + kx).checked_sub(shape.pad[1]).filter(|x| *x < w);
                if let (Some(row), Some(column)) = (row, column) {
                    let weight = oihw[((c * i + ic) * kh + ky) * kw + kx];
                    sum += f64::from(input[(row * w + column) * i + ic]) * f64::from(weight);
                }
            }
            out.push(sum.max(0.0));
        }
        out
    }

    proptest! {
        #[test]
        fn any_window_is_the_plain_loop_and_the_same_bits_everywhere(
            channels in (1usize..40, 1usize..40), kernel in prop::sample::select(vec![[1, 1], [3, 3], [5, 5], [1, 7], [7, 1], [1, 3]]),
            stride in 1usize..3, padded: bool, size in (7usize..14, 7usize..14), around in (0usize..5, 0usize..5), seed: u32,
        ) {
            let pad = if padded { kernel.map(|k| k / 2) } else { [0, 0] };
            let shape = Rectangle { in_channels: channels.0, out_channels: channels.1, kernel, stride, pad };
            let size = [size.0, size.1];
            let input = values(2 * size[0] * size[1] * channels.0, seed);
            let oihw = values(channels.0 * channels.1 * kernel[0] * kernel[1], seed ^ 1);
            let bias = values(channels.1, seed ^ 2);
            let [height, width] = shape.output(size);
            let (first, pitch) = (around.0, around.0 + channels.1 + around.1);
            let run = |isa, input: &[f32], count: usize| {
                let mut weights = vec![0.0; shape.packed_len()];
                pack_weights(isa, &oihw, &shape, &mut weights);
                let mut working = vec![0.0; count * shape.working_len(size)];
                let mut data = vec![9.0; count * height * width * pitch];
                let target = Target { data: &mut data, channels: pitch, first };
                let finish = Finish { bias: &bias, activation: Activation::Relu };
                forward(isa, &shape, size, (input, &weights), finish, &mut working, target);
                data
            };
            let both = run(Isa::detect(), &input, 2);
            for isa in Isa::available() {
                prop_assert_eq!(&run(isa, &input, 2), &both, "{}", isa);
            }
            let (item, out) = (input.len() / 2, both.len() / 2);
            prop_assert_eq!(&run(Isa::detect(), &input[item..], 1), &both[out..]);
            for image in 0..2 {
                let expected = plain(&shape, size, &input[image * item..][..item], &oihw, &bias);
                let pixels = both[image * out..][..out].chunks_exact(pitch);
                for (pixel, expected) in pixels.zip(expected.chunks_exact(channels.1)) {
                    for (found, expected) in pixel[first..].iter().zip(expected) {
                        prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{} {}", found, expected);
                    }
                    let others = pixel[..first].iter().chain(&pixel[first + channels.1..]);
                    prop_assert!(others.into_iter().all(|v| *v == 9.0), "other channels are left alone");
                }
            }
        }
    }
}
