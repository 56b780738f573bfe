//! One suite for every kind of store, and what only a folder can get wrong.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::{collections::BTreeSet, fs, path::Path};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sr3_proto::{
    Key, Store, StoreError, layout,
    store::{ListEntry, Oddity, PutMode, Staging},
};
use tempfile::TempDir;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn folder(dir: &TempDir) -> Store {
    Store::folder(dir.path(), Staging::StateFolder).unwrap()
}

fn stores(dir: &TempDir) -> Vec<Store> {
    vec![folder(dir), Store::in_memory()]
}

async fn names(store: &Store) -> Vec<String> {
    let entries: Vec<ListEntry> = store.list().try_collect().await.unwrap();
    let name = |entry| match entry {
        ListEntry::Object(info) => info.key.to_string(),
        ListEntry::Odd { path, what } => format!("{path} ({what:?})"),
    };
    entries.into_iter().map(name).collect()
}

/// Names as they come: those of the hard set, and those that trip naive staging or listing.
fn hard_names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hard/names");
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() >= 20);
    names.extend(["photo.png#1", "#1", "x#12", "a\\b"].map(String::from));
    names.extend(["x".repeat(255), "é".repeat(127)]);
    names
}

#[tokio::test]
async fn what_was_put_is_got_headed_listed_and_deleted() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        let a = key("a/b c/d.png");
        assert!(store.head(&a).await.unwrap().is_none());
        assert!(matches!(store.get(&a).await, Err(StoreError::NotFound { .. })));
        store.put(&a, Bytes::from_static(b"one"), PutMode::Create).await.unwrap();
        let (info, bytes) = store.get(&a).await.unwrap();
        assert_eq!((info.bytes, &bytes[..]), (3, &b"one"[..]));
        assert_eq!(store.head(&a).await.unwrap().unwrap(), info);
        store.put(&a, Bytes::from_static(b"other"), PutMode::Replace).await.unwrap();
        assert_ne!(store.head(&a).await.unwrap().unwrap().etag, info.etag);
        assert_eq!(&store.get_start(&a, 2).await.unwrap()[..], b"ot");
        assert_eq!(&store.get_start(&a, 99).await.unwrap()[..], b"other");
        store.put(&key("empty"), Bytes::new(), PutMode::Create).await.unwrap();
        assert_eq!(store.get_start(&key("empty"), 9).await.unwrap().len(), 0);
        assert_eq!(names(&store).await, ["a/b c/d.png", "empty"]);
        store.delete(&a).await.unwrap();
        store.delete(&a).await.unwrap();
        assert_eq!(names(&store).await, ["empty"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_create_one_key_exactly_one_wins_and_its_bytes_stay() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        for round in 0..20 {
            let target = key(&format!("race/{round}"));
            let racers = (0..8u8).map(|who| {
                let (store, target) = (store.clone(), target.clone());
                tokio::spawn(async move {
                    (who, store.put(&target, vec![who; 4096].into(), PutMode::Create).await)
                })
            });
            let mut winners = Vec::new();
            for racer in racers.collect::<Vec<_>>() {
                match racer.await.unwrap() {
                    (who, Ok(())) => winners.push(who),
                    (_, Err(StoreError::AlreadyExists { .. })) => {}
                    (_, Err(other)) => panic!("{other}"),
                }
            }
            assert_eq!(winners.len(), 1, "round {round}");
            assert_eq!(store.get(&target).await.unwrap().1, vec![winners[0]; 4096]);
        }
    }
    assert_eq!(fs::read_dir(dir.path().join(".sr3/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_name_goes_in_and_comes_out_as_it_is() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        let mut expected = BTreeSet::new();
        for name in hard_names() {
            for path in [name.clone(), format!("sub/{name}")] {
                store.put(&key(&path), Bytes::from(path.clone()), PutMode::Create).await.unwrap();
                store.put(&key(&path), Bytes::from(path.clone()), PutMode::Replace).await.unwrap();
                expected.insert(path);
            }
        }
        let listed = names(&store).await;
        assert_eq!(listed, expected.iter().cloned().collect::<Vec<_>>(), "complete, and in byte order");
        for path in expected {
            assert_eq!(store.get(&key(&path)).await.unwrap().1, path.as_bytes(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_listing_is_in_the_byte_order_of_keys_and_leaves_state_folders_out() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        for path in ["b/x", "b.png", "b-1/x", "b/.sr3/report.jsonl", ".sr3/lock", ".hidden", "a/deep/er/x"] {
            store.put(&key(path), Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
        }
        assert_eq!(names(&store).await, [".hidden", "a/deep/er/x", "b-1/x", "b.png", "b/x"]);
        let under: Vec<ListEntry> = store.list_under(&key("b/.sr3")).try_collect().await.unwrap();
        assert_eq!(under.len(), 1);
        let nothing: Vec<ListEntry> = store.list_under(&layout::jobs_prefix()).try_collect().await.unwrap();
        assert!(nothing.is_empty());
    }
}

#[tokio::test]
async fn a_listing_that_nobody_reads_to_its_end_just_stops() {
    let dir = TempDir::new().unwrap();
    for i in 0..2000 {
        fs::write(dir.path().join(format!("{i}.png")), b"").unwrap();
    }
    let mut listing = folder(&dir).list();
    assert!(listing.next().await.unwrap().is_ok());
    drop(listing);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_file_inside_the_folder_is_listed_as_odd_and_never_read() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let root = dir.path();
    fs::write(outside.path().join("secret.png"), b"secret").unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/a.png"), b"a").unwrap();
    symlink(outside.path().join("secret.png"), root.join("out.png")).unwrap();
    symlink(outside.path(), root.join("outdir")).unwrap();
    symlink(root.join("sub/a.png"), root.join("in.png")).unwrap();
    symlink(root.join("sub"), root.join("loop")).unwrap();
    symlink("gone", root.join("dangling.png")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"bad\xff.png")), b"x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket.png")).unwrap();
    let store = folder(&dir);
    assert_eq!(
        names(&store).await,
        [
            "bad\u{fffd}.png (NotUtf8)",
            "dangling.png (LinkDangling)",
            "in.png",
            "loop (LinkToFolder)",
            "out.png (LinkOut)",
            "outdir (LinkOut)",
            "socket.png (Special)",
            "sub/a.png",
        ]
    );
    assert_eq!(&store.get(&key("in.png")).await.unwrap().1[..], b"a");
    for path in ["out.png", "outdir/secret.png"] {
        assert!(matches!(store.get(&key(path)).await, Err(StoreError::Name { .. })), "{path}");
    }
    assert!(Oddity::Special.is_harmless() && !Oddity::NotUtf8.is_harmless());
}

#[cfg(unix)]
#[tokio::test]
async fn nothing_is_written_through_a_link_or_over_a_folder() {
    use std::os::unix::fs::symlink;
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let root = dir.path();
    fs::write(outside.path().join("victim"), b"precious").unwrap();
    symlink(outside.path(), root.join("outdir")).unwrap();
    symlink(outside.path().join("victim"), root.join("link.png")).unwrap();
    fs::create_dir_all(root.join("folder.png")).unwrap();
    fs::write(root.join("file"), b"x").unwrap();
    let store = folder(&dir);
    let put = async |path: &str, mode| store.put(&key(path), Bytes::from_static(b"new"), mode).await;
    assert!(matches!(put("outdir/x.png", PutMode::Replace).await, Err(StoreError::Name { .. })));
    assert!(matches!(put("file/x.png", PutMode::Create).await, Err(StoreError::Name { .. })));
    assert!(matches!(put("folder.png", PutMode::Replace).await, Err(StoreError::Name { .. })));
    assert!(matches!(put("folder.png", PutMode::Create).await, Err(StoreError::AlreadyExists { .. })));
    assert!(matches!(put(&"x".repeat(256), PutMode::Create).await, Err(StoreError::Name { .. })));
    assert!(matches!(put("link.png", PutMode::Create).await, Err(StoreError::AlreadyExists { .. })));
    // Replacing a link replaces the link.
    put("link.png", PutMode::Replace).await.unwrap();
    assert_eq!(fs::read(outside.path().join("victim")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(root.join(".sr3/tmp")).unwrap().count(), 0, "staged files are gone");
}

#[tokio::test]
async fn what_a_killed_process_staged_is_cleaned_and_was_never_listed() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join(".sr3/tmp")).unwrap();
    fs::write(dir.path().join(".sr3/tmp/1-0"), b"half").unwrap();
    let store = folder(&dir);
    assert!(names(&store).await.is_empty());
    store.clean_staging().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join(".sr3/tmp")).unwrap().count(), 0);
    folder(&TempDir::new().unwrap()).clean_staging().await.unwrap();
}

#[tokio::test]
async fn a_lock_excludes_until_it_is_dropped_and_names_its_holder() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (folder(&dir), folder(&dir));
    let held = one.lock(&layout::lock_key(), "process 1").await.unwrap();
    match two.lock(&layout::lock_key(), "process 2").await {
        Err(StoreError::Busy { holder, .. }) => assert_eq!(holder, "process 1"),
        other => panic!("{other:?}"),
    }
    drop(held);
    two.lock(&layout::lock_key(), "process 2").await.unwrap();
}

#[tokio::test]
async fn staging_beside_leaves_nothing_but_the_object() {
    let dir = TempDir::new().unwrap();
    let store = Store::folder(dir.path(), Staging::Beside).unwrap();
    store.put(&key("out.png"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap();
    store.put(&key("out.png"), Bytes::from_static(b"2"), PutMode::Replace).await.unwrap();
    assert!(store.put(&key("out.png"), Bytes::from_static(b"3"), PutMode::Create).await.is_err());
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["out.png"]);
}

#[test]
fn locations_of_other_kinds_are_refused() {
    for location in ["s3://bucket/x", "file:///etc", "https://evilamazonaws.com/x", "gs://b"] {
        assert!(matches!(Store::open(location), Err(StoreError::Unsupported { .. })), "{location}");
    }
    assert!(matches!(Store::open("/nonexistent-folder"), Err(StoreError::NotFound { .. })));
}
