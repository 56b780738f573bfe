//! From 8-bit pictures of any size to what Inception looks at: 299×299, about -1 to 1, as one of the public tools does it.
//!
//! The tools differ in how they resize, and their distances by several per cent: numbers of different modes must never be
//! compared.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

use super::VisionError;
use crate::metrics::Picture;
use crate::ops::resize::{Filter, ResizePlan};

/// Rows and columns that the network looks at.
pub(super) const SIDE: usize = 299;

/// As which tool images are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FidMode {
    /// pytorch-fid: v / 255, bilinear with half-pixel centres and without antialiasing, 2v − 1.
    PytorchFid,
    /// torch-fidelity, TensorFlow's original, and guided-diffusion's evaluator (which resizes in the same graph): bilinear
    /// from the corners, (v − 128) / 128.
    TorchFidelity,
    /// clean-fid: antialiased bicubic as PIL's on floats, clipped to 0..255, not rounded, (v − 128) / 128.
    CleanFid,
}

impl fmt::Display for FidMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PytorchFid => "pytorch-fid",
            Self::TorchFidelity => "torch-fidelity",
            Self::CleanFid => "clean-fid",
        })
    }
}

impl FromStr for FidMode {
    type Err = VisionError;

    fn from_str(name: &str) -> Result<Self, VisionError> {
        [Self::PytorchFid, Self::TorchFidelity, Self::CleanFid]
            .into_iter()
            .find(|mode| mode.to_string() == name)
            .ok_or_else(|| VisionError::Mode { name: name.to_string() })
    }
}

impl FidMode {
    /// Prepares a picture into (299, 299, 3).
    pub(super) fn prepare(self, picture: Picture<'_>, out: &mut [f32]) {
        let size = [picture.height(), picture.width()];
        match self {
            Self::PytorchFid => {
                let axes = size.map(half_pixel);
                bilinear(picture, &axes, |v| v / 255.0, out);
                out.iter_mut().for_each(|v| *v = 2.0 * *v - 1.0);
            }
            Self::TorchFidelity => {
                let axes = size.map(corner);
                bilinear(picture, &axes, |v| v, out);
                out.iter_mut().for_each(|v| *v = (*v - 128.0) / 128.0);
            }
            Self::CleanFid => {
                let values: Vec<f32> = picture.rgb().iter().map(|v| f32::from(*v)).collect();
                ResizePlan::new(Filter::Bicubic, size, [SIDE; 2]).apply(&values, 3, out);
                out.iter_mut().for_each(|v| *v = (v.clamp(0.0, 255.0) - 128.0) / 128.0);
            }
        }
    }
}

/// Where a row (or column) of the output lies: two of the input, and the share of the second.
type Place = (usize, usize, f32);

/// Half-pixel centres, no antialiasing: PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
fn half_pixel(length: usize) -> Vec<Place> {
    let scale = length as f32 / SIDE as f32;
    let place = |i| {
        let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
        let low = (at as usize).min(length - 1);
        (low, (low + 1).min(length - 1), at - low as f32)
    };
    (0..SIDE).map(place).collect()
}

/// Output i at input i · length / 299: TensorFlow 1's.
fn corner(length: usize) -> Vec<Place> {
    let scale = length as f32 / SIDE as f32;
    let place = |i| {
        let at = i as f32 * scale;
        let low = (at as usize).min(length - 1);
        (low, (low + 1).min(length - 1), at - low as f32)
    };
    (0..SIDE).map(place).collect()
}

/// Along rows, then along columns, a + (b − a) · share each time, of values that `of` makes.
fn bilinear(
    picture: Picture<'_>,
    [vertical, horizontal]: &[Vec<Place>; 2],
    of: impl Fn(f32) -> f32 + Sync,
    out: &mut [f32],
) {
    let row = 3 * picture.width();
    out.par_chunks_exact_mut(3 * SIDE).zip(vertical).for_each(|(out, &(upper, lower, down))| {
        let [upper, lower] = [upper, lower].map(|y| &picture.rgb()[y * row..(y + 1) * row]);
        for (pixel, &(left, right, across)) in out.as_chunks_mut::<3>().0.iter_mut().zip(horizontal) {
            for (c, v) in pixel.iter_mut().enumerate() {
                let [a, b] = [upper, lower].map(|row| {
                    let [a, b] = [left, right].map(|x| of(f32::from(row[3 * x + c])));
                    a + (b - a) * across
                });
                *v = a + (b - a) * down;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::{DecodeLimits, Samples, decode};
    use crate::model::tensors::{ReadLimits, read_safetensors};

    /// Rows and columns of the fixture's samples.
    fn sampled() -> Vec<usize> {
        (0..SIDE).step_by(13).chain([SIDE - 1]).collect()
    }

    #[test]
    fn what_the_network_looks_at_is_what_the_tools_show_it() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let golden = std::fs::read(fixtures.join("fid.safetensors")).unwrap();
        let golden = read_safetensors(&golden, &ReadLimits::default()).unwrap().0;
        let at = sampled();
        for (mode, name) in [(FidMode::PytorchFid, "pytorch_fid"), (FidMode::TorchFidelity, "torch_fidelity")]
        {
            let expected = golden[&format!("inception.input_{name}")].to_f32();
            let images = [64, 256].into_iter().flat_map(|side| ["a", "b", "c"].map(|image| (side, image)));
            for ((side, image), expected) in images.zip(expected.chunks_exact(3 * at.len() * at.len())) {
                let bytes = std::fs::read(fixtures.join(format!("fid/crop_{side}_{image}.png"))).unwrap();
                let picture = decode(&bytes, &DecodeLimits::default()).unwrap().picture;
                let Samples::U8(rgb) = picture.samples else { panic!("{image} has 16 bits") };
                let mut out = vec![0.0; SIDE * SIDE * 3];
                mode.prepare(Picture::new(side, side, &rgb).unwrap(), &mut out);
                let places = (0..3).flat_map(|c| {
                    at.iter().flat_map(move |y| sampled().into_iter().map(move |x| (c, *y, x)))
                });
                for ((c, y, x), expected) in places.zip(expected) {
                    let found = out[(y * SIDE + x) * 3 + c];
                    // Places are f32, as in the tools: a share is right to about 3e-5.
                    assert!((found - expected).abs() < 1e-4, "{mode}, {side}, {image}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn an_image_of_the_networks_size_is_not_resized() {
        let rgb: Vec<u8> = (0..SIDE * SIDE * 3).map(|i| (i * 31 % 256) as u8).collect();
        let mut out = vec![0.0; rgb.len()];
        for mode in [FidMode::TorchFidelity, FidMode::CleanFid] {
            mode.prepare(Picture::new(SIDE, SIDE, &rgb).unwrap(), &mut out);
            assert!(out.iter().zip(&rgb).all(|(v, byte)| *v == (f32::from(*byte) - 128.0) / 128.0), "{mode}");
        }
        // A single pixel is the whole of any image.
        FidMode::PytorchFid.prepare(Picture::new(1, 1, &[0, 255, 51]).unwrap(), &mut out);
        assert!(out.as_chunks::<3>().0.iter().all(|pixel| (pixel[2] + 0.6).abs() < 1e-6 && pixel[1] == 1.0));
    }
}
