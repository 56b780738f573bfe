//! A bucket through a coordinator and three workers is the same bytes as a folder through one process.

use std::{collections::BTreeSet, fs, path::Path};

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sr3::proto::{
    Key, Store, layout,
    store::{ListEntry, PutMode},
};

use crate::{
    pictures::{self, BAD},
    processes::{Coordinator, Environment, run, worker},
    s3::Server,
};

/// The same pictures through `sr3 upscale` in one process.
pub(crate) fn upscaled_locally(source: &Path, destination: &Path) {
    let (source, destination) = (source.to_str().unwrap(), destination.to_str().unwrap());
    let (code, _, errors) =
        run(&["upscale", source, destination, "--preset", "one", "--quiet"], &Environment::new());
    assert!(matches!(code, 0 | 3), "{code} {errors}");
}

/// Inputs of the report that were set aside, and how many lines it has.
pub(crate) fn report(text: &str) -> (BTreeSet<String>, usize) {
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let inputs: BTreeSet<_> = lines.iter().map(|line| line["input"].as_str().unwrap()).collect();
    assert_eq!(inputs.len(), lines.len(), "an input is reported twice");
    let bad = lines.iter().filter(|line| line["status"] == "quarantined");
    (bad.map(|line| line["input"].as_str().unwrap().to_string()).collect(), lines.len())
}

#[test]
fn a_folder_through_a_cluster_has_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write(&path("in"), 30, true);
    upscaled_locally(&path("in"), &path("local"));

    let none = Environment::new();
    let coordinator = Coordinator::start(&text("state"), &[], &none);
    let workers = [0, 1, 2].map(|_| worker(&coordinator.address, &none));
    let arguments = ["upscale", &text("in"), &text("out"), "--preset", "one", "--quiet", "--coordinator"];
    let all = [&arguments[..], &[coordinator.address.as_str()]].concat();
    let (code, _, errors) = run(&all, &none);
    assert_eq!(code, 3, "{errors}");
    assert!(pictures::files(&path("out")) == pictures::files(&path("local")), "other bytes");
    let (bad, lines) = report(&fs::read_to_string(path("out/.sr3/report.jsonl")).unwrap());
    assert_eq!(lines, 33);
    assert_eq!(bad, BAD.map(String::from).into());
    assert!(path("out/.sr3/_SUCCESS").exists());

    // Once more: only what was set aside is tried again.
    let (code, out, _) =
        run(&[&arguments[..5], &["--json", "--coordinator", &coordinator.address]].concat(), &none);
    let ended = crate::processes::json(&out);
    assert_eq!((code, &ended["done"], &ended["skipped"]), (3, &0.into(), &30.into()), "{out}");

    // A worker that is asked to stop leaves cleanly.
    for worker in workers {
        worker.signal("TERM");
        assert_eq!(worker.wait(), 0);
    }
    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.wait(), 0);
}

/// Puts every file of a folder into a store.
pub(crate) async fn upload(store: &Store, folder: &Path) {
    for (name, bytes) in pictures::files(folder) {
        store.put(&Key::new(name).unwrap(), bytes.into(), PutMode::Create).await.unwrap();
    }
}

/// Every object but those of the state.
pub(crate) async fn download(store: &Store) -> BTreeMap<String, Vec<u8>> {
    let keys = store.list().try_filter_map(|entry| async move {
        Ok(match entry {
            ListEntry::Object(info) => Some(info.key),
            ListEntry::Odd { .. } => None,
        })
    });
    let keys: Vec<Key> = keys.try_collect().await.unwrap();
    let mut objects = BTreeMap::new();
    for key in keys {
        let (_, bytes) = store.get(&key).await.unwrap();
        objects.insert(key.to_string(), bytes.to_vec());
    }
    objects
}

/// 300 pictures in a bucket of SeaweedFS; the coordinator's state lies there too.
#[test]
fn a_bucket_through_a_cluster_has_the_bytes_of_a_folder_through_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    pictures::write(&path("in"), 300, true);
    upscaled_locally(&path("in"), &path("local"));

    let server = Server::seaweedfs();
    let environment: Environment = server.environment().to_vec();
    let [source, destination, state] = [server.fresh(), server.fresh(), server.fresh()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(upload(&server.open(&source), &path("in")));

    let coordinator = Coordinator::start(&state.to_string(), &[], &environment);
    let _workers = [0, 1, 2].map(|_| worker(&coordinator.address, &environment));
    let (source, place) = (source.to_string(), destination.to_string());
    let arguments = ["upscale", &source, &place, "--preset", "one", "--quiet", "--coordinator"];
    let (code, _, errors) = run(&[&arguments[..], &[&coordinator.address]].concat(), &environment);
    assert_eq!(code, 3, "{errors}");

    let outputs = server.open(&destination);
    let there = runtime.block_on(download(&outputs));
    assert!(there == pictures::files(&path("local")), "other bytes");
    let (_, lines) = runtime.block_on(outputs.get(&layout::report_key())).unwrap();
    let (bad, lines) = report(std::str::from_utf8(&lines).unwrap());
    assert_eq!((there.len(), lines), (300, 303));
    assert_eq!(bad, BAD.map(String::from).into());
    assert!(runtime.block_on(outputs.head(&layout::success_key())).unwrap().is_some());
    eprintln!("{} outputs, {lines} report lines, {} set aside", there.len(), bad.len());
}
