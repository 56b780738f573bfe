//! Which ledger a location means.
//!
//! | location | ledger |
//! |---|---|
//! | a path, `file:///path` | SlateDB in that folder, fsync on |
//! | `s3://bucket/prefix`, `gs://…`, `az://…` | SlateDB there; credentials and endpoint from the environment |
//! | `memory://` | an empty [`MemoryLedger`](super::MemoryLedger), gone with its handle |
//!
//! It opens nothing else, and whether a location is allowed is not its business.

use std::{path::PathBuf, sync::Arc};

use object_store::{
    ObjectStore,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder,
};
use url::Url;

use super::{Cause, Ledger, LedgerError, MemoryLedgerStorage, SlateLedger, slate::FOLDER};

/// Takes over the ledger at a location, making an empty one if there is none.
///
/// # Errors
/// As [`SlateLedger::open`]; [`LedgerError::Store`] too for a location that names no store.
pub async fn open_ledger(location: &str) -> Result<Arc<dyn Ledger>, LedgerError> {
    if !location.contains("://") {
        return Ok(Arc::new(SlateLedger::open_folder(location.as_ref()).await?));
    }
    let refuse = |source: Cause| LedgerError::Store { location: location.into(), source };
    let url = Url::parse(location).map_err(|error| refuse(Cause::new(error)))?;
    let store: Result<Arc<dyn ObjectStore>, _> = match url.scheme() {
        "memory" => return Ok(Arc::new(MemoryLedgerStorage::new().open())),
        "file" => {
            let folder = folder(&url).ok_or_else(|| refuse(Cause::new("use file:///folder")))?;
            return Ok(Arc::new(SlateLedger::open_folder(&folder).await?));
        }
        "s3" => s3(location),
        "gs" => GoogleCloudStorageBuilder::from_env().with_url(location).build().map(|s| Arc::new(s) as _),
        "az" => MicrosoftAzureBuilder::from_env().with_url(location).build().map(|s| Arc::new(s) as _),
        other => {
            let what = format!("`{other}://` is no store for a ledger: use a folder, s3://, gs:// or az://");
            return Err(refuse(Cause::new(what)));
        }
    };
    let store = store.map_err(|error| refuse(Cause::new(error)))?;
    let prefix = match url.path().trim_matches('/') {
        "" => FOLDER.to_string(),
        prefix => format!("{prefix}/{FOLDER}"),
    };
    Ok(Arc::new(SlateLedger::open(store, &prefix).await?))
}

fn folder(url: &Url) -> Option<PathBuf> {
    url.to_file_path().ok()
}

fn s3(location: &str) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let builder = AmazonS3Builder::from_env().with_url(location);
    let plain = builder
        .get_config_value(&AmazonS3ConfigKey::Endpoint)
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    // Not switched off for https: the environment may have allowed it for other reasons.
    let builder = if plain { builder.with_allow_http(true) } else { builder };
    Ok(Arc::new(builder.with_conditional_put(S3ConditionalPut::ETagMatch).build()?))
}
