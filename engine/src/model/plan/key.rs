//! What tells programs apart.

use crate::ops::Precision;

/// What a program was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProgramKey {
    pub(super) batch: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Of the convolutions.
    pub(super) precision: Precision,
    /// Whether the backward pass follows.
    pub(super) training: bool,
}
