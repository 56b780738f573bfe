//! Making what any other upscaler has enlarged reduce to its inputs again: the closed form that upscaling ends with, for
//! pictures that are there already.
//!
//! A job is one of [`crate::upscale`] in which somebody else has done the enlarging: the same units, manifests, names of
//! outputs and rules about what lies at a destination, with another [`Processor`](crate::upscale::Processor) and a second
//! picture beside each input.
//!
//! | what | where |
//! |---|---|
//! | what a person writes | `spec` |
//! | what becomes of it, and who runs it | `kind` |
//! | a pair from its pixels to the nearest picture that reduces to the input | `projection` |
//!
//! It computes the same bits everywhere, takes no model and no device, and draws nothing by chance.

mod kind;
mod projection;
mod spec;

pub use kind::Project;
pub use projection::Projection;
pub use spec::{ProjectFields, ProjectSpec};

/// The kind's name.
pub const NAME: &str = crate::upscale::PROJECT;
