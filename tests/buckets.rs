//! The same command on buckets, with a real S3 server.
#![allow(clippy::unwrap_used)] // helpers of tests, too

mod common;
#[path = "../proto/tests/common/s3.rs"]
mod s3;

use std::time::Duration;

use common::{Ran, Scene, become_the_command_if_asked, ran, sr3_process};
use futures::{StreamExt, TryStreamExt};
use s3::Server;
use sr3::proto::{
    Key, Store,
    store::{ListEntry, Location, PutMode},
};

/// Not a test by itself: what `sr3_process` runs.
#[test]
fn the_command() {
    become_the_command_if_asked();
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn upscale(source: &str, destination: &str, more: &[(&str, &str)]) -> Ran {
    let mut command = sr3_process(&["upscale", source, destination, "--json"], Duration::ZERO);
    command.envs(Server::seaweedfs().environment()).envs(more.iter().copied());
    ran(&mut command)
}

/// Inputs in a bucket, and a place beside them.
async fn inputs(names: &[&str]) -> (Location, Location) {
    let place = Server::seaweedfs().fresh();
    let (input, output) = (place.join(&key("in")), place.join(&key("out")));
    let store = Server::seaweedfs().open(&input);
    for name in names {
        store.put(&key(name), name.as_bytes().to_vec().into(), PutMode::Create).await.unwrap();
    }
    (input, output)
}

async fn names(store: &Store) -> Vec<String> {
    let entries: Vec<ListEntry> = store.list().try_collect().await.unwrap();
    let mut names: Vec<String> = entries
        .into_iter()
        .map(|entry| match entry {
            ListEntry::Object(info) => info.key.to_string(),
            ListEntry::Odd { path, what } => format!("{path} ({what:?})"),
        })
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_bucket_to_a_bucket_and_a_second_run_has_nothing_to_do() {
    let inputs_named = ["a.png", "b.png", "b/x y#1.png", "b-1/é.jpg", "notes.txt"];
    let (input, output) = inputs(&inputs_named).await;
    let first = upscale(&input.to_string(), &output.to_string(), &[]);
    assert_eq!(first.code, 0, "{}{}", first.out, first.err);
    assert!(first.err.is_empty(), "{}", first.err);
    assert_eq!((first.json()["done"].as_u64(), first.json()["skipped"].as_u64()), (Some(4), Some(1)));
    let outputs = Server::seaweedfs().open(&output);
    assert_eq!(names(&outputs).await, ["a.png", "b-1/é.jpg", "b.png", "b/x y#1.png"]);
    assert_eq!(&outputs.get(&key("b/x y#1.png")).await.unwrap().1[..], b"Png 0 x y#1.png B/X Y#1.PNG");
    let state: Vec<ListEntry> = outputs.list_under(&key(".sr3")).try_collect().await.unwrap();
    let state = format!("{state:?}");
    assert!(
        state.contains("_SUCCESS") && state.contains("report.jsonl") && !state.contains("probe"),
        "{state}"
    );
    let again = upscale(&input.to_string(), &output.to_string(), &[]);
    assert_eq!((again.code, again.json()["done"].as_u64()), (0, Some(0)), "{}", again.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_and_buckets_mix_and_give_the_same_bytes() {
    let (bucket, other) = inputs(&["a.png", "sub/b.jpg"]).await;
    let scene = Scene::new(&[("a.png", "a.png"), ("sub/b.jpg", "sub/b.jpg")]);
    let folder = scene.text("in");
    assert_eq!(upscale(&bucket.to_string(), &scene.text("out"), &[]).code, 0);
    assert_eq!(upscale(&folder, &format!("file://{}", scene.text("out2")), &[]).code, 0);
    assert_eq!(upscale(&folder, &format!("{other}/"), &[]).code, 0);
    assert_eq!(upscale(&scene.text("in/a.png"), &format!("{other}-one"), &[]).code, 0);
    assert_eq!(scene.outputs(), ["a.png", "sub/b.jpg"]);
    let store = Server::seaweedfs().open(&other);
    for name in ["a.png", "sub/b.jpg"] {
        assert_eq!(scene.read(&format!("out/{name}")), scene.read(&format!("out2/{name}")));
        assert_eq!(store.get(&key(name)).await.unwrap().1, scene.read(&format!("out/{name}")));
    }
    let one = Server::seaweedfs().open(&format!("{other}-one").parse().unwrap());
    assert_eq!(names(&one).await, ["a.png"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_one_time_in_twenty_is_not_noticed() {
    let many: Vec<String> = (0..30).map(|n| format!("{}/{n:02}.png", n % 4)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (input, output) = inputs(&many).await;
    let ran = upscale(&input.to_string(), &output.to_string(), &[("SR3_TEST_STORE_FAULTS", "5:0.05")]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(names(&Server::seaweedfs().open(&output)).await.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bucket_is_one_line() {
    let (input, output) = inputs(&["a.png"]).await;
    let (input, output) = (input.to_string(), output.to_string());
    let place = Scene::new(&[]).text("out");
    for (source, destination, change, code, part) in [
        ("s3://missing/x", place.as_str(), ("X", ""), 2, "the bucket `missing` does not exist"),
        (&input, &place, ("AWS_SECRET_ACCESS_KEY", "wrong"), 2, "AWS_SECRET_ACCESS_KEY"),
        (&input, &output, ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"), 1, "http://127.0.0.1:9"),
        (&format!("{input}/empty"), &output, ("X", ""), 2, "no files at all"),
    ] {
        let ran = upscale(source, destination, &[change]);
        assert_eq!(ran.code, code, "{source} {destination} {change:?}: {}", ran.err);
        assert!(ran.refusal().contains(part), "{}", ran.err);
    }
    assert!(Server::seaweedfs().open(&output.parse().unwrap()).list().next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_for_one_writer_is_used_with_a_warning() {
    let scene = Scene::new(&[("a.png", "a")]);
    let mut command = sr3_process(&["upscale", &scene.text("in"), "s3://test/single"], Duration::ZERO);
    let ran = ran(command.envs(Server::nanio().environment()));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.refusal().contains("warning") && ran.err.contains("s3://test/single"), "{}", ran.err);
    let there = Server::nanio().open(&"s3://test/single".parse().unwrap());
    assert_eq!(names(&there).await, ["a.png"]);
}
