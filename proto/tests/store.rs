//! One suite for every kind of store, a real S3 server among them, and what only a folder can get wrong.
#![allow(clippy::unwrap_used)] // helpers of tests, too

#[path = "common/s3.rs"]
mod s3;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use s3::Server;
use sr3_proto::{
    Key, Store, StoreError, layout,
    store::{
        FAULTS_VARIABLE, Faults, ListEntry, MULTIPART_FROM, Oddity, PutMode, RETRY_TIME, Settings, Staging,
    },
};
use tempfile::TempDir;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn folder(dir: &TempDir) -> Store {
    Store::folder(dir.path(), Staging::StateFolder).unwrap()
}

/// Each kind, as it is and with faults that it has to hide.
fn stores(dir: &TempDir) -> Vec<Store> {
    let server = Server::seaweedfs();
    let faulty = server.environment().into_iter().chain([(FAULTS_VARIABLE, "7:0.05".into())]);
    let faulty = Store::open_with(&server.fresh(), &Settings::from_pairs(faulty)).unwrap();
    vec![folder(dir), Store::in_memory(), memory(), server.open(&server.fresh()), faulty]
}

/// A store in memory with a name of its own.
fn memory() -> Store {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    Store::open(&format!("memory://test-{}/a prefix", NAMES.fetch_add(1, Ordering::Relaxed))).unwrap()
}

/// Puts what is not there yet; after a lost answer it may be there already.
async fn create(store: &Store, path: &str, bytes: impl Into<Bytes>) {
    match store.put(&key(path), bytes.into(), PutMode::Create).await {
        Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
        Err(other) => panic!("{path}: {other}"),
    }
}

/// SeaweedFS lists folder by folder.
fn in_order(store: &Store, mut names: Vec<String>) -> Vec<String> {
    if store.location().starts_with("s3:") {
        names.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    } else {
        names.sort();
    }
    names
}

async fn names(store: &Store) -> Vec<String> {
    named(store.list()).await
}

async fn named(listing: BoxStream<'static, Result<ListEntry, StoreError>>) -> Vec<String> {
    let entries: Vec<ListEntry> = listing.try_collect().await.unwrap();
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
        create(&store, a.as_str(), "one").await;
        let again = store.put(&a, Bytes::from_static(b"two"), PutMode::Create).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { .. })), "{again:?}");
        let (info, bytes) = store.get(&a).await.unwrap();
        assert_eq!((info.bytes, &bytes[..]), (3, &b"one"[..]));
        assert_eq!(store.head(&a).await.unwrap().unwrap(), info);
        store.put(&a, Bytes::from_static(b"other"), PutMode::Replace).await.unwrap();
        assert_ne!(store.head(&a).await.unwrap().unwrap().etag, info.etag);
        let info = store.head(&a).await.unwrap().unwrap();
        for (range, part) in
            [(0..2, "ot"), (0..99, "other"), (2..4, "he"), (3..99, "er"), (5..9, ""), (9..12, "")]
        {
            let (found, bytes) = store.get_part(&a, range.clone()).await.unwrap();
            assert_eq!((&bytes[..], &found), (part.as_bytes(), &info), "{range:?}");
        }
        create(&store, "empty", "").await;
        assert_eq!(store.get_part(&key("empty"), 0..9).await.unwrap().1.len(), 0);
        assert_eq!(names(&store).await, ["a/b c/d.png", "empty"]);
        store.delete(&a).await.unwrap();
        store.delete(&a).await.unwrap();
        assert_eq!(names(&store).await, ["empty"]);
    }
}

#[tokio::test]
async fn folders_come_and_go_with_what_is_in_them() {
    let dir = TempDir::new().unwrap();
    let store = folder(&dir);
    let stands = |path: &str| dir.path().join(path).exists();
    for path in ["a/b/one", "a/b/c/two", "a/three", "top"] {
        create(&store, path, "x").await;
    }
    std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
    for (deleted, gone, left) in [
        ("a/b/c/two", "a/b/c", "a/b/one"),
        ("a/b/one", "a/b", "a/three"),
        ("link/three", "a/three", "link"),
        ("top", "top", "a"),
    ] {
        store.delete(&key(deleted)).await.unwrap();
        assert!(!stands(gone) && stands(left), "{deleted}");
    }
    // Not the one that the store was opened on.
    assert!(names(&store).await.iter().all(|name| name.starts_with("link ")));
    assert!(dir.path().exists());
}

/// Each has its own objects in folders that all share, and that are gone whenever all objects are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_puts_an_object_into_a_folder_that_goes_just_then_has_it_there() {
    let dir = TempDir::new().unwrap();
    let racers = (0..4).map(|who| {
        // A store of its own each, as processes have.
        let store = folder(&dir);
        tokio::spawn(async move {
            let mine = [PutMode::Create, PutMode::Replace].map(|mode| (mode, key(&format!("a/b/c/{who}"))));
            for (mode, mine) in mine.iter().cycle().take(400) {
                store.put(mine, Bytes::from_static(b"x"), *mode).await.unwrap();
                assert_eq!(store.get(mine).await.unwrap().1, "x");
                let listed = names(&store).await;
                assert!(listed.contains(&mine.to_string()), "{listed:?}");
                store.delete(mine).await.unwrap();
            }
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    assert!(names(&folder(&dir)).await.is_empty());
    assert!(!dir.path().join("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_create_one_key_exactly_one_wins_and_its_bytes_stay() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        for round in 0..if store.is_local() { 20 } else { 6 } {
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
            let stays = store.get(&target).await.unwrap().1;
            // None: the answer to the winner got lost.
            let winner = winners.pop().unwrap_or(stays[0]);
            assert!(winners.is_empty() && winner < 8, "{} round {round}", store.location());
            assert_eq!(stays, vec![winner; 4096]);
        }
    }
    assert_eq!(fs::read_dir(dir.path().join(".sr3/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn every_name_goes_in_and_comes_out_as_it_is() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        let mut expected = Vec::new();
        for name in hard_names() {
            // SeaweedFS writes that to `a/b`.
            if name.contains('\\') && store.location().starts_with("s3:") {
                continue;
            }
            for path in [name.clone(), format!("sub/{name}")] {
                create(&store, &path, path.clone()).await;
                store.put(&key(&path), Bytes::from(path.clone()), PutMode::Replace).await.unwrap();
                expected.push(path);
            }
        }
        let listed = names(&store).await;
        assert_eq!(listed, in_order(&store, expected.clone()), "complete, and in order");
        for path in expected {
            assert_eq!(store.get(&key(&path)).await.unwrap().1, path.as_bytes(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_listing_is_in_order_goes_on_after_any_key_and_leaves_state_folders_out() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        for path in ["b/x", "b.png", "b-1/x", "b/.sr3/report.jsonl", ".sr3/lock", ".hidden", "a/deep/er/x"] {
            create(&store, path, "x").await;
        }
        let expected = [".hidden", "a/deep/er/x", "b-1/x", "b.png", "b/x"].map(String::from);
        let expected = in_order(&store, expected.to_vec());
        assert_eq!(names(&store).await, expected);
        for (at, last) in expected.iter().enumerate() {
            assert_eq!(named(store.list_after(&key(last))).await, expected[at + 1..], "after {last}");
        }
        assert_eq!(named(store.list_after(&key("a/de"))).await, expected[1..], "after what is not there");
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
async fn followed_links_keep_the_order_can_be_gone_on_with_and_never_lead_into_the_results() {
    use std::os::unix::fs::symlink;
    let (dir, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (root, far) = (dir.path(), outside.path());
    fs::create_dir_all(far.join("album/deep")).unwrap();
    fs::create_dir(far.join("results")).unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    for file in ["album/x.png", "album/deep/y.png", "results/r.png", "z.png"] {
        fs::write(far.join(file), file).unwrap();
    }
    fs::write(root.join("sub/a.png"), b"a").unwrap();
    fs::write(root.join("album-1.png"), b"between").unwrap();
    symlink(far.join("album"), root.join("album")).unwrap();
    symlink(far.join("album"), root.join("sub/again")).unwrap();
    symlink(far.join("z.png"), root.join("b.png")).unwrap();
    symlink(root.join("sub"), root.join("inside")).unwrap();
    symlink(root.join("sub/a.png"), root.join("same.png")).unwrap();
    symlink(far.join("results/r.png"), root.join("r.png")).unwrap();
    symlink(far, far.join("album/deep/up")).unwrap();
    let results = far.canonicalize().unwrap().join("results");
    let store = folder(&dir).following_links(Some(&results));
    let listed = names(&store).await;
    assert_eq!(
        listed,
        [
            "album-1.png",
            "album/deep/up/album (LinkBack)",
            "album/deep/up/results (AmongResults)",
            "album/deep/up/z.png",
            "album/deep/y.png",
            "album/x.png",
            "b.png",
            "inside (LinkToFolder)",
            "r.png (AmongResults)",
            "same.png",
            "sub/a.png",
            "sub/again/deep/up/album (LinkBack)",
            "sub/again/deep/up/results (AmongResults)",
            "sub/again/deep/up/z.png",
            "sub/again/deep/y.png",
            "sub/again/x.png",
        ]
    );
    for (at, last) in listed.iter().enumerate() {
        let last = key(last.split(" (").next().unwrap());
        assert_eq!(named(store.list_after(&last)).await, listed[at + 1..], "after {last}");
    }
    for (path, content) in [("album/deep/y.png", "album/deep/y.png"), ("b.png", "z.png"), ("same.png", "a")] {
        assert_eq!(store.get(&key(path)).await.unwrap().1, content.as_bytes(), "{path}");
    }
    for path in ["r.png", "album/deep/up/results/r.png"] {
        assert!(matches!(store.get(&key(path)).await, Err(StoreError::Name { .. })), "{path}");
    }
    // What both list they list alike.
    let without = names(&folder(&dir)).await;
    for entry in without.iter().filter(|entry| !entry.contains("LinkOut")) {
        assert!(listed.contains(entry), "{entry}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn capitals_count_unless_the_file_system_says_otherwise() {
    let dir = TempDir::new().unwrap();
    let store = folder(&dir);
    create(&store, "a/lock", "").await;
    assert!(!store.folds_case(&key("a/lock")).await.unwrap());
    create(&store, "a/LOCK", "").await;
    assert!(store.folds_case(&key("a/lock")).await.unwrap());
    assert!(!memory().folds_case(&key("a/lock")).await.unwrap());
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
    for location in ["https://evilamazonaws.com/x", "http://169.254.169.254", "ftp://b", "s3://a/../b", ""] {
        assert!(matches!(Store::open(location), Err(StoreError::Unsupported { .. })), "{location}");
    }
    for location in ["/nonexistent-folder", "file:///nonexistent-folder"] {
        assert!(matches!(Store::open(location), Err(StoreError::NotFound { .. })), "{location}");
    }
}

#[tokio::test]
async fn folders_and_named_memory_are_opened_by_location() {
    let dir = TempDir::new().unwrap();
    let by_url = Store::open(&format!("file://{}", dir.path().display())).unwrap();
    create(&by_url, "x", "1").await;
    assert_eq!(names(&folder(&dir)).await, ["x"]);
    let (one, same) = (Store::open("memory://shared/a").unwrap(), Store::open("memory://shared").unwrap());
    create(&one, "x", "1").await;
    assert_eq!(names(&same).await, ["a/x"]);
    create(&same, "ab", "2").await;
    assert_eq!(names(&one).await, ["x"]);
    assert!(names(&memory()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_keeps_its_word_passes_the_probe_and_is_left_as_it_was() {
    let dir = TempDir::new().unwrap();
    for store in stores(&dir) {
        store.check().await.unwrap();
        store.probe_conditional_put().await.unwrap();
        let left: Vec<ListEntry> = store.list_under(&key(".sr3")).try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_probe_notices_a_store_whose_conditional_put_does_not_hold() {
    let server = Server::nanio();
    let times: u32 = std::env::var("SR3_TEST_PROBES").map_or(3, |n| n.parse().unwrap());
    for n in 0..times {
        // It does not understand names that need escaping.
        let location = format!("s3://test/plain-{n}").parse().unwrap();
        let found = server.open(&location).probe_conditional_put().await;
        match found {
            Err(error @ StoreError::NotConditional { .. }) => {
                assert!(error.to_string().contains("s3://test/"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_apart() {
    let server = Server::seaweedfs();
    let check = async |location: &str, change: &[(&'static str, &str)]| {
        let changed = change.iter().map(|(name, value)| (*name, value.to_string()));
        let settings = Settings::from_pairs(server.environment().into_iter().chain(changed));
        let store = Store::open_with(&location.parse().unwrap(), &settings).unwrap();
        let error = store.check().await.unwrap_err();
        let line = error.to_string();
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
        // What a listing says without the quick look before.
        if !error.is_transient() {
            let listed = store.list().next().await.unwrap().unwrap_err();
            assert_eq!(std::mem::discriminant(&listed), std::mem::discriminant(&error));
            assert!(listed.is_about_the_store());
        }
        error
    };
    let missing = check("s3://missing/x", &[]).await;
    assert!(matches!(&missing, StoreError::NoBucket { bucket, .. } if bucket == "missing"), "{missing:?}");
    for wrong in [("AWS_ACCESS_KEY_ID", "NOBODY"), ("AWS_SECRET_ACCESS_KEY", "wrong")] {
        let refused = check("s3://test/x", &[wrong]).await;
        assert!(matches!(&refused, StoreError::Credentials { .. }), "{refused:?}");
        assert!(refused.to_string().contains("AWS_ACCESS_KEY_ID"), "{refused}");
    }
    let nobody = check("s3://test/x", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]).await;
    assert!(matches!(&nobody, StoreError::Unreachable { .. }) && nobody.is_transient(), "{nobody:?}");
    assert!(nobody.to_string().contains("http://127.0.0.1:9"), "{nobody}");
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_and_comes_back_whole() {
    let server = Server::seaweedfs();
    let large: Bytes = (0..MULTIPART_FROM + 12_345).map(|n| ((n * 31) >> 7) as u8).collect::<Vec<_>>().into();
    for store in [memory(), server.open(&server.fresh())] {
        store.put(&key("replaced"), large.clone(), PutMode::Replace).await.unwrap();
        store.put(&key("created"), large.clone(), PutMode::Create).await.unwrap();
        for name in ["replaced", "created"] {
            let (info, bytes) = store.get(&key(name)).await.unwrap();
            assert_eq!(info.bytes, large.len() as u64);
            assert!(bytes == large, "{name}");
        }
        let again = store.put(&key("created"), large.clone(), PutMode::Create).await;
        assert!(matches!(again, Err(StoreError::AlreadyExists { .. })));
    }
}

#[tokio::test]
async fn faults_of_one_in_five_stay_behind_the_retries() {
    let dir = TempDir::new().unwrap();
    for store in [folder(&dir), memory()] {
        let store = store.with_faults(Faults { seed: 3, rate: 0.2 });
        for n in 0..60 {
            let name = format!("{n:02}");
            create(&store, &name, name.clone()).await;
            store.put(&key(&name), Bytes::from(name.clone()), PutMode::Replace).await.unwrap();
            assert_eq!(store.get(&key(&name)).await.unwrap().1, name.as_bytes());
            assert_eq!(store.head(&key(&name)).await.unwrap().unwrap().bytes, 2);
        }
        let expected: Vec<String> = (0..60).map(|n| format!("{n:02}")).collect();
        for _ in 0..20 {
            assert_eq!(names(&store).await, expected, "nothing twice, nothing left out");
        }
        for name in expected {
            store.delete(&key(&name)).await.unwrap();
        }
        assert!(names(&store).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_works_is_given_up_after_a_while() {
    let store = Store::in_memory().with_faults(Faults { seed: 1, rate: 1.0 });
    let begun = tokio::time::Instant::now();
    let error = store.put(&key("x"), Bytes::new(), PutMode::Replace).await.unwrap_err();
    assert!(error.is_transient() && !error.is_about_one_key(), "{error}");
    let listed: Result<Vec<ListEntry>, StoreError> = store.list().try_collect().await;
    assert!(listed.unwrap_err().is_transient());
    assert!(begun.elapsed() < 2 * RETRY_TIME);
}
