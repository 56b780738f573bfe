//! A listing that survives its server's bad moments: where it breaks off for a reason that may pass, it goes on after
//! the last key that it gave.

use std::sync::Arc;

use futures::{StreamExt, stream, stream::BoxStream};

use super::{Backend, ListEntry, LocalStore, Store, StoreError, faults::Fault, injected, retry::Backoff};
use crate::Key;

type Entries = BoxStream<'static, Result<ListEntry, StoreError>>;

struct Listing {
    store: Store,
    under: Option<Key>,
    last: Option<Key>,
    entries: Option<Entries>,
    backoff: Backoff,
    /// How many more entries come before an injected fault.
    fault_in: Option<(u64, Fault)>,
}

/// Everything of `store` under `under` and after `after`.
pub(super) fn start(store: Store, under: Option<Key>, after: Option<Key>) -> Entries {
    let listing =
        Listing { store, under, last: after, entries: None, backoff: Backoff::new(), fault_in: None };
    stream::unfold(Some(listing), |listing| async move { listing?.next().await }).boxed()
}

impl Listing {
    async fn next(mut self) -> Option<(Result<ListEntry, StoreError>, Option<Self>)> {
        loop {
            let entries = match self.entries.take() {
                Some(entries) => entries,
                None => self.open(),
            };
            let (entry, rest) = self.entry(entries).await;
            match entry? {
                Ok(entry) => {
                    if let ListEntry::Object(info) = &entry {
                        self.last = Some(info.key.clone());
                    }
                    self.backoff = Backoff::new();
                    self.entries = Some(rest);
                    return Some((Ok(entry), Some(self)));
                }
                Err(error) if error.is_transient() => {
                    tracing::debug!(%error, "a listing failed for now");
                    if !self.backoff.wait().await {
                        return Some((Err(error), None));
                    }
                }
                Err(error) => return Some((Err(error), None)),
            }
        }
    }

    fn open(&mut self) -> Entries {
        let (under, after) = (self.under.clone(), self.last.clone());
        let drawn = self.store.faults.as_ref().and_then(|faults| faults.next());
        match &self.store.backend {
            Backend::Local(local) => {
                // An oddity has no key to go on after, and a folder's listing fails at its beginning or not at all.
                self.fault_in = drawn.map(|(fault, _)| (0, fault));
                LocalStore::list(Arc::clone(local), under, after)
            }
            Backend::Remote(remote) => {
                self.fault_in = drawn.map(|(fault, number)| (number, fault));
                remote.list(under.as_ref(), after.as_ref())
            }
        }
    }

    async fn entry(&mut self, mut entries: Entries) -> (Option<Result<ListEntry, StoreError>>, Entries) {
        let due = self.fault_in.is_some_and(|(left, _)| left == 0);
        let entry = if due { None } else { entries.next().await };
        let entry = match (entry, self.fault_in) {
            // In the middle, or, of a short listing, at its end.
            (None, Some((_, fault))) => {
                self.fault_in = None;
                Some(Err(injected("listing".into(), fault)))
            }
            (entry, Some((left, fault))) => {
                self.fault_in = Some((left.saturating_sub(1), fault));
                entry
            }
            (entry, None) => entry,
        };
        (entry, entries)
    }
}
