//! What tells programs apart.

use crate::ops::Precision;

/// When convolutions' weights are put in the order, and where they gain by it transformed, in which kernels multiply them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// Once, and kept: four times the memory of the weights.
    Once,
    /// In each evaluation, a layer at a time, to the same bits: in little memory, and an evaluation of few pixels takes a
    /// seventh longer. As in training, where they are used once.
    WhereUsed,
}

/// What a program was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramKey {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Of the convolutions.
    pub(super) precision: Precision,
    /// Of the convolutions' weights.
    pub(super) packed: Packed,
    /// Whether the backward pass follows.
    pub(super) training: bool,
}
