//! What becomes of a unit.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use sr3_jobs::upscale::{ItemStatus, UpscaleOrder, record::write_document};
use sr3_proto::{FailureKind, FromWorker, Grant, RunId, ToWorker, layout, store::PutMode};

use crate::played::{Desk, Scene, Setup, done, grant, inputs, key, lease, order, records, spec, verdict};

fn failure(report: FromWorker) -> (FailureKind, String) {
    match report {
        FromWorker::UnitFailed { kind, reason, .. } => (kind, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_of_two_jobs_end_in_their_manifests() {
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
        order: order("other", "b"),
        run: RunId::new(8),
        ..grant(lease(2, 5, 2), "b", scene.items(&[("d.png", "def")]).await)
    };
    let recipes = [&first, &second].map(|grant| UpscaleOrder::read(&grant.order).unwrap().recipe);
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
        let unit = Grant { order: order(model, "a"), ..grant(lease(3, token, token), "a", items) };
        desk.grant(unit).await;
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
    // The same unit again: `seconds` differ, the manifest stays the first's.
    desk.grant(grant(lease(1, 0, 2), "a", items.clone())).await;
    let second = done(desk.report().await);
    assert_eq!((second.0, &second.1, &second.3), (lease(1, 0, 2), &first.1, &first.3));
    desk.commit(second.0).await;
    // A manifest of that name that speaks of other inputs.
    desk.grant(grant(lease(1, 0, 3), "a", items[..1].to_vec())).await;
    let (kind, reason) = failure(desk.report().await);
    assert_eq!((kind, reason.as_str()), (FailureKind::Job, "another run began on the destination"));
    // And one that is none at all.
    let (key, damage) = (layout::manifest_key(RunId::new(7), sr3_proto::UnitId::new(9)), Bytes::from("{"));
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
async fn a_store_that_fails_fails_the_unit_and_the_worker_lives_on() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc"), ("b.png", "def")]).await;
    let mut from_gone = spec("model", "out");
    from_gone.source = "gone".into();
    for (token, unit) in [
        (1, grant(lease(1, 0, 1), "gone", items.clone())),
        (
            2,
            Grant {
                order: Arc::new(from_gone.envelope(None, 1).unwrap()),
                ..grant(lease(1, 0, 2), "out", items.clone())
            },
        ),
        (3, grant(lease(1, 0, 3), "never was", items.clone())),
    ] {
        desk.grant(unit).await;
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
    let unit = Grant { order: order("missing", "out"), ..grant(lease(1, 0, 1), "out", items.clone()) };
    desk.grant(unit).await;
    assert_eq!(failure(desk.report().await), (FailureKind::Worker, "no model `missing` here".into()));
    // Nothing is left to compute: no model is needed.
    let unit = Grant {
        order: order("missing", "out"),
        records: vec![verdict("a.png")],
        ..grant(lease(1, 1, 2), "out", Vec::new())
    };
    desk.grant(unit).await;
    assert_eq!(done(desk.report().await).2, 1);
}

async fn item_done(desk: &mut Desk, expected: &str) {
    match desk.report().await {
        FromWorker::ItemDone { record, .. } => assert_eq!(records(&[record])[0].input, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_unit_goes_item_by_item_and_alone() {
    let mut scene = Scene::new(Setup { credits: 3, ..Setup::default() });
    let mut desk = scene.welcome(|_| None).await;
    let names: Vec<_> = (0..8).map(|i| format!("{i}.png")).collect();
    let others: Vec<_> = names.iter().map(|name| (name.as_str(), "xyz")).collect();
    desk.grant(grant(lease(1, 0, 1), "a", scene.items(&others).await)).await;
    let items = scene.items(&[("alone1.png", "abc"), ("alone2.png", "bad"), ("alone3.png", "ghi")]).await;
    let isolated = Grant { isolated: true, ..grant(lease(1, 1, 2), "b", items) };
    scene.computing().await;
    desk.grant(isolated).await;
    let (mut units, mut items) = (Vec::new(), Vec::new());
    while items.is_empty() || units.is_empty() {
        match desk.report().await {
            FromWorker::ItemDone { record, .. } => items.push(records(&[record])[0].input.clone()),
            other => units.push(done(other).0),
        }
    }
    assert_eq!((items, units), (vec!["alone1.png".to_string()], vec![lease(1, 0, 1)]));
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
async fn a_revoked_unit_is_stopped_even_on_the_device_and_not_spoken_of_again() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_coordinator_grants_is_refused_with_the_reason_and_others_go_on() {
    let mut scene = Scene::new(Setup { credits: 4, ..Setup::default() });
    let mut desk = scene.welcome(|_| None).await;
    assert_eq!(desk.hello.offer.kinds, ["upscale"]);
    let items = scene.items(&[("a.png", "abc")]).await;
    let unknown = |change: fn(&mut sr3_proto::Order)| {
        let mut order = (*order("model", "out")).clone();
        change(&mut order);
        Arc::new(order)
    };
    let good = |token| grant(lease(1, token, token), "out", items.clone());
    for (unit, parts) in [
        (
            Grant { order: unknown(|order| order.kind = "paint".into()), ..good(1) },
            ["runs no jobs of kind `paint`", "same sr3"],
        ),
        (
            Grant {
                order: unknown(|order| order.payload = br#"{"version":9,"order":1}"#.as_slice().into()),
                ..good(2)
            },
            ["the order of kind `upscale` has version 9", "same sr3"],
        ),
        (Grant { unit: Bytes::from_static(&[8, 9]), ..good(3) }, ["version 9", "same sr3"]),
    ] {
        let lease = unit.lease;
        desk.grant(unit).await;
        let (kind, reason) = failure(desk.report().await);
        assert_eq!(kind, FailureKind::Worker);
        assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
        desk.commit(lease).await;
    }
    desk.grant(good(4)).await;
    assert_eq!(done(desk.report().await).1, 1);
}
