//! The durable state of the coordinator: rows of bytes under ordered keys, with one writer at a time.
//!
//! It promises:
//! - A commit is all or nothing, and durable when it returns. Reads see a commit whole, and only once it is durable, so
//!   nobody acts on what a crash could take back.
//! - Opening takes the ledger over: the new handle's epoch is greater than that of every earlier one, and commits of
//!   the earlier handles fail with [`LedgerError::Fenced`]. A commit that begins after the takeover leaves no trace. One
//!   that the takeover meets half-way is found whole or not at all by the new owner, whatever the old one was told;
//!   what the old one was told is durable is always found.
//! - Keys are ordered by their bytes.
//!
//! It never waits for a clock to make a commit durable, never retries behind the caller's back without end, and knows
//! nothing of what the rows mean.
//!
//! Two implementations pass one conformance suite (`tests/ledger/`): [`MemoryLedger`] for simulation and tests, and
//! [`SlateLedger`], on a folder or an object store, for everything else.

mod batch;
pub mod dump;
mod error;
mod memory;
mod open;
mod slate;
mod space;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use batch::{Batch, MAX_KEY_BYTES, Operation};
pub use error::{Cause, LedgerError};
pub use memory::{Fault, MemoryLedger, MemoryLedgerStorage};
pub use open::open_ledger;
pub use slate::SlateLedger;

/// The name of a row: 1 to [`MAX_KEY_BYTES`] bytes, ordered by them.
pub type LedgerKey = String;

/// A handle on the ledger; the latest one opened is the writer.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Writer epoch of this handle: greater than that of every earlier opener, never 0.
    fn epoch(&self) -> u64;

    /// Writes all of the batch or nothing; durable when it returns. Two commits that overlap in time take effect in
    /// either order; commits made one after the other in that order. An empty batch is fine, and tells a fenced handle
    /// so like any other.
    ///
    /// # Errors
    /// [`LedgerError::Fenced`] once a later opener took over, [`LedgerError::Full`] if there is no room,
    /// [`LedgerError::Key`] for a key that no ledger holds (then nothing happened), [`LedgerError::Closed`] after
    /// [`Ledger::close`]. After [`LedgerError::Store`] whether the batch is there shows only to the next opener.
    ///
    /// Dropping the future before it returns means not knowing either.
    async fn commit(&self, batch: Batch) -> Result<(), LedgerError>;

    /// The value of a key. A handle that was fenced may still answer, with what was there before the takeover.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, LedgerError>;

    /// All pairs whose key starts with `prefix`, in byte order, streamed; with `after`, only keys greater than that.
    ///
    /// It is a snapshot: the state at one moment between the call and the first pair, whatever is committed while the
    /// rest is read. The first error ends the stream.
    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> BoxStream<'_, Result<(LedgerKey, Bytes), LedgerError>>;

    /// Waits for the commits under way and closes; later calls fail with [`LedgerError::Closed`], another close does
    /// nothing. Dropping a handle without it loses nothing that was acknowledged.
    async fn close(&self) -> Result<(), LedgerError>;
}

/// The least string that is greater than every string with this prefix, as bytes; none if there is no such string.
fn after_prefix(prefix: &str) -> Option<Vec<u8>> {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            return Some(bytes);
        }
    }
    None
}
