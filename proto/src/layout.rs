//! Where the state of jobs lies: everything below `.sr3/`. Pure functions.

use crate::{Key, RunId, UnitId};

/// The folder below a destination that holds the state of its jobs; never listed as input, at any depth.
pub const STATE_FOLDER: &str = ".sr3";

/// Below it, one manifest per finished shard.
pub fn manifest_prefix() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/manifests"))
}

/// The manifest of a shard; created once, never replaced.
pub fn manifest_key(job: RunId, shard: UnitId) -> Key {
    Key::trusted(format!("{STATE_FOLDER}/manifests/{job}/{shard}.json"))
}

/// Below it, one record per run.
pub fn jobs_prefix() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/jobs"))
}

/// What a run was asked to do; created once when it begins.
pub fn job_key(job: RunId) -> Key {
    Key::trusted(format!("{STATE_FOLDER}/jobs/{job}.json"))
}

/// A line per image of the latest run of every source.
pub fn report_key() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/report.jsonl"))
}

/// Written last: whoever finds it finds a complete result.
pub fn success_key() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/_SUCCESS"))
}

/// What the run that works here has on its device; there only while it has.
pub fn in_flight_key() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/in-flight.json"))
}

/// Held by the one run that works on a destination.
pub fn lock_key() -> Key {
    Key::trusted(format!("{STATE_FOLDER}/lock"))
}

/// Below it, what a probe of the store writes and removes again; `run` tells probes apart.
pub fn probe_prefix(run: u64) -> Key {
    Key::trusted(format!("{STATE_FOLDER}/probe/{run:016x}"))
}

/// The key of a state that only one kind of job knows; `name` may hold slashes between plain names.
pub fn state_key(name: &str) -> Key {
    Key::trusted(format!("{STATE_FOLDER}/{name}"))
}

/// The key `name` in the folder `folder`.
pub(crate) fn below(folder: &Key, name: &str) -> Key {
    Key::trusted(format!("{folder}/{name}"))
}
