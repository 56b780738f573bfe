//! The stores that units name, each open once.
//!
//! Once matters: a folder numbers what it stages, so that two openings of one folder would stage under one name.

use std::sync::{Arc, Mutex, PoisonError};

use sr3_proto::{FailureKind, Location, Store, StoreError, off_thread};

use crate::work::Failure;

/// How a place becomes a store. May block.
pub type OpenStore = Arc<dyn Fn(&Location) -> Result<Store, StoreError> + Send + Sync>;

/// Open stores that nobody uses are closed when there are more than this.
const KEPT: usize = 16;

/// Open stores.
pub struct Stores {
    open: OpenStore,
    kept: Mutex<Vec<(Location, Arc<Store>)>>,
}

impl Stores {
    pub(crate) fn new(open: OpenStore) -> Arc<Self> {
        Arc::new(Self { open, kept: Mutex::default() })
    }

    /// The store at a location. It stays open for as long as somebody has it.
    ///
    /// # Errors
    /// It cannot be opened here, or now.
    pub async fn get(self: &Arc<Self>, location: &Location) -> Result<Arc<Store>, Failure> {
        let (this, wanted) = (Arc::clone(self), location.clone());
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

    fn get_blocking(&self, location: &Location) -> Result<Arc<Store>, StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, store)) = kept.iter().find(|(of, _)| of == location) {
            return Ok(Arc::clone(store));
        }
        let store = Arc::new((self.open)(location)?);
        if kept.len() >= KEPT {
            kept.retain(|(_, store)| Arc::strong_count(store) > 1);
        }
        kept.push((location.clone(), Arc::clone(&store)));
        Ok(store)
    }
}
