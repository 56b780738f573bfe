//! A plan's weights: one flat list, and packed for the kernels.

use std::ops::Range;

use super::program::Program;
use crate::model::graph::{Graph, Op, ParamId};
use crate::ops::conv;
use crate::ops::conv_shape::{Way, WeightShape};
use crate::ops::{Isa, Precision};

/// Every weight of a network.
pub(super) struct PlanWeights {
    /// One after the other in the graph's order, as checkpoints hold them.
    values: Vec<f32>,
    ranges: Vec<Range<usize>>,
    /// Of convolution weights, in f32.
    shapes: Vec<Option<WeightShape>>,
    /// Convolution weights packed for evaluation; none where the values have changed since, and of layers that pack them
    /// where they use them, as all do in training: they are in the cache then, and take no memory.
    packed: Vec<Option<Vec<f32>>>,
}

impl PlanWeights {
    /// Takes the weights in the graph's order.
    pub(super) fn new(graph: &Graph, weights: &[Vec<f32>]) -> Self {
        let mut shapes = vec![None; weights.len()];
        for node in &graph.nodes {
            if let Op::Conv { weight, stride, upsample, .. } = node.op {
                shapes[weight.0] = weight_shape(graph, weight, stride, upsample);
            }
        }
        let mut end = 0;
        let ranges = weights.iter().map(|w| {
            end += w.len();
            end - w.len()..end
        });
        let packed = vec![None; weights.len()];
        Self { ranges: ranges.collect(), values: weights.concat(), shapes, packed }
    }

    /// Packs what a program needs to have packed, if that is not done.
    pub(super) fn prepare(&mut self, isa: Isa, program: &Program) {
        for id in program.packed() {
            let Some(shape) = self.shapes[id.0].filter(|_| self.packed[id.0].is_none()) else { continue };
            let shape = &WeightShape { precision: program.key.precision.of_layer(shape.oihw[1]), ..shape };
            let mut packed = vec![0.0; shape.packed_len(Way::Forward)];
            conv::pack_weights(isa, self.value(id), shape, Way::Forward, &mut packed);
            self.packed[id.0] = Some(packed);
        }
    }

    /// Packs anew before the next evaluation.
    pub(super) fn forget_packed(&mut self) {
        self.packed.fill(None);
    }

    /// All values.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, to be changed.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        self.forget_packed();
        &mut self.values
    }

    /// Where each parameter lies among the values.
    pub(super) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn value(&self, id: ParamId) -> &[f32] {
        &self.values[self.ranges[id.0].clone()]
    }

    pub(super) fn value_of(&self, id: Option<ParamId>) -> &[f32] {
        id.map_or(&[], |id| self.value(id))
    }

    /// A convolution's weights, packed by [`Self::prepare`].
    pub(super) fn packed(&self, id: ParamId) -> &[f32] {
        self.packed[id.0].as_deref().unwrap_or_default()
    }
}

/// The shape of a convolution's weights.
fn weight_shape(graph: &Graph, weight: ParamId, stride: usize, upsample: bool) -> Option<WeightShape> {
    let oihw = <[usize; 4]>::try_from(graph.params[weight.0].shape.as_slice()).ok()?;
    Some(WeightShape { oihw, stride, upsample, precision: Precision::F32 })
}
