//! How fast the ledger on a local folder commits, alone and in company, and how quickly it is taken over.
//!
//! `cargo bench --profile release -p sr3-coordinator --bench ledger [-- FOLDER]`; the folder (default: the system's
//! temporary one) says which disk is measured.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{TryStreamExt, future::join_all};
use sr3_coordinator::ledger::{Batch, Ledger, LedgerError, open_ledger};

const ROWS: usize = 100_000;
const VALUE_BYTES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let parent = parent.map_or_else(std::env::temp_dir, Into::into);
    for committers in [1, 8, 64, 256, 1024] {
        let folder = tempfile::tempdir_in(&parent)?;
        commits(folder.path(), committers).await?;
    }
    let folder = tempfile::tempdir_in(&parent)?;
    takeover(folder.path()).await?;
    Ok(())
}

async fn open(folder: &Path) -> Result<Arc<dyn Ledger>, LedgerError> {
    open_ledger(&folder.display().to_string()).await
}

fn row(key: String) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, vec![b'x'; VALUE_BYTES]);
    batch
}

async fn commits(folder: &Path, committers: usize) -> Result<(), LedgerError> {
    let ledger = open(folder).await?;
    let start = Instant::now();
    let tasks = (0..committers).map(|committer| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            let mut waits = Vec::new();
            while start.elapsed() < Duration::from_secs(5) {
                let began = Instant::now();
                ledger.commit(row(format!("{committer}/{}", waits.len()))).await?;
                waits.push(began.elapsed());
            }
            Ok::<_, LedgerError>(waits)
        })
    });
    let mut waits = Vec::new();
    for task in join_all(tasks).await {
        waits.extend(task.map_err(|_| LedgerError::Closed)??);
    }
    let seconds = start.elapsed().as_secs_f64();
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{committers:5} committers: {:8.0} commits/s, one takes {:.1} ms (median), {:.1} ms (99 %)",
        waits.len() as f64 / seconds,
        at(0.5),
        at(0.99)
    );
    ledger.close().await
}

/// Rows in commits of 25, the way a coordinator writes; then opened after a clean end and after a drop.
async fn takeover(folder: &Path) -> Result<(), LedgerError> {
    let ledger = open(folder).await?;
    for from in (0..ROWS).step_by(25) {
        let mut batch = Batch::new();
        (from..from + 25).for_each(|i| batch.extend(row(format!("row/{i:06}"))));
        ledger.commit(batch).await?;
    }
    // Not closed: what a crash leaves.
    for end in ["while the old one lives", "after a clean end", "again"] {
        let start = Instant::now();
        let next = open(folder).await?;
        let opened = start.elapsed();
        let count = next.scan("row/", None).try_fold(0, |n, _| async move { Ok(n + 1) }).await?;
        let scanned = start.elapsed() - opened;
        println!("open with {count} rows {end}: {opened:.0?}, scan of all {scanned:.0?}");
        next.close().await?;
    }
    Ok(())
}
