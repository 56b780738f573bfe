//! The stores that shards name, each open once.
//!
//! Once matters: a folder numbers what it stages, so that two openings of one folder would stage under one name.

use std::sync::{Arc, Mutex, PoisonError};

use sr3_proto::{FailureKind, Store, StoreError, off_thread};

use crate::work::Failure;

/// How a location becomes a store. May block.
pub type OpenStore = Arc<dyn Fn(&str) -> Result<Store, StoreError> + Send + Sync>;

/// Open stores that nobody uses are closed when there are more than this.
const KEPT: usize = 16;

pub(crate) struct Stores {
    open: OpenStore,
    kept: Mutex<Vec<(String, Arc<Store>)>>,
}

impl Stores {
    pub(crate) fn new(open: OpenStore) -> Arc<Self> {
        Arc::new(Self { open, kept: Mutex::default() })
    }

    /// The store at a location. It stays open for as long as somebody has it.
    pub(crate) async fn get(self: &Arc<Self>, location: &str) -> Result<Arc<Store>, Failure> {
        let (this, wanted) = (Arc::clone(self), location.to_string());
        match off_thread(move || this.get_blocking(&wanted)).await {
            Ok(Ok(store)) => Ok(store),
            Ok(Err(error @ StoreError::Unsupported { .. })) => Err(Failure::new(FailureKind::Worker, error)),
            Ok(Err(error)) => Err(Failure::new(FailureKind::Transient, error)),
            Err(_) => {
                let reason = format!("internal error while `{location}` was opened");
                Err(Failure::new(FailureKind::Worker, reason))
            }
        }
    }

    fn get_blocking(&self, location: &str) -> Result<Arc<Store>, StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, store)) = kept.iter().find(|(of, _)| of == location) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new((self.open)(location)?);
        if kept.len() >= KEPT {
            kept.retain(|(_, store)| Arc::strong_count(store) > 1);
        }
        kept.push((location.to_string(), Arc::clone(&store)));
        Ok(store)
    }
}
