//! Why a ledger refused. The variant says what the caller can do.
//!
//! Only [`LedgerError::Key`] leaves the ledger as it was and the handle usable for sure. After any other error of a
//! commit the handle is to be dropped; whoever opens the ledger next finds the batch whole or not at all.

use std::{error::Error, fmt, sync::Arc};

use super::batch::MAX_KEY_BYTES;

/// An error of the ledger. Everyone whose commit shared a flush gets the same one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// A later opener took the ledger over.
    #[error(
        "another coordinator has taken the ledger over from this one (writer epoch {epoch}): let it work, and stop this one"
    )]
    Fenced {
        /// The epoch of the handle that was refused.
        epoch: u64,
    },
    /// No room left where the ledger lies.
    #[error(
        "no space left for the ledger at `{location}` ({detail}): make room and start the coordinator again"
    )]
    Full {
        /// Where it lies.
        location: String,
        /// What the system says.
        detail: String,
    },
    /// The store below failed; whether the batch was written is not known.
    #[error(
        "the ledger at `{location}` cannot be reached or used ({source}): see to that store, then start the coordinator again"
    )]
    Store {
        /// Where it lies.
        location: String,
        /// What went wrong.
        source: Cause,
    },
    /// The handle was closed.
    #[error("the ledger was closed: open it again")]
    Closed,
    /// What is stored, or imported, is not what was written.
    #[error("the ledger `{location}` is damaged: {reason}; restore it from an export")]
    Corrupt {
        /// Where it lies.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// A key that no ledger holds.
    #[error("the key that begins with `{start}` is {bytes} bytes long: use 1 to {MAX_KEY_BYTES}")]
    Key {
        /// Its first characters.
        start: String,
        /// Its length.
        bytes: usize,
    },
}

impl LedgerError {
    /// Whether a later opener took over.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }
}

/// What a store said, shared by all who asked it at once.
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// Keeps the error and its sources.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into().into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
