//! A ledger in memory: the model that the others are held against, and what simulations run on.
//!
//! Deterministic: no threads, no wall clock, no randomness; a commit delay is tokio's clock, which a simulation owns.
//! "Durable" means for as long as a handle or its [`MemoryLedgerStorage`] lives: dropping a handle is the crash of a
//! coordinator, not of the disk. A fenced handle refuses reads too.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Batch, Ledger, LedgerError, LedgerKey, Operation, batch::check_key, error::Cause};

const LOCATION: &str = "memory";

/// What outlives a coordinator: the rows. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryLedgerStorage {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    epoch: u64,
    rows: BTreeMap<LedgerKey, Bytes>,
    delay: Duration,
    faults: VecDeque<Fault>,
}

/// How a commit is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`LedgerError::Full`], and nothing was written.
    Full,
    /// [`LedgerError::Store`], and nothing was written.
    Lost,
    /// [`LedgerError::Store`], though the batch was written: the answer got lost.
    WrittenButUnknown,
}

/// A handle on a [`MemoryLedgerStorage`].
#[derive(Debug)]
pub struct MemoryLedger {
    shared: Arc<Mutex<Shared>>,
    epoch: u64,
    closed: Mutex<bool>,
}

impl MemoryLedgerStorage {
    /// Empty rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the rows over: handles opened before are fenced from now on.
    pub fn open(&self) -> MemoryLedger {
        let mut shared = lock(&self.shared);
        shared.epoch += 1;
        MemoryLedger { shared: Arc::clone(&self.shared), epoch: shared.epoch, closed: Mutex::new(false) }
    }

    /// How long every commit takes from now on, on tokio's clock. It takes effect at the end of that time, all at once.
    pub fn set_commit_delay(&self, delay: Duration) {
        lock(&self.shared).delay = delay;
    }

    /// Makes one of the next commits fail; several calls make as many fail, in that order.
    pub fn fail_next_commit(&self, fault: Fault) {
        lock(&self.shared).faults.push_back(fault);
    }
}

impl MemoryLedger {
    /// The rows, if this handle may still use them.
    fn rows(&self) -> Result<MutexGuard<'_, Shared>, LedgerError> {
        if *lock(&self.closed) {
            return Err(LedgerError::Closed);
        }
        let shared = lock(&self.shared);
        if shared.epoch == self.epoch { Ok(shared) } else { Err(LedgerError::Fenced { epoch: self.epoch }) }
    }

    fn snapshot(&self, prefix: &str, after: Option<&str>) -> Result<Vec<(LedgerKey, Bytes)>, LedgerError> {
        let shared = self.rows()?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let range = shared.rows.range::<str, _>((start, Bound::Unbounded));
        let inside = range.take_while(|(key, _)| key.starts_with(prefix));
        Ok(inside.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn commit(&self, batch: Batch) -> Result<(), LedgerError> {
        batch.check()?;
        let delay = self.rows()?.delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut shared = self.rows()?;
        let fault = shared.faults.pop_front();
        if !matches!(fault, Some(Fault::Full | Fault::Lost)) {
            for operation in batch.into_operations() {
                match operation {
                    Operation::Put(key, value) => shared.rows.insert(key, value),
                    Operation::Delete(key) => shared.rows.remove(&key),
                };
            }
        }
        match fault {
            None => Ok(()),
            Some(Fault::Full) => {
                Err(LedgerError::Full { location: LOCATION.into(), detail: "as a test asked".into() })
            }
            Some(Fault::Lost | Fault::WrittenButUnknown) => {
                Err(LedgerError::Store { location: LOCATION.into(), source: Cause::new("as a test asked") })
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, LedgerError> {
        check_key(key)?;
        Ok(self.rows()?.rows.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> BoxStream<'_, Result<(LedgerKey, Bytes), LedgerError>> {
        match self.snapshot(prefix, after) {
            Ok(pairs) => stream::iter(pairs.into_iter().map(Ok)).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn close(&self) -> Result<(), LedgerError> {
        *lock(&self.closed) = true;
        Ok(())
    }
}

/// A panic elsewhere leaves no row half-written, so the lock stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
