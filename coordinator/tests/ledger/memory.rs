//! What the model in memory adds for tests: faults, delays, and nothing that a simulation cannot repeat.

use std::time::Duration;

use sr3_coordinator::ledger::{Fault, Ledger, LedgerError, MemoryLedgerStorage};

use super::conformance::{puts, rows};

#[tokio::test]
async fn faults_come_in_turn_and_only_one_of_them_writes() {
    let storage = MemoryLedgerStorage::new();
    let ledger = storage.open();
    for fault in [Fault::Full, Fault::Lost, Fault::WrittenButUnknown] {
        storage.fail_next_commit(fault);
    }
    assert!(matches!(ledger.commit(puts(&[("a", "1")])).await, Err(LedgerError::Full { .. })));
    assert!(matches!(ledger.commit(puts(&[("b", "1")])).await, Err(LedgerError::Store { .. })));
    assert!(matches!(ledger.commit(puts(&[("c", "1")])).await, Err(LedgerError::Store { .. })));
    ledger.commit(puts(&[("d", "1")])).await.unwrap();
    assert_eq!(rows(&ledger).await.into_keys().collect::<Vec<_>>(), ["c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_takeover_during_a_slow_commit_fences_it() {
    let storage = MemoryLedgerStorage::new();
    let old = storage.open();
    storage.set_commit_delay(Duration::from_secs(60));
    let commit = old.commit(puts(&[("a", "1")]));
    let takeover = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        storage.open()
    };
    let (committed, new) = tokio::join!(commit, takeover);
    assert!(committed.unwrap_err().is_fenced());
    assert!(rows(&new).await.is_empty());
}

#[test]
fn it_runs_in_a_simulation() {
    let storage = MemoryLedgerStorage::new();
    storage.set_commit_delay(Duration::from_millis(20));
    let mut sim = turmoil::Builder::new().build();
    let ledger = storage.open();
    sim.client("coordinator", async move {
        let start = tokio::time::Instant::now();
        ledger.commit(puts(&[("a", "1")])).await?;
        assert!(start.elapsed() >= Duration::from_millis(20));
        Ok(())
    });
    sim.run().unwrap();
    assert_eq!(futures::executor::block_on(rows(&storage.open())).len(), 1);
}
