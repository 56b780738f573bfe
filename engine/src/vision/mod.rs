//! Networks that look at images: what measures are computed from.
//!
//! [`Inception`] gives the features of the Fréchet Inception Distance, from images of any sizes, prepared as one of the public
//! tools prepares them ([`FidMode`]); [`StLpips`] the distance of two pictures as people judge it; [`EfficientNetLite0`] the class
//! of a picture. What they give has the same bits on every CPU, on any number of threads, and whatever images are looked at
//! beside. Nothing here is trained, reads files, or knows what its numbers are for.

mod efficientnet;
mod fold;
mod inception;
mod network;
mod prepare;
mod st_lpips;
mod taken;

pub use efficientnet::{CLASSES, EFFICIENTNET_LITE0_DIGEST, EfficientNetLite0, rank};
pub use inception::{INCEPTION_DIGEST, ImageFeatures, Inception, LOGITS, POOL, SPATIAL};
pub use prepare::FidMode;
pub use st_lpips::{ST_LPIPS_DIGEST, StLpips};

/// Why a network cannot be made of some tensors, or an image not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VisionError {
    /// A tensor is not there.
    #[error("tensor {name} is missing: this is another network")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor has no place in the network.
    #[error("tensor {name} has no place in it: this is another network")]
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
    /// A picture has too few pixels.
    #[error("{width}×{height} is too small for ST-LPIPS: at least {least} pixels a side are needed")]
    TooSmall {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The least of both.
        least: usize,
    },
    /// A picture has too many pixels.
    #[error(
        "{width}×{height} is too large for ST-LPIPS: it compares {most} pixels at most; cut the middle out (crop)"
    )]
    TooLarge {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The most of their product.
        most: usize,
    },
    /// Two pictures have different sizes.
    #[error("{width}×{height} cannot be compared with {other_width}×{other_height}: sizes must agree")]
    SizesDiffer {
        /// Columns of the first.
        width: usize,
        /// Rows of the first.
        height: usize,
        /// Columns of the second.
        other_width: usize,
        /// Rows of the second.
        other_height: usize,
    },
    /// The text names no mode.
    #[error("{name} is no way to prepare images: take pytorch-fid, torch-fidelity or clean-fid")]
    Mode {
        /// What was given.
        name: String,
    },
}
