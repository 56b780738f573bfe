//! Checkpoints of other programs: reading their files, and finding out which network they hold.
//!
//! Files are taken to come from strangers. Nothing in them is executed, and no length in them is believed before
//! the bytes are there.

mod adm;
mod callable;
mod convert;
mod convert_adm;
mod janspiry;
mod machine;
mod pickle;
mod pth;
mod view;
mod wheel;

pub use adm::{AdmFlags, AdmNetwork, AdmSchedule, infer_adm};
pub use convert::{ConvertOptions, convert};
pub use janspiry::{InferOptions, infer};
pub use pth::read_pth;
pub use wheel::{WheelFile, read_wheel};

use super::ConfigError;
use super::checkpoint::{CheckpointError, WeightsError};
use super::tensors::TensorFileError;

/// Why a checkpoint of another program was not imported. Every message is one line.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file itself was refused.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// No network of the layout is in it.
    #[error(
        "none of the {tensors} tensors is named downs.0.weight or input_blocks.0.0.weight: this is no generator (*_gen.pth) of the public SR3 implementation, and no network of guided-diffusion or improved-diffusion"
    )]
    NotThisLayout {
        /// Tensors in the file.
        tensors: usize,
    },
    /// More than one network is in it.
    #[error("the file holds more than one network, under {first} and under {second}: save one of them alone")]
    SeveralNetworks {
        /// Prefix of the names of one.
        first: String,
        /// Prefix of the names of another.
        second: String,
    },
    /// A tensor beside the network that is no buffer of the noise schedule.
    #[error("tensor {name} is neither part of the network under {prefix} nor a buffer of its noise schedule")]
    Beside {
        /// Its name.
        name: String,
        /// Prefix of the network's names.
        prefix: String,
    },
    /// A tensor that the shape of the network is read from is missing.
    #[error("the network lacks {name}")]
    Lacks {
        /// Its name.
        name: String,
    },
    /// A tensor that the shape of the network is read from has too few axes.
    #[error("tensor {name} has shape {shape}, which is none of a convolution or a linear layer")]
    Unlike {
        /// Its name.
        name: String,
        /// Its shape.
        shape: String,
    },
    /// A level's width is no multiple of the first convolution's.
    #[error(
        "a level has {width} channels, which is no multiple of the {inner_channel} of the first convolution"
    )]
    Width {
        /// Channels of the level.
        width: usize,
        /// Channels of the first convolution.
        inner_channel: usize,
    },
    /// A network of guided-diffusion or improved-diffusion that is none of the published ones.
    #[error(
        "this is none of the published networks of guided-diffusion and improved-diffusion: give the flags that it was trained with, image_size and noise_schedule at least"
    )]
    Flags,
    /// The image size does not fit the levels.
    #[error(
        "image_size {image_size} is no multiple of {multiple}, as the levels of this network need: give the one it was trained with"
    )]
    ImageSize {
        /// What was given.
        image_size: usize,
        /// What it has to be a multiple of.
        multiple: usize,
    },
    /// The options and the tensors together describe no network.
    #[error("{source}: give what the training configuration says")]
    Config {
        /// What is wrong.
        source: ConfigError,
    },
    /// The tensors are not those of the network.
    #[error(transparent)]
    Weights {
        /// What differs.
        #[from]
        source: WeightsError,
    },
    /// What came out is no valid checkpoint: an option has a value that makes no sense.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
