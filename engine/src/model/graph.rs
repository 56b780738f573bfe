//! The network as a list of nodes: what every executor runs.
//!
//! A [`Graph`] is built once from a [`UNetConfig`]. It names every parameter with its shape, and says what is computed
//! from what, in an order in which every node comes after its inputs. It holds no numbers and no sizes in pixels: a
//! node's size is its level, how often the input's height and width were halved. Executors promise the same function;
//! a test holds them to it.

mod adm;
mod builder;
mod sr3;

use super::config::{ConfigError, Layout, UNetConfig};
use builder::Builder;

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
    /// Its shape there: OIHW for convolutions, (out, in) for linear layers, (classes, length) for embeddings.
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
    /// The noise level, or the timestep where the network is conditioned on that: a vector of length 1.
    NoiseLevel,
    /// What the image shows, a class counted from 0: a vector of length 1.
    Label,
    /// Noise level or timestep → sines and cosines of `scale` times it at geometric frequencies from 1 down to 1e-4.
    Encoding {
        /// Whether the cosines come first.
        cosines_first: bool,
        /// What it is multiplied by.
        scale: f64,
    },
    /// Label → that row of the weight, a vector.
    Embedding {
        /// (classes, length).
        weight: ParamId,
    },
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
    /// Image, or image and vector of twice its channels (scale, then shift) → group norm, then (1 + scale) times that
    /// plus shift where there is a vector, then x · sigmoid(x) where `silu`.
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
    /// Two images or two vectors → scale · (a + b).
    Add {
        /// 1, or 1/sqrt 2 in the paper's blocks.
        scale: f32,
    },
    /// Two images → the channels of the first, then of the second.
    Concat,
    /// Image of 3·C channels (queries, keys, values) → attention over all positions, C channels. Each third is cut
    /// evenly among the heads.
    Attention {
        /// How many.
        heads: usize,
    },
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
        let mut builder = Builder::new(config, dropout);
        match config.layout {
            Layout::Janspiry | Layout::Paper => sr3::unet(&mut builder),
            Layout::Adm | Layout::Iddpm => adm::unet(&mut builder),
        }
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

    /// Classes that the network is told items to be of; 0 where it is told nothing of the kind.
    #[must_use]
    pub fn classes(&self) -> usize {
        let rows = |node: &Node| match node.op {
            Op::Embedding { weight } => Some(self.params[weight.0].shape[0]),
            _ => None,
        };
        self.nodes.iter().find_map(rows).unwrap_or(0)
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
