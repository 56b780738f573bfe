//! What is to be done with one input.

use crate::{Digest, Key, OutputFormat};

/// What to do when something already lies at an output's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// Never replace it. If it holds the very bytes of the new result the item is fine, otherwise it is quarantined.
    Keep,
    /// Replace it if it is the earlier result with this digest, otherwise as [`OnExisting::Keep`].
    ReplaceOwn(Digest),
    /// Replace it, whatever it is.
    Replace,
}

/// One item of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTask {
    /// Key relative to the source; also what the item's noise is keyed by.
    pub input: Key,
    /// Encoded length as listed.
    pub input_bytes: u64,
    /// The store's tag of the input as listed.
    pub input_etag: Option<String>,
    /// Key of the output.
    pub output: Key,
    /// Format of the output.
    pub format: OutputFormat,
    /// What to do if the output exists.
    pub on_existing: OnExisting,
}
