//! Why a job cannot begin or go on.

use sr3_proto::{StoreError, record::RecordError};

/// An error of a whole job; an item's is a verdict in its record.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document under `.sr3/` cannot be read.
    #[error("{source}; to compute its items again, remove that file")]
    Record {
        /// Which, and why.
        #[from]
        source: RecordError,
    },
    /// A manifest is not what the worker said that it wrote.
    #[error(
        "`{key}` at the destination was changed after it was recorded (sha256 {found}, recorded {recorded}): run the job \
         again; what still lies there whole is kept"
    )]
    ManifestChanged {
        /// Which.
        key: String,
        /// Its digest now.
        found: String,
        /// Its digest then.
        recorded: String,
    },
    /// A glob cannot be read.
    #[error("`{glob}` is not a pattern: {source}")]
    Glob {
        /// The text.
        glob: String,
        /// What is wrong with it.
        source: globset::Error,
    },
    /// The destination holds results of another recipe.
    #[error(
        "`{destination}` holds results made otherwise ({differences}): choose another folder, or pass --overwrite to replace them"
    )]
    OtherRecipe {
        /// As the user named it.
        destination: String,
        /// What differs, field by field.
        differences: String,
    },
    /// There is nothing to do.
    #[error("no images found in `{location}`: {looked_for}")]
    NoImages {
        /// As the user named it.
        location: String,
        /// What would have counted.
        looked_for: String,
    },
    /// The coordinator's own state cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// Another run created this run's record first.
    #[error("another run began on `{destination}` at the same moment: wait for it or stop it")]
    Race {
        /// As the user named it.
        destination: String,
    },
}
