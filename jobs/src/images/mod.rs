//! The images of a source: which objects are taken, how one is read, and what its result is called.

mod filter;
pub mod naming;
mod nothing;
pub mod partner;
mod read;
mod rgb;
pub(crate) mod shard;
mod sniff;
mod source;
mod system_files;

pub use filter::Filter;
pub use naming::{FormatChoice, Naming, OutputFormat, is_image_extension};
pub use partner::Partners;
pub use read::{check_length, read, read_part};
pub(crate) use rgb::Rgb;
pub use source::{Found, Selected, Source, SourceError};

/// A glob that is none.
#[derive(Debug, thiserror::Error)]
#[error("`{glob}` is not a pattern: {source}")]
pub struct GlobError {
    /// The text.
    pub glob: String,
    /// What is wrong with it.
    pub source: globset::Error,
}
