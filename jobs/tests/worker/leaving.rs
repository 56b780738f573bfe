//! Workers that leave.

use std::{sync::atomic::Ordering, time::Duration};

use sr3_proto::{FromWorker, Grant, ToWorker};

use crate::played::{Scene, Setup, done, grant, inputs, lease, records as verdicts};

fn draining(heard: &FromWorker) -> bool {
    matches!(heard, FromWorker::Heartbeat { draining: true, credits: 0, .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_stop_it_gives_back_what_does_not_finish_in_time() {
    let mut scene = Scene::new(Setup {
        drain_timeout: Duration::from_millis(300),
        items_in_flight_max: 1,
        ..Setup::default()
    });
    let mut desk = scene.welcome(|_| None).await;
    let items =
        scene.items(&[("a.png", "abc"), ("b.png", "bad"), ("c-forever.png", "ghi"), ("d.png", "x")]).await;
    desk.grant(grant(lease(1, 0, 1), "out", items)).await;
    desk.heartbeat(|heard| {
        matches!(heard, FromWorker::Heartbeat { leases, .. } if leases.iter().any(|l| l.current.as_deref() == Some("c-forever.png")))
    })
    .await;
    scene.stop.cancel();
    desk.heartbeat(draining).await;
    // What comes too late is given back as it came.
    let late = scene.items(&[("e.png", "abc")]).await;
    desk.grant(grant(lease(1, 1, 2), "out", late)).await;
    match desk.report().await {
        FromWorker::UnitReturned { lease: of, records } => {
            assert_eq!((of, records.len()), (lease(1, 1, 2), 0));
        }
        other => panic!("{other:?}"),
    }
    match desk.report().await {
        FromWorker::UnitReturned { lease: of, records } => {
            assert_eq!((of, inputs(&verdicts(&records))), (lease(1, 0, 1), vec!["a.png", "b.png"]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.seen.stopped.load(Ordering::SeqCst), 1);
    // Only what is durable lets it go.
    desk.commit(lease(1, 1, 2)).await;
    desk.silence(Duration::from_millis(200)).await;
    desk.commit(lease(1, 0, 1)).await;
    assert_eq!(desk.report().await, FromWorker::Goodbye);
    drop(desk);
    scene.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_by_the_coordinator_it_finishes_what_it_has() {
    let mut scene = Scene::new(Setup { pause: Duration::from_millis(50), ..Setup::default() });
    let mut desk = scene.welcome(|_| None).await;
    desk.grant(grant(lease(1, 0, 1), "out", scene.items(&[("a.png", "abc"), ("b.png", "def")]).await)).await;
    desk.say(ToWorker::Drain).await;
    desk.heartbeat(draining).await;
    assert_eq!(done(desk.report().await).1, 2);
    desk.commit(lease(1, 0, 1)).await;
    assert_eq!(desk.report().await, FromWorker::Goodbye);
    drop(desk);
    scene.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_unit_is_given_back_without_what_was_reported_by_itself() {
    let mut scene = Scene::new(Setup { drain_timeout: Duration::ZERO, ..Setup::default() });
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc"), ("b-forever.png", "def")]).await;
    desk.grant(Grant { isolated: true, ..grant(lease(1, 0, 1), "out", items) }).await;
    assert!(matches!(desk.report().await, FromWorker::ItemDone { .. }));
    scene.stop.cancel();
    // The verdict is not answered yet: the end is said only after it is.
    desk.silence(Duration::from_millis(200)).await;
    desk.commit(lease(1, 0, 1)).await;
    match desk.report().await {
        FromWorker::UnitReturned { records, .. } => assert!(records.is_empty()),
        other => panic!("{other:?}"),
    }
    desk.commit(lease(1, 0, 1)).await;
    assert_eq!(desk.report().await, FromWorker::Goodbye);
    drop(desk);
    scene.ended().await.unwrap();
}

#[tokio::test]
async fn without_anything_to_say_it_leaves_without_a_coordinator() {
    let mut scene = Scene::new(Setup::default());
    scene.joins.close();
    tokio::time::sleep(Duration::from_millis(50)).await;
    scene.stop.cancel();
    scene.ended().await.unwrap();
}
