//! The numbers of a worker, for those who operate it: what each is called, what it says, and the one way to change it.
//!
//! Every name stands here and nowhere else. What an item came to is for the kind of its job to know, which says so
//! ([`item_done`], [`item_quarantined`]). No label names a job or a picture: of these there may be any number. Nothing is
//! decided by a number here, and without a recorder in the process none is kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::{Stop, memory};

const ITEMS: &str = "sr3_worker_items_total";
const UNITS: &str = "sr3_worker_units_total";
const MEGAPIXELS: &str = "sr3_worker_megapixels_total";
const DEVICE_BUSY_SECONDS: &str = "sr3_worker_device_busy_seconds_total";
const SESSION: &str = "sr3_worker_session";
const MEMORY_LIMIT_BYTES: &str = "sr3_worker_memory_limit_bytes";

const DONE: &str = "done";
const QUARANTINED: &str = "quarantined";
const FAILED: &str = "failed";
const RETURNED: &str = "returned";

/// Counters, by result.
const COUNTERS: [(&str, &str, &[&str]); 2] = [
    (
        ITEMS,
        "Items by what came of them here: a result, set aside, stopped by a failure that was not theirs, or given up.",
        &[DONE, QUARANTINED, FAILED, RETURNED],
    ),
    (UNITS, "Units by how they ended here: finished, failed, or given back.", &[DONE, FAILED, RETURNED]),
];

/// Counters of what comes in fractions. The facade's counters are whole numbers, so that these are its gauges; whoever shows
/// them says what they are.
pub const FRACTIONS: [(&str, &str); 2] = [
    (MEGAPIXELS, "Megapixels of results."),
    (DEVICE_BUSY_SECONDS, "Seconds in which the device computed; of several devices together."),
];

const GAUGES: [(&str, &str); 2] = [
    (SESSION, "1 while this process has a session with a coordinator."),
    (MEMORY_LIMIT_BYTES, "Bytes that the strictest limit lets this process take; 0 if none is known."),
];

/// Names of all of them.
pub fn names() -> impl Iterator<Item = &'static str> {
    COUNTERS
        .into_iter()
        .map(|(name, ..)| name)
        .chain(FRACTIONS.into_iter().chain(GAUGES).map(|(name, _)| name))
}

/// Tells the recorder of all of them, so that those are seen, too, of which nothing has happened.
pub fn describe() {
    for (name, text, results) in COUNTERS {
        describe_counter!(name, text);
        for result in results {
            counter!(name, "result" => *result).absolute(0);
        }
    }
    for (name, text) in FRACTIONS.into_iter().chain(GAUGES) {
        describe_gauge!(name, text);
        gauge!(name).set(0.0);
    }
}

/// Brings the gauges up to date.
pub fn refresh(sessions: &Sessions) {
    gauge!(SESSION).set(if sessions.any() { 1.0 } else { 0.0 });
    gauge!(MEMORY_LIMIT_BYTES).set(memory::most().map_or(0.0, |room| room.limit as f64));
}

/// An item has a result of so many pixels.
pub fn item_done(pixels: u64) {
    counter!(ITEMS, "result" => DONE).increment(1);
    gauge!(MEGAPIXELS).increment(pixels as f64 / 1e6);
}

/// An item was set aside.
pub fn item_quarantined() {
    counter!(ITEMS, "result" => QUARANTINED).increment(1);
}

/// An item stopped before it had a verdict.
pub(crate) fn item_stopped(why: &Stop) {
    let result = if matches!(why, Stop::Failed(_)) { FAILED } else { RETURNED };
    counter!(ITEMS, "result" => result).increment(1);
}

/// How an attempt at a unit ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UnitEnded {
    Done,
    Failed,
    Returned,
}

/// A unit ended.
pub(crate) fn unit_ended(how: UnitEnded) {
    let result = match how {
        UnitEnded::Done => DONE,
        UnitEnded::Failed => FAILED,
        UnitEnded::Returned => RETURNED,
    };
    counter!(UNITS, "result" => result).increment(1);
}

/// The device computed for so long.
pub(crate) fn device_busy(seconds: f64) {
    gauge!(DEVICE_BUSY_SECONDS).increment(seconds);
}

/// How many sessions the workers of a process have. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<AtomicUsize>);

impl Sessions {
    /// Whether there is one.
    pub fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Counts a session for as long as what is returned lives.
    pub(crate) fn begin(&self) -> Attending {
        self.0.fetch_add(1, Ordering::Relaxed);
        Attending(self.clone())
    }
}

/// A session.
pub(crate) struct Attending(Sessions);

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
