//! A whole coordinator in this process: real planning, real scheduler, stores and ledger in memory, and workers that are
//! played.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod common;

use std::time::Duration;

use common::{Cluster, job_spec, open_items, played_worker, submit};
use futures::TryStreamExt;
use sr3_coordinator::core::view::{Phase, Refusal};
use sr3_jobs::upscale::{
    ItemRecord, ItemStatus, ShardManifest, UpscaleOrder, UpscaleSpec, record::read_document,
};
use sr3_proto::{
    Cancel, FailureKind, FromWorker, JobId, ToWorker, layout, session::UnitResult, store::PutMode,
};

#[tokio::test(start_paused = true)]
async fn a_job_runs_to_its_report() {
    let cluster = Cluster::new(20).await;
    let worker =
        tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    let (job, existed) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    assert!(!existed);
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.phase, ended.counts.done, ended.counts.quarantined), (Phase::Succeeded, 20, 0));
    let report = cluster.report().await;
    assert_eq!(report.len(), 20);
    assert!(report.windows(2).all(|pair| pair[0].input < pair[1].input), "in input order");
    assert!(report.iter().all(|record| record.status == ItemStatus::Ok));
    assert!(cluster.destination.head(&layout::success_key()).await.unwrap().is_some());
    let events = cluster.coordinator.events(job.id, 0).await.unwrap();
    assert_eq!(events.last().unwrap().2, "succeeded");
    // The same again, under the same key and under none.
    let (same, existed) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    assert!(existed && same.id == job.id);
    let (again, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    let ended = cluster.wait(again.id).await;
    assert_eq!((ended.counts.done, ended.counts.skipped), (0, 20), "finished items are not computed again");
    worker.abort();
}

#[tokio::test(start_paused = true)]
async fn new_objects_since_last_time_are_the_only_work() {
    let cluster = Cluster::new(3).await;
    tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    cluster.wait(job.id).await;
    let late = sr3_proto::Key::new("zz.png").unwrap();
    cluster.source.put(&late, "late".into(), PutMode::Create).await.unwrap();
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.counts.done, ended.counts.skipped), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_is_refused_or_ends_in_a_named_state() {
    let cluster = Cluster::new(0).await;
    let bad = |spec: UpscaleSpec| submit(&cluster.coordinator, spec, "");
    let mut unknown = job_spec();
    unknown.wish.model = "none".into();
    assert!(matches!(bad(unknown).await, Err(Refusal::Invalid(text)) if text.contains("none")));
    let mut gone = job_spec();
    gone.job.source = "memory://gone".into();
    assert!(matches!(bad(gone).await, Err(Refusal::Invalid(text)) if text.contains("source")));
    let mut into_state = job_spec();
    into_state.job.destination = "memory://state/below".into();
    assert!(matches!(bad(into_state).await, Err(Refusal::Invalid(text)) if text.contains("own state")));
    // There is a source, and nothing in it.
    let (job, _) = bad(job_spec()).await.unwrap();
    let ended = cluster.wait(job.id).await;
    assert_eq!(ended.phase, Phase::Failed);
    assert!(ended.reason.contains("no images found"), "{}", ended.reason);
    assert!(matches!(cluster.coordinator.cancel(JobId::new(77)).await, Err(Refusal::NotFound(_))));
}

#[tokio::test(start_paused = true)]
async fn two_jobs_never_write_to_one_place_and_a_key_means_one_spec() {
    let cluster = Cluster::new(3).await;
    let (job, _) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    let refused = submit(&cluster.coordinator, job_spec(), "other").await;
    assert!(matches!(refused, Err(Refusal::Conflict(text)) if text.contains("destination")));
    let mut other = job_spec();
    other.wish.seed = 9;
    assert!(matches!(submit(&cluster.coordinator, other, "k").await, Err(Refusal::Conflict(_))));
    cluster.coordinator.cancel(job.id).await.unwrap();
    assert_eq!(cluster.wait(job.id).await.phase, Phase::Cancelled);
    assert!(cluster.destination.head(&layout::success_key()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_paused_job_leases_nothing_and_goes_on_when_resumed() {
    let cluster = Cluster::new(5).await;
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    cluster.coordinator.pause(job.id, true).await.unwrap();
    tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = cluster.coordinator.job(job.id).await.unwrap().borrow().clone();
    assert!(view.paused && view.counts.done == 0);
    cluster.coordinator.pause(job.id, false).await.unwrap();
    assert_eq!(cluster.wait(job.id).await.counts.done, 5);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_takes_over_goes_on_and_the_old_one_is_fenced() {
    let mut cluster = Cluster::new(200).await;
    let stop = Cancel::new();
    let slow =
        tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), stop.clone()));
    let (job, _) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    let mut seen = cluster.coordinator.job(job.id).await.unwrap();
    seen.wait_for(|view| view.counts.done >= 40).await.unwrap();
    let (old, _) = cluster.take_over().await;
    slow.abort();
    let recorded = cluster.coordinator.job(job.id).await.unwrap().borrow().counts;
    assert!(recorded.done >= 40, "nothing acknowledged is lost");
    tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.phase, ended.counts.done), (Phase::Succeeded, 200));
    assert_eq!(cluster.report().await.len(), 200);
    let refused = submit(&old, job_spec(), "").await;
    assert!(matches!(refused, Err(Refusal::Unavailable(_))));
}

/// A worker's end that was welcomed and granted a unit.
async fn granted(cluster: &Cluster) -> (sr3_proto::WorkerEnd, sr3_proto::Grant) {
    let mut end = cluster.coordinator.attach(common::hello("by hand"), String::new()).await.unwrap();
    loop {
        if let ToWorker::Grant(grant) = end.receive.recv().await.unwrap() {
            return (end, *grant);
        }
    }
}

fn verdict(grant: &sr3_proto::Grant) -> Vec<ItemRecord> {
    let items = open_items(grant);
    let recipe = UpscaleOrder::read(&grant.order).unwrap().recipe;
    vec![ItemRecord::without_result(
        items[0].input.as_str(),
        None,
        ItemStatus::Quarantined,
        "played",
        &recipe,
    )]
}

fn bytes(records: &[ItemRecord]) -> Vec<bytes::Bytes> {
    records.iter().map(ItemRecord::to_bytes).collect()
}

/// Of a unit that was not finished when its job ended, what was given back is recorded: the next job knows it.
#[tokio::test(start_paused = true)]
async fn what_was_given_back_before_the_end_is_in_the_report_and_in_a_manifest() {
    let cluster = Cluster::new(4).await;
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    let (end, grant) = granted(&cluster).await;
    let (lease, records) = (grant.lease, verdict(&grant));
    end.send.send(FromWorker::UnitReturned { lease, records: bytes(&records) }).await.unwrap();
    end.send.send(FromWorker::Goodbye).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.coordinator.cancel(job.id).await.unwrap();
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.phase, ended.reported, ended.counts.quarantined), (Phase::Cancelled, true, 1));
    assert_eq!(cluster.report().await, records);
    let manifest = layout::manifest_key(grant.run, lease.unit);
    let (_, bytes) = cluster.destination.get(&manifest).await.unwrap();
    assert_eq!(read_document::<ShardManifest>("manifest", &bytes).unwrap().items, records);
}

/// So is what a unit got to before it failed its job.
#[tokio::test(start_paused = true)]
async fn a_job_that_fails_keeps_the_verdicts_that_came_with_the_failure() {
    let cluster = Cluster::new(4).await;
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    let (end, grant) = granted(&cluster).await;
    let (lease, kind, records) = (grant.lease, FailureKind::Job, verdict(&grant));
    let failed = FromWorker::UnitFailed { lease, kind, reason: "no room".into(), records: bytes(&records) };
    end.send.send(failed).await.unwrap();
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.phase, ended.reason.as_str()), (Phase::Failed, "no room"));
    assert_eq!(cluster.report().await, records);
}

/// Keys of the ledger that begin so.
async fn rows(cluster: &Cluster, prefix: &str) -> usize {
    cluster.ledger.scan(prefix, None).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn of_an_ended_job_its_log_and_its_numbers_stay() {
    let mut cluster = Cluster::new(200).await;
    tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    let (job, _) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    let ended = cluster.wait(job.id).await;
    let events = cluster.coordinator.events(job.id, 0).await.unwrap();
    while rows(&cluster, "").await != events.len() + 2 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((rows(&cluster, "job/").await, rows(&cluster, "idempotency/").await), (1, 1));
    cluster.take_over().await;
    let again = cluster.coordinator.job(job.id).await.unwrap().borrow().clone();
    assert_eq!((again.phase, again.counts, again.last_event), (ended.phase, ended.counts, ended.last_event));
    assert_eq!(cluster.coordinator.events(job.id, 0).await.unwrap(), events);
    let (same, existed) = submit(&cluster.coordinator, job_spec(), "k").await.unwrap();
    assert!(existed && same.id == job.id);
}

#[tokio::test(start_paused = true)]
async fn the_latest_thousand_ended_jobs_stay() {
    let mut cluster = Cluster::new(0).await;
    let mut last = JobId::new(1);
    // There is nothing in the source: each of them ends at once.
    for i in 0..1010 {
        let (job, _) = submit(&cluster.coordinator, job_spec(), &format!("key {i}")).await.unwrap();
        cluster.wait(job.id).await;
        last = job.id;
    }
    while rows(&cluster, "job/").await != 1000 || rows(&cluster, "idempotency/").await != 1000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rows(&cluster, "plan/").await, 0);
    for _ in 0..2 {
        let gone = cluster.coordinator.job(JobId::new(10)).await;
        assert!(matches!(gone, Err(Refusal::NotFound(_))));
        assert!(cluster.coordinator.job(JobId::new(11)).await.is_ok());
        assert!(rows(&cluster, &format!("event/{:020}/", 10)).await == 0);
        cluster.take_over().await;
    }
    // No number is given twice, and the key of a job that is gone makes a new one.
    let (job, existed) = submit(&cluster.coordinator, job_spec(), "key 1").await.unwrap();
    assert!(!existed && job.id == last.next());
}

/// What a worker says of a unit is believed as far as it can be seen.
#[tokio::test(start_paused = true)]
async fn a_report_that_is_not_so_records_nothing() {
    let cluster = Cluster::new(3).await;
    let (job, _) = submit(&cluster.coordinator, job_spec(), "").await.unwrap();
    for (number, change) in [
        (|r: &mut UnitResult| r.done = u64::MAX) as fn(&mut UnitResult),
        |r| r.done -= 1,
        |r| (r.done, r.quarantined) = (r.done - 1, 1),
        |r| r.payload = "0".repeat(64).into(),
        |r| r.payload = "no digest".into(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut end = cluster
            .coordinator
            .attach(common::hello(&format!("liar {number}")), String::new())
            .await
            .unwrap();
        let grant = loop {
            if let Some(ToWorker::Grant(grant)) = end.receive.recv().await {
                break grant;
            }
        };
        let FromWorker::UnitDone { lease, mut result } = common::work(&cluster.destination, &grant).await
        else {
            unreachable!("it is done");
        };
        change(&mut result);
        end.send.send(FromWorker::UnitDone { lease, result }).await.unwrap();
        end.send.send(FromWorker::Goodbye).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counts = cluster.coordinator.job(job.id).await.unwrap().borrow().counts;
        assert_eq!((counts.units_done, counts.done), (0, 0), "lie {number}");
    }
    tokio::spawn(played_worker(cluster.coordinator.clone(), cluster.destination.clone(), Cancel::new()));
    let ended = cluster.wait(job.id).await;
    assert_eq!((ended.phase, ended.counts.done), (Phase::Succeeded, 3));
}
