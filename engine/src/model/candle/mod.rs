//! The candle executor: runs a [`Graph`] on candle tensors.
//!
//! It is the plain statement of what a network computes, differentiable by candle's autograd, in f32 or f64, on every
//! device candle knows: the reference that other executors are held to, and the way to GPUs. It does not promise the
//! same bits on different machines (candle's kernels and its exponential differ between them), and it is not fast on a
//! CPU. It never changes its weights by itself.

mod failure;
mod ops;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::config::UNetConfig;
use super::denoiser::{Conditions, Denoiser, DenoiserError, check_labels};
use super::graph::{Graph, Node, NodeId, Op, ParamId};
use super::weights::{ModelError, Weights, order_weights};
pub(crate) use failure::{first_line, is_out_of_memory};

/// A U-Net whose weights are candle variables on one device.
#[derive(Clone, Debug)]
pub struct CandleUNet {
    graph: Graph,
    vars: Vec<Var>,
    in_channels: usize,
    out_channels: usize,
    size_multiple: usize,
    classes: usize,
    device: Device,
    dtype: DType,
}

impl CandleUNet {
    /// A network in f32 on `device`.
    ///
    /// # Errors
    /// [`ModelError`] where the configuration describes no network, the first weight that does not fit, or a device
    /// without room for the weights.
    pub fn new(
        config: &UNetConfig,
        weights: &Weights,
        device: &Device,
    ) -> std::result::Result<Self, ModelError> {
        Self::with_dtype(config, weights, device, DType::F32)
    }

    /// A network that computes in `dtype`: f32, or f64 to check other results by.
    ///
    /// # Errors
    /// As [`CandleUNet::new`]; [`ModelError::Precision`] for any other type.
    pub fn with_dtype(
        config: &UNetConfig,
        weights: &Weights,
        device: &Device,
        dtype: DType,
    ) -> std::result::Result<Self, ModelError> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            return Err(ModelError::Precision { found: dtype.as_str() });
        }
        Self::of_graph(Graph::build(config)?, config.size_multiple(), weights, device, dtype)
    }

    /// A network of any graph: one image in, one of its size out.
    pub(crate) fn of_graph(
        graph: Graph,
        size_multiple: usize,
        weights: &Weights,
        device: &Device,
        dtype: DType,
    ) -> std::result::Result<Self, ModelError> {
        let ordered = order_weights(&graph, weights)?;
        let mut vars = Vec::with_capacity(ordered.len());
        for (param, values) in graph.params.iter().zip(ordered) {
            let tensor = Tensor::from_vec(values, param.shape.as_slice(), device)?.to_dtype(dtype)?;
            vars.push(Var::from_tensor(&tensor)?);
        }
        Ok(Self {
            in_channels: graph.nodes[0].shape.channels(),
            out_channels: graph.node(graph.output()).shape.channels(),
            classes: graph.classes(),
            graph,
            vars,
            size_multiple,
            device: device.clone(),
            dtype,
        })
    }

    /// What it computes.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Its weights, in the order of [`Graph::params`]: to read gradients by, and to train.
    #[must_use]
    pub fn vars(&self) -> &[Var] {
        &self.vars
    }

    /// The weight of that name.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&Var> {
        self.graph.params.iter().position(|param| param.name == name).map(|index| &self.vars[index])
    }

    /// Where it runs.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Evaluates the network with everything a backward pass needs: `backward()` on any function of the result gives
    /// the gradients of [`CandleUNet::vars`].
    ///
    /// `input` is (N, C, H, W), the condition's channels first; `noise_level` is (N) or (N, 1), timesteps where the network is
    /// conditioned on those; `labels` is (N) of u32 for a network with classes; the result is (N, out_channels, H, W). All activations stay in memory until the result is dropped. Candle's backward
    /// pass recurses through them, over about half a KiB of stack a node: 2 MiB is enough for 3,000 nodes, five times
    /// the deepest published network.
    ///
    /// # Errors
    /// Candle's, where shapes, precisions or devices do not fit or memory runs out.
    pub fn forward(&self, input: &Tensor, noise_level: &Tensor, labels: Option<&Tensor>) -> Result<Tensor> {
        let params: Vec<&Tensor> = self.vars.iter().map(Var::as_tensor).collect();
        self.run(&params, input, noise_level, labels, |_, _| ())
    }

    /// The value of every node, in the order of [`Graph::nodes`]; arguments and errors as [`CandleUNet::forward`].
    /// To compare executors by; there is no gradient.
    ///
    /// # Errors
    /// As [`CandleUNet::forward`].
    pub fn activations(
        &self,
        input: &Tensor,
        noise_level: &Tensor,
        labels: Option<&Tensor>,
    ) -> Result<Vec<Tensor>> {
        let mut values = Vec::with_capacity(self.graph.nodes.len());
        self.run_detached(input, noise_level, labels, |_, value| values.push(value.clone()))?;
        Ok(values)
    }

    fn run_detached(
        &self,
        input: &Tensor,
        noise_level: &Tensor,
        labels: Option<&Tensor>,
        visit: impl FnMut(NodeId, &Tensor),
    ) -> Result<Tensor> {
        let detached: Vec<Tensor> = self.vars.iter().map(Var::as_detached_tensor).collect();
        let params: Vec<&Tensor> = detached.iter().collect();
        self.run(&params, &input.detach(), &noise_level.detach(), labels, visit)
    }

    /// The prediction for one item, (H, W, out_channels), of its input (H, W, in_channels).
    fn predict_item(
        &self,
        [height, width]: [usize; 2],
        input: &[f32],
        level: f32,
        label: Option<u32>,
        prediction: &mut [f32],
    ) -> Result<()> {
        let item = Tensor::from_slice(input, (1, height, width, self.in_channels), &self.device)?;
        let image = item.permute((0, 3, 1, 2))?.contiguous()?.to_dtype(self.dtype)?;
        let level = Tensor::from_slice(&[level], 1, &self.device)?.to_dtype(self.dtype)?;
        let label = label.map(|label| Tensor::from_slice(&[label], 1, &self.device)).transpose()?;
        let result = self.run_detached(&image, &level, label.as_ref(), |_, _| ())?;
        let result = result.permute((0, 2, 3, 1))?.to_dtype(DType::F32)?;
        prediction.copy_from_slice(&result.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    /// Evaluates every node in order, shows it to `visit`, and lets go of a value after its last reader.
    fn run(
        &self,
        params: &[&Tensor],
        input: &Tensor,
        noise_level: &Tensor,
        labels: Option<&Tensor>,
        mut visit: impl FnMut(NodeId, &Tensor),
    ) -> Result<Tensor> {
        let level = self.check(input, noise_level)?;
        let consumers = self.graph.consumers();
        let mut values: Vec<Option<Tensor>> = vec![None; self.graph.nodes.len()];
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let id = NodeId(i);
            let value = match node.op {
                Op::Input => input.clone(),
                Op::NoiseLevel => level.clone(),
                Op::Label => self.check_labels(labels, input.dim(0)?)?.clone(),
                _ => evaluate(node, &values, params)?,
            };
            visit(id, &value);
            for read in &node.inputs {
                if consumers[read.0].last() == Some(&id) {
                    values[read.0] = None;
                }
            }
            values[i] = Some(value);
        }
        values.pop().flatten().ok_or_else(|| candle_core::Error::msg("the network has no nodes"))
    }

    /// Refuses what the kernels would fail on halfway, and gives the noise levels as (N, 1).
    fn check(&self, input: &Tensor, noise_level: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = input.dims4()?;
        let multiple = self.size_multiple;
        if c != self.in_channels {
            candle_core::bail!("the input has {c} channels where the network takes {}", self.in_channels);
        }
        if n == 0 || !fits(h, multiple) || !fits(w, multiple) {
            candle_core::bail!(
                "an input of {n}×{c}×{h}×{w} needs height and width in multiples of {multiple}"
            );
        }
        noise_level.reshape((n, 1))
    }

    fn check_labels<'a>(&self, labels: Option<&'a Tensor>, items: usize) -> Result<&'a Tensor> {
        let Some(labels) = labels else {
            candle_core::bail!("the network has {} classes: it needs a label for each item", self.classes);
        };
        check_labels(&labels.to_vec1::<u32>()?, items, self.classes).map_err(candle_core::Error::wrap)?;
        Ok(labels)
    }
}

/// The value of one node; `values` holds those of its inputs.
fn evaluate(node: &Node, values: &[Option<Tensor>], params: &[&Tensor]) -> Result<Tensor> {
    let param = |id: ParamId| params[id.0];
    let input = |i: usize| match node.inputs.get(i).and_then(|id| values[id.0].as_ref()) {
        Some(value) => Ok(value),
        None => Err(candle_core::Error::msg(format!("{:?} lacks its input {i}", node.op))),
    };
    let x = input(0)?;
    match node.op {
        Op::Input | Op::NoiseLevel | Op::Label => Ok(x.clone()),
        Op::Encoding { cosines_first, scale } => {
            ops::encoding(x, node.shape.channels(), cosines_first, scale)
        }
        Op::Embedding { weight } => param(weight).index_select(x, 0),
        Op::Linear { weight, bias } => ops::linear(x, param(weight), param(bias)),
        Op::Silu => x.silu(),
        Op::Conv { weight, bias, stride, upsample } => {
            ops::conv(x, param(weight), bias.map(param), stride, upsample)
        }
        Op::Norm { weight, bias, groups, silu } => {
            let y = ops::norm(x, param(weight), param(bias), groups)?;
            let y = if node.inputs.len() > 1 { ops::affine(&y, input(1)?)? } else { y };
            if silu { y.silu() } else { Ok(y) }
        }
        Op::Shift => ops::shift(x, input(1)?),
        Op::Affine => ops::affine(x, input(1)?),
        Op::Add { scale } => ops::add(x, input(1)?, scale),
        Op::Concat => Tensor::cat(&[x, input(1)?], 1),
        Op::Attention { heads } => ops::attention(x, heads),
        Op::AvgPool => x.avg_pool2d(2),
        Op::Upsample => ops::upsample(x),
        // Only in graphs for training, which this executor is not given.
        Op::Dropout { .. } => Ok(x.clone()),
    }
}

const fn fits(size: usize, multiple: usize) -> bool {
    size > 0 && size.is_multiple_of(multiple)
}

impl Denoiser for CandleUNet {
    fn in_channels(&self) -> usize {
        self.in_channels
    }

    fn out_channels(&self) -> usize {
        self.out_channels
    }

    fn size_multiple(&self) -> usize {
        self.size_multiple
    }

    fn classes(&self) -> usize {
        self.classes
    }

    /// Items are evaluated one after the other: matrix libraries choose their order of summation by the batch too, and
    /// an item's result must not depend on its company.
    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> std::result::Result<(), DenoiserError> {
        let [n, height, width] = shape;
        let Conditions { noise: noise_levels, labels } = conditions;
        let multiple = self.size_multiple;
        if !fits(height, multiple) || !fits(width, multiple) {
            return Err(DenoiserError::Size { height, width, multiple });
        }
        // A shape whose product wraps is as far from any buffer as one can be.
        let pixels = height.saturating_mul(width);
        let (item_in, item_out) =
            (pixels.saturating_mul(self.in_channels), pixels.saturating_mul(self.out_channels));
        check_length("input", input.len(), n.saturating_mul(item_in))?;
        check_length("noise_levels", noise_levels.len(), n)?;
        check_length("prediction", prediction.len(), n.saturating_mul(item_out))?;
        check_labels(labels, n, self.classes)?;

        let items = input.chunks_exact(item_in).zip(noise_levels).zip(prediction.chunks_exact_mut(item_out));
        for (i, ((item, &level), out)) in items.enumerate() {
            let label = labels.get(i).copied();
            self.predict_item([height, width], item, level, label, out).map_err(|error| {
                if is_out_of_memory(&error) {
                    return DenoiserError::OutOfMemory { items: n, height, width };
                }
                error.into()
            })?;
        }
        Ok(())
    }
}

fn check_length(name: &'static str, found: usize, expected: usize) -> std::result::Result<(), DenoiserError> {
    if found == expected { Ok(()) } else { Err(DenoiserError::BufferLength { name, found, expected }) }
}
