//! What goes wrong at a coordinator is counted, each by its reason.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{Cluster, hello, job_spec, submit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sr3_coordinator::telemetry;
use sr3_proto::{FailureKind, FromWorker, Grant, ToWorker, WorkerEnd, session::UnitResult};

async fn granted(end: &mut WorkerEnd) -> Grant {
    loop {
        if let ToWorker::Grant(grant) = end.receive.recv().await.unwrap() {
            return *grant;
        }
    }
}

async fn counted(numbers: &PrometheusHandle, line: &str) {
    let seen = async {
        while !numbers.render().lines().any(|found| found == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), seen).await;
    assert!(waited.is_ok(), "no {line} in\n{}", numbers.render());
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_is_counted_by_its_reason() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let numbers = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    telemetry::describe();
    let mut cluster = Cluster::new(8).await;
    let mut one = cluster.coordinator.attach(hello("one"), String::new()).await.unwrap();
    let _other = cluster.coordinator.attach(hello("other"), String::new()).await.unwrap();
    submit(&cluster.coordinator, job_spec(), "").await.unwrap();

    let lease = granted(&mut one).await.lease;
    let failed = FromWorker::UnitFailed {
        lease,
        reason: "a store is away".into(),
        kind: FailureKind::Transient,
        records: Vec::new(),
    };
    one.send.send(failed.clone()).await.unwrap();
    counted(&numbers, "sr3_unit_failures_total{kind=\"transient\"} 1").await;
    one.send.send(failed).await.unwrap();
    counted(&numbers, "sr3_stale_reports_total 1").await;

    // More than there are: whoever says so is believed nothing of this job any more.
    let result = UnitResult { done: 99, quarantined: 0, payload: "".into(), reasons: Vec::new() };
    let lease = granted(&mut one).await.lease;
    one.send.send(FromWorker::UnitDone { lease, result }).await.unwrap();
    counted(&numbers, "sr3_refused_total{reason=\"report\"} 1").await;
    counted(&numbers, "sr3_unit_failures_total{kind=\"worker\"} 1").await;
    counted(&numbers, "sr3_unit_failures_total{kind=\"transient\"} 1").await;

    // Nobody says anything any more.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!numbers.render().contains("sr3_lease_expiries_total 0"), "{}", numbers.render());
    let (_, fenced) = cluster.take_over().await;
    assert!(fenced);
    counted(&numbers, "sr3_fenced_writes_total 1").await;
}
