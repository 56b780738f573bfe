//! The numbers of a coordinator, for those who operate it: what each is called, what it says, and the one way to change it.
//!
//! Every name stands here and nowhere else. Counters change where things happen, and only once what they count is durable;
//! gauges are asked of the coordinator when somebody wants to see them ([`refresh`]). No label names a job, a worker or a
//! caller: of these there may be any number. Nothing is decided by a number here, and without a recorder in the process
//! none is kept.

use std::{iter, time::Duration};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use sr3_proto::{FailureKind, net::Tally};
use tokio::time::timeout;

use crate::core::{
    Coordinator,
    view::{Load, STATES},
};

const ACTIVE: &str = "sr3_active";
const WRITER_EPOCH: &str = "sr3_writer_epoch";
const JOBS: &str = "sr3_jobs";
const WORKERS: &str = "sr3_workers";
const UNITS_PENDING: &str = "sr3_units_pending";
const UNITS_LEASED: &str = "sr3_units_leased";
const CONNECTIONS: &str = "sr3_connections";
const UNITS_DONE: &str = "sr3_units_done_total";
const ITEMS_DONE: &str = "sr3_items_done_total";
const ITEMS_QUARANTINED: &str = "sr3_items_quarantined_total";
const UNIT_FAILURES: &str = "sr3_unit_failures_total";
const LEASE_EXPIRIES: &str = "sr3_lease_expiries_total";
const FENCED_WRITES: &str = "sr3_fenced_writes_total";
const STALE_REPORTS: &str = "sr3_stale_reports_total";
const REFUSED: &str = "sr3_refused_total";
const COMMIT_SECONDS: &str = "sr3_commit_seconds";

const GAUGES: [(&str, &str); 7] = [
    (ACTIVE, "1 while this coordinator is the active one, 0 on standby."),
    (WRITER_EPOCH, "Epoch in which it writes the ledger; each takeover has a higher one. 0 on standby."),
    (JOBS, "Jobs that the active coordinator knows, by state."),
    (WORKERS, "Workers with a session."),
    (UNITS_PENDING, "Units that wait for a worker, of jobs that are not paused."),
    (UNITS_LEASED, "Units at workers; one that two of them try counts twice."),
    (CONNECTIONS, "Connections to the port of the coordinator."),
];

const COUNTERS: [(&str, &str); 8] = [
    (UNITS_DONE, "Units recorded as finished."),
    (ITEMS_DONE, "Items of these that have a result."),
    (ITEMS_QUARANTINED, "Items that were set aside, when they were planned or computed."),
    (UNIT_FAILURES, "Attempts at a unit that failed, by who could do better."),
    (LEASE_EXPIRIES, "Leases that ran out because their worker said nothing more."),
    (FENCED_WRITES, "Writes that the ledger refused because another coordinator had taken over."),
    (STALE_REPORTS, "Reports under a lease that their worker did not hold any more."),
    (
        REFUSED,
        "What was refused: callers whom the gate did not let in, reports that were false, connections for which there was no room.",
    ),
];

/// Names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    GAUGES.into_iter().chain(COUNTERS).map(|(name, _)| name).chain(iter::once(COMMIT_SECONDS))
}

/// The histogram, and the bounds of its buckets: from a commit to memory, over those to a disk and to a bucket, to one that
/// was tried again and again.
pub const BUCKETS: (&str, [f64; 14]) =
    (COMMIT_SECONDS, [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0]);

/// A coordinator that does not answer for so long has the numbers of before.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    /// The gate did not let somebody in.
    Caller,
    /// A worker's report was false.
    Report,
}

/// Tells the recorder of all of them, so that those are seen, too, of which nothing has happened.
pub fn describe() {
    for (name, text) in GAUGES {
        describe_gauge!(name, text);
    }
    for (name, text) in COUNTERS {
        describe_counter!(name, text);
    }
    for name in [UNITS_DONE, ITEMS_DONE, ITEMS_QUARANTINED, LEASE_EXPIRIES, FENCED_WRITES, STALE_REPORTS] {
        counter!(name).absolute(0);
    }
    for kind in [FailureKind::Transient, FailureKind::Worker, FailureKind::Job] {
        counter!(UNIT_FAILURES, "kind" => kind_name(kind)).absolute(0);
    }
    for reason in [Refused::Caller, Refused::Report] {
        counter!(REFUSED, "reason" => reason_name(reason)).absolute(0);
    }
    describe_histogram!(COMMIT_SECONDS, "Seconds in which the ledger made a commit durable.");
    let _ = histogram!(COMMIT_SECONDS);
}

/// Brings the gauges up to date: of the coordinator that is active in this process, or none on standby, and of its port.
pub async fn refresh(active: Option<&Coordinator>, port: &Tally) {
    gauge!(CONNECTIONS).set(port.open() as f64);
    counter!(REFUSED, "reason" => "connections").absolute(port.refused());
    let load = match active {
        None => Load::default(),
        Some(coordinator) => match timeout(PATIENCE, coordinator.load()).await {
            Ok(load) => load.unwrap_or_default(),
            Err(_) => return,
        },
    };
    // Epochs begin with 1.
    gauge!(ACTIVE).set(if load.epoch > 0 { 1.0 } else { 0.0 });
    gauge!(WRITER_EPOCH).set(load.epoch as f64);
    for state in STATES {
        gauge!(JOBS, "state" => state).set(load.jobs.get(state).copied().unwrap_or(0) as f64);
    }
    gauge!(WORKERS).set(load.workers as f64);
    gauge!(UNITS_PENDING).set(load.units_pending as f64);
    gauge!(UNITS_LEASED).set(load.units_leased as f64);
}

/// What a commit makes durable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) units: u64,
    pub(crate) done: u64,
    pub(crate) quarantined: u64,
}

impl Recorded {
    pub(crate) fn add(&mut self, more: Self) {
        self.units += more.units;
        self.done += more.done;
        self.quarantined += more.quarantined;
    }
}

/// The ledger made this durable, in so much time.
pub(crate) fn committed(recorded: Recorded, took: Duration) {
    histogram!(COMMIT_SECONDS).record(took);
    for (name, count) in
        [(UNITS_DONE, recorded.units), (ITEMS_DONE, recorded.done), (ITEMS_QUARANTINED, recorded.quarantined)]
    {
        if count > 0 {
            counter!(name).increment(count);
        }
    }
}

/// The ledger refused a write of this coordinator.
pub(crate) fn fenced() {
    counter!(FENCED_WRITES).increment(1);
}

/// An attempt at a unit failed.
pub(crate) fn unit_failed(kind: FailureKind) {
    counter!(UNIT_FAILURES, "kind" => kind_name(kind)).increment(1);
}

/// So many leases ran out.
pub(crate) fn leases_expired(count: u64) {
    counter!(LEASE_EXPIRIES).increment(count);
}

/// A report came under a lease that is not held.
pub(crate) fn stale_report() {
    counter!(STALE_REPORTS).increment(1);
}

/// Something was refused.
pub(crate) fn refused(what: Refused) {
    counter!(REFUSED, "reason" => reason_name(what)).increment(1);
}

fn kind_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Transient => "transient",
        FailureKind::Worker => "worker",
        FailureKind::Job => "job",
    }
}

fn reason_name(what: Refused) -> &'static str {
    match what {
        Refused::Caller => "caller",
        Refused::Report => "report",
    }
}
