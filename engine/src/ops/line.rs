//! Windows of seven pixels in a line, of stride 1, by Winograd's F(4, 7): ten products where the direct sum has 28.
//!
//! Lines are cut into tiles of four outputs. A tile's ten inputs are transformed, each of the products is one matrix product
//! over the channels, and the sums are transformed back. Each output is one fixed sequence of operations that its place in its
//! line decides; bands, images and threads only decide who computes it. The points are 0, ±3/8, ±3/4, ±5/4, ±2 and ∞, exact in
//! f32 as their transforms are: at 160 channels the rms error is 2e-6 of the output's, five times the direct chain's.

use rayon::prelude::*;

use super::matmul::{Left, Right, Size, matmul};
use super::rectangle::{Activation, Finish, Target};
use super::scratch::with_scratch;
use super::simd::{Isa, Kernel, LANES, Simd, dispatch};

/// Pixels of a window.
pub(crate) const TAPS: usize = 7;
/// Outputs of a tile.
const OUTPUTS: usize = 4;
/// Inputs of a tile, and products.
const POINTS: usize = OUTPUTS + TAPS - 1;
/// Output channels that are summed up together.
const TOGETHER: usize = 4 * LANES;

/// The points besides 0 and ∞, each with its negative.
const AT: [f32; 4] = [0.375, 0.75, 1.25, 2.0];

/// A convolution: its channels, which way its windows lie, and the zeros before and behind a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) in_channels: usize,
    pub(crate) out_channels: usize,
    /// Along a row; else along a column.
    pub(crate) across: bool,
    pub(crate) pad: usize,
}

/// Whether a convolution gains by this way: a matter of its channels alone.
pub(crate) const fn applies(in_channels: usize) -> bool {
    in_channels >= LANES
}

impl Line {
    /// Floats of the packed weights.
    pub(crate) const fn packed_len(&self) -> usize {
        POINTS * self.product_len()
    }

    /// Floats of one product's weights: (O / LANES, I, LANES).
    const fn product_len(&self) -> usize {
        self.out_channels.next_multiple_of(LANES) * self.in_channels
    }

    /// [height, width] of the output.
    const fn output(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let more = 2 * self.pad + 1;
        if self.across { [height, width + more - TAPS] } else { [height + more - TAPS, width] }
    }
}

/// Each product's weights as a combination of the window's.
fn weight_matrix() -> [[f64; TAPS]; POINTS] {
    let mut points = [0.0; POINTS - 1];
    for (pair, at) in points[1..].chunks_exact_mut(2).zip(AT) {
        pair.copy_from_slice(&[f64::from(at), -f64::from(at)]);
    }
    let mut rows = [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; POINTS];
    for (row, &x) in rows.iter_mut().zip(&points) {
        let norm: f64 = points.iter().filter(|&&other| other != x).map(|other| x - other).product();
        let mut power = 1.0 / norm;
        for weight in row {
            *weight = power;
            power *= x;
        }
    }
    rows
}

/// Packs (O, I, [`TAPS`]) weights: for each product (O / LANES, I, LANES), the last block filled with zeros.
pub(crate) fn pack_weights(line: &Line, oit: &[f32], out: &mut [f32]) {
    let (i, o) = (line.in_channels, line.out_channels);
    assert!(oit.len() == o * i * TAPS && out.len() == line.packed_len(), "weights of their shape");
    let blocks = out.par_chunks_mut(i * LANES).enumerate();
    let (matrix, blocks_each) = (weight_matrix(), o.div_ceil(LANES));
    blocks.for_each(|(at, out)| {
        let (row, first) = (&matrix[at / blocks_each], at % blocks_each * LANES);
        out.fill(0.0);
        for oc in first..(first + LANES).min(o) {
            for (ic, window) in oit[oc * i * TAPS..(oc + 1) * i * TAPS].chunks_exact(TAPS).enumerate() {
                let sum: f64 = row.iter().zip(window).map(|(r, w)| r * f64::from(*w)).sum();
                out[ic * LANES + oc - first] = sum as f32;
            }
        }
    });
}

/// A convolution of every image: `input` is (N, H, W, I), `size` [H, W].
pub(crate) fn forward(
    isa: Isa,
    line: &Line,
    size: [usize; 2],
    (input, weights): (&[f32], &[f32]),
    finish: Finish<'_>,
    target: Target<'_>,
) {
    let [height, width] = line.output(size);
    let (item, row) = (size[0] * size[1] * line.in_channels, width * target.channels);
    assert!(weights.len() == line.packed_len() && finish.bias.len() == line.out_channels, "their shapes");
    assert!(target.data.len() == input.len() / item * height * row, "whole images");
    assert!(target.first + line.out_channels <= target.channels, "a slice of the channels");
    let (step, tiles_a_step) = if line.across { (1, width.div_ceil(OUTPUTS)) } else { (OUTPUTS, width) };
    let steps = height.div_ceil(step);
    let band = step * steps.div_ceil((steps * tiles_a_step).div_ceil(tiles_of(line.in_channels)));
    let (channels, first) = (target.channels, target.first);
    target.data.par_chunks_mut(height * row).zip(input.par_chunks(item)).for_each(|(out, input)| {
        out.par_chunks_mut(band * row).enumerate().for_each(|(b, out)| {
            let band = Band { isa, line, size, width, from: b * band, rows: out.len() / row };
            band.run((input, weights), finish, Target { data: out, channels, first });
        });
    });
}

/// Tiles of a band: as many as have their transformed inputs in a second-level cache.
fn tiles_of(in_channels: usize) -> usize {
    const TRANSFORMED: usize = 96 * 1024;
    (TRANSFORMED / (POINTS * in_channels)).clamp(48, 96)
}

/// Some output rows of an image.
struct Band<'a> {
    isa: Isa,
    line: &'a Line,
    /// [height, width] of the input.
    size: [usize; 2],
    /// Of the output.
    width: usize,
    /// The first row.
    from: usize,
    rows: usize,
}

impl Band<'_> {
    /// Tiles, each from an output [row, column] of the band on, in order.
    fn tiles(&self) -> impl Iterator<Item = [usize; 2]> {
        let (down, right) = if self.line.across { (1, OUTPUTS) } else { (OUTPUTS, 1) };
        let columns = self.width.div_ceil(right);
        (0..self.rows.div_ceil(down) * columns).map(move |at| [at / columns * down, at % columns * right])
    }

    fn run(&self, (input, weights): (&[f32], &[f32]), finish: Finish<'_>, target: Target<'_>) {
        let (i, tiles) = (self.line.in_channels, self.tiles().count());
        let pitch = i.next_multiple_of(LANES);
        with_scratch(tiles * POINTS * (pitch + TOGETHER), |scratch| {
            let (transformed, sums) = scratch.split_at_mut(tiles * POINTS * pitch);
            dispatch(self.isa, Inputs { band: self, input, pitch, tiles, transformed });
            for first in (0..self.line.out_channels).step_by(TOGETHER) {
                let n = (self.line.out_channels - first).min(TOGETHER);
                for point in 0..POINTS {
                    let at = point * self.line.product_len() + first * i;
                    let right = Right { data: &weights[at..], block: i * LANES, step: LANES, padded: true };
                    let data = &transformed[point * tiles * pitch..][..tiles * pitch];
                    let left = Left { data, row: pitch, outer_step: 0, inner_step: 1 };
                    let sums = &mut sums[point * tiles * TOGETHER..][..tiles * TOGETHER];
                    matmul(
                        self.isa,
                        Size { m: tiles, n, outer: 1, inner: i },
                        left,
                        right,
                        sums,
                        TOGETHER,
                        false,
                    );
                }
                let bias = &finish.bias[first..first + n];
                let finish = Finish { bias, activation: finish.activation };
                let (out, pitch, first) = (&mut *target.data, target.channels, target.first + first);
                dispatch(self.isa, Outputs { band: self, sums, tiles, finish, out, pitch, first });
            }
        });
    }
}

/// Transforms the inputs of a band's tiles, to (points, tiles, `pitch`).
struct Inputs<'a> {
    band: &'a Band<'a>,
    /// The image.
    input: &'a [f32],
    pitch: usize,
    tiles: usize,
    transformed: &'a mut [f32],
}

impl Kernel for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        const NOTHING: [f32; LANES] = [0.0; LANES];
        let Self { band, input, pitch, tiles, transformed } = self;
        let Line { in_channels, across, pad, .. } = *band.line;
        let [height, width] = band.size;
        assert!(transformed.len() == POINTS * tiles * pitch && pitch >= in_channels);
        for (tile, [row, column]) in band.tiles().enumerate() {
            let row = band.from + row;
            for channel in (0..in_channels).step_by(LANES) {
                let lanes = in_channels - channel;
                // SAFETY: a pixel within the image has `lanes` channels from `channel` on, what is read in its place as
                // many as are asked for; each point's row has room for whole vectors; instructions as the caller promises.
                unsafe {
                    let mut d = [S::splat(0.0); POINTS];
                    for (k, d) in d.iter_mut().enumerate() {
                        let [y, x] = if across { [row + pad, column + k] } else { [row + k, column + pad] };
                        let inside = y >= pad && y - pad < height && x >= pad && x - pad < width;
                        let at = if inside {
                            input[((y - pad) * width + x - pad) * in_channels + channel..].as_ptr()
                        } else {
                            NOTHING.as_ptr()
                        };
                        *d = S::load_n(at, lanes);
                    }
                    for (point, v) in transform_input::<S>(d).into_iter().enumerate() {
                        S::store(
                            transformed[(point * tiles + tile) * pitch + channel..][..LANES].as_mut_ptr(),
                            v,
                        );
                    }
                }
            }
        }
    }
}

/// Transforms sums (points, tiles, [`TOGETHER`]) back, and finishes them where they go.
struct Outputs<'a> {
    band: &'a Band<'a>,
    sums: &'a [f32],
    tiles: usize,
    finish: Finish<'a>,
    /// The band's rows, each pixel of `pitch` channels, of which `first` and following are written.
    out: &'a mut [f32],
    pitch: usize,
    first: usize,
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { band, sums, tiles, finish: Finish { bias, activation }, out, pitch, first } = self;
        assert!(sums.len() == POINTS * tiles * TOGETHER && first + bias.len() <= pitch);
        for (tile, [row, column]) in band.tiles().enumerate() {
            for channel in (0..bias.len()).step_by(LANES) {
                let lanes = (bias.len() - channel).min(LANES);
                // SAFETY: sums have whole vectors, bias and pixels `lanes` channels; instructions as the caller promises.
                unsafe {
                    let mut m = [S::splat(0.0); POINTS];
                    for (point, m) in m.iter_mut().enumerate() {
                        *m = S::load(sums[(point * tiles + tile) * TOGETHER + channel..][..LANES].as_ptr());
                    }
                    let bias = S::load_n(bias[channel..].as_ptr(), lanes);
                    for (k, v) in transform_output::<S>(m).into_iter().enumerate() {
                        let [y, x] = if band.line.across { [row, column + k] } else { [row + k, column] };
                        if y < band.rows && x < band.width {
                            let v = S::add(v, bias);
                            let v = match activation {
                                Activation::None => v,
                                Activation::Relu => S::max(S::splat(0.0), v),
                                Activation::Relu6 => S::min(S::splat(6.0), S::max(S::splat(0.0), v)),
                            };
                            let at = (y * band.width + x) * pitch + first + channel;
                            S::store_n(out[at..at + lanes].as_mut_ptr(), v, lanes);
                        }
                    }
                }
            }
        }
    }
}

/// Inputs → what they are at the points: 0, each of [`AT`] and its negative, ∞.
///
/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn transform_input<S: Simd>(d: [S::V; POINTS]) -> [S::V; POINTS] {
    // SAFETY: the caller's promise. Loops, not closures: those would be compiled without the instructions.
    unsafe {
        let mut out = d;
        // All points but 0 and ∞ are roots of a polynomial in x².
        let mut all = [1.0f32, 0.0, 0.0, 0.0, 0.0];
        for at in AT {
            all = times(all, at * at);
        }
        let (mut zero, mut infinity) = (d[8], d[9]);
        for k in 0..4 {
            let factor = S::splat(all[4 - k]);
            zero = S::fma(factor, d[2 * k], zero);
            infinity = S::fma(factor, d[2 * k + 1], infinity);
        }
        (out[0], out[9]) = (zero, infinity);
        for (pair, at) in AT.into_iter().enumerate() {
            let mut others = [1.0f32, 0.0, 0.0, 0.0, 0.0];
            for (other, at) in AT.into_iter().enumerate() {
                if other != pair {
                    others = times(others, at * at);
                }
            }
            let (mut even, mut odd) = (d[8], d[7]);
            for k in 0..3 {
                let factor = S::splat(others[3 - k]);
                even = S::fma(factor, d[2 * k + 2], even);
                odd = S::fma(factor, d[2 * k + 1], odd);
            }
            out[2 * pair + 1] = S::fma(S::splat(at), odd, even);
            out[2 * pair + 2] = S::fma(S::splat(-at), odd, even);
        }
        out
    }
}

/// A polynomial, highest power first, times (x - root).
#[inline(always)]
const fn times(p: [f32; 5], root: f32) -> [f32; 5] {
    [p[0], p[1] - root * p[0], p[2] - root * p[1], p[3] - root * p[2], p[4] - root * p[3]]
}

/// Products → outputs.
///
/// # Safety
/// Instructions as [`Simd`] asks.
#[inline(always)]
unsafe fn transform_output<S: Simd>(m: [S::V; POINTS]) -> [S::V; OUTPUTS] {
    // SAFETY: the caller's promise.
    unsafe {
        let nothing = S::splat(0.0);
        let mut out = [m[0], nothing, nothing, m[9]];
        for (pair, at) in AT.into_iter().enumerate() {
            let (plus, minus) = (m[2 * pair + 1], m[2 * pair + 2]);
            let (sum, difference) = (S::add(plus, minus), S::sub(plus, minus));
            out[0] = S::add(out[0], sum);
            out[1] = S::fma(S::splat(at), difference, out[1]);
            out[2] = S::fma(S::splat(at * at), sum, out[2]);
            out[3] = S::fma(S::splat(at * at * at), difference, out[3]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::simd::Portable;

    #[test]
    fn a_tile_is_the_window_over_its_pixels() {
        let (d, g) = (
            [3.0f32, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, -6.0, 5.0, 3.0],
            [2.0f64, -7.0, 1.0, 8.0, -2.0, 8.0, 1.0],
        );
        let weights = weight_matrix().map(|row| row.iter().zip(&g).map(|(w, g)| w * g).sum::<f64>() as f32);
        // SAFETY: plain Rust.
        let out = unsafe {
            let d = transform_input::<Portable>(d.map(|d| [d; LANES]));
            transform_output::<Portable>(std::array::from_fn(|i| Portable::mul(d[i], [weights[i]; LANES])))
        };
        for (y, out) in out.into_iter().enumerate() {
            let expected: f64 = (0..TAPS).map(|k| f64::from(d[y + k]) * g[k]).sum();
            assert!((f64::from(out[0]) - expected).abs() < 1e-3, "{y}: {} against {expected}", out[0]);
        }
    }
}
