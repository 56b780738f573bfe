//! What the runner asks of whoever knows images and networks.
//!
//! Three stages, because they overlap: while one item is on the device, the next is decoded and the last is encoded.
//! The same input bytes and key must give the same output bytes, in whatever order and company items come.

use sr3_proto::{Cancel, Key};
use sr3_worker::Stop;

use crate::images::OutputFormat;

/// The three stages of an item. Shared by the threads that decode and encode; the device's own state is made by
/// [`Processor::open_device`] on the one thread that computes, and never leaves it.
pub trait Processor: Send + Sync + 'static {
    /// A picture in memory.
    type Decoded: Send + 'static;
    /// What comes off the device.
    type Computed: Send + 'static;
    /// State of the device: weights, arenas.
    type Device: 'static;

    /// Makes the device ready. An error ends the job: without a device nothing can go on.
    fn open_device(&self) -> Result<Self::Device, String>;

    /// Names what [`Self::open_device`] makes: processors with one name and one type of it share it.
    fn device_name(&self) -> String {
        format!("{:p}", std::ptr::from_ref(self).cast::<u8>())
    }

    /// Decodes an input whose output is to have this format, or says why there can be none. Bounds what it allocates by
    /// itself.
    fn decode(&self, input: &Key, files: Files<'_>, format: OutputFormat)
    -> Result<Self::Decoded, ItemError>;

    /// Number of pixels of the output that is due for a decoded input: what memory use is bounded by.
    fn output_pixels(&self, decoded: &Self::Decoded) -> u64;

    /// Computes an output. Looks at `cancel` between steps and returns [`ItemError::Cancelled`] when it is set; tells
    /// `progress` the share that is done, from 0 to 1.
    fn compute(
        &self,
        device: &mut Self::Device,
        input: &Key,
        decoded: Self::Decoded,
        cancel: &Cancel,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Computed<Self::Computed>, ItemError>;

    /// Encodes an output.
    fn encode(&self, computed: Self::Computed, format: OutputFormat) -> Result<Encoded, ItemError>;
}

/// What an item is made of.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The input.
    pub input: &'a [u8],
    /// What somebody else has made of it, where no model enlarges.
    pub enlarged: Option<&'a [u8]>,
}

/// How far a picture is from reducing to its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance {
    /// Mean squared difference of the reduced picture and the input, both in 0..1.
    pub consistency_error: f64,
    /// Mean of red, green and blue of the reduced picture above that of the input, in steps of 255.
    pub mean_shift: [f64; 3],
}

/// A computed output, and what the record says about it.
#[derive(Clone, Debug)]
pub struct Computed<T> {
    /// What [`Processor::encode`] gets.
    pub output: T,
    /// Width and height of the input, as seen.
    pub input_size: [u32; 2],
    /// Width and height of the output.
    pub output_size: [u32; 2],
    /// Mean squared difference of the reduced output and the input, both in 0..1.
    pub consistency_error: Option<f64>,
    /// How far what somebody else has enlarged was from its input, and the output's own mean shift.
    pub repaired: Option<(Distance, [f64; 3])>,
    /// What the network was told that it shows.
    pub image_class: Option<u32>,
    /// What the user should know, from decoding and computing.
    pub notes: Vec<String>,
}

/// An encoded output.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Why an item has no output.
#[derive(Debug, thiserror::Error)]
pub enum ItemError {
    /// It cannot be made from this input; the reason goes into the report.
    #[error("{reason}")]
    Bad {
        /// One line.
        reason: String,
    },
    /// The work was asked to stop. No verdict.
    #[error("cancelled")]
    Cancelled,
}

impl ItemError {
    /// A reason for the report.
    pub fn bad(reason: impl ToString) -> Self {
        Self::Bad { reason: reason.to_string() }
    }
}

impl From<ItemError> for Stop {
    fn from(error: ItemError) -> Self {
        match error {
            ItemError::Bad { reason } => Self::Bad { reason },
            ItemError::Cancelled => Self::Cancelled,
        }
    }
}
