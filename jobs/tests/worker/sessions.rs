//! Sessions that break while units go on.

use std::time::Duration;

use sr3_proto::{FromWorker, Grant, Lease, ToWorker};

use crate::played::{Scene, Setup, done, grant, key, lease};

fn renewed(old: Lease) -> Lease {
    Lease { epoch: old.epoch + 1, token: old.token + 100, ..old }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_goes_on_without_a_session_and_is_reported_under_the_renewed_lease() {
    let mut scene = Scene::new(Setup { pause: Duration::from_millis(100), ..Setup::default() });
    let desk = scene.welcome(|_| None).await;
    desk.grant(grant(lease(1, 0, 1), "out", scene.items(&[("a.png", "abc"), ("b.png", "def")]).await)).await;
    scene.computing().await;
    let instance = desk.hello.instance.clone();
    drop(desk);
    let mut desk = scene.welcome(|old| Some(renewed(old))).await;
    assert_eq!((&desk.hello.instance, &desk.hello.held), (&instance, &vec![lease(1, 0, 1)]));
    assert_eq!(desk.hello.credits, 1);
    let first = done(desk.report().await);
    assert_eq!((first.0, first.1), (renewed(lease(1, 0, 1)), 2));
    // The session breaks before the report is committed: it is said again.
    drop(desk);
    let mut desk = scene.welcome(|old| Some(renewed(old))).await;
    let again = done(desk.report().await);
    assert_eq!((again.0, &again.3), (renewed(renewed(lease(1, 0, 1))), &first.3));
    desk.commit(again.0).await;
    desk.heartbeat(|heard| matches!(heard, FromWorker::Heartbeat { credits: 2, .. })).await;
    assert_eq!(scene.seen.computed.lock().unwrap().len(), 2, "nothing was computed twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_lease_that_is_not_renewed_nothing_is_said() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    desk.grant(grant(lease(1, 0, 1), "out", scene.items(&[("a.png", "abc")]).await)).await;
    scene.computing().await;
    desk.grant(grant(lease(1, 1, 2), "out", scene.items(&[("b-forever.png", "abc")]).await)).await;
    done(desk.report().await);
    drop(desk);
    let mut desk = scene.welcome(|_| None).await;
    assert_eq!(desk.hello.held, [lease(1, 0, 1), lease(1, 1, 2)]);
    let last = desk.silence(Duration::from_millis(300)).await;
    assert!(matches!(last, FromWorker::Heartbeat { credits: 2, leases, .. } if leases.is_empty()));
    // What was written harms nobody: another attempt finds it right.
    assert!(scene.stores["out"].head(&key("a.png")).await.unwrap().is_some());
    desk.grant(grant(lease(1, 0, 9), "out", scene.items(&[("a.png", "abc")]).await)).await;
    assert_eq!(done(desk.report().await).1, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_item_is_said_again_and_the_next_waits_for_it() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let items = scene.items(&[("a.png", "abc"), ("b.png", "def")]).await;
    desk.grant(Grant { isolated: true, ..grant(lease(1, 0, 1), "out", items) }).await;
    let first = desk.report().await;
    drop(desk);
    let mut desk = scene.welcome(|old| Some(renewed(old))).await;
    match (first, desk.report().await) {
        (FromWorker::ItemDone { record: a, .. }, FromWorker::ItemDone { lease: under, record: b }) => {
            assert_eq!((a, under), (b, renewed(lease(1, 0, 1))));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.seen.computed.lock().unwrap().len(), 1);
    desk.commit(renewed(lease(1, 0, 1))).await;
    assert!(matches!(desk.report().await, FromWorker::ItemDone { .. }));
    desk.commit(renewed(lease(1, 0, 1))).await;
    assert_eq!(done(desk.report().await).1, 2);
}

#[tokio::test]
async fn a_grant_and_an_answer_that_come_twice_change_nothing() {
    let mut scene = Scene::new(Setup::default());
    let mut desk = scene.welcome(|_| None).await;
    let unit = grant(lease(1, 0, 1), "out", scene.items(&[("a.png", "abc")]).await);
    desk.grant(unit.clone()).await;
    desk.grant(unit).await;
    desk.commit(lease(9, 9, 9)).await;
    desk.commit(lease(1, 0, 1)).await;
    done(desk.report().await);
    desk.commit(lease(1, 0, 1)).await;
    desk.commit(lease(1, 0, 1)).await;
    desk.say(ToWorker::Revoke { lease: lease(1, 0, 1), reason: "late".into() }).await;
    let last = desk.silence(Duration::from_millis(200)).await;
    assert!(matches!(last, FromWorker::Heartbeat { credits: 2, .. }));
}
