//! What a commit writes: puts and deletes, in order.
//!
//! A batch promises nothing by itself; [`super::Ledger::commit`] makes all of it durable or none. A later operation on
//! a key replaces an earlier one of the same batch. Keys are checked when the batch is committed, not while it grows.

use bytes::Bytes;

use super::{LedgerError, LedgerKey};

/// The longest key, in bytes; the shortest is one byte.
pub const MAX_KEY_BYTES: usize = 4096;

/// Puts and deletes that become durable together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    operations: Vec<Operation>,
}

/// One step of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets the value of a key, whatever it was.
    Put(LedgerKey, Bytes),
    /// Removes a key; fine if there is none.
    Delete(LedgerKey),
}

impl Operation {
    /// The key that it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: impl Into<LedgerKey>, value: impl Into<Bytes>) {
        self.operations.push(Operation::Put(key.into(), value.into()));
    }

    /// Removes a key; fine if there is none.
    pub fn delete(&mut self, key: impl Into<LedgerKey>) {
        self.operations.push(Operation::Delete(key.into()));
    }

    /// Appends the operations of another batch.
    pub fn extend(&mut self, other: Self) {
        self.operations.extend(other.operations);
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The number of operations.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// The operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operations, in order.
    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    /// Refuses a key that a ledger cannot hold.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        self.operations.iter().try_for_each(|operation| check_key(operation.key()))
    }
}

pub(super) fn check_key(key: &str) -> Result<(), LedgerError> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    let start: String = key.chars().take(32).collect();
    Err(LedgerError::Key { start, bytes: key.len() })
}
