//! A full disk: said as such, at once, and nothing that was acknowledged is lost.

use std::{
    fmt, io,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use sr3_coordinator::ledger::{Ledger, LedgerError, SlateLedger, open_ledger};

use super::conformance::{puts, rows};

/// A store that fills up and is emptied by a switch.
#[derive(Debug, Default)]
struct Disk {
    inner: InMemory,
    full: AtomicBool,
}

impl Disk {
    fn room(&self) -> Result<()> {
        if self.full.load(SeqCst) {
            let source = Box::new(io::Error::from(io::ErrorKind::StorageFull));
            return Err(Error::Generic { store: "disk", source });
        }
        Ok(())
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("disk")
    }
}

#[async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.room()?;
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.room()?;
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn a_full_disk_says_so_and_keeps_what_was_there() {
    let disk = Arc::new(Disk::default());
    let open = || SlateLedger::open(Arc::clone(&disk) as Arc<dyn ObjectStore>, "x");
    let ledger = open().await.unwrap();
    ledger.commit(puts(&[("a", "1")])).await.unwrap();

    disk.full.store(true, SeqCst);
    for _ in 0..3 {
        // The handle stays failed, and goes on saying why.
        let refused = ledger.commit(puts(&[("b", "1")])).await;
        assert!(matches!(refused, Err(LedgerError::Full { .. })), "{refused:?}");
    }
    assert!(ledger.get("b").await.ok().flatten().is_none());
    assert!(matches!(open().await, Err(LedgerError::Full { .. })));

    disk.full.store(false, SeqCst);
    let ledger = open().await.unwrap();
    assert_eq!(rows(&ledger).await.into_keys().collect::<Vec<_>>(), ["a"]);
    ledger.commit(puts(&[("b", "2")])).await.unwrap();
}

const DISK: &str = "SR3_TEST_SMALL_DISK";

/// A process of its own fills a file system of 8 MiB that only it sees.
#[test]
fn a_real_full_disk_says_so_and_keeps_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let small = |command: &str| {
        let script = format!("mount -t tmpfs -o size=8m none \"${DISK}\" && {command}");
        let mut unshare = Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", &script]).env(DISK, folder.path());
        unshare.stdout(Stdio::null());
        unshare
    };
    if !small("true").status().is_ok_and(|status| status.success()) {
        // Some systems let nobody mount; there the full disk that is played above has to do.
        eprintln!("no small file system can be made here");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let run = format!("exec '{}' --exact full::fill_the_disk", program.display());
    assert!(small(&run).status().unwrap().success());
}

/// What that process does; by itself, without a small disk, it is nothing.
#[tokio::test]
async fn fill_the_disk() {
    let Ok(folder) = std::env::var(DISK) else { return };
    let ballast = std::path::Path::new(&folder).join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let ledger = open_ledger(&folder).await.unwrap();
    let before = rows(&*ledger).await.len();
    let value = "x".repeat(100_000);
    let mut kept = 0;
    let refused = loop {
        match ledger.commit(puts(&[(&format!("{}/{kept:04}", ledger.epoch()), &value)])).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LedgerError::Full { .. }), "{refused:?}");
    println!("{kept} commits, then: {refused}");
    drop(ledger);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(rows(&*open_ledger(&folder).await.unwrap()).await.len(), before + kept);
}
