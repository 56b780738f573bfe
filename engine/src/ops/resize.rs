//! Separable resampling of interleaved images: antialiased bicubic, box, Lanczos, area.
//!
//! Two paths. The float path neither rounds nor clips: it is what the diffusion works on. The 8-bit path is PIL's,
//! bit for bit: fixed-point weights, and rounding to 8 bits after each of the two passes.
//!
//! Promises: the same bits for any number of threads (each value is one sum in a fixed order), temporaries of a few
//! rows a thread, values of one channel never mix with another's. Never: gamma, colour spaces, alpha.

mod axis;

pub use axis::{Axis, Filter};

use rayon::prelude::*;

/// Bits behind the point of PIL's 8-bit weights.
const FIXED_BITS: u32 = 22;
/// Values of a row that are summed side by side, so that the compiler can use vectors.
const LANES: usize = 64;

/// A resampling of (H, W, C) images of one size to another: the weights of both axes.
#[derive(Clone, Debug)]
pub struct ResizePlan {
    vertical: Axis,
    horizontal: Axis,
}

impl ResizePlan {
    /// From [height, width] to [height, width].
    pub fn new(filter: Filter, from: [usize; 2], to: [usize; 2]) -> Self {
        Self { vertical: Axis::new(filter, from[0], to[0]), horizontal: Axis::new(filter, from[1], to[1]) }
    }

    /// From the matrices of both axes.
    pub fn from_axes(vertical: Axis, horizontal: Axis) -> Self {
        Self { vertical, horizontal }
    }

    /// [height, width] of the input.
    pub fn input_size(&self) -> [usize; 2] {
        [self.vertical.input_len(), self.horizontal.input_len()]
    }

    /// [height, width] of the output.
    pub fn output_size(&self) -> [usize; 2] {
        [self.vertical.output_len(), self.horizontal.output_len()]
    }

    /// Resamples `src` (H, W, C) into `dst` (H', W', C), in f32, not rounded, not clipped.
    ///
    /// # Panics
    /// Where a buffer has not the plan's size times `channels`.
    pub fn apply(&self, src: &[f32], channels: usize, dst: &mut [f32]) {
        let weights = [self.vertical.weights_f32(), self.horizontal.weights_f32()];
        self.run::<Float>(weights, src, channels, dst, |out, value| *out = value);
    }

    /// Adds the resampled `src` (H, W, C) to `dst` (H', W', C).
    ///
    /// # Panics
    /// Where a buffer has not the plan's size times `channels`.
    pub fn apply_add(&self, src: &[f32], channels: usize, dst: &mut [f32]) {
        let weights = [self.vertical.weights_f32(), self.horizontal.weights_f32()];
        self.run::<Float>(weights, src, channels, dst, |out, value| *out += value);
    }

    /// [`apply`](Self::apply) in f64, for measuring.
    ///
    /// # Panics
    /// Where a buffer has not the plan's size times `channels`.
    pub fn apply_f64(&self, src: &[f64], channels: usize, dst: &mut [f64]) {
        let weights = [self.vertical.weights(), self.horizontal.weights()];
        self.run::<Double>(weights, src, channels, dst, |out, value| *out = value);
    }

    /// Resamples 8-bit `src` (H, W, C) into `dst` (H', W', C) exactly as PIL does.
    ///
    /// # Panics
    /// Where a buffer has not the plan's size times `channels`.
    pub fn apply_u8(&self, src: &[u8], channels: usize, dst: &mut [u8]) {
        let weights = [self.vertical.weights_fixed(), self.horizontal.weights_fixed()];
        self.run::<Fixed>([&weights[0], &weights[1]], src, channels, dst, |out, value| *out = value);
    }

    /// Both passes, band of output rows by band: the rows that a band needs are resampled horizontally into a
    /// scratch buffer, then vertically into place.
    fn run<A: Arithmetic>(
        &self,
        [vertical, horizontal]: [&[A::Weight]; 2],
        src: &[A::Value],
        channels: usize,
        dst: &mut [A::Value],
        store: impl Fn(&mut A::Value, A::Value) + Sync,
    ) {
        let [in_height, in_width] = self.input_size();
        let [out_height, out_width] = self.output_size();
        assert_eq!(src.len(), in_height * in_width * channels, "source length");
        assert_eq!(dst.len(), out_height * out_width * channels, "destination length");
        let (in_row, out_row) = (in_width * channels, out_width * channels);
        if dst.is_empty() {
            return;
        }
        // Neighbouring bands share a kernel's width of input rows, so bands may not be thin.
        let band_rows = if out_height > in_height { 64 } else { 16 };
        dst.par_chunks_mut(band_rows * out_row).enumerate().for_each_init(
            Vec::new,
            |scratch, (band, out)| {
                let first = band * band_rows;
                let rows = first..first + out.len() / out_row;
                let inputs = self.vertical.inputs_of(rows.clone());
                scratch.clear();
                scratch.resize(inputs.len() * out_row, A::finish(A::START));
                for (y, line) in inputs.clone().zip(scratch.chunks_exact_mut(out_row)) {
                    self.horizontal_row::<A>(horizontal, &src[y * in_row..][..in_row], channels, line);
                }
                for (y, line) in rows.zip(out.chunks_exact_mut(out_row)) {
                    let from = self.vertical.start(y) - inputs.start;
                    let weights = &vertical[self.vertical.span(y)];
                    vertical_row::<A>(weights, &scratch[from * out_row..], line, &store);
                }
            },
        );
    }

    fn horizontal_row<A: Arithmetic>(
        &self,
        w: &[A::Weight],
        src: &[A::Value],
        channels: usize,
        dst: &mut [A::Value],
    ) {
        match channels {
            1 => self.horizontal_pixels::<A, 1>(w, src, dst),
            3 => self.horizontal_pixels::<A, 3>(w, src, dst),
            4 => self.horizontal_pixels::<A, 4>(w, src, dst),
            _ => {
                for (x, pixel) in dst.chunks_exact_mut(channels).enumerate() {
                    let (start, weights) = (self.horizontal.start(x), &w[self.horizontal.span(x)]);
                    for (c, out) in pixel.iter_mut().enumerate() {
                        let taps = weights.iter().zip(src[start * channels + c..].iter().step_by(channels));
                        *out = A::finish(taps.fold(A::START, |sum, (&w, &v)| A::add(sum, w, v)));
                    }
                }
            }
        }
    }

    fn horizontal_pixels<A: Arithmetic, const C: usize>(
        &self,
        w: &[A::Weight],
        src: &[A::Value],
        dst: &mut [A::Value],
    ) {
        let (src, dst) = (src.as_chunks::<C>().0, dst.as_chunks_mut::<C>().0);
        for (x, pixel) in dst.iter_mut().enumerate() {
            let weights = &w[self.horizontal.span(x)];
            let start = self.horizontal.start(x);
            let mut sums = [A::START; C];
            for (&w, values) in weights.iter().zip(&src[start..start + weights.len()]) {
                for (sum, &v) in sums.iter_mut().zip(values) {
                    *sum = A::add(*sum, w, v);
                }
            }
            *pixel = sums.map(A::finish);
        }
    }
}

/// `dst` = the sum of `weights` times the consecutive rows in `rows`.
fn vertical_row<A: Arithmetic>(
    weights: &[A::Weight],
    rows: &[A::Value],
    dst: &mut [A::Value],
    store: impl Fn(&mut A::Value, A::Value),
) {
    let stride = dst.len();
    for (block, out) in dst.chunks_mut(LANES).enumerate() {
        let mut sums = [A::START; LANES];
        for (k, &w) in weights.iter().enumerate() {
            let row = &rows[k * stride + block * LANES..][..out.len()];
            for (sum, &v) in sums.iter_mut().zip(row) {
                *sum = A::add(*sum, w, v);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            store(out, A::finish(sum));
        }
    }
}

/// What the paths differ in.
trait Arithmetic {
    type Value: Copy + Send + Sync;
    type Weight: Copy + Sync;
    type Sum: Copy;
    const START: Self::Sum;
    fn add(sum: Self::Sum, weight: Self::Weight, value: Self::Value) -> Self::Sum;
    fn finish(sum: Self::Sum) -> Self::Value;
}

struct Float;

impl Arithmetic for Float {
    type Value = f32;
    type Weight = f32;
    type Sum = f32;
    const START: f32 = 0.0;

    fn add(sum: f32, weight: f32, value: f32) -> f32 {
        sum + weight * value
    }

    fn finish(sum: f32) -> f32 {
        sum
    }
}

struct Double;

impl Arithmetic for Double {
    type Value = f64;
    type Weight = f64;
    type Sum = f64;
    const START: f64 = 0.0;

    fn add(sum: f64, weight: f64, value: f64) -> f64 {
        sum + weight * value
    }

    fn finish(sum: f64) -> f64 {
        sum
    }
}

struct Fixed;

impl Arithmetic for Fixed {
    type Value = u8;
    type Weight = i32;
    // No overflow: the weights of a row sum to 2^22 and their magnitudes, for every kernel here, to less than 2^23.
    type Sum = i32;
    const START: i32 = 1 << (FIXED_BITS - 1);

    fn add(sum: i32, weight: i32, value: u8) -> i32 {
        sum + weight * i32::from(value)
    }

    fn finish(sum: i32) -> u8 {
        (sum >> FIXED_BITS).clamp(0, 255) as u8
    }
}

/// Resamples an (H, W, C) image to (H', W', C), in f32, not rounded, not clipped.
///
/// # Panics
/// Where `src` does not hold H · W · C values.
pub fn resize(
    src: &[f32],
    [height, width, channels]: [usize; 3],
    to: [usize; 2],
    filter: Filter,
) -> Vec<f32> {
    let mut dst = vec![0.0; to[0] * to[1] * channels];
    ResizePlan::new(filter, [height, width], to).apply(src, channels, &mut dst);
    dst
}

/// Resamples an 8-bit (H, W, C) image to (H', W', C) exactly as PIL does.
///
/// # Panics
/// Where `src` does not hold H · W · C values.
pub fn resize_u8(
    src: &[u8],
    [height, width, channels]: [usize; 3],
    to: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
    let mut dst = vec![0; to[0] * to[1] * channels];
    ResizePlan::new(filter, [height, width], to).apply_u8(src, channels, &mut dst);
    dst
}
