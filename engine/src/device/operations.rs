//! The smallest networks there are: one for each operation, in shapes that nothing divides well.
//!
//! Each ends by shifting its image by what the noise level says, as every executor takes a noise level. What changes an
//! image's size is followed by what changes it back, as a prediction has the input's size.

use crate::model::{Graph, Node, NodeId, Op, Param, ParamId, Shape};

/// A network around one operation.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) graph: Graph,
    /// Rows and columns of its input.
    pub(super) size: [usize; 2],
}

/// What an image's height and width are multiples of.
pub(super) const SIZE_MULTIPLE: usize = 2;

const ODD_SIZE: [usize; 2] = [14, 6];
/// Where there are any.
const CLASSES: usize = 4;
/// Of Winograd's tiles, none fits.
const CONV_SIZE: [usize; 2] = [26, 18];

/// One network for each operation.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        small("shift by a linear layer of the encoded level", ODD_SIZE, 5, |_, x| x),
        small("SiLU of a vector", ODD_SIZE, 5, |b, x| {
            let hidden = b.level_vector(11);
            let active = b.push(Op::Silu, &[hidden], Shape::Vector(11));
            let vector = b.linear(active, 5);
            b.image(Op::Shift, &[x, vector], 5, 0)
        }),
        small("scale and shift", ODD_SIZE, 5, |b, x| {
            let vector = b.level_vector(10);
            b.image(Op::Affine, &[x, vector], 5, 0)
        }),
        small("convolution of a pixel", ODD_SIZE, 7, |b, x| b.conv(x, 13, 1, Conv::Plain, true)),
        small("convolution of few channels", CONV_SIZE, 5, |b, x| b.conv(x, 7, 3, Conv::Plain, true)),
        small("convolution of many channels", CONV_SIZE, 37, |b, x| b.conv(x, 21, 3, Conv::Plain, true)),
        small("convolution without bias", CONV_SIZE, 18, |b, x| b.conv(x, 35, 3, Conv::Plain, false)),
        small("convolutions that halve and double", CONV_SIZE, 19, |b, x| {
            let half = b.conv(x, 22, 3, Conv::Halve, true);
            b.conv(half, 17, 3, Conv::Double, true)
        }),
        small("group norm", ODD_SIZE, 15, |b, x| b.norm(x, 5, false)),
        small("group norm and SiLU", ODD_SIZE, 14, |b, x| b.norm(x, 2, true)),
        small("norm that a convolution reads", CONV_SIZE, 18, |b, x| {
            let normal = b.norm(x, 6, true);
            b.conv(normal, 5, 3, Conv::Plain, true)
        }),
        small("sum", ODD_SIZE, 6, |b, x| {
            let other = b.conv(x, 6, 1, Conv::Plain, true);
            b.image(Op::Add { scale: std::f32::consts::FRAC_1_SQRT_2 }, &[other, x], 6, 0)
        }),
        small("concatenation", CONV_SIZE, 9, |b, x| {
            let other = b.conv(x, 12, 1, Conv::Plain, true);
            let joined = b.image(Op::Concat, &[x, other], 21, 0);
            b.conv(joined, 4, 3, Conv::Plain, true)
        }),
        small("attention", ODD_SIZE, 6, |b, x| {
            let qkv = b.conv(x, 3 * 11, 1, Conv::Plain, false);
            b.image(Op::Attention { heads: 1 }, &[qkv], 11, 0)
        }),
        small("attention of several heads", ODD_SIZE, 6, |b, x| {
            let qkv = b.conv(x, 3 * 15, 1, Conv::Plain, true);
            b.image(Op::Attention { heads: 3 }, &[qkv], 15, 0)
        }),
        small("norm that a vector scales and shifts", CONV_SIZE, 18, |b, x| {
            let vector = b.level_vector(36);
            let normal = b.modulated_norm(x, vector, 6);
            b.conv(normal, 5, 3, Conv::Plain, true)
        }),
        small("row of a class", ODD_SIZE, 5, |b, x| {
            let label = b.push(Op::Label, &[], Shape::Vector(1));
            let weight = b.param("weight", vec![CLASSES, 5]);
            let row = b.push(Op::Embedding { weight }, &[label], Shape::Vector(5));
            b.image(Op::Shift, &[x, row], 5, 0)
        }),
        small("averages of pixels, and pixels repeated", ODD_SIZE, 7, |b, x| {
            let half = b.image(Op::AvgPool, &[x], 7, 1);
            b.image(Op::Upsample, &[half], 7, 0)
        }),
    ]
}

/// A network whose image is made by `body` from an input of so many channels.
fn small(
    name: &'static str,
    size: [usize; 2],
    channels: usize,
    body: impl FnOnce(&mut Builder, NodeId) -> NodeId,
) -> Operation {
    let mut builder = Builder { graph: Graph { params: Vec::new(), nodes: Vec::new() } };
    let x = builder.image(Op::Input, &[], channels, 0);
    builder.push(Op::NoiseLevel, &[], Shape::Vector(1));
    let image = body(&mut builder, x);
    let channels = builder.channels(image);
    let vector = builder.level_vector(channels);
    builder.image(Op::Shift, &[image, vector], channels, 0);
    Operation { name, graph: builder.graph, size }
}

enum Conv {
    Plain,
    Halve,
    Double,
}

struct Builder {
    graph: Graph,
}

impl Builder {
    const LEVEL: NodeId = NodeId(1);
    /// Length of the level's encoding.
    const ENCODING: usize = 6;

    fn level_vector(&mut self, length: usize) -> NodeId {
        let encoding = self.push(
            Op::Encoding { cosines_first: false, scale: 1.0 },
            &[Self::LEVEL],
            Shape::Vector(Self::ENCODING),
        );
        self.linear(encoding, length)
    }

    fn linear(&mut self, from: NodeId, length: usize) -> NodeId {
        let weight = self.param("weight", vec![length, self.channels(from)]);
        let bias = self.param("bias", vec![length]);
        self.push(Op::Linear { weight, bias }, &[from], Shape::Vector(length))
    }

    fn conv(&mut self, x: NodeId, out: usize, kernel: usize, how: Conv, has_bias: bool) -> NodeId {
        let weight = self.param("weight", vec![out, self.channels(x), kernel, kernel]);
        let bias = has_bias.then(|| self.param("bias", vec![out]));
        let (stride, upsample, level) = match how {
            Conv::Plain => (1, false, 0),
            Conv::Halve => (2, false, 1),
            Conv::Double => (1, true, 0),
        };
        self.image(Op::Conv { weight, bias, stride, upsample }, &[x], out, level)
    }

    fn norm(&mut self, x: NodeId, groups: usize, silu: bool) -> NodeId {
        self.norm_of(&[x], groups, silu)
    }

    fn modulated_norm(&mut self, x: NodeId, vector: NodeId, groups: usize) -> NodeId {
        self.norm_of(&[x, vector], groups, true)
    }

    fn norm_of(&mut self, inputs: &[NodeId], groups: usize, silu: bool) -> NodeId {
        let channels = self.channels(inputs[0]);
        let weight = self.param("weight", vec![channels]);
        let bias = self.param("bias", vec![channels]);
        self.image(Op::Norm { weight, bias, groups, silu }, inputs, channels, 0)
    }

    fn param(&mut self, kind: &str, shape: Vec<usize>) -> ParamId {
        let number = self.graph.params.len();
        self.graph.params.push(Param { name: format!("{number}.{kind}"), shape });
        ParamId(number)
    }

    fn image(&mut self, op: Op, inputs: &[NodeId], channels: usize, level: usize) -> NodeId {
        self.push(op, inputs, Shape::Image { channels, level })
    }

    fn push(&mut self, op: Op, inputs: &[NodeId], shape: Shape) -> NodeId {
        self.graph.nodes.push(Node { op, inputs: inputs.to_vec(), shape });
        NodeId(self.graph.nodes.len() - 1)
    }

    fn channels(&self, id: NodeId) -> usize {
        self.graph.node(id).shape.channels()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{Heads, Layout, UNetConfig};

    #[test]
    fn every_kind_of_node_of_a_real_network_is_here() {
        let kinds = |graph: &Graph| -> BTreeSet<String> {
            let name = |node: &Node| format!("{:?}", node.op).split([' ', '{']).next().unwrap().to_owned();
            graph.nodes.iter().map(name).collect()
        };
        let here: BTreeSet<_> = operations().iter().flat_map(|operation| kinds(&operation.graph)).collect();
        for (layout, use_affine_level) in [
            (Layout::Janspiry, false),
            (Layout::Janspiry, true),
            (Layout::Paper, false),
            (Layout::Paper, true),
            (Layout::Adm, true),
            (Layout::Iddpm, false),
        ] {
            let config = UNetConfig {
                layout,
                in_channel: 6,
                out_channel: 3,
                inner_channel: 8,
                norm_groups: 4,
                channel_mults: vec![1, 2],
                attn_res: vec![8],
                res_blocks: 1,
                dropout: 0.0,
                use_affine_level,
                image_size: Some(16),
                heads: Heads::ONE,
                classes: if layout == Layout::Adm { 3 } else { 0 },
                learned_variance: false,
                timestep_scale: 1.0,
            };
            let needed = kinds(&Graph::build(&config).unwrap());
            assert!(needed.is_subset(&here), "{:?} is not here", needed.difference(&here));
        }
    }
}
