//! A job against workers that are played by the test: what counts, what is recorded, how it ends.
#![allow(clippy::unwrap_used)] // helpers of tests, too

use std::collections::HashMap;

use bytes::Bytes;
use sr3_coordinator::{JobError, JobState, Outcome, Progress, Source, Summary, run};
use sr3_proto::{
    Cancel, Digest, FormatChoice, ItemRecord, ItemStatus, Key, Naming, RecipeSpec, ShardManifest, ShardTask,
    Store, StoreError, Success, UpscaleSpec, WorkerEvent, WorkerLink, layout, record::read_document,
    store::PutMode, task::link,
};
use tokio::sync::watch;

fn spec() -> UpscaleSpec {
    UpscaleSpec {
        source: "in".into(),
        destination: "out".into(),
        model: "m".into(),
        recipe: RecipeSpec {
            model: Digest::of(b"model"),
            model_name: "m".into(),
            preset: "default".into(),
            sampler: None,
            steps: None,
            sampling: "as played".into(),
            seed: 0,
            scale: 4,
            format: FormatChoice::Auto,
            quality: 95,
            tile: None,
            projection: true,
        },
        naming: Naming::Mirror,
        include: Vec::new(),
        exclude: Vec::new(),
        bytes_min: None,
        bytes_max: None,
        max_bad_items: None,
        overwrite: false,
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A source of `count` images, each of which is a shard of its own.
async fn source(count: usize) -> Source {
    let store = Store::in_memory();
    for i in 0..count {
        store
            .put(&key(&format!("{i:02}.png")), Bytes::from(vec![0; 600_000]), PutMode::Create)
            .await
            .unwrap();
    }
    Source::All(store)
}

fn verdicts(task: &ShardTask, status: ItemStatus) -> Vec<ItemRecord> {
    let recipe = spec().recipe;
    task.items
        .iter()
        .map(|item| {
            ItemRecord::without_result(item.input.as_str(), Some(item.output.clone()), status, "", &recipe)
        })
        .collect()
}

async fn finish(link: &WorkerLink, task: &ShardTask, status: ItemStatus) {
    let records = verdicts(task, status);
    for record in &records {
        let record = Box::new(record.clone());
        let _ = link.events.send(WorkerEvent::ItemDone { shard: task.shard, record }).await;
    }
    let _ = link.events.send(WorkerEvent::ShardDone { shard: task.shard, records }).await;
}

/// Runs a job over `source` with the worker that `play` is.
async fn play<F: Future<Output = ()> + Send + 'static>(
    spec: UpscaleSpec,
    source: &Source,
    state: &Store,
    interrupt: &Cancel,
    play: impl FnOnce(WorkerLink, Cancel) -> F,
) -> (Result<Summary, JobError>, Progress) {
    let job = JobState::begin(state.clone(), state, spec, "test".into()).await.unwrap();
    let (coordinator, worker) = link(1);
    let stop = Cancel::new();
    let worker = tokio::spawn(play(worker, stop.clone()));
    let (progress, seen) = watch::channel(Progress::default());
    let ended = run(&job, source, state, coordinator, &progress, interrupt, &stop).await;
    worker.await.unwrap();
    let seen = seen.borrow().clone();
    (ended, seen)
}

#[tokio::test]
async fn a_job_ends_when_every_shard_is_recorded_and_says_so_last() {
    let (source, state) = (source(9).await, Store::in_memory());
    let (ended, progress) = play(spec(), &source, &state, &Cancel::new(), |mut link, _| async move {
        // Out of order, as workers may.
        let mut held = Vec::new();
        while let Some(task) = link.tasks.recv().await {
            held.push(task);
            if held.len() == 3 {
                for task in held.drain(..).rev() {
                    finish(&link, &task, ItemStatus::Ok).await;
                }
            }
        }
    })
    .await;
    let summary = ended.unwrap();
    assert_eq!((summary.outcome, summary.done), (Outcome::Finished, 9));
    let inputs: Vec<_> = summary.records.iter().map(|r| r.input.clone()).collect();
    assert!(inputs.is_sorted() && inputs.len() == 9);
    assert_eq!((progress.planned, progress.done, progress.work_done), (9, 9, 9 * 600_000));
    let (_, success) = state.get(&layout::success_key()).await.unwrap();
    assert_eq!(read_document::<Success>("x", &success).unwrap().done, 9);
    let (_, first) = state.get(&key(".sr3/manifests/000001/00000000.json")).await.unwrap();
    assert_eq!(read_document::<ShardManifest>("x", &first).unwrap().items.len(), 1);
}

#[tokio::test]
async fn shards_go_out_only_as_the_worker_takes_them() {
    let (source, state) = (source(9).await, Store::in_memory());
    let (ended, _) = play(spec(), &source, &state, &Cancel::new(), |mut link, _| async move {
        let first = link.tasks.recv().await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
            assert!(link.tasks.len() <= 1, "more than the credit");
        }
        finish(&link, &first, ItemStatus::Ok).await;
        while let Some(task) = link.tasks.recv().await {
            finish(&link, &task, ItemStatus::Ok).await;
        }
    })
    .await;
    assert_eq!(ended.unwrap().done, 9);
}

#[tokio::test]
async fn an_interrupted_job_records_what_a_shard_got_to() {
    let (source, state, interrupt) = (source(9).await, Store::in_memory(), Cancel::new());
    let asked = interrupt.clone();
    let (ended, _) = play(spec(), &source, &state, &interrupt, |mut link, stop| async move {
        let task = link.tasks.recv().await.unwrap();
        finish(&link, &task, ItemStatus::Ok).await;
        let next = link.tasks.recv().await.unwrap();
        asked.cancel();
        stop.cancelled().await;
        let _ = link.events.send(WorkerEvent::ShardDone { shard: next.shard, records: Vec::new() }).await;
    })
    .await;
    let summary = ended.unwrap();
    assert_eq!((summary.outcome, summary.done), (Outcome::Interrupted, 1));
    assert!(state.head(&layout::success_key()).await.unwrap().is_none());
    let (_, report) = state.get(&layout::report_key()).await.unwrap();
    assert_eq!(report.iter().filter(|&&b| b == b'\n').count(), 1);
}

#[tokio::test]
async fn a_worker_that_dies_or_gives_up_fails_the_job() {
    for reason in [None, Some("disk full")] {
        let (source, state) = (source(3).await, Store::in_memory());
        let (ended, _) = play(spec(), &source, &state, &Cancel::new(), |mut link, _| async move {
            let task = link.tasks.recv().await.unwrap();
            finish(&link, &task, ItemStatus::Ok).await;
            if let Some(reason) = reason {
                let _ = link.events.send(WorkerEvent::Failed { reason: reason.into() }).await;
            }
        })
        .await;
        let summary = ended.unwrap();
        match summary.outcome {
            Outcome::Failed { reason: told } => assert!(reason.is_none_or(|reason| told == reason)),
            other => panic!("{other:?}"),
        }
        assert_eq!(summary.done, 1);
        assert!(state.head(&layout::success_key()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn too_many_bad_items_stop_the_job() {
    let (source, state) = (source(9).await, Store::in_memory());
    let spec = UpscaleSpec { max_bad_items: Some(2), ..spec() };
    let (ended, _) = play(spec, &source, &state, &Cancel::new(), |mut link, stop| async move {
        while let Some(task) = link.tasks.recv().await {
            finish(&link, &task, ItemStatus::Quarantined).await;
            if stop.is_cancelled() {
                break;
            }
        }
    })
    .await;
    let summary = ended.unwrap();
    assert!(matches!(summary.outcome, Outcome::Failed { .. }));
    assert!((3..9).contains(&summary.quarantined), "{}", summary.quarantined);
}

/// Where a store has no locks two runs may begin at once: one of them must lose before it records anything.
#[tokio::test]
async fn of_two_runs_that_begin_at_once_one_is_refused() {
    let state = Store::in_memory();
    let begin = |i: u32| JobState::begin(state.clone(), &state, spec(), format!("run {i}"));
    let begun = futures::future::join_all((0..8).map(begin)).await;
    let mut jobs = HashMap::new();
    for one in begun {
        match one {
            Ok(job) => assert!(jobs.insert(job.job(), job).is_none(), "two runs of one number"),
            Err(JobError::Race { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(!jobs.is_empty());
}

/// A coordinator that ends before it could write down that it began is followed by one that goes on with the same run.
#[tokio::test]
async fn whoever_begins_under_the_same_name_goes_on_with_the_same_run() {
    let state = Store::in_memory();
    let begin = |name: &str| JobState::begin(state.clone(), &state, spec(), name.into());
    assert_eq!(begin("one").await.unwrap().job(), begin("one").await.unwrap().job());
    assert_ne!(begin("one").await.unwrap().job(), begin("two").await.unwrap().job());
}

#[tokio::test]
async fn a_manifest_is_never_replaced() {
    let state = Store::in_memory();
    let job = JobState::begin(state.clone(), &state, spec(), "test".into()).await.unwrap();
    let first = sr3_proto::ShardId::new(0);
    job.record_shard(first, Vec::new()).await.unwrap();
    job.record_shard(first, Vec::new()).await.expect("the same again is what a lost answer leads to");
    let recipe = spec().recipe;
    let other = ItemRecord::without_result("x.png", None, ItemStatus::Skipped, "", &recipe);
    assert!(matches!(job.record_shard(first, vec![other]).await, Err(JobError::Race { .. })));
}

#[tokio::test]
async fn a_source_that_vanishes_fails_the_job_with_its_name() {
    let dir = tempfile::TempDir::new().unwrap();
    let source = Source::One(Store::in_memory(), key("gone.png"));
    let state = Store::folder(dir.path(), sr3_proto::store::Staging::StateFolder).unwrap();
    let (ended, _) = play(spec(), &source, &state, &Cancel::new(), |mut link, _| async move {
        while link.tasks.recv().await.is_some() {}
        drop(link.events);
    })
    .await;
    match ended.unwrap().outcome {
        Outcome::Failed { reason } => assert!(reason.contains("gone.png"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        source.require_images(&spec()).await,
        Err(JobError::Store(StoreError::NotFound { .. }))
    ));
}
