//! ST-LPIPS (Ghildyal and Liu, 2022): a distance between two pictures of one size that people's judgement was learnt with, by an
//! AlexNet that blurs before it leaves pixels out, so that a shift of a pixel counts for little. Its numbers are not those of LPIPS.
//!
//! Pictures are looked at as they are, of any size from 21 to some four million pixels: each level of features, brought to
//! length 1 at every pixel, is compared channel by channel, weighted by the level's head, and averaged over the pixels.
//! Layers bear the names of the package `stlpips_pytorch`.

use rayon::prelude::*;

use super::VisionError;
use super::network::{ImageId, Network};
use super::taken::{self, Taken};
use crate::metrics::Picture;
use crate::model::tensors::TensorMap;
use crate::ops::Isa;
use crate::ops::depthwise::{Beyond, Depthwise};
use crate::ops::pool::{Pool, Windows};
use crate::ops::rectangle::{Activation, Rectangle};

/// The digest of the weights of `stlpips_pytorch` 0.0.2, by which distances are computed.
pub const ST_LPIPS_DIGEST: &str = "ba7bb00a8cd3e1e6cf95efc40707ce2c67da093bef996f5c236af0f065c12fa8";
/// Rows and columns at least: its mirrors need three pixels at every level.
const SIDE_MIN: usize = 21;
/// Pixels at most: the features of two such pictures take 2 GB.
const PIXELS_MAX: usize = 1 << 22;
/// So that nothing is divided by zero.
const EPS: f64 = 1e-10;
/// Pixels whose differences are summed up by one thread.
const BLOCK: usize = 1024;

/// A blur before every other pixel is left out: a binomial window, from two pixels beyond the image.
const BLUR: Depthwise = Depthwise { kernel: 3, stride: 2, pad: [2, 2], beyond: Beyond::Mirror };
const MAX: Windows = Windows { pool: Pool::Max, stride: 1, pad: 0 };

/// A level of features.
struct Level {
    features: ImageId,
    /// What a difference counts, by channel.
    head: Vec<f32>,
}

/// The network.
pub struct StLpips {
    network: Network,
    levels: Vec<Level>,
    /// Taken away from colours of -1..1, which are then divided by the scale.
    shift: Vec<f32>,
    scale: Vec<f32>,
    digest: String,
}

impl StLpips {
    /// From the tensors of `alex_shift_tolerant.pth`, read by [`read_pth`](crate::model::import::read_pth).
    ///
    /// # Errors
    /// [`VisionError`] for the first tensor that is missing, superfluous, of another shape, or damaged.
    pub fn new(tensors: &TensorMap, isa: Isa) -> Result<Self, VisionError> {
        let (network, image) = Network::new(isa, [SIDE_MIN; 2], 3);
        let mut build = Build { network, tensors: Taken::new(tensors) };
        let [shift, scale] = ["shift", "scale"]
            .map(|part| build.tensors.take(&format!("scaling_layer.{part}"), &[1, 3, 1, 1]));
        let (shift, scale) = (shift?, scale?);
        if scale.contains(&0.0) {
            return Err(VisionError::Values { name: "scaling_layer.scale".into() });
        }
        let x = build.convolution(image, "net.slice1.0", [64, 11, 2], Activation::None)?;
        let one = build.blur(x, "net.slice1.1", Activation::Relu)?;
        let x = build.network.windows(one, MAX, None);
        let x = build.blur(x, "net.slice2.4", Activation::None)?;
        let two = build.convolution(x, "net.slice2.5", [192, 5, 2], Activation::Relu)?;
        let x = build.network.windows(two, MAX, None);
        let x = build.blur(x, "net.slice3.8", Activation::None)?;
        let three = build.convolution(x, "net.slice3.9", [384, 3, 1], Activation::Relu)?;
        let four = build.convolution(three, "net.slice4.11", [256, 3, 1], Activation::Relu)?;
        let five = build.convolution(four, "net.slice5.13", [256, 3, 1], Activation::Relu)?;
        let Build { mut network, tensors: mut taken } = build;
        let all = [one, two, three, four, five];
        let levels = all.into_iter().enumerate().map(|(at, features)| {
            let shape = [1, network.channels(features), 1, 1];
            Ok(Level { features, head: taken.take(&format!("lin{at}.model.1.weight"), &shape)? })
        });
        let levels = levels.collect::<Result<_, VisionError>>()?;
        taken.finish()?;
        network.finish(&all);
        Ok(Self { network, levels, shift, scale, digest: taken::digest(tensors) })
    }

    /// The sha256 of its weights.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How far each picture is from `truth`, from 0 on.
    ///
    /// # Errors
    /// [`VisionError`] where a picture is too small or too large, or of another size than `truth`.
    pub fn distances(
        &mut self,
        truth: Picture<'_>,
        pictures: &[Picture<'_>],
    ) -> Result<Vec<f64>, VisionError> {
        let (width, height) = (truth.width(), truth.height());
        if width.min(height) < SIDE_MIN {
            return Err(VisionError::TooSmall { width, height, least: SIDE_MIN });
        }
        if width * height > PIXELS_MAX {
            return Err(VisionError::TooLarge { width, height, most: PIXELS_MAX });
        }
        if let Some(other) = pictures.iter().find(|other| (other.width(), other.height()) != (width, height))
        {
            let (other_width, other_height) = (other.width(), other.height());
            return Err(VisionError::SizesDiffer { width, height, other_width, other_height });
        }
        self.look(truth);
        let kept: Vec<Vec<f32>> =
            self.levels.iter().map(|level| self.network.values(level.features, 1).to_vec()).collect();
        let of = |picture: &Picture<'_>| {
            self.look(*picture);
            let levels = self.levels.iter().zip(&kept);
            levels
                .map(|(level, kept)| difference(kept, self.network.values(level.features, 1), &level.head))
                .sum::<f64>()
        };
        Ok(pictures.iter().map(of).collect())
    }

    /// Runs the network on a picture.
    fn look(&mut self, picture: Picture<'_>) {
        self.network.resize([picture.height(), picture.width()]);
        let (shift, scale) = (&self.shift, &self.scale);
        self.network.run(1, |input| {
            for (at, (value, byte)) in input.iter_mut().zip(picture.rgb()).enumerate() {
                *value = (f32::from(*byte) / 127.5 - 1.0 - shift[at % 3]) / scale[at % 3];
            }
        });
    }
}

/// The mean over pixels of the weighted squares between features (pixels, C), each pixel's brought to length 1.
fn difference(a: &[f32], b: &[f32], head: &[f32]) -> f64 {
    let channels = head.len();
    let length =
        |pixel: &[f32]| pixel.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt() + EPS;
    let pixel = |(a, b): (&[f32], &[f32])| {
        let (of_a, of_b) = (length(a), length(b));
        let channel = |((a, b), weight): ((&f32, &f32), &f32)| {
            let difference = f64::from(*a) / of_a - f64::from(*b) / of_b;
            f64::from(*weight) * difference * difference
        };
        a.iter().zip(b).zip(head).map(channel).sum::<f64>()
    };
    let blocks = a.par_chunks(BLOCK * channels).zip(b.par_chunks(BLOCK * channels));
    let sums =
        blocks.map(|(a, b)| a.chunks_exact(channels).zip(b.chunks_exact(channels)).map(pixel).sum::<f64>());
    let sums: Vec<f64> = sums.collect();
    sums.iter().sum::<f64>() / (a.len() / channels) as f64
}

struct Build<'a> {
    network: Network,
    tensors: Taken<'a>,
}

impl Build<'_> {
    /// A convolution with its bias: channels, side of its window, and zeros around the image.
    fn convolution(
        &mut self,
        from: ImageId,
        name: &str,
        [out_channels, side, pad]: [usize; 3],
        activation: Activation,
    ) -> Result<ImageId, VisionError> {
        let in_channels = self.network.channels(from);
        let shape = Rectangle { in_channels, out_channels, kernel: [side; 2], stride: 1, pad: [pad; 2] };
        let weights =
            self.tensors.take(&format!("{name}.weight"), &[out_channels, in_channels, side, side])?;
        let bias = self.tensors.take(&format!("{name}.bias"), &[out_channels])?;
        Ok(self.network.convolve(from, shape, (&weights, bias), activation, None))
    }

    /// A blur, whose window lies in the file.
    fn blur(&mut self, from: ImageId, name: &str, activation: Activation) -> Result<ImageId, VisionError> {
        let channels = self.network.channels(from);
        let window = self.tensors.take(&format!("{name}.filt"), &[channels, 1, BLUR.kernel, BLUR.kernel])?;
        Ok(self.network.depthwise(from, BLUR, (&window, vec![0.0; channels]), activation))
    }
}
