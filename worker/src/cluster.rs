//! The worker of a cluster: runs units of any number of jobs over sessions with a coordinator.
//!
//! Protocol. It says hello with the leases that it still holds, and goes on with those that are renewed. Heartbeats
//! carry its credits and how far each unit is; one is sent at once when a credit becomes free. Units granted run
//! through one pipeline. A unit's slot is free again when its report is committed, or its lease void.
//!
//! Failure. When a session ends, work goes on and a new session is sought, for as long as it takes; what was reported
//! and not committed is said again. A lease that is not renewed is forgotten: what was written under it is what anybody
//! else writes. What a store or a model refuses fails the unit; the worker lives on.
//!
//! Leaving. Asked by its owner or by the coordinator, it takes no more, finishes what it can in time, gives the rest
//! back with the verdicts so far, waits for what it reported to be durable, and says goodbye.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use sr3_proto::{Cancel, Offer, Store};

use crate::{Connect, OpenStore, Runners, WorkerConfig, member::Member, memory, telemetry::Sessions};

/// What a worker is and how much it takes.
#[derive(Clone)]
pub struct ClusterWorkerConfig {
    /// For people: host and process.
    pub name: String,
    /// What it computes on, for people.
    pub device: String,
    /// What it has; its kinds are those of its runners.
    pub offer: Offer,
    /// Where it serves other members of a gang; empty where it takes part in none.
    pub peer_address: String,
    /// Version of its program.
    pub version: String,
    /// Names the process; random, so that no other has it.
    pub instance: String,
    /// Units held at once. Two hide the way to the coordinator; more only hold work that others could do.
    pub credits: usize,
    /// Orders kept open beside those in use: each holds its models in memory.
    pub orders_max: usize,
    /// How long units may go on when the worker leaves. Zero gives them back at once.
    pub drain_timeout: Duration,
    /// What bounds the pipeline.
    pub pipeline: WorkerConfig,
    /// How the locations in specs become stores.
    pub stores: OpenStore,
    /// Attempts at a unit after which an input that its source still cannot deliver is quarantined: one bad object
    /// must not fail a job.
    pub read_attempts: u32,
    /// Where its sessions are counted.
    pub sessions: Sessions,
}

impl Default for ClusterWorkerConfig {
    fn default() -> Self {
        let random = || RandomState::new().hash_one(std::process::id());
        Self {
            name: format!("process {}", std::process::id()),
            device: "cpu".into(),
            offer: Offer {
                kinds: Vec::new(),
                classes: vec!["f32".into()],
                memory_bytes: memory::most().map_or(0, |room| room.limit),
                threads: std::thread::available_parallelism()
                    .map_or(0, |n| u32::try_from(n.get()).unwrap_or(0)),
            },
            peer_address: String::new(),
            version: env!("CARGO_PKG_VERSION").into(),
            instance: format!("{:016x}{:016x}", random(), random()),
            credits: 2,
            orders_max: 2,
            drain_timeout: Duration::from_secs(60),
            pipeline: WorkerConfig::default(),
            stores: Arc::new(Store::at),
            read_attempts: 5,
            sessions: Sessions::default(),
        }
    }
}

/// Why a worker gave up.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFailure {
    /// The coordinator does not want it.
    #[error("the coordinator refused this worker: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The machine does not let it work.
    #[error("the device's thread cannot be started: {source}")]
    Device {
        /// What the system says.
        source: std::io::Error,
    },
}

/// Works for the coordinator that `connect` finds, until `stop` is set or the coordinator asks it to leave, and all
/// that it holds is finished or given back.
///
/// # Errors
/// When there is no hope: it is refused, or cannot compute at all.
pub async fn serve<C: Connect>(
    runners: Runners,
    mut connect: C,
    config: ClusterWorkerConfig,
    stop: Cancel,
) -> Result<(), WorkerFailure> {
    let mut member = Member::start(runners, config, stop)?;
    let left = member.attend_sessions(&mut connect).await;
    member.end().await;
    left
}
