//! The journal of what is on the device: see [`in_flight`](super::in_flight).
//!
//! It writes once when a picture begins and once when it has ended, and only for pictures that are large enough to matter.
//! A journal that cannot be written costs nothing but what it is for.

use sr3_proto::{Key, Store, StoreError, layout, store::PutMode};
use tokio::sync::Mutex;

use super::{
    ItemTask,
    in_flight::{InFlight, Suspicion},
    record::{read_document, write_document},
};

/// Pictures with fewer output pixels are not worth two writes: they take some 50 MB while they are computed.
const PIXELS_MIN: u64 = 1_000_000;

/// The journal at a destination.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    /// As the last process left it.
    found: InFlight,
    /// None once the run was asked to stop.
    now: Mutex<Option<InFlight>>,
}

impl Journal {
    /// Reads what the last process left. One that cannot be read counts as empty: it is only a hint.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn open(store: Store) -> Result<Self, StoreError> {
        let key = layout::in_flight_key();
        let found = match store.get(&key).await {
            Ok((_, bytes)) => {
                read_document::<InFlight>(key.as_str(), &bytes).unwrap_or_default().left_behind()
            }
            Err(StoreError::NotFound { .. }) => InFlight::default(),
            Err(error) => return Err(error),
        };
        let now = Mutex::new(Some(found.clone()));
        Ok(Self { store, found, now })
    }

    /// What the last process left.
    pub fn found(&self) -> &InFlight {
        &self.found
    }

    /// The run was asked to stop: what is on the device is no suspect, and nothing more is written.
    pub async fn stop(&self) {
        // In one go: whoever waits to begin must find that it is over.
        let mut guard = self.now.lock().await;
        let Some(mut now) = guard.take() else { return };
        let before = now.clone();
        now.stop();
        if before != now {
            self.write(&now).await;
        }
    }

    /// Whether an item is to be computed with nothing else in the process.
    pub(crate) fn is_suspect(&self, item: &ItemTask) -> bool {
        self.found.against(item.input.as_str(), item.input_etag.as_deref()) != Suspicion::None
    }

    pub(crate) async fn begin(&self, item: &ItemTask, pixels: u64) {
        if pixels < PIXELS_MIN {
            return;
        }
        let (etag, megapixels) = (item.input_etag.clone(), pixels / 1_000_000);
        self.change(|now| now.begin(item.input.as_str(), etag, megapixels)).await;
    }

    pub(crate) async fn end(&self, input: &Key) {
        self.change(|now| now.end(input.as_str())).await;
    }

    async fn change(&self, change: impl FnOnce(&mut InFlight) + Send) {
        let mut guard = self.now.lock().await;
        let Some(now) = guard.as_mut() else { return };
        let before = now.clone();
        change(now);
        if before != *now {
            self.write(now).await;
        }
    }

    async fn write(&self, now: &InFlight) {
        let key = layout::in_flight_key();
        let written = match now.items.is_empty() {
            true => self.store.delete(&key).await,
            false => match write_document(key.as_str(), now) {
                Ok(bytes) => self.store.put(&key, bytes.into(), PutMode::Replace).await,
                Err(_) => Ok(()),
            },
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the journal cannot be written");
        }
    }
}
