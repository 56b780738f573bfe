//! Export and import: the same rows again, or nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use sr3_coordinator::ledger::{
    Batch, Ledger, LedgerError, MemoryLedgerStorage,
    dump::{DumpError, export, import},
};

use super::{
    Place,
    conformance::{puts, rows},
    objects,
};

async fn exported(ledger: &dyn Ledger) -> Vec<u8> {
    let mut stream = Vec::new();
    export(ledger, &mut stream).await.unwrap();
    stream
}

async fn small() -> Vec<u8> {
    let ledger = MemoryLedgerStorage::new().open();
    ledger.commit(puts(&[("a", "1"), ("b/\"\n", ""), ("c", "3")])).await.unwrap();
    exported(&ledger).await
}

fn all_rows() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let key = proptest::collection::vec(any::<char>(), 1..20).prop_map(|c| c.into_iter().collect());
    proptest::collection::btree_map(key, proptest::collection::vec(any::<u8>(), 0..200), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_is_imported(expected in all_rows()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let from = MemoryLedgerStorage::new().open();
            let mut batch = Batch::new();
            expected.iter().for_each(|(key, value)| batch.put(key.clone(), value.clone()));
            from.commit(batch).await.unwrap();
            let stream = exported(&from).await;

            let to = objects().open().await.unwrap();
            let count = import(&*to, &stream[..]).await.unwrap();
            assert_eq!(count, expected.len() as u64);
            assert_eq!(exported(&*to).await, stream);
            let expected: BTreeMap<_, _> = expected.into_iter().map(|(k, v)| (k, Bytes::from(v))).collect();
            assert_eq!(rows(&*to).await, expected);
        });
    }

    #[test]
    fn a_damaged_byte_is_noticed(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        futures::executor::block_on(async {
            let mut stream = small().await;
            let at = at.index(stream.len());
            prop_assume!(stream[at] != with);
            stream[at] = with;
            let ledger = MemoryLedgerStorage::new().open();
            assert!(import(&ledger, &stream[..]).await.is_err());
            assert!(rows(&ledger).await.is_empty());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_truncated_stream_is_refused_and_leaves_nothing() {
    let stream = small().await;
    for length in 0..stream.len() {
        let ledger = MemoryLedgerStorage::new().open();
        let refused = import(&ledger, &stream[..length]).await;
        assert!(matches!(refused, Err(DumpError::Broken { .. })), "{length}: {refused:?}");
        assert!(rows(&ledger).await.is_empty());
    }
}

#[tokio::test]
async fn what_is_written_before_the_damage_is_removed_again() {
    let from = MemoryLedgerStorage::new().open();
    let mut batch = Batch::new();
    (0..10).for_each(|i| batch.put(i.to_string(), vec![7; 1 << 20]));
    from.commit(batch).await.unwrap();
    let stream = exported(&from).await;
    let ledger = MemoryLedgerStorage::new().open();
    assert!(import(&ledger, &stream[..stream.len() - 1]).await.is_err());
    assert!(rows(&ledger).await.is_empty());
    assert_eq!(import(&ledger, &stream[..]).await.unwrap(), 10);
}

#[tokio::test]
async fn a_ledger_that_holds_something_is_not_written_to() {
    let ledger = MemoryLedgerStorage::new().open();
    ledger.commit(puts(&[("mine", "1")])).await.unwrap();
    let refused = import(&ledger, &small().await[..]).await;
    assert!(matches!(refused, Err(DumpError::NotEmpty { key }) if key == "mine"));
    assert_eq!(rows(&ledger).await.len(), 1);
}

#[tokio::test]
async fn other_versions_keys_out_of_order_and_trailing_text_are_refused() {
    let good = String::from_utf8(small().await).unwrap();
    let lines: Vec<_> = good.lines().collect();
    let swapped = format!("{}\n{}\n{}\n{}\n{}\n", lines[0], lines[2], lines[1], lines[3], lines[4]);
    for bad in [good.replace("\"sr3_ledger\":1", "\"sr3_ledger\":2"), swapped, format!("{good}\n")] {
        let ledger = MemoryLedgerStorage::new().open();
        assert!(matches!(import(&ledger, bad.as_bytes()).await, Err(DumpError::Broken { .. })));
    }
}

#[tokio::test]
async fn a_ledger_that_fails_is_told() {
    let storage = MemoryLedgerStorage::new();
    let ledger = storage.open();
    storage.open();
    let refused = import(&ledger, &small().await[..]).await;
    assert!(matches!(refused, Err(DumpError::Ledger(LedgerError::Fenced { .. }))));
}
