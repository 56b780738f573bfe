//! Reading an input, and telling what is the input's fault from what is the source's.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use sr3_proto::{ItemRecord, ItemTask, Store, StoreError};

use crate::{
    Processor,
    work::{Stop, Work},
};

/// Waits before further tries; a store that needs longer fails the work, which is tried again later.
const WAITS: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Reads the input of `item`, and writes what it learns into `record`.
pub(crate) async fn read<P: Processor>(
    work: &Work<P>,
    item: &ItemTask,
    bytes_max: u64,
    record: &mut ItemRecord,
) -> Result<Bytes, Stop> {
    record.input_bytes = Some(item.input_bytes);
    check_length(item.input_bytes, bytes_max)?;
    let mut waits = WAITS.iter();
    let (info, bytes) = loop {
        let error = match work.source.get(&item.input).await {
            Ok(found) => break found,
            Err(error) => error,
        };
        match error {
            StoreError::Name { .. } => return Err(bad(error)),
            StoreError::NotFound { .. } | StoreError::Denied { .. } => {
                reach(&work.source).await.map_err(Stop::transient)?;
                return Err(match error {
                    StoreError::NotFound { .. } => bad("it was removed before its turn came"),
                    other => bad(other),
                });
            }
            _ => {}
        }
        match waits.next() {
            Some(wait) => tokio::time::sleep(*wait).await,
            None if work.quarantine_unreadable => {
                reach(&work.source).await.map_err(Stop::transient)?;
                return Err(bad(error));
            }
            None => return Err(Stop::transient(error)),
        }
    };
    record.input_bytes = Some(bytes.len() as u64);
    record.input_etag = info.etag;
    check_length(bytes.len() as u64, bytes_max)?;
    match (&item.input_etag, &record.input_etag) {
        (Some(planned), Some(found)) if planned != found => {
            Err(bad("it changed while the job ran: run the job again to take it as it is now"))
        }
        _ => Ok(bytes),
    }
}

fn bad(reason: impl ToString) -> Stop {
    Stop::Bad { reason: reason.to_string() }
}

fn check_length(bytes: u64, bytes_max: u64) -> Result<(), Stop> {
    if bytes > bytes_max {
        return Err(bad(format!("it is {bytes} bytes long, and {bytes_max} are allowed")));
    }
    Ok(())
}

/// Whether the store answers at all: an object that is missing there is missing, in a store that is gone it is not.
async fn reach(store: &Store) -> Result<(), StoreError> {
    match store.list().next().await {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}
