//! Pooling of images, forward only: maxima and means of 3×3 windows, and the mean of a whole image.

use rayon::prelude::*;

use super::rectangle::Target;
use super::simd::{Isa, Kernel, Simd, dispatch};

/// What a window of 3×3 becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Its largest value.
    Max,
    /// The mean of those of its pixels that lie in the image.
    Mean,
}

/// 3×3 windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) pool: Pool,
    pub(crate) stride: usize,
    /// Pixels that windows reach beyond the image: 0 or 1.
    pub(crate) pad: usize,
}

const SIDE: usize = 3;

impl Windows {
    /// [height, width] of the output.
    pub(crate) const fn output(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        [(height + 2 * self.pad - SIDE) / self.stride + 1, (width + 2 * self.pad - SIDE) / self.stride + 1]
    }
}

/// Pools every image: `input` is (N, H, W, C), `size` [H, W].
pub(crate) fn windows(
    isa: Isa,
    windows: &Windows,
    size: [usize; 2],
    channels: usize,
    input: &[f32],
    target: Target<'_>,
) {
    let ([height, width], item) = (windows.output(size), size[0] * size[1] * channels);
    let row = width * target.channels;
    assert!(target.data.len() / (height * row) == input.len() / item, "as many images");
    target.data.par_chunks_mut(row).enumerate().for_each(|(y, out)| {
        let (image, y) = (&input[y / height * item..][..item], y % height);
        let (first, pitch) = (target.first, target.channels);
        dispatch(isa, Row { windows, size, channels, image, y, first, pitch, out });
    });
}

/// A row of outputs.
struct Row<'a> {
    windows: &'a Windows,
    size: [usize; 2],
    channels: usize,
    image: &'a [f32],
    y: usize,
    first: usize,
    pitch: usize,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { windows: Windows { pool, stride, pad }, size: [height, width], channels, image, .. } =
            self;
        let inside = |at: usize, length: usize| {
            let begin = (at * stride).saturating_sub(*pad);
            begin..(at * stride + SIDE - pad).min(length)
        };
        let rows = inside(self.y, height);
        for (x, out) in self.out.chunks_exact_mut(self.pitch).enumerate() {
            let (out, columns) = (&mut out[self.first..self.first + channels], inside(x, width));
            let count = (rows.len() * columns.len()) as f32;
            let mut first = true;
            for pixel in rows.clone().flat_map(|y| columns.clone().map(move |x| y * width + x)) {
                let pixel = &image[pixel * channels..(pixel + 1) * channels];
                if first {
                    out.copy_from_slice(pixel);
                } else if *pool == Pool::Max {
                    out.iter_mut().zip(pixel).for_each(|(out, v)| *out = if *v > *out { *v } else { *out });
                } else {
                    out.iter_mut().zip(pixel).for_each(|(out, v)| *out += v);
                }
                first = false;
            }
            if *pool == Pool::Mean {
                out.iter_mut().for_each(|out| *out /= count);
            }
        }
    }
}

/// The mean over all pixels of every image, in f64: `input` is (N, pixels, C), `out` (N, C).
pub(crate) fn mean(pixels: usize, channels: usize, input: &[f32], out: &mut [f32]) {
    let images = input.par_chunks(pixels * channels);
    out.par_chunks_mut(channels).zip(images).for_each(|(out, image)| {
        let mut sums = vec![0.0f64; channels];
        for pixel in image.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum / pixels as f64) as f32);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pool: Pool, stride: usize, pad: usize) -> Vec<f32> {
        // Three rows and four columns of two channels: a count, and its negative.
        let image: Vec<f32> = (0..12).flat_map(|i| [i as f32, -(i as f32)]).collect();
        let asked = Windows { pool, stride, pad };
        let [height, width] = asked.output([3, 4]);
        let mut first = vec![];
        for isa in Isa::available() {
            let mut data = vec![7.0; height * width * 3];
            windows(isa, &asked, [3, 4], 2, &image, Target { data: &mut data, channels: 3, first: 1 });
            assert!(first.is_empty() || first == data, "{isa}");
            first = data;
        }
        assert!(first.iter().step_by(3).all(|v| *v == 7.0), "other channels are left alone");
        first.chunks_exact(3).flat_map(|pixel| pixel[1..].to_vec()).collect()
    }

    #[test]
    fn windows_see_the_image_alone() {
        assert_eq!(pooled(Pool::Max, 2, 0), [10.0, 0.0]);
        assert_eq!(pooled(Pool::Max, 1, 0), [10.0, 0.0, 11.0, -1.0]);
        let padded = pooled(Pool::Max, 1, 1);
        assert_eq!((padded.len(), &padded[..4]), (24, &[5.0, 0.0, 6.0, 0.0][..]));
        let means = pooled(Pool::Mean, 1, 1);
        // A corner has four pixels, an edge six, the middle nine.
        assert_eq!(&means[..4], &[2.5, -2.5, 3.0, -3.0]);
        assert_eq!(&means[10..12], &[5.0, -5.0]);
    }

    #[test]
    fn a_whole_image_has_one_mean() {
        let mut out = [0.0; 4];
        mean(3, 2, &[1.0, 5.0, 2.0, 5.0, 6.0, 5.0, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0], &mut out);
        assert_eq!(out, [3.0, 5.0, 0.0, 2.0]);
    }
}
