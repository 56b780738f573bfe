//! Why a job cannot begin or go on.

use sr3_proto::StoreError;

use crate::{kind::KindError, ledger::LedgerError};

/// An error of a whole job; an item's is a verdict in its record.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator's own state cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What its kind says.
    #[error("{0}")]
    Kind(KindError),
    /// It was accepted by a program that knew more.
    #[error("this coordinator runs no jobs of kind `{kind}`: run the sr3 that accepted it")]
    UnknownKind {
        /// Its kind.
        kind: String,
    },
}
