//! What every ledger does. Each check has a place of its own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future::join_all};
use sr3_coordinator::ledger::{Batch, Ledger, LedgerError, MAX_KEY_BYTES};

use super::Place;

pub(super) async fn all<P: Place + 'static>(new: impl Fn() -> P) {
    a_new_ledger_is_empty(&new()).await;
    a_commit_is_seen_and_survives_reopening(&new()).await;
    the_last_operation_on_a_key_wins(&new()).await;
    keys_come_in_byte_order(&new()).await;
    a_prefix_takes_its_keys_and_no_others(&new()).await;
    after_leaves_out_what_comes_before(&new()).await;
    an_empty_batch_changes_nothing(&new()).await;
    a_bad_key_is_refused_with_its_batch(&new()).await;
    large_values_come_back(&new()).await;
    many_commits_at_once_all_arrive(&new()).await;
    commits_in_turn_keep_their_order(&new()).await;
    a_batch_is_never_seen_in_part(&new()).await;
    a_scan_is_a_snapshot(&new()).await;
    epochs_only_grow(&new()).await;
    an_old_writer_is_fenced_and_leaves_no_trace(&new()).await;
    a_takeover_amid_commits_keeps_what_was_acknowledged(&new()).await;
    a_closed_handle_refuses(&new()).await;
    a_dropped_handle_loses_nothing(&new()).await;
}

pub(super) fn puts(pairs: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in pairs {
        batch.put(*key, value.to_string());
    }
    batch
}

pub(super) async fn rows(ledger: &dyn Ledger) -> BTreeMap<String, Bytes> {
    ledger.scan("", None).try_collect().await.unwrap()
}

async fn keys(ledger: &dyn Ledger, prefix: &str, after: Option<&str>) -> Vec<String> {
    ledger.scan(prefix, after).map_ok(|(key, _)| key).try_collect().await.unwrap()
}

async fn get(ledger: &dyn Ledger, key: &str) -> Option<String> {
    ledger.get(key).await.unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

async fn a_new_ledger_is_empty(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    assert!(ledger.epoch() > 0);
    assert_eq!(get(&*ledger, "a").await, None);
    assert!(rows(&*ledger).await.is_empty());
}

async fn a_commit_is_seen_and_survives_reopening(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    ledger.commit(puts(&[("a", "1"), ("b", "2")])).await.unwrap();
    ledger.commit(puts(&[("b", "3"), ("empty", "")])).await.unwrap();
    for reopen in 0..3 {
        let ledger = if reopen == 0 { Arc::clone(&ledger) } else { place.open().await.unwrap() };
        assert_eq!(get(&*ledger, "a").await.as_deref(), Some("1"));
        assert_eq!(get(&*ledger, "b").await.as_deref(), Some("3"));
        assert_eq!(get(&*ledger, "empty").await.as_deref(), Some(""));
        assert_eq!(keys(&*ledger, "", None).await, ["a", "b", "empty"]);
        if reopen == 1 {
            ledger.close().await.unwrap();
        }
    }
}

async fn the_last_operation_on_a_key_wins(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    ledger.commit(puts(&[("old", "1"), ("kept", "1")])).await.unwrap();
    let mut batch = puts(&[("x", "1"), ("x", "2"), ("gone", "1")]);
    batch.delete("gone");
    batch.delete("old");
    batch.delete("never");
    batch.delete("back");
    batch.extend(puts(&[("back", "1")]));
    assert_eq!(batch.len(), 8);
    ledger.commit(batch).await.unwrap();
    assert_eq!(keys(&*ledger, "", None).await, ["back", "kept", "x"]);
    assert_eq!(get(&*ledger, "x").await.as_deref(), Some("2"));
    assert_eq!(get(&*ledger, "old").await, None);
    assert_eq!(keys(&*place.open().await.unwrap(), "", None).await, ["back", "kept", "x"]);
}

async fn keys_come_in_byte_order(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    // U+FFFF sorts after U+10000 in UTF-16 but before it in bytes.
    let ordered = ["A", "Z", "a", "a\0", "a b", "a/", "a/b", "ab", "\u{e9}", "\u{ffff}", "\u{10000}"];
    for key in [3, 0, 10, 5, 1, 8, 2, 9, 4, 7, 6] {
        ledger.commit(puts(&[(ordered[key], "")])).await.unwrap();
    }
    assert_eq!(keys(&*ledger, "", None).await, ordered);
}

async fn a_prefix_takes_its_keys_and_no_others(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    let all =
        ["job", "job/", "job/1", "job/1/a", "job/10", "job/2", "job0", "jo", "\u{10ffff}", "\u{10ffff}x"];
    ledger.commit(puts(&all.map(|key| (key, "")))).await.unwrap();
    assert_eq!(keys(&*ledger, "job/", None).await, ["job/", "job/1", "job/1/a", "job/10", "job/2"]);
    assert_eq!(keys(&*ledger, "job/1", None).await, ["job/1", "job/1/a", "job/10"]);
    assert_eq!(keys(&*ledger, "job/3", None).await, [""; 0]);
    assert_eq!(keys(&*ledger, "\u{10ffff}", None).await, ["\u{10ffff}", "\u{10ffff}x"]);
    assert_eq!(keys(&*ledger, "", None).await.len(), all.len());
}

async fn after_leaves_out_what_comes_before(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    ledger.commit(puts(&["a/1", "a/2", "a/3", "b", "\u{10ffff}"].map(|key| (key, "")))).await.unwrap();
    let found = async |prefix, after| keys(&*ledger, prefix, Some(after)).await;
    assert_eq!(found("a/", "a/1").await, ["a/2", "a/3"]);
    assert_eq!(found("a/", "a/1x").await, ["a/2", "a/3"]);
    assert_eq!(found("a/", "").await, ["a/1", "a/2", "a/3"]);
    assert_eq!(found("a/", "a").await, ["a/1", "a/2", "a/3"]);
    assert_eq!(found("a/", "a/3").await, [""; 0]);
    assert_eq!(found("a/", "a0").await, [""; 0]);
    assert_eq!(found("a/", "b").await, [""; 0]);
    assert_eq!(found("", "a/3").await, ["b", "\u{10ffff}"]);
    assert_eq!(found("", "\u{10ffff}").await, [""; 0]);
    assert_eq!(found("", "").await.len(), 5);
}

async fn an_empty_batch_changes_nothing(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    assert!(Batch::new().is_empty());
    ledger.commit(Batch::new()).await.unwrap();
    assert!(rows(&*ledger).await.is_empty());
    place.open().await.unwrap();
    assert!(ledger.commit(Batch::new()).await.unwrap_err().is_fenced());
}

async fn a_bad_key_is_refused_with_its_batch(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    let long = "x".repeat(MAX_KEY_BYTES + 1);
    for bad in ["", &long] {
        let refused = ledger.commit(puts(&[("good", "1"), (bad, "2")])).await;
        assert!(matches!(refused, Err(LedgerError::Key { bytes, .. }) if bytes == bad.len()));
        assert!(matches!(ledger.get(bad).await, Err(LedgerError::Key { .. })));
    }
    assert!(rows(&*ledger).await.is_empty());
    ledger.commit(puts(&[(&long[1..], "1")])).await.unwrap();
    assert_eq!(get(&*ledger, &long[1..]).await.as_deref(), Some("1"));
}

async fn large_values_come_back(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    let value = |i: usize| Bytes::from((0..2 << 20).map(|at| (at * 31 + i) as u8).collect::<Vec<_>>());
    let mut batch = Batch::new();
    (0..5).for_each(|i| batch.put(format!("large/{i}"), value(i)));
    ledger.commit(batch).await.unwrap();
    let reopened = place.open().await.unwrap();
    for i in 0..5 {
        assert_eq!(reopened.get(&format!("large/{i}")).await.unwrap(), Some(value(i)));
    }
    let all: Vec<_> = reopened.scan("large/", None).try_collect().await.unwrap();
    assert!(all.iter().enumerate().all(|(i, (_, found))| *found == value(i)));
}

async fn many_commits_at_once_all_arrive(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    let commits = (0..1000).map(|i| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            let key = format!("{i:04}");
            ledger.commit(puts(&[(&key, "1"), ("shared", &key)])).await.unwrap();
            assert_eq!(get(&*ledger, &key).await.as_deref(), Some("1"));
        })
    });
    for done in join_all(commits).await {
        done.unwrap();
    }
    assert_eq!(keys(&*place.open().await.unwrap(), "", None).await.len(), 1001);
}

async fn commits_in_turn_keep_their_order(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    for i in 0..20 {
        ledger.commit(puts(&[("counter", &i.to_string())])).await.unwrap();
        assert_eq!(get(&*ledger, "counter").await, Some(i.to_string()));
    }
    assert_eq!(get(&*place.open().await.unwrap(), "counter").await.as_deref(), Some("19"));
}

async fn a_batch_is_never_seen_in_part(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    ledger.commit(puts(&["a", "b", "c"].map(|key| (key, "0")))).await.unwrap();
    let writer = Arc::clone(&ledger);
    let writing = tokio::spawn(async move {
        for i in 1..40 {
            let value = i.to_string();
            writer.commit(puts(&["a", "b", "c"].map(|key| (key, value.as_str())))).await.unwrap();
        }
    });
    while !writing.is_finished() {
        let rows = rows(&*ledger).await;
        assert!(rows["a"] == rows["b"] && rows["b"] == rows["c"], "{rows:?}");
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

async fn a_scan_is_a_snapshot(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    let mut batch = Batch::new();
    (0..500).for_each(|i| batch.put(format!("{i:03}"), vec![0; 4096]));
    ledger.commit(batch).await.unwrap();
    let mut scan = ledger.scan("", None);
    let first = scan.next().await.unwrap().unwrap();
    assert_eq!(first.0, "000");
    let mut batch = puts(&[("250", "changed"), ("250x", "new"), ("zzz", "new")]);
    batch.delete("251");
    ledger.commit(batch).await.unwrap();
    let rest: Vec<_> = scan.try_collect().await.unwrap();
    assert_eq!(rest.len(), 499);
    assert!(rest.iter().all(|(key, value)| key.len() == 3 && value.len() == 4096));
    assert_eq!(rows(&*ledger).await.len(), 501);
}

async fn epochs_only_grow(place: &dyn Place) {
    let mut last = 0;
    for i in 0..5 {
        let ledger = place.open().await.unwrap();
        assert!(ledger.epoch() > last);
        last = ledger.epoch();
        if i % 2 == 0 {
            ledger.commit(puts(&[("a", "1")])).await.unwrap();
            ledger.close().await.unwrap();
        }
        assert_eq!(ledger.epoch(), last);
    }
}

async fn an_old_writer_is_fenced_and_leaves_no_trace(place: &dyn Place) {
    let a = place.open().await.unwrap();
    a.commit(puts(&[("a", "1")])).await.unwrap();
    let b = place.open().await.unwrap();
    b.commit(puts(&[("b", "1")])).await.unwrap();
    for _ in 0..2 {
        let refused = a.commit(puts(&[("a", "late"), ("late", "1")])).await.unwrap_err();
        assert!(refused.is_fenced(), "{refused}");
        assert!(matches!(refused, LedgerError::Fenced { epoch } if epoch == a.epoch()));
    }
    // What the old one reads, if it still reads, is the past.
    assert!(a.get("late").await.ok().flatten().is_none());
    assert_eq!(get(&*b, "a").await.as_deref(), Some("1"));
    assert_eq!(keys(&*b, "", None).await, ["a", "b"]);
    b.commit(puts(&[("c", "1")])).await.unwrap();
    drop(a);
    let c = place.open().await.unwrap();
    assert_eq!(keys(&*c, "", None).await, ["a", "b", "c"]);
    assert!(b.commit(puts(&[("b", "late")])).await.unwrap_err().is_fenced());
}

async fn a_takeover_amid_commits_keeps_what_was_acknowledged(place: &dyn Place) {
    let a = place.open().await.unwrap();
    let writers = (0..8).map(|writer| {
        let a = Arc::clone(&a);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for i in 0.. {
                let (x, y) = (format!("{writer}/{i}/x"), format!("{writer}/{i}/y"));
                match a.commit(puts(&[(&x, "1"), (&y, "1")])).await {
                    Ok(()) => acknowledged.extend([x, y]),
                    Err(error) => {
                        assert!(error.is_fenced(), "{error}");
                        break;
                    }
                }
            }
            acknowledged
        })
    });
    let writers: Vec<_> = writers.collect();
    while rows(&*a).await.len() < 64 {
        tokio::task::yield_now().await;
    }
    let b = place.open().await.unwrap();
    let found = rows(&*b).await;
    for writer in writers {
        for key in writer.await.unwrap() {
            assert!(found.contains_key(&key), "{key} was acknowledged and is gone");
        }
    }
    for key in found.keys() {
        assert!(found.contains_key(&key.replace("/x", "/y")) && found.contains_key(&key.replace("/y", "/x")));
    }
    assert_eq!(rows(&*b).await, found);
}

async fn a_closed_handle_refuses(place: &dyn Place) {
    let ledger = place.open().await.unwrap();
    ledger.commit(puts(&[("a", "1")])).await.unwrap();
    ledger.close().await.unwrap();
    ledger.close().await.unwrap();
    assert!(matches!(ledger.commit(puts(&[("b", "1")])).await, Err(LedgerError::Closed)));
    assert!(matches!(ledger.commit(Batch::new()).await, Err(LedgerError::Closed)));
    assert!(matches!(ledger.get("a").await, Err(LedgerError::Closed)));
    assert!(matches!(ledger.scan("", None).next().await, Some(Err(LedgerError::Closed))));
    assert_eq!(get(&*place.open().await.unwrap(), "a").await.as_deref(), Some("1"));
}

async fn a_dropped_handle_loses_nothing(place: &dyn Place) {
    for i in 0..5 {
        let ledger = place.open().await.unwrap();
        ledger.commit(puts(&[(&i.to_string(), "1")])).await.unwrap();
    }
    let ledger = place.open().await.unwrap();
    assert_eq!(keys(&*ledger, "", None).await, ["0", "1", "2", "3", "4"]);
    // A handle that is dropped late, after its successor wrote.
    ledger.commit(puts(&[("5", "1")])).await.unwrap();
    let next = place.open().await.unwrap();
    next.commit(puts(&[("6", "1")])).await.unwrap();
    drop(ledger);
    next.commit(puts(&[("7", "1")])).await.unwrap();
    assert_eq!(rows(&*place.open().await.unwrap()).await.len(), 8);
}
