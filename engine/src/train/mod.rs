//! Training: what a step is made of, each part a function of its arguments.
//!
//! A step's samples are chosen by a keyed [`Permutation`]; what is drawn for each of them ([`Draws`]) is a function of the
//! seed, the step and its place in the batch. A [`Trainer`] turns some of them, a *grain*, into a gradient, whose bits depend
//! on the grain alone. Gradients of grains are summed up elsewhere, in one fixed tree; [`Adam`] does the rest. What a run has
//! come to is one value, [`TrainingState`]. So a run can be stopped, moved and shared out, and comes to the same bits.
//!
//! Never: a clock, a file, a network, or a generator with a state.

#[cfg(feature = "candle")]
mod candle;
mod draws;
mod examples;
mod learning_rate;
mod levels;
mod optimizer;
mod permutation;
mod pictures;
mod state;
mod trainer;

#[cfg(feature = "candle")]
pub use candle::CandleTrainer;
#[cfg(feature = "candle")]
pub use candle_core::Tensor;
pub use draws::Draws;
pub use examples::{Example, Examples, Noise, Task, enlarged, planes};
pub use learning_rate::{Decay, LearningRate};
pub use levels::{TrainingLevels, TrainingLevelsError};
pub use optimizer::{Adam, AdamConfig, BLOCK, Moments, norm};
pub use permutation::Permutation;
pub use pictures::{Crop, Orientations, Preprocessing, Square};
pub use state::{StateError, TrainingState, fingerprint, weights_sha256};
pub use trainer::{GrainError, Trainer};
