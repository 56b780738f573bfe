//! One axis of a separable resampling as a banded matrix.
//!
//! Weights are computed once, in f64, from `+ - × ÷` and libm only, so that they are the same on every machine.
//! An [`Axis`] holds no pixels and does no resampling; [`super::ResizePlan`] does.

use std::f64::consts::PI;

/// How a pixel of the output is made of pixels of the input. Semantics are those of the Python Imaging Library
/// (PIL) except where noted: the kernel is stretched by in/out where the image shrinks (antialiasing), and its
/// weights are renormalised where it reaches beyond the border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = -0.5, support 2: PIL's `BICUBIC`, what SR3's low-resolution images are made with.
    Bicubic,
    /// Triangle of support 1: PIL's `BILINEAR`. Where the image grows, torch's `interpolate` without `align_corners`, too.
    Bilinear,
    /// PIL's `BOX`: pixels whose centre lies in the window, all with one weight. Not an area average at broken ratios.
    Box,
    /// Windowed sinc of support 3: PIL's `LANCZOS`.
    Lanczos3,
    /// Exact area average: a source pixel weighs the length of its overlap with the window (OpenCV's `INTER_AREA`).
    Area,
}

/// A banded matrix from `input_len` to `output_len` values: row i has weights on consecutive inputs.
#[derive(Clone, Debug)]
pub struct Axis {
    input_len: usize,
    /// First input of each row.
    starts: Vec<usize>,
    /// Where each row's weights begin; one entry more than rows.
    offsets: Vec<usize>,
    weights: Vec<f64>,
    weights_f32: Vec<f32>,
}

impl Axis {
    /// Resampling from `input` to `output` pixels. Equal lengths give the identity, for every filter. An axis
    /// without input has rows without weights.
    pub fn new(filter: Filter, input: usize, output: usize) -> Self {
        if input == output {
            return Self::from_rows(input, (0..output).map(|i| (i, vec![1.0])));
        }
        let row = |i| match filter {
            Filter::Bicubic => pil_row(cubic, 2.0, input, output, i),
            Filter::Bilinear => pil_row(triangle, 1.0, input, output, i),
            Filter::Box => pil_row(boxed, 0.5, input, output, i),
            Filter::Lanczos3 => pil_row(lanczos3, 3.0, input, output, i),
            Filter::Area => area_row(input, output, i),
        };
        Self::from_rows(input, (0..output).map(row))
    }

    /// MATLAB's `imresize(·, scale, 'bicubic')`: the output has ceil(input · scale) pixels, and pixels beyond the
    /// border are reflections (the edge pixel doubled) instead of being left out. `scale` must be finite and
    /// above 0; any other gives an axis without output.
    ///
    /// Source: the published algorithm of `imresize`; the fixtures agree with a second implementation.
    pub fn matlab_bicubic(input: usize, scale: f64) -> Self {
        let usable = scale.is_finite() && scale > 0.0;
        let output = if usable { libm::ceil(input as f64 * scale) as usize } else { 0 };
        let shrink = scale.min(1.0);
        let width = 4.0 / shrink;
        let taps = libm::ceil(width) as i64 + 2;
        let row = |i: usize| {
            // In MATLAB's coordinates, which count pixels from 1.
            let centre = (i + 1) as f64 / scale + 0.5 * (1.0 - 1.0 / scale);
            let left = libm::floor(centre - width / 2.0) as i64;
            let raw: Vec<f64> =
                (left..left + taps).map(|x| cubic((centre - x as f64) * shrink) * shrink).collect();
            let sum: f64 = raw.iter().sum();
            let mut folded = vec![0.0; input];
            for (x, w) in (left..).zip(&raw) {
                folded[reflect(x - 1, input)] += w / sum;
            }
            let used = |w: &f64| *w != 0.0;
            let first = folded.iter().position(used).unwrap_or(0);
            let last = folded.iter().rposition(used).unwrap_or(0);
            (first, folded[first..=last].to_vec())
        };
        Self::from_rows(input, (0..output).map(row))
    }

    fn from_rows(input_len: usize, rows: impl Iterator<Item = (usize, Vec<f64>)>) -> Self {
        let mut axis =
            Self { input_len, starts: vec![], offsets: vec![0], weights: vec![], weights_f32: vec![] };
        for (start, weights) in rows {
            axis.starts.push(start);
            axis.weights.extend_from_slice(&weights);
            axis.offsets.push(axis.weights.len());
        }
        axis.weights_f32 = axis.weights.iter().map(|&w| w as f32).collect();
        axis
    }

    /// The transposed matrix: from `output_len` to `input_len` values.
    pub fn transposed(&self) -> Self {
        let mut columns: Vec<(usize, Vec<f64>)> = vec![(0, vec![]); self.input_len];
        for i in 0..self.output_len() {
            let (start, weights) = self.row(i);
            for (x, &w) in (start..).zip(weights) {
                let (first, column) = &mut columns[x];
                if column.is_empty() {
                    *first = i;
                }
                // Starts and ends of rows both rise, so a column's rows are consecutive; a gap would be a zero weight.
                column.resize(i - *first, 0.0);
                column.push(w);
            }
        }
        Self::from_rows(self.output_len(), columns.into_iter())
    }

    /// Values that go in.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Values that come out.
    pub fn output_len(&self) -> usize {
        self.starts.len()
    }

    /// Row `i`: the first input that it uses and the weights of that and the following ones.
    pub fn row(&self, i: usize) -> (usize, &[f64]) {
        (self.starts[i], &self.weights[self.offsets[i]..self.offsets[i + 1]])
    }

    /// The inputs that rows `rows` use together.
    pub(super) fn inputs_of(&self, rows: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let first = rows.clone().map(|i| self.starts[i]).min().unwrap_or(0);
        let last = rows.map(|i| self.starts[i] + self.offsets[i + 1] - self.offsets[i]).max().unwrap_or(0);
        first..last.max(first)
    }

    pub(super) fn start(&self, i: usize) -> usize {
        self.starts[i]
    }

    pub(super) fn span(&self, i: usize) -> std::ops::Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    pub(super) fn weights(&self) -> &[f64] {
        &self.weights
    }

    pub(super) fn weights_f32(&self) -> &[f32] {
        &self.weights_f32
    }

    /// PIL's fixed-point weights: 22 bits behind the point, rounded half away from zero.
    pub(super) fn weights_fixed(&self) -> Vec<i32> {
        let fixed =
            |&w: &f64| (w * f64::from(1 << super::FIXED_BITS) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
        self.weights.iter().map(fixed).collect()
    }
}

/// PIL's `precompute_coeffs` for one output pixel.
fn pil_row(kernel: fn(f64) -> f64, support: f64, input: usize, output: usize, i: usize) -> (usize, Vec<f64>) {
    let scale = input as f64 / output as f64;
    let stretch = scale.max(1.0);
    let support = support * stretch;
    let centre = (i as f64 + 0.5) * scale;
    // A cast to an unsigned integer cuts off the fraction and stops at 0, as PIL's cast and clip do.
    let first = (centre - support + 0.5) as usize;
    let end = ((centre + support + 0.5) as usize).min(input);
    let mut weights: Vec<f64> =
        (first..end).map(|x| kernel((x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    (first, weights)
}

/// Overlap of every source pixel with [i s, (i + 1) s), s = input/output, over s; exact, in units of 1/output.
fn area_row(input: usize, output: usize, i: usize) -> (usize, Vec<f64>) {
    let (input, output, i) = (input as u128, output as u128, i as u128);
    let (left, right) = (i * input, (i + 1) * input);
    let (first, end) = (left / output, right.div_ceil(output));
    let overlap = |x: u128| right.min((x + 1) * output) - left.max(x * output);
    (first as usize, (first..end).map(|x| overlap(x) as f64 / input as f64).collect())
}

/// Cubic convolution, a = -0.5, in PIL's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn boxed(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn lanczos3(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(x * PI) / (x * PI) }
}

/// Position `x` of an endless mirrored copy of 0..len, the edges doubled.
fn reflect(x: i64, len: usize) -> usize {
    let len = len as i64;
    let x = x.rem_euclid(2 * len);
    (if x < len { x } else { 2 * len - 1 - x }) as usize
}
