//! The network as a list of nodes: what every executor runs.
//!
//! A [`Graph`] is built once from a [`UNetConfig`]. It names every parameter with its shape, and says what is computed
//! from what, in an order in which every node comes after its inputs. It holds no numbers and no sizes in pixels: a
//! node's size is its level, how often the input's height and width were halved. Executors promise the same function;
//! a test holds them to it.

use super::config::{ConfigError, Layout, UNetConfig};

/// Epsilon of every group norm here.
pub const NORM_EPS: f32 = 1e-5;

/// Index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// Index of a parameter in [`Graph::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub usize);

/// A weight of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name in checkpoints.
    pub name: String,
    /// Its shape there: OIHW for convolutions, (out, in) for linear layers.
    pub shape: Vec<usize>,
}

/// What a node yields for each item of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// (H >> level, W >> level, channels).
    Image {
        /// Channels.
        channels: usize,
        /// How often height and width were halved.
        level: usize,
    },
    /// (length).
    Vector(usize),
}

impl Shape {
    /// Channels of an image, length of a vector.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Image { channels, .. } | Self::Vector(channels) => channels,
        }
    }
}

/// What a node computes from its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// The network's input image.
    Input,
    /// The noise level, a vector of length 1.
    NoiseLevel,
    /// Noise level → sines, then cosines, of it at geometric frequencies from 1 down to 1e-4.
    Encoding,
    /// Vector → vector: weight · v + bias.
    Linear {
        /// (out, in).
        weight: ParamId,
        /// (out).
        bias: ParamId,
    },
    /// x · sigmoid(x) of a vector.
    Silu,
    /// Image → image, zero padding of half the kernel.
    Conv {
        /// (O, I, K, K), K is 1 or 3.
        weight: ParamId,
        /// (O).
        bias: Option<ParamId>,
        /// 1, or 2 to halve the size.
        stride: usize,
        /// Whether the input is first doubled by repeating pixels.
        upsample: bool,
    },
    /// Group norm, then x · sigmoid(x) where `silu`.
    Norm {
        /// (C).
        weight: ParamId,
        /// (C).
        bias: ParamId,
        /// Number of groups.
        groups: usize,
        /// Whether SiLU follows.
        silu: bool,
    },
    /// Image and vector of its channels → their sum at every pixel.
    Shift,
    /// Image and vector of twice its channels (scale, then shift) → (1 + scale) · image + shift.
    Affine,
    /// Two images → scale · (a + b).
    Add {
        /// 1, or 1/sqrt 2 in the paper's blocks.
        scale: f32,
    },
    /// Two images → the channels of the first, then of the second.
    Concat,
    /// Image of 3·C channels (queries, keys, values) → attention over all positions, C channels.
    Attention,
    /// Means of 2×2 pixels: half the size.
    AvgPool,
    /// Every pixel four times: twice the size.
    Upsample,
    /// Some values are dropped, the others enlarged: only in a graph for training, and only in its training steps.
    Dropout {
        /// Counted from 0: each draws its own mask.
        layer: u32,
        /// Share of the values that are dropped.
        rate: f32,
    },
}

/// One step of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// From what.
    pub inputs: Vec<NodeId>,
    /// What comes out, per item.
    pub shape: Shape,
}

/// A network: parameters and nodes in the order of evaluation. The last node is the prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Every parameter, in the order of the public checkpoints.
    pub params: Vec<Param>,
    /// Every node; the inputs of each come before it.
    pub nodes: Vec<Node>,
}

impl Graph {
    /// Builds the network that a configuration describes.
    ///
    /// # Errors
    /// [`ConfigError`] where it describes none.
    pub fn build(config: &UNetConfig) -> Result<Self, ConfigError> {
        Self::build_with(config, None)
    }

    /// The same network with the dropout that its configuration asks for in training: same parameters, more nodes.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub fn build_for_training(config: &UNetConfig) -> Result<Self, ConfigError> {
        let rate = config.dropout as f32;
        Self::build_with(config, (rate > 0.0).then_some(rate))
    }

    fn build_with(config: &UNetConfig, dropout: Option<f32>) -> Result<Self, ConfigError> {
        config.validate()?;
        let graph = Self { params: Vec::new(), nodes: Vec::new() };
        let mut builder = Builder { config, graph, dropout, dropouts: 0 };
        builder.unet();
        Ok(builder.graph)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The last node: the prediction.
    #[must_use]
    pub const fn output(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// How many numbers the parameters are, all together.
    #[must_use]
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(|param| param.shape.iter().product::<usize>()).sum()
    }

    /// For every node, the nodes that read it.
    #[must_use]
    pub fn consumers(&self) -> Vec<Vec<NodeId>> {
        let mut consumers = vec![Vec::new(); self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                consumers[input.0].push(NodeId(i));
            }
        }
        consumers
    }
}

/// How a residual block of the paper's layout changes the size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resample {
    Keep,
    Halve,
    Double,
}

struct Builder<'a> {
    config: &'a UNetConfig,
    graph: Graph,
    dropout: Option<f32>,
    dropouts: u32,
}

impl Builder<'_> {
    fn unet(&mut self) {
        let config = self.config;
        let (inner, widths) = (config.inner_channel, config.widths());
        let input = self.image(Op::Input, &[], config.in_channel, 0);
        let level = self.noise_level_embedding(inner);

        let mut x = self.conv("downs.0", input, inner, 3, 1, false);
        let mut skips = vec![x];
        let mut index = 1;
        for (depth, &width) in widths.iter().enumerate() {
            if depth > 0 {
                x = self.halve(&format!("downs.{index}"), x, level);
                skips.push(x);
                index += 1;
            }
            for _ in 0..config.res_blocks {
                x = self.stage(&format!("downs.{index}"), x, width, config.attends(depth), level);
                skips.push(x);
                index += 1;
            }
        }
        let width = self.channels(x);
        x = self.stage("mid.0", x, width, true, level);
        x = self.stage("mid.1", x, width, false, level);

        index = 0;
        for (depth, &width) in widths.iter().enumerate().rev() {
            for _ in 0..=config.res_blocks {
                let skip = skips.pop().unwrap_or(input);
                let (channels, depth_now) = (self.channels(x) + self.channels(skip), self.level(x));
                let joined = self.image(Op::Concat, &[x, skip], channels, depth_now);
                x = self.stage(&format!("ups.{index}"), joined, width, config.attends(depth), level);
                index += 1;
            }
            if depth > 0 {
                x = self.double(&format!("ups.{index}"), x, level);
                index += 1;
            }
        }
        let h = self.norm("final_conv.block.0", x, true);
        self.conv("final_conv.block.3", h, config.out_channel, 3, 1, false);
    }

    fn noise_level_embedding(&mut self, inner: usize) -> NodeId {
        let level = self.vector(Op::NoiseLevel, &[], 1);
        let encoding = self.vector(Op::Encoding, &[level], inner);
        let hidden = self.linear("noise_level_mlp.1", encoding, 4 * inner);
        let active = self.vector(Op::Silu, &[hidden], 4 * inner);
        self.linear("noise_level_mlp.3", active, inner)
    }

    /// A residual block, and attention after it where the configuration asks for it.
    fn stage(&mut self, name: &str, x: NodeId, width: usize, attend: bool, level: NodeId) -> NodeId {
        let y = self.res_block(&format!("{name}.res_block"), x, width, Resample::Keep, level);
        if attend { self.attention(&format!("{name}.attn"), y) } else { y }
    }

    fn halve(&mut self, name: &str, x: NodeId, level: NodeId) -> NodeId {
        let width = self.channels(x);
        match self.config.layout {
            Layout::Janspiry => self.conv(&format!("{name}.conv"), x, width, 3, 2, false),
            Layout::Paper => self.res_block(&format!("{name}.res_block"), x, width, Resample::Halve, level),
        }
    }

    fn double(&mut self, name: &str, x: NodeId, level: NodeId) -> NodeId {
        let width = self.channels(x);
        match self.config.layout {
            Layout::Janspiry => self.conv(&format!("{name}.conv"), x, width, 3, 1, true),
            Layout::Paper => self.res_block(&format!("{name}.res_block"), x, width, Resample::Double, level),
        }
    }

    fn res_block(
        &mut self,
        name: &str,
        x: NodeId,
        width: usize,
        resample: Resample,
        level: NodeId,
    ) -> NodeId {
        let affine = self.config.use_affine_level;
        let values = if affine { 2 * width } else { width };
        let embedded = self.linear(&format!("{name}.noise_func.noise_func.0"), level, values);

        let mut h = self.norm(&format!("{name}.block1.block.0"), x, true);
        if resample == Resample::Halve {
            h = self.pool(h);
        }
        h = self.conv(&format!("{name}.block1.block.3"), h, width, 3, 1, resample == Resample::Double);
        let depth = self.level(h);
        h = self.image(if affine { Op::Affine } else { Op::Shift }, &[h, embedded], width, depth);

        h = self.norm(&format!("{name}.block2.block.0"), h, true);
        if let Some(rate) = self.dropout {
            h = self.image(Op::Dropout { layer: self.dropouts, rate }, &[h], width, depth);
            self.dropouts += 1;
        }
        h = self.conv(&format!("{name}.block2.block.3"), h, width, 3, 1, false);

        let resampled = match resample {
            Resample::Keep => x,
            Resample::Halve => self.pool(x),
            Resample::Double => self.image(Op::Upsample, &[x], self.channels(x), self.level(x) - 1),
        };
        let skip = if self.channels(x) == width {
            resampled
        } else {
            self.conv(&format!("{name}.res_conv"), resampled, width, 1, 1, false)
        };
        self.add(h, skip)
    }

    fn attention(&mut self, name: &str, x: NodeId) -> NodeId {
        let (width, depth) = (self.channels(x), self.level(x));
        let h = self.norm(&format!("{name}.norm"), x, false);
        let qkv = self.conv_without_bias(&format!("{name}.qkv"), h, 3 * width);
        let mixed = self.image(Op::Attention, &[qkv], width, depth);
        let out = self.conv(&format!("{name}.out"), mixed, width, 1, 1, false);
        self.add(out, x)
    }

    fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        let scale = match self.config.layout {
            Layout::Janspiry => 1.0,
            Layout::Paper => std::f32::consts::FRAC_1_SQRT_2,
        };
        self.image(Op::Add { scale }, &[a, b], self.channels(a), self.level(a))
    }

    fn pool(&mut self, x: NodeId) -> NodeId {
        self.image(Op::AvgPool, &[x], self.channels(x), self.level(x) + 1)
    }

    fn norm(&mut self, name: &str, x: NodeId, silu: bool) -> NodeId {
        let channels = self.channels(x);
        let weight = self.param(name, "weight", vec![channels]);
        let bias = self.param(name, "bias", vec![channels]);
        self.image(
            Op::Norm { weight, bias, groups: self.config.norm_groups, silu },
            &[x],
            channels,
            self.level(x),
        )
    }

    fn conv(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernel: usize,
        stride: usize,
        upsample: bool,
    ) -> NodeId {
        let weight = self.param(name, "weight", vec![out, self.channels(x), kernel, kernel]);
        let bias = Some(self.param(name, "bias", vec![out]));
        let level = self.level(x) + (stride - 1) - usize::from(upsample);
        self.image(Op::Conv { weight, bias, stride, upsample }, &[x], out, level)
    }

    fn conv_without_bias(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let weight = self.param(name, "weight", vec![out, self.channels(x), 1, 1]);
        self.image(Op::Conv { weight, bias: None, stride: 1, upsample: false }, &[x], out, self.level(x))
    }

    fn linear(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let weight = self.param(name, "weight", vec![out, self.channels(x)]);
        let bias = self.param(name, "bias", vec![out]);
        self.vector(Op::Linear { weight, bias }, &[x], out)
    }

    fn param(&mut self, module: &str, kind: &str, shape: Vec<usize>) -> ParamId {
        self.graph.params.push(Param { name: format!("{module}.{kind}"), shape });
        ParamId(self.graph.params.len() - 1)
    }

    fn image(&mut self, op: Op, inputs: &[NodeId], channels: usize, level: usize) -> NodeId {
        self.push(op, inputs, Shape::Image { channels, level })
    }

    fn vector(&mut self, op: Op, inputs: &[NodeId], length: usize) -> NodeId {
        self.push(op, inputs, Shape::Vector(length))
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), shape });
        NodeId(self.graph.nodes.len() - 1)
    }

    fn channels(&self, id: NodeId) -> usize {
        self.graph.node(id).shape.channels()
    }

    fn level(&self, id: NodeId) -> usize {
        match self.graph.node(id).shape {
            Shape::Image { level, .. } => level,
            Shape::Vector(_) => 0,
        }
    }
}
