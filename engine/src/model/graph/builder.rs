//! What the layouts build networks of: nodes with their parameters and shapes.

use super::{Graph, Node, NodeId, Op, Param, ParamId, Shape};
use crate::model::config::UNetConfig;

/// How a residual block changes the size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Resample {
    Keep,
    Halve,
    Double,
}

pub(super) struct Builder<'a> {
    pub(super) config: &'a UNetConfig,
    pub(super) graph: Graph,
    /// Rate of the dropout, where there is any.
    dropout: Option<f32>,
    dropouts: u32,
}

impl<'a> Builder<'a> {
    pub(super) const fn new(config: &'a UNetConfig, dropout: Option<f32>) -> Self {
        let graph = Graph { params: Vec::new(), nodes: Vec::new() };
        Self { config, graph, dropout, dropouts: 0 }
    }
}

impl Builder<'_> {
    /// What a residual block's second convolution is added to: its input, at the block's size and width.
    pub(super) fn skip(&mut self, name: &str, x: NodeId, width: usize, resample: Resample) -> NodeId {
        let resampled = match resample {
            Resample::Keep => x,
            Resample::Halve => self.pool(x),
            Resample::Double => self.image(Op::Upsample, &[x], self.channels(x), self.level(x) - 1),
        };
        if self.channels(x) == width { resampled } else { self.conv(name, resampled, width, 1, 1, false) }
    }

    pub(super) fn add(&mut self, a: NodeId, b: NodeId, scale: f32) -> NodeId {
        self.image(Op::Add { scale }, &[a, b], self.channels(a), self.level(a))
    }

    pub(super) fn pool(&mut self, x: NodeId) -> NodeId {
        self.image(Op::AvgPool, &[x], self.channels(x), self.level(x) + 1)
    }

    pub(super) fn norm(&mut self, name: &str, x: NodeId, silu: bool) -> NodeId {
        self.norm_of(name, &[x], silu)
    }

    /// A norm that `vector` scales and shifts, and SiLU.
    pub(super) fn modulated_norm(&mut self, name: &str, x: NodeId, vector: NodeId) -> NodeId {
        self.norm_of(name, &[x, vector], true)
    }

    fn norm_of(&mut self, name: &str, inputs: &[NodeId], silu: bool) -> NodeId {
        let channels = self.channels(inputs[0]);
        let weight = self.param(name, "weight", vec![channels]);
        let bias = self.param(name, "bias", vec![channels]);
        let groups = self.config.norm_groups;
        self.image(Op::Norm { weight, bias, groups, silu }, inputs, channels, self.level(inputs[0]))
    }

    /// Dropout where the graph is one for training that asks for it.
    pub(super) fn dropout(&mut self, x: NodeId) -> NodeId {
        let Some(rate) = self.dropout else { return x };
        let layer = self.dropouts;
        self.dropouts += 1;
        self.image(Op::Dropout { layer, rate }, &[x], self.channels(x), self.level(x))
    }

    /// The channels of one image, then of the other.
    pub(super) fn concat(&mut self, x: NodeId, skip: NodeId) -> NodeId {
        self.image(Op::Concat, &[x, skip], self.channels(x) + self.channels(skip), self.level(x))
    }

    pub(super) fn conv(
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

    pub(super) fn conv_without_bias(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let weight = self.param(name, "weight", vec![out, self.channels(x), 1, 1]);
        self.image(Op::Conv { weight, bias: None, stride: 1, upsample: false }, &[x], out, self.level(x))
    }

    pub(super) fn linear(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let weight = self.param(name, "weight", vec![out, self.channels(x)]);
        let bias = self.param(name, "bias", vec![out]);
        self.vector(Op::Linear { weight, bias }, &[x], out)
    }

    pub(super) fn param(&mut self, module: &str, kind: &str, shape: Vec<usize>) -> ParamId {
        self.graph.params.push(Param { name: format!("{module}.{kind}"), shape });
        ParamId(self.graph.params.len() - 1)
    }

    pub(super) fn image(&mut self, op: Op, inputs: &[NodeId], channels: usize, level: usize) -> NodeId {
        self.push(op, inputs, Shape::Image { channels, level })
    }

    pub(super) fn vector(&mut self, op: Op, inputs: &[NodeId], length: usize) -> NodeId {
        self.push(op, inputs, Shape::Vector(length))
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), shape });
        NodeId(self.graph.nodes.len() - 1)
    }

    pub(super) fn channels(&self, id: NodeId) -> usize {
        self.graph.node(id).shape.channels()
    }

    pub(super) fn level(&self, id: NodeId) -> usize {
        match self.graph.node(id).shape {
            Shape::Image { level, .. } => level,
            Shape::Vector(_) => 0,
        }
    }
}
