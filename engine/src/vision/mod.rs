//! Networks that look at images: what measures of whole sets are computed from.
//!
//! [`Inception`] gives the features of the Fréchet Inception Distance, from images of any sizes, prepared as one of the public
//! tools prepares them ([`FidMode`]). Features have the same bits on every CPU, on any number of threads, and whatever
//! images are looked at beside. Nothing here is trained, reads files, or knows what the features are for.

mod fold;
mod inception;
mod network;
mod prepare;

pub use inception::{INCEPTION_DIGEST, ImageFeatures, Inception, LOGITS, POOL, SPATIAL};
pub use prepare::FidMode;

/// Why a network cannot be made of some tensors, or an image not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VisionError {
    /// A tensor is not there.
    #[error(
        "tensor {name} is missing: take pytorch-fid's pt_inception-2015-12-05 (.pth), or the same network as TorchScript (.pt)"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has no place in the network.
    #[error("tensor {name} has no place in FID's Inception network: this is another network")]
    Extra {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name} has shape {found:?} where {expected:?} belongs: this is another network")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The network's.
        expected: Vec<usize>,
    },
    /// A tensor holds numbers that no trained network has.
    #[error("tensor {name} holds a number that is not finite, or a variance below zero: the file is damaged")]
    Values {
        /// Its name.
        name: String,
    },
    /// An image has no pixels.
    #[error("image {image} has no pixels")]
    Empty {
        /// Its place, from 0.
        image: usize,
    },
    /// The text names no mode.
    #[error("{name} is no way to prepare images: take pytorch-fid, torch-fidelity or clean-fid")]
    Mode {
        /// What was given.
        name: String,
    },
}
