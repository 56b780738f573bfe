//! The CPU plan: the graph's nodes over one block of memory, with this project's own kernels, forward and backward.
//!
//! A plan is made once for a batch and image size and kept. Evaluating it allocates nothing of an image's size: buffers
//! that are never alive together share memory, and what kernels need besides is the thread's own and stays. The result
//! has the same bits for any number of threads, any batch an item is part of, and any instruction set.

mod backward;
mod forward;
mod gradient;
mod key;
mod lower;
mod program;
mod step;
mod weights;

use super::UNetConfig;
use super::denoiser::{Conditions, Denoiser, DenoiserError, check_labels};
use super::graph::Graph;
use super::weights::{ModelError, Weights, order_weights};
use crate::ops::arena::Arena;
use crate::ops::{Isa, Precision};
use backward::ParamGradients;
pub use forward::Dropout;
use forward::Run;
pub use key::Packed;
use key::ProgramKey;
use program::Program;
use rayon::prelude::*;
use weights::PlanWeights;

/// Programs kept at once. Bulk work sees two or three sizes of tile; more are made anew, in a millisecond.
const PROGRAMS_MAX: usize = 8;

/// A network on the CPU. It works with the threads of the rayon pool in which it is called.
pub struct CpuUNet {
    graph: Graph,
    /// With dropout, where its configuration asks for it.
    training: Option<Graph>,
    size_multiple: usize,
    isa: Isa,
    /// Of the convolutions.
    precision: Precision,
    /// In evaluations.
    packed: Packed,
    weights: PlanWeights,
    /// Of the last backward pass; empty before the first.
    gradient: Vec<f32>,
    arena: Arena,
    programs: Vec<Program>,
}

/// What [`CpuUNet::gradients`] yields.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// (N, H, W, out channels): the network's output.
    pub prediction: Vec<f32>,
    /// Gradient of each parameter, in the order of [`Graph::params`], in its shape.
    pub params: Vec<Vec<f32>>,
    /// (N, H, W, in channels)
    pub input: Vec<f32>,
    /// (N)
    pub noise_level: Vec<f32>,
}

impl CpuUNet {
    /// Builds the network and takes its weights. `isa` is the instruction set to use: [`Isa::detect`] finds the best.
    ///
    /// # Errors
    /// [`ModelError`] where the configuration describes no network or the weights are not its own.
    pub fn new(config: &UNetConfig, weights: &Weights, isa: Isa) -> Result<Self, ModelError> {
        let mut network = Self::of_graph(Graph::build(config)?, config.size_multiple(), weights, isa)?;
        network.training = (config.dropout > 0.0).then(|| Graph::build_for_training(config)).transpose()?;
        Ok(network)
    }

    /// [`Self::new`] for any graph: one image in, one of its size out, and a noise level that something reads.
    pub(crate) fn of_graph(
        graph: Graph,
        size_multiple: usize,
        weights: &Weights,
        isa: Isa,
    ) -> Result<Self, ModelError> {
        let weights = PlanWeights::new(&graph, &order_weights(&graph, weights)?);
        Ok(Self {
            graph,
            training: None,
            size_multiple,
            isa,
            precision: Precision::F32,
            packed: Packed::Once,
            weights,
            gradient: Vec::new(),
            arena: Arena::default(),
            programs: Vec::new(),
        })
    }

    /// Parameters of a network, and floats of working memory that a training step of `shape` (N, H, W) takes, without building
    /// it.
    ///
    /// # Errors
    /// The configuration describes no network.
    pub fn training_size(
        config: &UNetConfig,
        [batch, height, width]: [usize; 3],
        precision: Precision,
    ) -> Result<(usize, usize), ModelError> {
        let graph = Graph::build_for_training(config)?;
        let key = ProgramKey { batch, height, width, precision, packed: Packed::WhereUsed, training: true };
        Ok((graph.parameter_count(), Program::new(&graph, key).arena_len))
    }

    /// The same network with another precision than f32 for its convolutions, in predictions and in training steps. Weights,
    /// sums, gradients and all that is kept are f32 either way.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self.weights.forget_packed();
        self
    }

    /// The same network with its weights packed at another time; no result depends on it.
    #[must_use]
    pub fn with_weights_packed(mut self, packed: Packed) -> Self {
        self.packed = packed;
        self.weights.forget_packed();
        self
    }

    /// The nodes and parameters.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The gradient of a loss with respect to every parameter: it is kept, for [`Self::update`]. Nothing is dropped.
    ///
    /// `conditions` are noise levels, or with labels [`Conditions`]. `cotangent` is given the prediction, (N, H, W, out channels), and writes the gradient of the loss with respect
    /// to it; shapes are those of [`Denoiser::predict`].
    ///
    /// # Errors
    /// [`DenoiserError`] where buffers and shape disagree.
    pub fn backward<'a>(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: impl Into<Conditions<'a>>,
        cotangent: impl FnOnce(&[f32], &mut [f32]) + Send,
    ) -> Result<(), DenoiserError> {
        let mut gradient = std::mem::take(&mut self.gradient);
        gradient.resize(self.weights.len(), 0.0);
        gradient.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
        let ended = self.add_gradient(shape, input, conditions.into(), None, &mut gradient, cotangent);
        self.gradient = gradient;
        ended
    }

    /// Adds the gradient of a loss with respect to every parameter to `to`, one flat list in the order of
    /// [`Graph::params`]. As [`Self::backward`], but with the dropout that the configuration asks for.
    ///
    /// # Errors
    /// As there.
    pub fn accumulate<'a>(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: impl Into<Conditions<'a>>,
        dropout: &Dropout<'_>,
        to: &mut [f32],
        cotangent: impl FnOnce(&[f32], &mut [f32]) + Send,
    ) -> Result<(), DenoiserError> {
        expect("places", dropout.places.len(), shape[0])?;
        expect("gradient", to.len(), self.weights.len())?;
        self.add_gradient(shape, input, conditions.into(), Some(dropout), to, cotangent)
    }

    fn add_gradient(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        dropout: Option<&Dropout<'_>>,
        to: &mut [f32],
        cotangent: impl FnOnce(&[f32], &mut [f32]) + Send,
    ) -> Result<(), DenoiserError> {
        self.check(shape, input, conditions)?;
        let index = self.program(shape, true);
        let Self { programs, weights, arena, isa, .. } = self;
        let program = &programs[index];
        arena.reserve(program.arena_len);
        fill(arena, program, input, conditions);
        rayon::scope(|_| {
            let mut run = Run { isa: *isa, program, weights, arena, dropout };
            run.forward();
            let [of_prediction, ..] = program.training_gradients();
            let ([prediction], [seed]) =
                run.arena.view([program.range(program.prediction)], [program.range(of_prediction)]);
            cotangent(prediction, seed);
            run.backward(&mut ParamGradients { values: to, ranges: weights.ranges() });
        });
        Ok(())
    }

    /// All parameters, one flat list in the order of [`Graph::params`].
    #[must_use]
    pub fn parameters(&self) -> &[f32] {
        self.weights.values()
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        self.weights.values_mut()
    }

    /// Lets `change` alter the parameters, given their gradient of the last [`Self::backward`] (zeros before the
    /// first): both one flat list in the order of [`Graph::params`].
    pub fn update<R>(&mut self, change: impl FnOnce(&mut [f32], &[f32]) -> R) -> R {
        self.gradient.resize(self.weights.len(), 0.0);
        change(self.weights.values_mut(), &self.gradient)
    }

    /// What [`Self::backward`] computes, with the prediction and the gradients of all inputs.
    ///
    /// # Errors
    /// As there.
    pub fn gradients<'a>(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: impl Into<Conditions<'a>>,
        cotangent: impl FnOnce(&[f32], &mut [f32]) + Send,
    ) -> Result<Gradients, DenoiserError> {
        let mut prediction = Vec::new();
        self.backward(shape, input, conditions, |found, out| {
            prediction = found.to_vec();
            cotangent(found, out);
        })?;
        let Self { programs, weights, arena, gradient, .. } = self;
        // The program that just ran is the last.
        let Some(program) = programs.last() else { unreachable!("a program has just run") };
        let [_, of_input, of_level] = program.training_gradients();
        let ([input, level], []) = arena.view([of_input, of_level].map(|b| program.range(b)), []);
        let params = weights.ranges().iter().map(|range| gradient[range.clone()].to_vec()).collect();
        Ok(Gradients { prediction, params, input: input.to_vec(), noise_level: level.to_vec() })
    }

    fn check(
        &self,
        [n, height, width]: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
    ) -> Result<(), DenoiserError> {
        let multiple = self.size_multiple;
        if n == 0 || height == 0 || width == 0 || height % multiple != 0 || width % multiple != 0 {
            return Err(DenoiserError::Size { height, width, multiple });
        }
        expect("input", input.len(), n * height * width * self.in_channels())?;
        expect("noise_levels", conditions.noise.len(), n)?;
        check_labels(conditions.labels, n, self.graph.classes())
    }

    /// The program for a shape, made if it is not at hand: its index, the last.
    fn program(&mut self, [batch, height, width]: [usize; 3], training: bool) -> usize {
        let packed = if training { Packed::WhereUsed } else { self.packed };
        let key = ProgramKey { batch, height, width, precision: self.precision, packed, training };
        let program = match self.programs.iter().position(|p| p.key == key) {
            Some(at) => self.programs.remove(at),
            None => {
                if self.programs.len() == PROGRAMS_MAX {
                    self.programs.remove(0);
                }
                let training = self.training.as_ref().filter(|_| training);
                Program::new(training.unwrap_or(&self.graph), key)
            }
        };
        self.programs.push(program);
        self.programs.len() - 1
    }
}

impl Denoiser for CpuUNet {
    fn in_channels(&self) -> usize {
        self.graph.nodes[0].shape.channels()
    }

    fn out_channels(&self) -> usize {
        self.graph.node(self.graph.output()).shape.channels()
    }

    fn size_multiple(&self) -> usize {
        self.size_multiple
    }

    fn classes(&self) -> usize {
        self.graph.classes()
    }

    fn predict_conditioned(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        conditions: Conditions<'_>,
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        self.check(shape, input, conditions)?;
        expect("prediction", prediction.len(), shape.iter().product::<usize>() * self.out_channels())?;
        let index = self.program(shape, false);
        let Self { programs, weights, arena, isa, .. } = self;
        let program = &programs[index];
        weights.prepare(*isa, program);
        arena.reserve(program.arena_len);
        fill(arena, program, input, conditions);
        rayon::scope(|_| {
            Run { isa: *isa, program, weights, arena: &mut *arena, dropout: None }.forward();
        });
        let ([out], []) = arena.view([program.range(program.prediction)], []);
        prediction.copy_from_slice(out);
        Ok(())
    }
}

fn expect(name: &'static str, found: usize, expected: usize) -> Result<(), DenoiserError> {
    if found == expected { Ok(()) } else { Err(DenoiserError::BufferLength { name, found, expected }) }
}

fn fill(arena: &mut Arena, program: &Program, input: &[f32], conditions: Conditions<'_>) {
    let writes =
        [program.range(program.input), program.range(program.noise_level), program.range_of(program.label)];
    let ([], [x, level, label]) = arena.view([], writes);
    x.copy_from_slice(input);
    level.copy_from_slice(conditions.noise);
    // Exact: there are at most 65,536 classes.
    label.iter_mut().zip(conditions.labels).for_each(|(to, label)| *to = *label as f32);
}
