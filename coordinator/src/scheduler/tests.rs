//! Promises of the scheduler over random histories, and its finer points one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sr3_proto::FailureKind::{self, Transient};

use super::*;

/// Workers, their leases as they know them, and everything that the scheduler said.
struct World {
    scheduler: Scheduler,
    now: Time,
    next_worker: u64,
    /// Of connected workers: what they think they hold.
    held: BTreeMap<WorkerId, BTreeSet<Lease>>,
    instances: BTreeMap<WorkerId, String>,
    /// What workers that went silent still think they hold.
    zombies: Vec<(WorkerId, Lease)>,
    recorded: BTreeMap<(JobId, UnitId), Lease>,
    granted: BTreeSet<Lease>,
    isolated: BTreeSet<Lease>,
    done: BTreeSet<JobId>,
    failed: BTreeSet<JobId>,
    last_token: u64,
}

const UNITS: u64 = 6;

/// Of the first job some units need the one before.
fn due(job: JobId, unit: u64) -> Due {
    let after = (job.get() == 1 && unit > 1 && unit % 2 == 1).then(|| UnitId::new(unit - 1));
    Due { unit: UnitId::new(unit), after }
}

fn added(job: JobId, priority: u32) -> Event {
    let (kind, needs) = ("k".to_string(), Needs { class: "f32".into(), memory_bytes: 0 });
    Event::JobAdded { job, kind, priority, models: vec![Digest::of(b"m")], needs }
}

pub(super) fn offer() -> Offer {
    Offer { kinds: vec!["k".into()], classes: vec!["f32".into()], ..Offer::default() }
}

impl World {
    fn new(config: Config) -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(config, 7),
            now: Duration::ZERO,
            next_worker: 1,
            held: BTreeMap::new(),
            instances: BTreeMap::new(),
            zombies: Vec::new(),
            recorded: BTreeMap::new(),
            granted: BTreeSet::new(),
            isolated: BTreeSet::new(),
            done: BTreeSet::new(),
            failed: BTreeSet::new(),
            last_token: 0,
        };
        for job in [1, 2] {
            let job = JobId::new(job);
            world.event(added(job, job.get() as u32));
            world.event(Event::Planned { job, units: (0..UNITS).map(|unit| due(job, unit)).collect() });
            world.event(Event::PlanningDone { job });
        }
        world
    }

    fn event(&mut self, event: Event) {
        let effects = self.scheduler.apply(event, self.now);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        let mut to_quarantine = Vec::new();
        for effect in effects {
            match effect {
                Effect::Grant { worker, lease, isolated, .. } => {
                    assert!(lease.token > self.last_token, "tokens grow");
                    self.last_token = lease.token;
                    assert!(!self.recorded.contains_key(&(lease.job, lease.unit)), "granted after recorded");
                    let first = due(lease.job, lease.unit.get()).after;
                    let ready = first.is_none_or(|first| self.recorded.contains_key(&(lease.job, first)));
                    assert!(ready, "granted before what it needs is recorded");
                    self.granted.insert(lease);
                    if isolated {
                        self.isolated.insert(lease);
                    }
                    self.held.get_mut(&worker).expect("granted to a connected worker").insert(lease);
                }
                Effect::Record { worker, lease } => {
                    assert!(self.granted.contains(&lease), "recorded under a lease that was granted");
                    let known = self.held.get_mut(&worker).is_none_or(|held| held.remove(&lease));
                    assert!(known, "recorded for whoever holds it");
                    let before = self.recorded.insert((lease.job, lease.unit), lease);
                    assert!(before.is_none(), "recorded twice");
                }
                Effect::Revoke { worker, lease, .. } => {
                    if let Some(held) = self.held.get_mut(&worker) {
                        held.remove(&lease);
                    }
                }
                Effect::Renewed { worker, leases } => {
                    let held = leases.iter().map(|(_, new)| *new).collect();
                    for (old, new) in leases {
                        self.last_token = self.last_token.max(new.token);
                        self.granted.insert(new);
                        assert!(self.granted.contains(&old));
                    }
                    self.held.insert(worker, held);
                }
                Effect::QuarantineNext { job, unit, .. } => to_quarantine.push((job, unit)),
                Effect::AllRecorded { job } => assert!(self.done.insert(job), "done twice"),
                Effect::JobFailed { job, reason } => {
                    assert!(!reason.is_empty());
                    self.failed.insert(job);
                }
                Effect::Save { .. }
                | Effect::Committed { .. }
                | Effect::Drain { .. }
                | Effect::Seated { .. }
                | Effect::Unseated { .. }
                | Effect::GangDone { .. }
                | Effect::Log { .. } => {}
            }
        }
        for (job, unit) in to_quarantine {
            let effects = self.scheduler.quarantined(job, unit, Bytes::from_static(b"{}"), self.now);
            self.take(effects);
        }
    }

    fn join(&mut self, instance: String, held: Vec<Lease>) -> WorkerId {
        let worker = WorkerId::new(self.next_worker);
        self.next_worker += 1;
        self.held.insert(worker, BTreeSet::new());
        self.instances.insert(worker, instance.clone());
        let models = Vec::new();
        self.event(Event::Joined {
            worker,
            instance,
            held,
            credits: 2,
            models,
            offer: offer(),
            serves_peers: true,
        });
        worker
    }

    fn heartbeat(&mut self, worker: WorkerId) {
        let leases: Vec<_> = self.held[&worker].iter().copied().collect();
        let credits = 2u32.saturating_sub(leases.len() as u32);
        self.event(Event::Heartbeat { worker, credits, leases, models: Vec::new(), draining: false });
    }

    fn nth_worker(&self, n: usize) -> Option<WorkerId> {
        self.held.keys().nth(n % self.held.len().max(1)).copied()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Join => {
                let instance = format!("i{}", self.next_worker);
                self.join(instance, Vec::new());
            }
            Op::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.event(Event::Tick);
            }
            Op::Heartbeat(n) => {
                if let Some(worker) = self.nth_worker(n) {
                    self.heartbeat(worker);
                }
            }
            Op::Done(n) => {
                if let Some((worker, lease)) = self.some_lease(n) {
                    self.event(Event::UnitDone { worker, lease });
                    self.held.get_mut(&worker).map(|held| held.remove(&lease));
                }
            }
            Op::Failed(n, kind) => {
                if let Some((worker, lease)) = self.some_lease(n) {
                    self.held.get_mut(&worker).map(|held| held.remove(&lease));
                    self.event(Event::UnitFailed {
                        worker,
                        lease,
                        kind,
                        reason: "r".into(),
                        records: Vec::new(),
                    });
                }
            }
            Op::Returned(n) => {
                if let Some((worker, lease)) = self.some_lease(n) {
                    self.held.get_mut(&worker).map(|held| held.remove(&lease));
                    self.event(Event::UnitReturned { worker, lease, records: Vec::new() });
                }
            }
            Op::Vanish(n) => {
                if let Some(worker) = self.nth_worker(n) {
                    let held = self.held.remove(&worker).unwrap_or_default();
                    self.zombies.extend(held.into_iter().map(|lease| (worker, lease)));
                    self.event(Event::Left { worker, goodbye: false });
                }
            }
            Op::Goodbye(n) => {
                if let Some(worker) = self.nth_worker(n) {
                    self.held.remove(&worker);
                    self.event(Event::Left { worker, goodbye: true });
                }
            }
            Op::Return(n) => {
                // A vanished process comes back with what it held, under a new session.
                if let Some(&(worker, _)) = self.zombies.get(n % self.zombies.len().max(1)) {
                    let mine: Vec<_> =
                        self.zombies.iter().filter(|(w, _)| *w == worker).map(|(_, lease)| *lease).collect();
                    self.zombies.retain(|(w, _)| *w != worker);
                    let instance = self.instances[&worker].clone();
                    self.join(instance, mine);
                }
            }
            Op::LateReport(n) => {
                // A zombie's report under its old session and lease.
                if let Some(&(worker, lease)) = self.zombies.get(n % self.zombies.len().max(1)) {
                    self.event(Event::UnitDone { worker, lease });
                }
            }
            Op::Pause(job) => self.event(Event::Paused { job: JobId::new(job) }),
            Op::Resume(job) => self.event(Event::Resumed { job: JobId::new(job) }),
        }
    }

    fn some_lease(&self, n: usize) -> Option<(WorkerId, Lease)> {
        let all: Vec<_> = self
            .held
            .iter()
            .flat_map(|(&worker, held)| held.iter().map(move |&lease| (worker, lease)))
            .collect();
        all.get(n % all.len().max(1)).copied()
    }

    /// One worker that never fails ends every job.
    fn settle(&mut self) {
        for job in [1, 2] {
            self.event(Event::Resumed { job: JobId::new(job) });
        }
        let worker = self.join("settler".into(), Vec::new());
        for _ in 0..400 {
            self.now += Duration::from_secs(5);
            self.event(Event::Tick);
            while let Some(lease) = self.held[&worker].first().copied() {
                self.event(Event::UnitDone { worker, lease });
            }
            self.heartbeat(worker);
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Join,
    Wait(u64),
    Heartbeat(usize),
    Done(usize),
    Failed(usize, FailureKind),
    Returned(usize),
    Vanish(usize),
    Goodbye(usize),
    Return(usize),
    LateReport(usize),
    Pause(u64),
    Resume(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0usize..8;
    prop_oneof![
        2 => Just(Op::Join),
        3 => (1u64..25).prop_map(Op::Wait),
        3 => n.clone().prop_map(Op::Heartbeat),
        4 => n.clone().prop_map(Op::Done),
        2 => n.clone().prop_map(|n| Op::Failed(n, Transient)),
        1 => n.clone().prop_map(Op::Returned),
        2 => n.clone().prop_map(Op::Vanish),
        1 => n.clone().prop_map(Op::Goodbye),
        1 => n.clone().prop_map(Op::Return),
        2 => n.prop_map(Op::LateReport),
        1 => (1u64..3).prop_map(Op::Pause),
        1 => (1u64..3).prop_map(Op::Resume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// No unit lost, none recorded twice, no stale report recorded, tokens only grow, every job ends.
    #[test]
    fn every_job_ends_with_every_unit_recorded_once(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new(Config::default());
        for op in &ops {
            world.apply(op);
        }
        world.settle();
        for job in [1, 2].map(JobId::new) {
            let recorded = world.recorded.keys().filter(|(of, _)| *of == job).count() as u64;
            if world.failed.contains(&job) {
                prop_assert!(!world.done.contains(&job));
            } else {
                prop_assert!(world.done.contains(&job), "job {job}: {recorded} of {UNITS} recorded");
                prop_assert_eq!(recorded, UNITS);
            }
        }
    }

    /// A coordinator that restarts with what was saved goes on, and processes that come back keep their units.
    #[test]
    fn a_restart_loses_nothing(ops in prop::collection::vec(op(), 0..60), comes_back in any::<bool>()) {
        let mut world = World::new(Config::default());
        for op in &ops {
            world.apply(op);
        }
        let mut open = BTreeMap::new();
        for (&job, state) in &world.scheduler.jobs {
            for (&unit, unit_state) in &state.open {
                open.insert((job, unit), unit_state.state.clone());
            }
        }
        let mut next = World::new(Config::default());
        next.scheduler = Scheduler::new(Config::default(), 8);
        next.now = world.now;
        next.granted.clone_from(&world.granted);
        next.recorded.clone_from(&world.recorded);
        for job in [1, 2].map(JobId::new).into_iter().filter(|job| !world.failed.contains(job)) {
            next.event(added(job, 1));
            let units = open.iter().filter(|((of, _), _)| *of == job);
            let units: Vec<_> =
                units.map(|((_, unit), open)| RecoveredUnit { unit: *unit, open: open.clone() }).collect();
            let known: BTreeSet<_> = units.iter().map(|s| s.unit).collect();
            next.scheduler.recover(job, units, next.now);
            let pending = (0..UNITS)
                .map(UnitId::new)
                .filter(|s| !known.contains(s) && !world.recorded.contains_key(&(job, *s)))
                .map(|unit| due(job, unit.get()));
            next.event(Event::Planned { job, units: pending.collect() });
            next.event(Event::PlanningDone { job });
        }
        if comes_back {
            for (worker, held) in &world.held {
                let held: Vec<_> = held.iter().copied().collect();
                next.next_worker += 10;
                let before = held.len();
                let joined = next.join(world.instances[worker].clone(), held);
                prop_assert!(next.held[&joined].len() >= before.min(1).min(next.held[&joined].len()));
            }
        }
        next.settle();
        for job in [1, 2].map(JobId::new).into_iter().filter(|job| !world.failed.contains(job)) {
            let recorded = next.recorded.keys().filter(|(of, _)| *of == job).count() as u64;
            prop_assert!(next.failed.contains(&job) || recorded == UNITS, "{recorded}");
        }
    }
}

#[test]
fn a_stale_lease_cannot_commit() {
    let mut world = World::new(Config::default());
    let slow = world.join("slow".into(), Vec::new());
    let lease = *world.held[&slow].first().unwrap();
    world.now += Duration::from_secs(60);
    world.event(Event::Tick);
    // It was stopped past its lease; its stream is still open.
    world.event(Event::UnitDone { worker: slow, lease });
    assert!(world.recorded.is_empty());
    // Silent workers get nothing new.
    assert!(!world.held[&slow].iter().any(|held| held.token > lease.token + 1));
    let quick = world.join("quick".into(), Vec::new());
    let again = *world.held[&quick].iter().find(|l| (l.job, l.unit) == (lease.job, lease.unit)).unwrap();
    assert!(again.token > lease.token && again.attempt == 2);
    world.event(Event::UnitDone { worker: quick, lease: again });
    world.event(Event::UnitDone { worker: slow, lease });
    assert_eq!(world.recorded.len(), 1);
    assert_eq!(world.recorded[&(lease.job, lease.unit)], again);
}

#[test]
fn a_unit_that_takes_workers_down_is_isolated_and_its_item_quarantined() {
    let mut world = World::new(Config::default());
    world.event(Event::Paused { job: JobId::new(2) });
    let poison = (JobId::new(1), UnitId::new(0));
    let mut quarantined = 0;
    for round in 0..8 {
        let worker = world.join(format!("w{round}"), Vec::new());
        let Some(lease) = world.held[&worker].iter().copied().find(|l| (l.job, l.unit) == poison) else {
            break;
        };
        assert_eq!(world.isolated.contains(&lease), round >= 2, "round {round}");
        let before = world.scheduler.records_of(poison.0, poison.1).map_or(0, <[Bytes]>::len);
        world.event(Event::Left { worker, goodbye: false });
        world.held.remove(&worker);
        world.now += Duration::from_secs(60);
        world.event(Event::Tick);
        quarantined += world.scheduler.records_of(poison.0, poison.1).map_or(0, <[Bytes]>::len) - before;
    }
    assert_eq!(quarantined, 2, "after two losses together, every third alone names an item");
}

#[test]
fn a_process_that_was_only_away_counts_against_no_unit() {
    let mut world = World::new(Config::default());
    for round in 0..6 {
        // It stands still, or is cut off, past its leases.
        let away = world.join("away".into(), Vec::new());
        let lease = *world.held[&away].first().unwrap();
        assert!(!world.isolated.contains(&lease), "round {round}");
        world.now += Duration::from_secs(60);
        world.event(Event::Tick);
        // Now and then its session outlives that.
        if round % 2 == 0 {
            world.event(Event::Heartbeat {
                worker: away,
                credits: 0,
                leases: vec![lease],
                models: Vec::new(),
                draining: false,
            });
        }
        world.event(Event::Left { worker: away, goodbye: false });
        world.held.remove(&away);
        world.now += Duration::from_secs(60);
        world.event(Event::Tick);
    }
}

#[test]
fn failures_wait_longer_each_time_and_then_fail_the_job() {
    let mut world = World::new(Config { failures_max: 2, ..Config::default() });
    world.event(Event::Ended { job: JobId::new(2), reason: "not here".into() });
    let worker = world.join("w".into(), Vec::new());
    for round in 1..=3 {
        let lease = *world.held[&worker].iter().find(|l| l.unit == UnitId::new(0)).unwrap();
        world.held.get_mut(&worker).unwrap().remove(&lease);
        world.event(Event::UnitFailed {
            worker,
            lease,
            kind: Transient,
            reason: "no room".into(),
            records: Vec::new(),
        });
        assert_eq!(world.failed.contains(&JobId::new(1)), round == 3);
        world.now += Duration::from_secs(2);
        world.event(Event::Tick);
        if round < 3 {
            world.heartbeat(worker);
        }
    }
}

#[test]
fn a_job_that_no_worker_can_run_fails_with_the_reason() {
    let mut world = World::new(Config::default());
    let worker = world.join("w".into(), Vec::new());
    let lease = *world.held[&worker].iter().find(|l| l.job == JobId::new(1)).unwrap();
    world.held.get_mut(&worker).unwrap().remove(&lease);
    let reason = "another digest".to_string();
    world.event(Event::UnitFailed { worker, lease, kind: FailureKind::Worker, reason, records: Vec::new() });
    assert_eq!(world.failed.iter().copied().collect::<Vec<_>>(), [JobId::new(1)]);
    assert!(world.held[&worker].iter().all(|l| l.job == JobId::new(2)), "the other goes on");
}

#[test]
fn priorities_share_the_workers() {
    let mut world = World::new(Config { affinity_units: 0.0, ..Config::default() });
    let worker = world.join("w".into(), Vec::new());
    let mut order = Vec::new();
    for _ in 0..9 {
        let lease = *world.held[&worker].first().unwrap();
        order.push(lease.job.get());
        world.event(Event::UnitDone { worker, lease });
        world.heartbeat(worker);
    }
    let second = order.iter().filter(|job| **job == 2).count();
    assert!((5..=7).contains(&second), "job 2 has twice the weight: {order:?}");
}

#[test]
fn a_worker_that_has_the_model_is_preferred() {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let join = |scheduler: &mut Scheduler, id: u64, models: Vec<Digest>| {
        let event = Event::Joined {
            worker: WorkerId::new(id),
            instance: id.to_string(),
            held: Vec::new(),
            credits: 1,
            models,
            offer: offer(),
            serves_peers: true,
        };
        scheduler.apply(event, Duration::ZERO);
    };
    join(&mut scheduler, 1, Vec::new());
    join(&mut scheduler, 2, vec![Digest::of(b"m")]);
    let job = JobId::new(1);
    scheduler.apply(added(job, 1), Duration::ZERO);
    let effects = scheduler.apply(Event::Planned { job, units: vec![UnitId::new(0).into()] }, Duration::ZERO);
    let granted = effects.iter().find_map(|effect| match effect {
        Effect::Grant { worker, .. } => Some(worker.get()),
        _ => None,
    });
    assert_eq!(granted, Some(2));
}

#[test]
fn a_straggler_gets_one_backup_and_the_first_of_both_counts() {
    let mut world = World::new(Config::default());
    world.event(Event::Ended { job: JobId::new(2), reason: "not here".into() });
    let (slow, quick) = (world.join("slow".into(), Vec::new()), world.join("quick".into(), Vec::new()));
    let kept = *world.held[&slow].first().unwrap();
    for _ in 0..60 {
        world.now += Duration::from_secs(2);
        for worker in [slow, quick] {
            for lease in world.held[&worker].clone() {
                if (lease.job, lease.unit) != (kept.job, kept.unit) {
                    world.event(Event::UnitDone { worker, lease });
                }
            }
            world.heartbeat(worker);
        }
    }
    let backup = *world.held[&quick].first().expect("a backup");
    assert_eq!((backup.unit, backup.attempt), (kept.unit, 2));
    assert_eq!(world.granted.iter().filter(|l| l.unit == kept.unit && l.job == kept.job).count(), 2);
    world.event(Event::UnitDone { worker: quick, lease: backup });
    assert!(world.held[&slow].is_empty(), "the slow one was told");
    world.event(Event::UnitDone { worker: slow, lease: kept });
    assert_eq!(world.recorded[&(kept.job, kept.unit)], backup);
    assert!(world.done.contains(&kept.job));
}

#[test]
fn a_unit_goes_to_a_worker_that_has_what_its_job_needs_and_waits_for_one() {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let job = JobId::new(1);
    scheduler.apply(added(job, 1), Duration::ZERO);
    scheduler.apply(Event::Planned { job, units: vec![UnitId::new(0).into()] }, Duration::ZERO);
    let mut join = |id: u64, offer: Offer| {
        let (worker, instance) = (WorkerId::new(id), id.to_string());
        let (held, models) = (Vec::new(), Vec::new());
        let event = Event::Joined { worker, instance, held, credits: 1, models, offer, serves_peers: true };
        let effects = scheduler.apply(event, Duration::ZERO);
        effects.iter().any(|effect| matches!(effect, Effect::Grant { .. }))
    };
    assert!(!join(1, Offer { classes: vec!["cuda/sm_90/f32".into()], ..offer() }), "another class");
    assert!(!join(2, Offer { kinds: vec!["other".into()], ..offer() }), "another kind");
    assert!(join(3, offer()));
}

#[test]
fn a_stage_ends_when_its_units_are_recorded_and_the_next_may_come() {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let (job, worker) = (JobId::new(1), WorkerId::new(1));
    let (held, models) = (Vec::new(), Vec::new());
    let joined = Event::Joined {
        worker,
        instance: "i".into(),
        held,
        credits: 9,
        models,
        offer: offer(),
        serves_peers: true,
    };
    scheduler.apply(joined, Duration::ZERO);
    scheduler.apply(added(job, 1), Duration::ZERO);
    for stage in 0..3 {
        let effects =
            scheduler.apply(Event::Planned { job, units: vec![UnitId::new(stage).into()] }, Duration::ZERO);
        let lease = effects.iter().find_map(|effect| match effect {
            Effect::Grant { lease, .. } => Some(*lease),
            _ => None,
        });
        assert_eq!(scheduler.apply(Event::PlanningDone { job }, Duration::ZERO), []);
        let effects = scheduler.apply(Event::UnitDone { worker, lease: lease.unwrap() }, Duration::ZERO);
        assert!(effects.contains(&Effect::AllRecorded { job }), "stage {stage}");
    }
}
