//! A plan's weights: as they come, and packed for the kernels.

use crate::model::graph::{Graph, Op, ParamId};
use crate::ops::conv;

/// Every weight of a network.
pub(super) struct PlanWeights {
    /// In the graph's order, as checkpoints hold them.
    values: Vec<Vec<f32>>,
    /// Shapes of convolution weights, OIHW.
    shapes: Vec<Option<[usize; 4]>>,
    strides: Vec<usize>,
    /// Convolution weights packed for the forward pass.
    packed: Vec<Vec<f32>>,
    /// And for the gradient of the input; made when first needed.
    transposed: Vec<Vec<f32>>,
}

impl PlanWeights {
    /// Takes the weights in the graph's order.
    pub(super) fn new(graph: &Graph, values: Vec<Vec<f32>>) -> Self {
        let mut shapes = vec![None; values.len()];
        let mut strides = vec![1; values.len()];
        for node in &graph.nodes {
            if let Op::Conv { weight, stride, .. } = node.op {
                strides[weight.0] = stride;
                shapes[weight.0] = <[usize; 4]>::try_from(graph.params[weight.0].shape.as_slice()).ok();
            }
        }
        let packed = values
            .iter()
            .zip(shapes.iter().zip(&strides))
            .map(|(values, (shape, stride))| {
                let mut packed = Vec::new();
                if let Some(shape) = shape {
                    conv::pack_weights(values, *shape, *stride, &mut packed);
                }
                packed
            })
            .collect();
        let transposed = vec![Vec::new(); values.len()];
        Self { values, shapes, strides, packed, transposed }
    }

    /// Packs what the backward pass needs, once.
    pub(super) fn prepare_backward(&mut self) {
        let shapes = self.shapes.iter().zip(&self.strides);
        for ((transposed, values), (shape, stride)) in
            self.transposed.iter_mut().zip(&self.values).zip(shapes)
        {
            if let Some(shape) = shape
                && transposed.is_empty()
            {
                conv::pack_weights_transposed(values, *shape, *stride, transposed);
            }
        }
    }

    pub(super) fn value(&self, id: ParamId) -> &[f32] {
        &self.values[id.0]
    }

    pub(super) fn value_of(&self, id: Option<ParamId>) -> &[f32] {
        id.map_or(&[], |id| self.value(id))
    }

    pub(super) fn packed(&self, id: ParamId) -> &[f32] {
        &self.packed[id.0]
    }

    pub(super) fn transposed(&self, id: ParamId) -> &[f32] {
        &self.transposed[id.0]
    }

    /// A zero for every weight.
    pub(super) fn zeros(&self) -> Vec<Vec<f32>> {
        self.values.iter().map(|v| vec![0.0; v.len()]).collect()
    }
}
