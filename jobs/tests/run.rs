//! A destination's state: who began which run, and what is recorded once.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::HashMap;

use sr3_jobs::images::Naming;
use sr3_jobs::upscale::{ItemRecord, ItemStatus, RecipeSpec, Run, RunError, UpscaleOrder};
use sr3_proto::{Digest, Store, UnitId, layout, store::PutMode};

fn order() -> UpscaleOrder {
    UpscaleOrder {
        source: "in".into(),
        destination: "out".into(),
        model: "m".into(),
        memory_bytes: 0,
        recipe: RecipeSpec::plain(Digest::of(b"model"), "m", 4, "as played"),
        naming: Naming::Mirror,
        enlarged: None,
        include: Vec::new(),
        exclude: Vec::new(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: None,
        overwrite: false,
    }
}

/// Where a store has no locks two runs may begin at once: one of them must lose before it records anything.
#[tokio::test]
async fn of_two_runs_that_begin_at_once_one_is_refused() {
    let state = Store::in_memory();
    let begin = |i: u32| Run::begin(state.clone(), &state, order(), format!("run {i}"));
    let begun = futures::future::join_all((0..8).map(begin)).await;
    let mut jobs = HashMap::new();
    for one in begun {
        match one {
            Ok(job) => assert!(jobs.insert(job.id(), job).is_none(), "two runs of one number"),
            Err(RunError::Race { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!jobs.is_empty());
}

/// A coordinator that ends before it could write down that it began is followed by one that goes on with the same run.
#[tokio::test]
async fn whoever_begins_under_the_same_name_goes_on_with_the_same_run() {
    let state = Store::in_memory();
    let begin = |name: &str| Run::begin(state.clone(), &state, order(), name.into());
    assert_eq!(begin("one").await.unwrap().id(), begin("one").await.unwrap().id());
    assert_ne!(begin("one").await.unwrap().id(), begin("two").await.unwrap().id());
}

#[tokio::test]
async fn a_manifest_is_never_replaced() {
    let state = Store::in_memory();
    let job = Run::begin(state.clone(), &state, order(), "test".into()).await.unwrap();
    let verdict =
        |name: &str| vec![ItemRecord::without_result(name, None, ItemStatus::Skipped, "", &order().recipe)];
    let shard = UnitId::new(0);
    assert_eq!(job.record_shard(shard, verdict("a.png")).await.unwrap(), verdict("a.png"));
    // The same again is what a lost answer leads to; another attempt takes what is there.
    assert_eq!(job.record_shard(shard, verdict("a.png")).await.unwrap(), verdict("a.png"));
    assert_eq!(job.record_shard(shard, verdict("b.png")).await.unwrap(), verdict("a.png"));
}

#[tokio::test]
async fn a_manifest_that_was_changed_after_it_was_recorded_is_noticed() {
    let state = Store::in_memory();
    let job = Run::begin(state.clone(), &state, order(), "test".into()).await.unwrap();
    let verdict = vec![ItemRecord::without_result("a.png", None, ItemStatus::Skipped, "", &order().recipe)];
    let shard = UnitId::new(0);
    job.record_shard(shard, verdict.clone()).await.unwrap();
    let key = layout::manifest_key(job.id(), shard);
    let (_, bytes) = state.get(&key).await.unwrap();
    let recorded = Digest::of(&bytes);
    assert_eq!(job.read_recorded(shard, &recorded).await.unwrap().items, verdict);
    let changed = String::from_utf8(bytes.to_vec()).unwrap().replace("a.png", "b.png");
    state.put(&key, changed.into(), PutMode::Replace).await.unwrap();
    let error = job.read_recorded(shard, &recorded).await.unwrap_err();
    assert!(matches!(error, RunError::ManifestChanged { .. }), "{error}");
}
