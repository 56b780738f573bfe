//! What becomes of a shard.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use sr3_proto::{
    FailureKind, FromWorker, Grant, ItemStatus, RunId, ToWorker, layout, record::write_document,
    store::PutMode,
};

use crate::played::{Desk, Scene, Setup, done, grant, inputs, key, lease, spec, verdict};

fn failure(report: FromWorker) -> (FailureKind, String) {
    match report {
        FromWorker::ShardFailed { kind, reason, .. } => (kind, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_of_two_jobs_end_in_their_manifests() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    assert_eq!((desk.hello.credits, desk.hello.held.len()), (2, 0));
    let first = Grant {
        records: vec![verdict("b.png"), verdict("b.png")],
        ..grant(
            lease(1, 0, 1),
            "a",
            scene.items(&[("a.png", "abc"), ("c.png", "bad"), ("p.png", "panic")]).await,
        )
    };
    let second = Grant {
        spec: Arc::new(spec("other", "b")),
        run: RunId::new(8),
        ..grant(lease(2, 5, 2), "b", scene.items(&[("d.png", "def")]).await)
    };
    let recipes = [first.spec.recipe.clone(), second.spec.recipe.clone()];
    desk.grant(first).await;
    desk.grant(second).await;
    for _ in 0..2 {
        let (of, ok, quarantined, digest, reasons) = done(desk.report().await);
        desk.commit(of).await;
        if of == lease(1, 0, 1) {
            let (manifest, there) = scene.manifest("a", 7, 0).await;
            assert_eq!((ok, quarantined, digest), (1, 3, there));
            assert_eq!(inputs(&manifest.items), ["a.png", "b.png", "c.png", "p.png"]);
            assert_eq!(manifest.recipe, recipes[0]);
            assert_eq!(reasons[..2], ["b.png: earlier", "c.png: not readable"]);
            assert_eq!(scene.stores["a"].get(&key("a.png")).await.unwrap().1, "cba");
        } else {
            let (manifest, there) = scene.manifest("b", 8, 5).await;
            assert_eq!((of, ok, quarantined, digest), (lease(2, 5, 2), 1, 0, there));
            assert_eq!((inputs(&manifest.items), manifest.recipe), (vec!["d.png"], recipes[1].clone()));
        }
    }
    let both = |heard: &FromWorker| matches!(heard, FromWorker::Heartbeat { credits: 2, leases, models, .. } if leases.is_empty() && models.len() == 2);
    desk.heartbeat(both).await;
    // Two stay open: whoever comes back soon is not opened again.
    for (token, model, opened) in [(3, "third", 3), (4, "fourth", 4), (5, "third", 4), (6, "model", 5)] {
        let items = scene.items(&[(&format!("{token}.png"), "x")]).await;
        let shard = Grant { spec: Arc::new(spec(model, "a")), ..grant(lease(3, token, token), "a", items) };
        desk.grant(shard).await;
        let of = done(desk.report().await).0;
        desk.commit(of).await;
        assert_eq!(scene.seen.opened.load(Ordering::SeqCst), opened, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lost_the_race_for_the_manifest_reports_the_winner() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc"), ("b.png", "def")]).await;
    desk.grant(grant(lease(1, 0, 1), "a", items.clone())).await;
    let first = done(desk.report().await);
    desk.commit(first.0).await;
    // The same shard again: `seconds` differ, the manifest stays the first's.
    desk.grant(grant(lease(1, 0, 2), "a", items.clone())).await;
    let second = done(desk.report().await);
    assert_eq!((second.0, &second.1, &second.3), (lease(1, 0, 2), &first.1, &first.3));
    desk.commit(second.0).await;
    // A manifest of that name that speaks of other inputs.
    desk.grant(grant(lease(1, 0, 3), "a", items[..1].to_vec())).await;
    let (kind, reason) = failure(desk.report().await);
    assert_eq!((kind, reason.as_str()), (FailureKind::Job, "another run began on the destination"));
    // And one that is none at all.
    let (key, damage) = (layout::manifest_key(RunId::new(7), sr3_proto::ShardId::new(9)), Bytes::from("{"));
    scene.stores["a"].put(&key, damage, PutMode::Create).await.unwrap();
    desk.say(ToWorker::Revoke { lease: lease(1, 0, 3), reason: "failed".into() }).await;
    desk.grant(grant(lease(1, 9, 4), "a", items)).await;
    assert_eq!(failure(desk.report().await).0, FailureKind::Job);
}

#[tokio::test]
async fn an_input_that_changed_or_vanished_since_the_plan_is_quarantined() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let mut items = scene.items(&[("a.png", "abc"), ("b.png", "def"), ("c.png", "ghi")]).await;
    scene.stores["in"].put(&key("a.png"), "new".into(), PutMode::Replace).await.unwrap();
    scene.stores["in"].delete(&key("b.png")).await.unwrap();
    items[2].input_etag = None;
    desk.grant(grant(lease(1, 0, 1), "out", items)).await;
    let (_, ok, quarantined, _, reasons) = done(desk.report().await);
    assert_eq!((ok, quarantined), (1, 2));
    assert!(
        reasons[0].contains("changed while the job ran") && reasons[1].contains("removed"),
        "{reasons:?}"
    );
    assert!(scene.stores["out"].head(&key("a.png")).await.unwrap().is_none());
    let (manifest, _) = scene.manifest("out", 7, 0).await;
    assert_eq!(manifest.items[0].status, ItemStatus::Quarantined);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_fails_the_shard_and_the_worker_lives_on() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc"), ("b.png", "def")]).await;
    let mut from_gone = spec("model", "out");
    from_gone.source = "gone".into();
    for (token, shard) in [
        (1, grant(lease(1, 0, 1), "gone", items.clone())),
        (2, Grant { spec: Arc::new(from_gone), ..grant(lease(1, 0, 2), "out", items.clone()) }),
        (3, grant(lease(1, 0, 3), "never was", items.clone())),
    ] {
        desk.grant(shard).await;
        let (kind, reason) = failure(desk.report().await);
        assert_eq!((kind, reason.lines().count()), (FailureKind::Transient, 1), "{reason}");
        // Until it is answered, heartbeats list it.
        let lists = |heard: &FromWorker| matches!(heard, FromWorker::Heartbeat { credits: 1, leases, .. } if leases.len() == 1);
        desk.heartbeat(lists).await;
        desk.say(ToWorker::Revoke { lease: lease(1, 0, token), reason: "no longer held".into() }).await;
    }
    desk.grant(grant(lease(1, 0, 4), "out", items)).await;
    assert_eq!(done(desk.report().await).1, 2);
}

#[tokio::test]
async fn a_model_that_cannot_be_opened_is_this_workers_failure() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc")]).await;
    let shard =
        Grant { spec: Arc::new(spec("missing", "out")), ..grant(lease(1, 0, 1), "out", items.clone()) };
    desk.grant(shard).await;
    assert_eq!(failure(desk.report().await), (FailureKind::Worker, "no model `missing` here".into()));
    // Nothing is left to compute: no model is needed.
    let shard = Grant {
        spec: Arc::new(spec("missing", "out")),
        records: vec![verdict("a.png")],
        ..grant(lease(1, 1, 2), "out", Vec::new())
    };
    desk.grant(shard).await;
    assert_eq!(done(desk.report().await).2, 1);
}

async fn item_done(desk: &mut Desk, expected: &str) {
    match desk.report().await {
        FromWorker::ItemDone { record, .. } => assert_eq!(record.input, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_shard_goes_item_by_item_and_alone() {
    let mut scene = Scene::new(Setup { credits: 3, ..Setup::default() });
    let mut desk = scene.welcome(|_| None).await;
    let names: Vec<_> = (0..8).map(|i| format!("{i}.png")).collect();
    let others: Vec<_> = names.iter().map(|name| (name.as_str(), "xyz")).collect();
    desk.grant(grant(lease(1, 0, 1), "a", scene.items(&others).await)).await;
    let items = scene.items(&[("alone1.png", "abc"), ("alone2.png", "bad"), ("alone3.png", "ghi")]).await;
    let isolated = Grant { isolated: true, ..grant(lease(1, 1, 2), "b", items) };
    scene.computing().await;
    desk.grant(isolated).await;
    let (mut shards, mut items) = (Vec::new(), Vec::new());
    while items.is_empty() || shards.is_empty() {
        match desk.report().await {
            FromWorker::ItemDone { record, .. } => items.push(record.input),
            other => shards.push(done(other).0),
        }
    }
    assert_eq!((items, shards), (vec!["alone1.png".to_string()], vec![lease(1, 0, 1)]));
    desk.silence(Duration::from_millis(200)).await;
    assert!(!scene.seen.computed.lock().unwrap().iter().any(|name| name == "alone3.png"));
    desk.commit(lease(1, 1, 2)).await;
    item_done(&mut desk, "alone2.png").await;
    desk.commit(lease(1, 1, 2)).await;
    item_done(&mut desk, "alone3.png").await;
    desk.commit(lease(1, 1, 2)).await;
    let (of, ok, quarantined, ..) = done(desk.report().await);
    assert_eq!((of, ok, quarantined), (lease(1, 1, 2), 2, 1));
    assert!(!scene.seen.company.load(Ordering::SeqCst));
    assert_eq!(scene.manifest("b", 7, 1).await.0.items.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_shard_is_stopped_even_on_the_device_and_not_spoken_of_again() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a-forever.png", "abc"), ("b-forever.png", "def")]).await;
    desk.grant(grant(lease(1, 0, 1), "out", items)).await;
    let at_work = |heard: &FromWorker| matches!(heard, FromWorker::Heartbeat { leases, .. } if leases.iter().any(|l| l.current.is_some() && l.share == 0.5));
    desk.heartbeat(at_work).await;
    desk.say(ToWorker::Revoke { lease: lease(1, 0, 1), reason: "the job was cancelled".into() }).await;
    let free = |heard: &FromWorker| matches!(heard, FromWorker::Heartbeat { credits: 2, .. });
    desk.heartbeat(free).await;
    desk.silence(Duration::from_millis(200)).await;
    assert_eq!(scene.seen.stopped.load(Ordering::SeqCst), 1);
    // The device is free for others.
    let items = scene.items(&[("c.png", "abc")]).await;
    desk.grant(grant(lease(1, 1, 2), "out", items)).await;
    assert_eq!(done(desk.report().await).1, 1);
}

#[tokio::test]
async fn a_manifest_is_written_as_the_coordinator_of_one_process_writes_it() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    desk.grant(grant(lease(1, 0, 1), "out", scene.items(&[("a.png", "abc")]).await)).await;
    let digest = done(desk.report().await).3;
    let (manifest, _) = scene.manifest("out", 7, 0).await;
    let again = write_document("manifest", &manifest).unwrap();
    assert_eq!(sr3_proto::Digest::of(&again), digest);
}
