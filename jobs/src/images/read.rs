//! Reading an input, and telling what is the input's fault from what is the source's.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use sr3_proto::{Key, Store, StoreError, store::ObjectInfo};
use sr3_worker::{Attempt, Stop};

/// Waits before further tries; a store that needs longer fails the work, which is tried again later.
const WAITS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Reads the object at `key`, which was `etag` when it was listed. `seen` hears what it is before anything is found wrong with
/// it.
///
/// # Errors
/// What is wrong with the object, or with its store.
pub async fn read(
    store: &Store,
    key: &Key,
    etag: Option<&str>,
    bytes_max: u64,
    attempt: &Attempt,
    seen: impl FnOnce(&ObjectInfo) + Send,
) -> Result<Bytes, Stop> {
    tokio::select! {
        biased;
        () = attempt.cancel().cancelled() => Err(Stop::Cancelled),
        read = read_now(store, key, etag, bytes_max, attempt, seen) => read,
    }
}

async fn read_now(
    store: &Store,
    key: &Key,
    etag: Option<&str>,
    bytes_max: u64,
    attempt: &Attempt,
    seen: impl FnOnce(&ObjectInfo) + Send,
) -> Result<Bytes, Stop> {
    let mut waits = WAITS.iter();
    let (info, bytes) = loop {
        let error = match store.get(key).await {
            Ok(found) => break found,
            Err(error) => error,
        };
        match error {
            StoreError::Name { .. } => return Err(bad(error)),
            StoreError::NotFound { .. } | StoreError::Denied { .. } => {
                reach(store).await.map_err(Stop::transient)?;
                return Err(match error {
                    StoreError::NotFound { .. } => bad("it was removed before its turn came"),
                    other => bad(other),
                });
            }
            _ => {}
        }
        match waits.next() {
            Some(wait) => tokio::time::sleep(*wait).await,
            None if attempt.is_last_try() => {
                reach(store).await.map_err(Stop::transient)?;
                return Err(bad(error));
            }
            None => return Err(Stop::transient(error)),
        }
    };
    let info = ObjectInfo { bytes: bytes.len() as u64, ..info };
    seen(&info);
    check_length(info.bytes, bytes_max)?;
    match (etag, &info.etag) {
        (Some(planned), Some(found)) if planned != found => {
            Err(bad("it changed while the job ran: run the job again to take it as it is now"))
        }
        _ => Ok(bytes),
    }
}

/// Refuses what is longer than is read.
///
/// # Errors
/// [`Stop::Bad`].
pub fn check_length(bytes: u64, bytes_max: u64) -> Result<(), Stop> {
    if bytes > bytes_max {
        return Err(bad(format!("it is {bytes} bytes long, and {bytes_max} are allowed")));
    }
    Ok(())
}

fn bad(reason: impl ToString) -> Stop {
    Stop::Bad { reason: reason.to_string() }
}

/// Whether the store answers at all: an object that is missing there is missing, in a store that is gone it is not.
async fn reach(store: &Store) -> Result<(), StoreError> {
    match store.list().next().await {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}
