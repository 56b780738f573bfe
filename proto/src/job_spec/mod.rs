//! What a person writes to ask for a job: one YAML (or JSON) document, of one kind.
//!
//! [`Document::parse`] reads it and answers with one line that names the line and the nearest right name; the kind makes
//! a struct of it with [`Document::part`]. Nothing here is executed, nothing is looked up: aliases and tags are refused, so
//! that a text means what it says and costs what it weighs. What fields there are is for the kinds to say; [`check`] helps
//! them to say which values.

pub mod check;
mod error;
mod parse;
mod read;
mod tree;

pub use error::SpecError;
pub use parse::{Document, TEXT_BYTES_MAX, to_yaml};
pub use read::fields_of;
