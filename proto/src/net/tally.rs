//! How many came to a port, and how many of these found no room.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The count of a port. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    refused: AtomicU64,
}

impl Tally {
    /// Connections that are open, those in the handshake included.
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Connections for which there was no room, since the beginning.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection for as long as what is returned lives.
    pub(super) fn enter(&self) -> Inside {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Inside(self.clone())
    }
}

/// An open connection.
pub(super) struct Inside(Tally);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
