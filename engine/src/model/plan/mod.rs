//! The CPU plan: the graph's nodes over one block of memory, with this project's own kernels, forward and backward.
//!
//! A plan is made once for a batch and image size and kept. Evaluating it allocates nothing of an image's size: buffers
//! that are never alive together share memory, and what kernels need besides is the thread's own and stays. The result
//! has the same bits for any number of threads, any batch an item is part of, and any instruction set.

mod backward;
mod forward;
mod gradient;
mod liveness;
mod lower;
mod program;
mod step;
mod weights;

use super::UNetConfig;
use super::denoiser::{Denoiser, DenoiserError};
use super::graph::Graph;
use super::weights::{ModelError, Weights, order_weights};
use crate::ops::Isa;
use crate::ops::arena::Arena;
use forward::Run;
use program::{Program, ProgramKey};
use weights::PlanWeights;

/// Programs kept at once. Bulk work sees two or three sizes of tile; more are made anew, in a millisecond.
const PROGRAMS_MAX: usize = 8;

/// A network on the CPU. It works with the threads of the rayon pool in which it is called.
pub struct CpuUNet {
    graph: Graph,
    size_multiple: usize,
    isa: Isa,
    weights: PlanWeights,
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
        let graph = Graph::build(config)?;
        let weights = PlanWeights::new(&graph, order_weights(&graph, weights)?);
        Ok(Self {
            graph,
            size_multiple: config.size_multiple(),
            isa,
            weights,
            arena: Arena::default(),
            programs: Vec::new(),
        })
    }

    /// The nodes and parameters.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Output and gradients: of the sum of prediction × cotangent, for every parameter and input.
    ///
    /// `cotangent` is given the prediction, (N, H, W, out channels), and writes the gradient of the loss with respect
    /// to it; shapes are those of [`Denoiser::predict`].
    ///
    /// # Errors
    /// [`DenoiserError`] where buffers and shape disagree.
    pub fn gradients(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        cotangent: impl FnOnce(&[f32], &mut [f32]) + Send,
    ) -> Result<Gradients, DenoiserError> {
        self.check(shape, input, noise_levels)?;
        self.weights.prepare_backward();
        let index = self.program(shape, true);
        let Self { programs, weights, arena, isa, .. } = self;
        let program = &programs[index];
        arena.reserve(program.arena_len);
        fill(arena, program, input, noise_levels);
        rayon::scope(|_| {
            let mut run = Run { isa: *isa, program, weights, arena };
            run.forward();
            let Some([of_prediction, of_input, of_level]) = program.gradients else {
                unreachable!("a training program has gradients")
            };
            let ([prediction], [seed]) =
                run.arena.view([program.range(program.prediction)], [program.range(of_prediction)]);
            cotangent(prediction, seed);
            let prediction = prediction.to_vec();
            let mut params = weights.zeros();
            run.backward(&mut params);
            let ([input, level], []) = run.arena.view([of_input, of_level].map(|b| program.range(b)), []);
            Ok(Gradients { prediction, params, input: input.to_vec(), noise_level: level.to_vec() })
        })
    }

    fn check(
        &self,
        [n, height, width]: [usize; 3],
        input: &[f32],
        levels: &[f32],
    ) -> Result<(), DenoiserError> {
        let multiple = self.size_multiple;
        if n == 0 || height == 0 || width == 0 || height % multiple != 0 || width % multiple != 0 {
            return Err(DenoiserError::Size { height, width, multiple });
        }
        expect("input", input.len(), n * height * width * self.in_channels())?;
        expect("noise_levels", levels.len(), n)
    }

    /// The program for a shape, made if it is not at hand: its index, the last.
    fn program(&mut self, [batch, height, width]: [usize; 3], training: bool) -> usize {
        let key = ProgramKey { batch, height, width, training };
        let program = match self.programs.iter().position(|p| p.key == key) {
            Some(at) => self.programs.remove(at),
            None => {
                if self.programs.len() == PROGRAMS_MAX {
                    self.programs.remove(0);
                }
                Program::new(&self.graph, key)
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

    fn predict(
        &mut self,
        shape: [usize; 3],
        input: &[f32],
        noise_levels: &[f32],
        prediction: &mut [f32],
    ) -> Result<(), DenoiserError> {
        self.check(shape, input, noise_levels)?;
        expect("prediction", prediction.len(), shape.iter().product::<usize>() * self.out_channels())?;
        let index = self.program(shape, false);
        let Self { programs, weights, arena, isa, .. } = self;
        let program = &programs[index];
        arena.reserve(program.arena_len);
        fill(arena, program, input, noise_levels);
        rayon::scope(|_| Run { isa: *isa, program, weights, arena: &mut *arena }.forward());
        let ([out], []) = arena.view([program.range(program.prediction)], []);
        prediction.copy_from_slice(out);
        Ok(())
    }
}

fn expect(name: &'static str, found: usize, expected: usize) -> Result<(), DenoiserError> {
    if found == expected { Ok(()) } else { Err(DenoiserError::BufferLength { name, found, expected }) }
}

fn fill(arena: &mut Arena, program: &Program, input: &[f32], noise_levels: &[f32]) {
    let ([], [x, level]) = arena.view([], [program.input, program.noise_level].map(|b| program.range(b)));
    x.copy_from_slice(input);
    level.copy_from_slice(noise_levels);
}
