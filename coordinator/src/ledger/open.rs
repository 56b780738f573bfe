//! Which ledger a location means.
//!
//! | location | ledger |
//! |---|---|
//! | a path, `file:///path` | SlateDB in that folder, fsync on |
//! | `s3://bucket/prefix`, `gs://…`, `az://…` | SlateDB there; credentials and endpoint from the environment |
//! | `memory://name` | an empty [`MemoryLedger`](super::MemoryLedger), gone with its handle |
//!
//! It opens nothing else, and whether a location is allowed is not its business.

use std::sync::Arc;

use object_store::{path::Path, prefix::PrefixStore};
use sr3_proto::{
    Location,
    store::{Scheme, Settings, open_bucket},
};

use super::{Cause, Ledger, LedgerError, MemoryLedgerStorage, SlateLedger, slate::FOLDER};

/// Takes over the ledger at a location, making an empty one if there is none.
///
/// # Errors
/// As [`SlateLedger::open`]; [`LedgerError::Store`] too for a location that names no store.
pub async fn open_ledger(location: &str) -> Result<Arc<dyn Ledger>, LedgerError> {
    let refuse = |source: Cause| LedgerError::Store { location: location.into(), source };
    let place: Location = location.parse().map_err(|error| refuse(Cause::new(error)))?;
    if let Some(folder) = place.path() {
        return Ok(Arc::new(SlateLedger::open_folder(folder).await?));
    }
    if place.scheme() == Some(Scheme::Memory) {
        return Ok(Arc::new(MemoryLedgerStorage::new().open()));
    }
    let bucket = open_bucket(&place, &Settings::of_process()).map_err(|error| refuse(Cause::new(error)))?;
    // SlateDB escapes the path that it is given more often than once, so that it does not find again what it wrote
    // under a prefix with, say, `#` or `é`: it gets none of the prefix to see.
    let prefix = Path::parse(place.prefix()).map_err(|error| refuse(Cause::new(error)))?;
    Ok(Arc::new(SlateLedger::open(Arc::new(PrefixStore::new(bucket, prefix)), FOLDER).await?))
}
