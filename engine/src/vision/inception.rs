//! Inception v3 as the Fréchet Inception Distance has it (the weights of 2015-12-05): 299×299 pixels to 2048 features.
//!
//! It differs from the network of the same name for classifying: 1008 classes, means of 3×3 windows without what lies
//! outside, and the last block pools maxima. Layers bear the names of pytorch-fid's module; the same network as TorchScript
//! names them after TensorFlow's graph.

use super::VisionError;
use super::fold::{Layers, Names};
use super::network::{ImageId, Network, Slot};
use super::prepare::{FidMode, SIDE};
use crate::metrics::Picture;
use crate::model::tensors::TensorMap;
use crate::ops::Isa;
use crate::ops::pool::{Pool, Windows};
use crate::ops::rectangle::{Activation, Rectangle};

/// Features of an image.
pub const POOL: usize = 2048;
/// Classes, with the background and seven that are never trained.
pub const LOGITS: usize = 1008;
/// Numbers that sFID is computed of: seven channels of 17×17.
pub const SPATIAL: usize = 17 * 17 * SPATIAL_CHANNELS;
const SPATIAL_CHANNELS: usize = 7;
/// The digest of the weights of 2015-12-05, by which every published FID was computed.
pub const INCEPTION_DIGEST: &str = "3b7a9159f8d6be7d673442a8f7d20e9f2c9ed893f3c9a3433f4804b3fab23aa1";
/// Images that go through the network together. Any number gives the same bits; this many use each weight that comes from
/// memory often enough.
const BATCH: usize = 8;

/// What the network says of some images, each in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFeatures {
    /// (N, 2048): means over the last layer, from which FID, KID and the others are computed.
    pub pool: Vec<f32>,
    /// (N, 17 · 17 · 7): the first seven channels of the first branch of `mixed_6`, from which guided-diffusion's sFID is.
    pub spatial: Vec<f32>,
    /// (N, 1008), without the classifier's bias, as the Inception Score takes them; empty where the weights have no classifier.
    pub logits: Vec<f32>,
}

/// FID's Inception network.
pub struct Inception {
    network: Network,
    pool: ImageId,
    spatial: ImageId,
    logits: Option<ImageId>,
    digest: String,
}

impl Inception {
    /// From the tensors of pytorch-fid's `.pth`, or of the same network as TorchScript, read by
    /// [`read_pth`](crate::model::import::read_pth).
    ///
    /// # Errors
    /// [`VisionError`] for the first tensor that is missing, superfluous, of another shape, or damaged.
    pub fn new(tensors: &TensorMap, isa: Isa) -> Result<Self, VisionError> {
        Self::build(Layers::new(tensors), isa)
    }

    /// The same network with weights that a seed decides: for measuring how fast it is. What it says means nothing.
    ///
    /// # Errors
    /// None: it cannot lack a tensor.
    pub fn seeded(seed: u64, isa: Isa) -> Result<Self, VisionError> {
        Self::build(Layers::drawn(seed), isa)
    }

    fn build(layers: Layers<'_>, isa: Isa) -> Result<Self, VisionError> {
        let (network, image) = Network::new(isa, [SIDE; 2], 3);
        let mut build = Build { network, layers, block: ("", "") };
        let (last, spatial) = build.trunk(image)?;
        let Build { mut network, mut layers, .. } = build;
        let pool = network.mean(last);
        let logits = layers.classifier(LOGITS, POOL)?.map(|weights| {
            let shape =
                Rectangle { in_channels: POOL, out_channels: LOGITS, kernel: [1, 1], stride: 1, pad: [0, 0] };
            network.convolve(pool, shape, (&weights, vec![0.0; LOGITS]), Activation::None, None)
        });
        let digest = layers.finish()?;
        network.finish(&[pool, spatial].into_iter().chain(logits).collect::<Vec<_>>());
        Ok(Self { network, pool, spatial, logits, digest })
    }

    /// The sha256 of all weights of the layers below the classifier, in their order: the same from either kind of file.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether there will be logits.
    #[must_use]
    pub const fn classifies(&self) -> bool {
        self.logits.is_some()
    }

    /// Looks at images of any sizes.
    ///
    /// # Errors
    /// [`VisionError::Empty`] for an image without pixels.
    pub fn features(&mut self, images: &[Picture<'_>], mode: FidMode) -> Result<ImageFeatures, VisionError> {
        if let Some(image) = images.iter().position(|picture| picture.rgb().is_empty()) {
            return Err(VisionError::Empty { image });
        }
        let mut features = ImageFeatures::default();
        for images in images.chunks(BATCH) {
            let count = images.len();
            self.network.run(count, |input| {
                let prepared = input.chunks_exact_mut(SIDE * SIDE * 3);
                prepared.zip(images).for_each(|(out, picture)| mode.prepare(*picture, out));
            });
            features.pool.extend_from_slice(self.network.values(self.pool, count));
            let channels = self.network.channels(self.spatial);
            let pixels = self.network.values(self.spatial, count).chunks_exact(channels);
            features.spatial.extend(pixels.flat_map(|pixel| &pixel[..SPATIAL_CHANNELS]));
            if let Some(logits) = self.logits {
                features.logits.extend_from_slice(self.network.values(logits, count));
            }
        }
        Ok(features)
    }
}

/// A convolution with its batch norm and rectifier.
#[derive(Clone, Copy)]
struct Unit {
    /// Within its block: pytorch-fid's, the TorchScript's.
    names: (&'static str, &'static str),
    channels: usize,
    kernel: [usize; 2],
    stride: usize,
    /// Whether the output is as large as the input (over its stride).
    padded: bool,
}

/// A unit that keeps the size.
const fn same(module: &'static str, script: &'static str, channels: usize, kernel: [usize; 2]) -> Unit {
    Unit { names: (module, script), channels, kernel, stride: 1, padded: true }
}

/// A unit of 3×3 that sees nothing outside the image.
const fn inner(module: &'static str, script: &'static str, channels: usize, stride: usize) -> Unit {
    Unit { names: (module, script), channels, kernel: [3, 3], stride, padded: false }
}

const MEAN: Windows = Windows { pool: Pool::Mean, stride: 1, pad: 1 };
const MAX: Windows = Windows { pool: Pool::Max, stride: 1, pad: 1 };
const HALVE: Windows = Windows { pool: Pool::Max, stride: 2, pad: 0 };

/// A branch of a block: pooling where there is some, then units, into a slice of the block's output.
struct Branch<'a> {
    from: ImageId,
    pool: Option<Windows>,
    units: &'a [Unit],
}

struct Build<'a> {
    network: Network,
    layers: Layers<'a>,
    /// The block's names: pytorch-fid's, the TorchScript's.
    block: (&'static str, &'static str),
}

impl Build<'_> {
    /// All layers: the last image, and that whose first channels are the spatial features.
    fn trunk(&mut self, image: ImageId) -> Result<(ImageId, ImageId), VisionError> {
        let x = self.unit(image, &inner("Conv2d_1a_3x3", "conv", 32, 2), None)?;
        let x = self.unit(x, &inner("Conv2d_2a_3x3", "conv_1", 32, 1), None)?;
        let x = self.unit(x, &same("Conv2d_2b_3x3", "conv_2", 64, [3, 3]), None)?;
        let x = self.network.windows(x, HALVE, None);
        let x = self.unit(x, &same("Conv2d_3b_1x1", "conv_3", 80, [1, 1]), None)?;
        let x = self.unit(x, &inner("Conv2d_4a_3x3", "conv_4", 192, 1), None)?;
        let x = self.network.windows(x, HALVE, None);
        let x = self.a(x, ("Mixed_5b", "mixed"), 32)?;
        let x = self.a(x, ("Mixed_5c", "mixed_1"), 64)?;
        let x = self.a(x, ("Mixed_5d", "mixed_2"), 64)?;
        let x = self.b(x, ("Mixed_6a", "mixed_3"))?;
        let x = self.c(x, ("Mixed_6b", "mixed_4"), 128)?;
        let x = self.c(x, ("Mixed_6c", "mixed_5"), 160)?;
        let spatial = self.c(x, ("Mixed_6d", "mixed_6"), 160)?;
        let x = self.c(spatial, ("Mixed_6e", "mixed_7"), 192)?;
        let x = self.d(x, ("Mixed_7a", "mixed_8"))?;
        let x = self.e(x, ("Mixed_7b", "mixed_9"), MEAN)?;
        let x = self.e(x, ("Mixed_7c", "mixed_10"), MAX)?;
        Ok((x, spatial))
    }

    /// Branches of 1×1, 5×5, two of 3×3, and means.
    fn a(
        &mut self,
        x: ImageId,
        block: (&'static str, &'static str),
        means: usize,
    ) -> Result<ImageId, VisionError> {
        self.block = block;
        self.join(&[
            Branch::of(x, &[same("branch1x1", "conv", 64, [1, 1])]),
            Branch::of(
                x,
                &[
                    same("branch5x5_1", "tower.conv", 48, [1, 1]),
                    same("branch5x5_2", "tower.conv_1", 64, [5, 5]),
                ],
            ),
            Branch::of(
                x,
                &[
                    same("branch3x3dbl_1", "tower_1.conv", 64, [1, 1]),
                    same("branch3x3dbl_2", "tower_1.conv_1", 96, [3, 3]),
                    same("branch3x3dbl_3", "tower_1.conv_2", 96, [3, 3]),
                ],
            ),
            Branch::pooled(x, MEAN, &[same("branch_pool", "tower_2.conv", means, [1, 1])]),
        ])
    }

    /// Halves the size: branches of 3×3, two of 3×3, and maxima.
    fn b(&mut self, x: ImageId, block: (&'static str, &'static str)) -> Result<ImageId, VisionError> {
        self.block = block;
        self.join(&[
            Branch::of(x, &[inner("branch3x3", "conv", 384, 2)]),
            Branch::of(
                x,
                &[
                    same("branch3x3dbl_1", "tower.conv", 64, [1, 1]),
                    same("branch3x3dbl_2", "tower.conv_1", 96, [3, 3]),
                    inner("branch3x3dbl_3", "tower.conv_2", 96, 2),
                ],
            ),
            Branch::pooled(x, HALVE, &[]),
        ])
    }

    /// Branches of 1×1, 7×7 in two, twice 7×7 in four, and means; `c` channels inside.
    fn c(
        &mut self,
        x: ImageId,
        block: (&'static str, &'static str),
        c: usize,
    ) -> Result<ImageId, VisionError> {
        self.block = block;
        self.join(&[
            Branch::of(x, &[same("branch1x1", "conv", 192, [1, 1])]),
            Branch::of(
                x,
                &[
                    same("branch7x7_1", "tower.conv", c, [1, 1]),
                    same("branch7x7_2", "tower.conv_1", c, [1, 7]),
                    same("branch7x7_3", "tower.conv_2", 192, [7, 1]),
                ],
            ),
            Branch::of(
                x,
                &[
                    same("branch7x7dbl_1", "tower_1.conv", c, [1, 1]),
                    same("branch7x7dbl_2", "tower_1.conv_1", c, [7, 1]),
                    same("branch7x7dbl_3", "tower_1.conv_2", c, [1, 7]),
                    same("branch7x7dbl_4", "tower_1.conv_3", c, [7, 1]),
                    same("branch7x7dbl_5", "tower_1.conv_4", 192, [1, 7]),
                ],
            ),
            Branch::pooled(x, MEAN, &[same("branch_pool", "tower_2.conv", 192, [1, 1])]),
        ])
    }

    /// Halves the size: branches of 3×3, 7×7 in two with 3×3, and maxima.
    fn d(&mut self, x: ImageId, block: (&'static str, &'static str)) -> Result<ImageId, VisionError> {
        self.block = block;
        self.join(&[
            Branch::of(
                x,
                &[
                    same("branch3x3_1", "tower.conv", 192, [1, 1]),
                    inner("branch3x3_2", "tower.conv_1", 320, 2),
                ],
            ),
            Branch::of(
                x,
                &[
                    same("branch7x7x3_1", "tower_1.conv", 192, [1, 1]),
                    same("branch7x7x3_2", "tower_1.conv_1", 192, [1, 7]),
                    same("branch7x7x3_3", "tower_1.conv_2", 192, [7, 1]),
                    inner("branch7x7x3_4", "tower_1.conv_3", 192, 2),
                ],
            ),
            Branch::pooled(x, HALVE, &[]),
        ])
    }

    /// Branches of 1×1, of 3×3 that part in two at their end, and pooling.
    fn e(
        &mut self,
        x: ImageId,
        block: (&'static str, &'static str),
        pool: Windows,
    ) -> Result<ImageId, VisionError> {
        self.block = block;
        let one = self.unit(x, &same("branch3x3_1", "tower_conv", 384, [1, 1]), None)?;
        let two = self.unit(x, &same("branch3x3dbl_1", "tower_1_conv", 448, [1, 1]), None)?;
        let two = self.unit(two, &same("branch3x3dbl_2", "tower_1_conv_1", 384, [3, 3]), None)?;
        self.join(&[
            Branch::of(x, &[same("branch1x1", "conv", 320, [1, 1])]),
            Branch::of(one, &[same("branch3x3_2a", "tower_mixed_conv", 384, [1, 3])]),
            Branch::of(one, &[same("branch3x3_2b", "tower_mixed_conv_1", 384, [3, 1])]),
            Branch::of(two, &[same("branch3x3dbl_3a", "tower_1_mixed_conv", 384, [1, 3])]),
            Branch::of(two, &[same("branch3x3dbl_3b", "tower_1_mixed_conv_1", 384, [3, 1])]),
            Branch::pooled(x, pool, &[same("branch_pool", "tower_2_conv", 192, [1, 1])]),
        ])
    }

    /// Branches side by side, into one image.
    fn join(&mut self, branches: &[Branch<'_>]) -> Result<ImageId, VisionError> {
        let widths = branches.iter().map(|branch| {
            branch.units.last().map_or_else(|| self.network.channels(branch.from), |unit| unit.channels)
        });
        let widths: Vec<usize> = widths.collect();
        let halves = branches.iter().any(|branch| branch.pool == Some(HALVE));
        let size = self.network.size(branches[0].from);
        let size = if halves { HALVE.output(size) } else { size };
        let joined = self.network.joined(size, widths.iter().sum());
        let mut first = 0;
        for (branch, width) in branches.iter().zip(widths) {
            let (mut x, slot) = (branch.from, Slot { image: joined, first });
            first += width;
            if let Some(windows) = branch.pool {
                x = self.network.windows(x, windows, branch.units.is_empty().then_some(slot));
            }
            for (at, unit) in branch.units.iter().enumerate() {
                x = self.unit(x, unit, (at + 1 == branch.units.len()).then_some(slot))?;
            }
        }
        Ok(joined)
    }

    fn unit(&mut self, from: ImageId, unit: &Unit, to: Option<Slot>) -> Result<ImageId, VisionError> {
        let shape = Rectangle {
            in_channels: self.network.channels(from),
            out_channels: unit.channels,
            kernel: unit.kernel,
            stride: unit.stride,
            pad: if unit.padded { unit.kernel.map(|side| side / 2) } else { [0, 0] },
        };
        let (blocks, names) = (self.block, unit.names);
        let full = |block: &str, name: &str| match block {
            "" => name.to_string(),
            _ => format!("{block}.{name}"),
        };
        let (module, script) = (full(blocks.0, names.0), full(blocks.1, names.1));
        let oihw = [shape.out_channels, shape.in_channels, shape.kernel[0], shape.kernel[1]];
        let names = Names { module: &module, script: &script };
        let (weights, bias) = self.layers.convolution(names, oihw)?;
        Ok(self.network.convolve(from, shape, (&weights, bias), Activation::Relu, to))
    }
}

impl<'a> Branch<'a> {
    const fn of(from: ImageId, units: &'a [Unit]) -> Self {
        Self { from, pool: None, units }
    }

    const fn pooled(from: ImageId, pool: Windows, units: &'a [Unit]) -> Self {
        Self { from, pool: Some(pool), units }
    }
}
