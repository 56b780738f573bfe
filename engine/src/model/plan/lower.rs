//! From the graph's nodes to a plan's steps: what follows or precedes a convolution becomes part of it.
//!
//! A norm that only convolutions read is applied while they read; a concatenation that only those read is never made;
//! a shift and a sum that follow a convolution are done while its output is in the cache. All else is a step of its own.

use super::key::{Packed, ProgramKey};
use super::step::{Buffer, ConvStep, Extent, NormRef, SegmentRef, SourceRef, Step};
use crate::model::graph::{Graph, NodeId, Op, Shape};
use crate::ops::conv;
use crate::ops::conv_shape::{ConvShape, Way};
use crate::ops::pointwise::Waves;
use crate::ops::{attention, group_norm};

/// The forward pass.
pub(super) struct Lowered {
    pub(super) steps: Vec<Step>,
    /// Floats of each buffer, for the whole batch.
    pub(super) lengths: Vec<usize>,
    pub(super) input: Buffer,
    pub(super) noise_level: Buffer,
    /// Where there are classes.
    pub(super) label: Option<Buffer>,
    pub(super) prediction: Buffer,
}

/// Turns a graph into steps for one batch and image size.
pub(super) fn lower(graph: &Graph, key: ProgramKey) -> Lowered {
    let mut lowering = Lowering {
        graph,
        key,
        consumers: graph.consumers(),
        steps: Vec::new(),
        lengths: Vec::new(),
        values: vec![None; graph.nodes.len()],
        moments: Vec::new(),
    };
    for index in 0..graph.nodes.len() {
        lowering.node(NodeId(index));
    }
    let find = |op| graph.nodes.iter().position(|n| n.op == op).map(|i| lowering.buffer(NodeId(i)));
    let [input, noise_level] = [Op::Input, Op::NoiseLevel].map(|op| find(op).unwrap_or(0));
    let (label, prediction) = (find(Op::Label), lowering.buffer(graph.output()));
    Lowered { steps: lowering.steps, lengths: lowering.lengths, input, noise_level, label, prediction }
}

struct Lowering<'a> {
    graph: &'a Graph,
    key: ProgramKey,
    consumers: Vec<Vec<NodeId>>,
    steps: Vec<Step>,
    lengths: Vec<usize>,
    /// The buffer of each node that has one.
    values: Vec<Option<Buffer>>,
    /// Moments that exist, by image buffer.
    moments: Vec<(Buffer, Buffer)>,
}

impl Lowering<'_> {
    fn node(&mut self, id: NodeId) {
        if self.values[id.0].is_some() || self.is_virtual(id) {
            return;
        }
        let node = self.graph.node(id).clone();
        let input = |i: usize| node.inputs[i];
        match node.op {
            Op::Input | Op::NoiseLevel | Op::Label => {
                self.define(id);
            }
            Op::Encoding { cosines_first, scale } => {
                let (level, out) = (self.buffer(input(0)), self.define(id));
                let waves = Waves { cosines_first, scale };
                self.steps.push(Step::Encoding { level, waves, out, length: node.shape.channels() });
            }
            Op::Embedding { weight } => {
                let (label, out) = (self.buffer(input(0)), self.define(id));
                self.steps.push(Step::Embedding { label, weight, out });
            }
            Op::Linear { weight, bias } => {
                let (x, out) = (self.buffer(input(0)), self.define(id));
                self.steps.push(Step::Linear { x, weight, bias, out });
            }
            Op::Silu => {
                let (x, out) = (self.buffer(input(0)), self.define(id));
                self.steps.push(Step::Silu { x, out });
            }
            Op::Conv { .. } => self.conv(id),
            Op::Norm { .. } | Op::Concat => {
                let source = self.source(id);
                let out = self.define(id);
                self.steps.push(Step::Gather { source, out });
            }
            Op::Shift | Op::Affine => {
                let (image, vector) = (self.segment(input(0)), self.buffer(input(1)));
                let out = self.define(id);
                self.steps.push(Step::Modulate { image, vector, out });
            }
            Op::Add { scale } => {
                let (a, b) = (self.buffer(input(0)), self.buffer(input(1)));
                let out = self.define(id);
                self.steps.push(Step::Add { a, b, scale, out });
            }
            Op::Attention { heads } => {
                let (channels, pixels) = (node.shape.channels(), self.extent(id).pixels());
                let qkv = self.buffer(input(0));
                let transposed = self.allocate(attention::transposed_len(pixels, channels));
                let out = self.define(id);
                self.steps.push(Step::Attention { qkv, channels, heads, pixels, transposed, out });
            }
            Op::Dropout { layer, rate } => {
                let (x, out) = (self.buffer(input(0)), self.define(id));
                self.steps.push(Step::Dropout { x, layer, rate, out });
            }
            Op::AvgPool | Op::Upsample => {
                let (image, extent) = (self.segment(input(0)), self.extent(input(0)));
                let out = self.define(id);
                let pool = node.op == Op::AvgPool;
                self.steps.push(if pool {
                    Step::AvgPool { image, extent, out }
                } else {
                    Step::Upsample { image, extent, out }
                });
            }
        }
    }

    /// Whether a node exists only in what convolutions read.
    fn is_virtual(&self, id: NodeId) -> bool {
        let conv = |id: &NodeId| matches!(self.graph.node(*id).op, Op::Conv { .. });
        match self.graph.node(id).op {
            Op::Norm { .. } => self.consumers[id.0].iter().all(conv),
            Op::Concat => self.consumers[id.0]
                .iter()
                .all(|reader| conv(reader) || matches!(self.graph.node(*reader).op, Op::Norm { .. })),
            _ => false,
        }
    }

    fn conv(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let Op::Conv { weight, bias, stride, upsample } = node.op else { return };
        let from = node.inputs[0];
        let out_channels = node.shape.channels();
        let source = self.source(from);
        let extent = self.extent(from);
        let mut last = id;
        let mut shift = None;
        let (mut add, mut scale) = (None, 1.0);
        if let Some((next, other)) = self.only_reader(last, |op| op == Op::Shift)
            && other < id
        {
            shift = Some(self.buffer(other));
            last = next;
        }
        if let Some((next, other)) = self.only_reader(last, |op| matches!(op, Op::Add { .. }))
            && other < id
            && let Op::Add { scale: factor } = self.graph.node(next).op
            && let Some(other) = self.values[other.0]
        {
            (add, scale) = (Some(other), factor);
            last = next;
        }
        let out = self.define(last);
        let shape = ConvShape {
            in_channels: source.channels(),
            out_channels,
            kernel: self.graph.params[weight.0].shape[2],
            stride,
            upsample,
            height: extent.height,
            width: extent.width,
            precision: self.key.precision.of_layer(source.channels()),
        };
        let packing = (self.key.packed == Packed::WhereUsed)
            .then(|| self.allocate(conv::packing_scratch(&shape, self.key.batch, Way::Forward)));
        self.steps.push(Step::Conv(ConvStep {
            shape,
            weight,
            bias,
            packing,
            source,
            shift,
            add,
            scale,
            out,
        }));
    }

    /// The one node that reads `id`, if it is of the kind asked for, with its other input.
    fn only_reader(&self, id: NodeId, kind: impl Fn(Op) -> bool) -> Option<(NodeId, NodeId)> {
        let &[reader] = self.consumers[id.0].as_slice() else { return None };
        let node = self.graph.node(reader);
        let other = node.inputs.iter().copied().find(|&input| input != id)?;
        kind(node.op).then_some((reader, other))
    }

    /// What a convolution (or a gathering step) reads when it reads `id`.
    fn source(&mut self, id: NodeId) -> SourceRef {
        let extent = self.extent(id);
        let node = self.graph.node(id).clone();
        // A node that has a buffer is read from there; a gathering step asks for one that has none yet.
        if self.values[id.0].is_some() {
            return SourceRef { segments: [Some(self.segment(id)), None], norm: None, extent };
        }
        match node.op {
            Op::Norm { weight, bias, groups, silu } => {
                let inner = self.source(node.inputs[0]);
                let moments = inner.segments.map(|s| s.map(|s| self.moments_of(s, extent)));
                let prologue = self.allocate(self.key.batch * 2 * node.shape.channels());
                let modulation = node.inputs.get(1).map(|vector| self.buffer(*vector));
                let norm = NormRef { weight, bias, groups, silu, modulation, moments, prologue };
                self.steps.push(Step::Prologue { norm, out: prologue });
                SourceRef { norm: Some(norm), ..inner }
            }
            Op::Concat => {
                let segments = [0, 1].map(|i| Some(self.segment(node.inputs[i])));
                SourceRef { segments, norm: None, extent }
            }
            _ => SourceRef { segments: [Some(self.segment(id)), None], norm: None, extent },
        }
    }

    fn moments_of(&mut self, image: SegmentRef, extent: Extent) -> Buffer {
        if let Some((_, moments)) = self.moments.iter().find(|(of, _)| *of == image.buffer) {
            return *moments;
        }
        let batch = self.key.batch;
        let partials_len = group_norm::partials_len(extent.height, extent.width, image.channels);
        let (partials, out) =
            (self.allocate(batch * partials_len), self.allocate(batch * 2 * image.channels));
        self.steps.push(Step::Moments { image, extent, partials, out });
        self.moments.push((image.buffer, out));
        out
    }

    fn segment(&self, id: NodeId) -> SegmentRef {
        SegmentRef { buffer: self.buffer(id), channels: self.graph.node(id).shape.channels() }
    }

    /// Gives a node its buffer.
    fn define(&mut self, id: NodeId) -> Buffer {
        let per_item = match self.graph.node(id).shape {
            Shape::Vector(length) => length,
            Shape::Image { channels, .. } => self.extent(id).pixels() * channels,
        };
        let buffer = self.allocate(self.key.batch * per_item);
        self.values[id.0] = Some(buffer);
        buffer
    }

    /// The buffer of a node that comes before the one at hand and is not virtual, so it has one.
    fn buffer(&self, id: NodeId) -> Buffer {
        self.values[id.0].unwrap_or_else(|| unreachable!("node {} is read before it is computed", id.0))
    }

    fn extent(&self, id: NodeId) -> Extent {
        let level = match self.graph.node(id).shape {
            Shape::Image { level, .. } => level,
            Shape::Vector(_) => 0,
        };
        Extent { height: self.key.height >> level, width: self.key.width >> level }
    }

    fn allocate(&mut self, length: usize) -> Buffer {
        self.lengths.push(length);
        self.lengths.len() - 1
    }
}
