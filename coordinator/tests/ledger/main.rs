//! The ledger: one conformance suite over every implementation, and what only the real ones can show.

#![allow(clippy::unwrap_used, reason = "the checks are functions that tests call")]

mod conformance;
mod crash;
mod dump;
mod full;
mod memory;
#[path = "../../../proto/tests/common/s3.rs"]
mod s3;

use std::{process::Command, sync::Arc};

use async_trait::async_trait;
use object_store::{ObjectStore, memory::InMemory};
use sr3_coordinator::ledger::{Ledger, LedgerError, MemoryLedgerStorage, SlateLedger, open_ledger};
use tempfile::TempDir;

/// What outlives a coordinator, of any kind.
#[async_trait]
trait Place: Send + Sync {
    /// Takes the ledger over.
    async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError>;
}

#[async_trait]
impl Place for MemoryLedgerStorage {
    async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        Ok(Arc::new(Self::open(self)))
    }
}

/// SlateDB on objects in memory.
struct Objects(Arc<dyn ObjectStore>);

#[async_trait]
impl Place for Objects {
    async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        Ok(Arc::new(SlateLedger::open(Arc::clone(&self.0), "a/b").await?))
    }
}

/// SlateDB on a folder.
struct Folder(TempDir);

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        open_ledger(&format!("file://{}/new/folder", self.0.path().display())).await
    }
}

/// SlateDB on a bucket.
struct Bucket(String);

#[async_trait]
impl Place for Bucket {
    async fn open(&self) -> Result<Arc<dyn Ledger>, LedgerError> {
        open_ledger(&self.0).await
    }
}

fn objects() -> Objects {
    Objects(Arc::new(InMemory::new()))
}

fn folder() -> Folder {
    Folder(TempDir::new().expect("a temporary folder"))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conformance::all(MemoryLedgerStorage::new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slate_on_objects_conforms() {
    conformance::all(objects).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slate_on_a_folder_conforms() {
    conformance::all(folder).await;
}

/// On SeaweedFS, in a process of its own: a bucket's server and credentials come from the environment.
#[test]
fn slate_on_s3_conforms() {
    let server = s3::Server::seaweedfs();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "conform_on_s3", "--nocapture"])
        .envs(server.environment())
        .env(BUCKET, server.fresh().to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const BUCKET: &str = "SR3_TEST_S3";

/// What that process does; by itself, without a bucket, it is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn conform_on_s3() {
    let Ok(prefix) = std::env::var(BUCKET) else { return };
    let next = std::cell::Cell::new(0);
    conformance::all(|| {
        next.set(next.get() + 1);
        Bucket(format!("{prefix}/{}", next.get()))
    })
    .await;
}

#[tokio::test]
async fn locations_open_what_they_say() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("with space");
    open_ledger(path.to_str().unwrap()).await.unwrap().close().await.unwrap();
    let url = format!("file://{}/with%20space", folder.path().display());
    assert_eq!(open_ledger(&url).await.unwrap().epoch(), 2);
    assert_eq!(open_ledger("memory://x").await.unwrap().epoch(), 1);
    assert!(matches!(open_ledger("ftp://a/b").await, Err(LedgerError::Store { .. })));
}
