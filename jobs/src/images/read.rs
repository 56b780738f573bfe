//! Reading an input, and telling what is the input's fault from what is the source's.

use std::{ops::Range, time::Duration};

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

/// Reads a range of the object at `key`, which was `etag` when it was listed; all of it is there.
///
/// # Errors
/// What is wrong with the object, or with its store.
pub async fn read_part(
    store: &Store,
    key: &Key,
    etag: Option<&str>,
    range: Range<u64>,
    attempt: &Attempt,
) -> Result<Bytes, Stop> {
    let length = range.end.saturating_sub(range.start);
    let part = async {
        let (info, bytes) = tried(store, attempt, || store.get_part(key, range.clone())).await?;
        same(etag, &info)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(bad(format!("it ends before byte {}", range.end))),
        }
    };
    tokio::select! {
        biased;
        () = attempt.cancel().cancelled() => Err(Stop::Cancelled),
        read = part => read,
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
    let (info, bytes) = tried(store, attempt, || store.get(key)).await?;
    let info = ObjectInfo { bytes: bytes.len() as u64, ..info };
    seen(&info);
    check_length(info.bytes, bytes_max)?;
    same(etag, &info)?;
    Ok(bytes)
}

/// Asks the store, more than once where that may help.
async fn tried<F>(
    store: &Store,
    attempt: &Attempt,
    ask: impl Fn() -> F + Send,
) -> Result<(ObjectInfo, Bytes), Stop>
where
    F: Future<Output = Result<(ObjectInfo, Bytes), StoreError>> + Send,
{
    let mut waits = WAITS.iter();
    loop {
        let error = match ask().await {
            Ok(found) => return Ok(found),
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
    }
}

/// Whether it is what was listed.
fn same(etag: Option<&str>, info: &ObjectInfo) -> Result<(), Stop> {
    match (etag, &info.etag) {
        (Some(planned), Some(found)) if planned != found => {
            Err(bad("it changed while the job ran: run the job again to take it as it is now"))
        }
        _ => Ok(()),
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
