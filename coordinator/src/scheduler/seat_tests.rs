//! Promises of seats.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sr3_proto::FailureKind::Transient;

use super::{tests::offer, *};

const GANG: JobId = JobId::new(1);
const OTHER: JobId = JobId::new(2);

fn add(job: JobId) -> Event {
    Event::JobAdded { job, kind: "k".into(), priority: 1, models: Vec::new(), needs: Needs::default() }
}

fn units(count: u64) -> Vec<Due> {
    (0..count).map(|unit| UnitId::new(unit).into()).collect()
}

/// A job with a gang.
fn begin_gang(scheduler: &mut Scheduler, job: JobId, min: u32, seats: u64) -> Vec<Effect> {
    scheduler.apply(add(job), Duration::ZERO);
    scheduler.apply(Event::Gang { job, min, done: false }, Duration::ZERO);
    scheduler.apply(Event::Planned { job, units: units(seats) }, Duration::ZERO)
}

/// Workers, a gang with so many seats, and a job beside it with so many units.
fn with_gang(workers: u64, seats: u64, others: u64) -> (Scheduler, Vec<Effect>) {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let mut effects = Vec::new();
    if others > 0 {
        scheduler.apply(add(OTHER), Duration::ZERO);
        scheduler.apply(Event::Planned { job: OTHER, units: units(others) }, Duration::ZERO);
    }
    for id in 1..=workers {
        effects.extend(scheduler.apply(joined(id, 2), Duration::ZERO));
    }
    effects.extend(begin_gang(&mut scheduler, GANG, 1, seats));
    (scheduler, effects)
}

fn joined(id: u64, credits: u32) -> Event {
    Event::Joined {
        worker: WorkerId::new(id),
        instance: format!("i{id}"),
        held: Vec::new(),
        credits,
        models: Vec::new(),
        offer: offer(),
        serves_peers: true,
    }
}

fn seats_of(effects: &[Effect]) -> Vec<(u64, Lease)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Seated { worker, lease, .. } => Some((worker.get(), *lease)),
            _ => None,
        })
        .collect()
}

fn grants(effects: &[Effect]) -> Vec<Lease> {
    let of = |effect: &Effect| match effect {
        Effect::Grant { lease, .. } => Some(*lease),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_seat_takes_a_whole_worker() {
    let (mut scheduler, effects) = with_gang(3, 8, 0);
    let seated = seats_of(&effects);
    let workers: BTreeSet<u64> = seated.iter().map(|(worker, _)| *worker).collect();
    assert_eq!((seated.len(), workers.len()), (3, 3), "one each, whatever credits there are");
    // Another job gets nothing of them.
    scheduler.apply(add(OTHER), Duration::ZERO);
    let effects = scheduler.apply(Event::Planned { job: OTHER, units: units(1) }, Duration::ZERO);
    assert!(grants(&effects).is_empty());
}

#[test]
fn a_gang_takes_its_share_of_workers_that_are_busy_and_the_others_go_on() {
    let (mut scheduler, effects) = with_gang(4, 8, 100);
    assert!(seats_of(&effects).is_empty(), "all are busy");
    let mut leases = grants(&effects);
    let mut seated = Vec::new();
    for _ in 0..60 {
        let lease = leases.remove(0);
        let worker = (1..=4).map(WorkerId::new).find(|worker| scheduler.holds(*worker, lease)).unwrap();
        let effects = scheduler.apply(Event::UnitDone { worker, lease }, Duration::ZERO);
        seated.extend(seats_of(&effects));
        leases.extend(grants(&effects).into_iter().filter(|lease| lease.job == JobId::new(2)));
        for worker in (1..=4).map(WorkerId::new) {
            let credits = 2 - scheduler.worker(worker).map_or(0, |view| view.leases.min(2)) as u32;
            let held: Vec<Lease> = leases.iter().copied().filter(|l| scheduler.holds(worker, *l)).collect();
            let beat =
                Event::Heartbeat { worker, credits, leases: held, models: Vec::new(), draining: false };
            let effects = scheduler.apply(beat, Duration::ZERO);
            seated.extend(seats_of(&effects));
            leases.extend(grants(&effects).into_iter().filter(|lease| lease.job == JobId::new(2)));
        }
    }
    assert_eq!(seated.len(), 2, "half of the workers, as the two jobs weigh the same");
}

#[test]
fn a_seat_is_never_isolated_and_goes_to_the_next_worker() {
    let (mut scheduler, effects) = with_gang(1, 1, 0);
    let mut seated = seats_of(&effects);
    let mut now = Duration::ZERO;
    for id in 2..10 {
        let (worker, _) = seated.pop().unwrap();
        scheduler.apply(Event::Left { worker: WorkerId::new(worker), goodbye: false }, now);
        now += Config::default().lease_ttl + Duration::from_secs(1);
        let effects = scheduler.apply(Event::Tick, now);
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Unseated { .. })));
        let effects = scheduler.apply(joined(id, 2), now);
        assert!(effects.iter().all(|effect| !matches!(effect, Effect::Grant { isolated: true, .. })));
        seated = seats_of(&effects);
    }
}

#[test]
fn one_seat_that_is_done_ends_the_gang() {
    let (mut scheduler, effects) = with_gang(2, 5, 0);
    let seated = seats_of(&effects);
    scheduler.apply(Event::PlanningDone { job: JobId::new(1) }, Duration::ZERO);
    for (at, (worker, lease)) in seated.into_iter().enumerate() {
        let effects =
            scheduler.apply(Event::UnitDone { worker: WorkerId::new(worker), lease }, Duration::ZERO);
        let over = effects.iter().any(|effect| matches!(effect, Effect::AllRecorded { .. }));
        assert_eq!(over, at == 1, "when the last that holds one has reported");
    }
}

#[test]
fn only_a_worker_that_serves_peers_gets_a_seat() {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let mut deaf = joined(1, 2);
    if let Event::Joined { serves_peers, .. } = &mut deaf {
        *serves_peers = false;
    }
    scheduler.apply(deaf, Duration::ZERO);
    assert!(seats_of(&begin_gang(&mut scheduler, GANG, 1, 2)).is_empty());
    assert_eq!(seats_of(&scheduler.apply(joined(2, 2), Duration::ZERO)).len(), 1);
}

#[test]
fn two_gangs_do_not_wait_for_each_others_workers() {
    let mut scheduler = Scheduler::new(Config::default(), 1);
    let mut effects = begin_gang(&mut scheduler, GANG, 2, 2);
    effects.extend(begin_gang(&mut scheduler, OTHER, 2, 2));
    for id in 1..=3 {
        effects.extend(scheduler.apply(joined(id, 2), Duration::ZERO));
    }
    let jobs: Vec<JobId> = seats_of(&effects).iter().map(|(_, lease)| lease.job).collect();
    assert_eq!(jobs, [GANG, GANG], "the other waits, and holds nobody up");
    let effects = scheduler.apply(joined(4, 2), Duration::ZERO);
    assert_eq!(seats_of(&effects).len(), 2);
}

#[test]
fn one_worker_is_kept_free_for_a_seat_and_the_others_go_on() {
    let (mut scheduler, effects) = with_gang(2, 1, 20);
    let mut leases = grants(&effects);
    let mut seats = Vec::new();
    let mut rounds = 0;
    while seats.is_empty() {
        rounds += 1;
        assert!(rounds < 5, "a worker is empty after what it held");
        for lease in std::mem::take(&mut leases) {
            let worker = (1..=2).map(WorkerId::new).find(|worker| scheduler.holds(*worker, lease)).unwrap();
            let done = scheduler.apply(Event::UnitDone { worker, lease }, Duration::ZERO);
            let beat =
                Event::Heartbeat { worker, credits: 1, leases: vec![], models: vec![], draining: false };
            let more = scheduler.apply(beat, Duration::ZERO);
            for effects in [done, more] {
                seats.extend(seats_of(&effects));
                leases.extend(grants(&effects).into_iter().filter(|lease| lease.job == OTHER));
            }
        }
        assert!(!leases.is_empty(), "the other job goes on");
    }
}

#[test]
fn a_failure_after_a_long_time_at_work_begins_to_count_anew() {
    let mut scheduler = Scheduler::new(Config { failures_max: 2, ..Config::default() }, 1);
    scheduler.apply(joined(1, 2), Duration::ZERO);
    let mut effects = begin_gang(&mut scheduler, GANG, 1, 1);
    let (mut now, worker) = (Duration::ZERO, WorkerId::new(1));
    let mut fail = |held: Duration, effects: &mut Vec<Effect>| {
        let (_, lease) = seats_of(effects)[0];
        let beat = |leases| Event::Heartbeat { worker, credits: 2, leases, models: vec![], draining: false };
        let until = now + held;
        while now < until {
            now += Duration::from_secs(1);
            scheduler.apply(beat(vec![lease]), now);
        }
        let reason = "r".to_string();
        let failed = Event::UnitFailed { worker, lease, kind: Transient, reason, records: Vec::new() };
        let over = scheduler.apply(failed, now).iter().any(|e| matches!(e, Effect::JobFailed { .. }));
        now += Duration::from_secs(10);
        *effects = scheduler.apply(beat(Vec::new()), now);
        over
    };
    for _ in 0..5 {
        assert!(!fail(Duration::from_secs(61), &mut effects));
    }
    assert!(!fail(Duration::from_secs(1), &mut effects));
    assert!(fail(Duration::from_secs(1), &mut effects), "failing at once does count");
}

#[test]
fn whoever_lost_its_seat_to_others_gets_nothing_before_it_is_heard_of_and_none_while_it_is_barred() {
    let (mut scheduler, effects) = with_gang(1, 1, 0);
    let (_, lease) = seats_of(&effects)[0];
    let (worker, mut now) = (WorkerId::new(1), Duration::ZERO);
    scheduler.bar(GANG, "i1", Duration::from_secs(30));
    let effects = scheduler.evict(worker, lease, "nobody reaches it", now);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Revoke { .. })));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unseated { .. })));
    assert!(seats_of(&effects).is_empty());
    let beat = Event::Heartbeat { worker, credits: 2, leases: vec![], models: vec![], draining: false };
    while now < Duration::from_secs(29) {
        now += Duration::from_secs(1);
        assert!(seats_of(&scheduler.apply(beat.clone(), now)).is_empty());
    }
    assert_eq!(seats_of(&scheduler.apply(beat.clone(), Duration::from_secs(31))).len(), 1);
    let (mut scheduler, effects) = with_gang(1, 1, 0);
    let (_, lease) = seats_of(&effects)[0];
    assert!(seats_of(&scheduler.evict(worker, lease, "it is silent", Duration::ZERO)).is_empty());
    assert!(seats_of(&scheduler.apply(Event::Tick, Duration::from_secs(1))).is_empty());
    assert_eq!(seats_of(&scheduler.apply(beat, Duration::from_secs(2))).len(), 1);
}

#[test]
fn a_seat_that_is_lost_or_fails_after_the_gang_is_done_is_not_needed() {
    for how in 0..3 {
        let (mut scheduler, effects) = with_gang(2, 2, 0);
        scheduler.apply(Event::PlanningDone { job: GANG }, Duration::ZERO);
        let seats = seats_of(&effects);
        let ((first, lease), (second, other)) = (seats[0], seats[1]);
        scheduler.apply(Event::UnitDone { worker: WorkerId::new(first), lease }, Duration::ZERO);
        let worker = WorkerId::new(second);
        let (records, reason) = (Vec::new(), "r".to_string());
        let event = match how {
            0 => Event::Left { worker, goodbye: true },
            1 => Event::UnitReturned { worker, lease: other, records },
            _ => Event::UnitFailed { worker, lease: other, kind: FailureKind::Job, reason, records },
        };
        let effects = scheduler.apply(event, Duration::ZERO);
        assert!(effects.contains(&Effect::AllRecorded { job: GANG }), "{how}: {effects:?}");
    }
}

#[test]
fn after_a_restart_seats_of_a_gang_that_is_done_are_waited_for_and_not_given_again() {
    let mut scheduler = Scheduler::new(Config::default(), 2);
    scheduler.apply(add(GANG), Duration::ZERO);
    scheduler.apply(Event::Gang { job: GANG, min: 2, done: true }, Duration::ZERO);
    let open = OpenUnit { attempts: 1, holder: Some(("i1".into(), 1, 5)), ..OpenUnit::default() };
    scheduler.recover(GANG, vec![RecoveredUnit { unit: UnitId::new(1), open }], Duration::ZERO);
    scheduler.apply(Event::Planned { job: GANG, units: vec![UnitId::new(2).into()] }, Duration::ZERO);
    scheduler.apply(Event::PlanningDone { job: GANG }, Duration::ZERO);
    assert!(seats_of(&scheduler.apply(joined(2, 2), Duration::ZERO)).is_empty());
    let effects = scheduler.apply(Event::Tick, Config::default().lease_ttl);
    assert!(effects.contains(&Effect::AllRecorded { job: GANG }));
}

#[test]
fn the_stage_after_a_gang_is_of_units_that_anybody_can_do() {
    let (mut scheduler, effects) = with_gang(1, 3, 0);
    scheduler.apply(Event::PlanningDone { job: GANG }, Duration::ZERO);
    let (worker, lease) = seats_of(&effects)[0];
    let worker = WorkerId::new(worker);
    let effects = scheduler.apply(Event::UnitDone { worker, lease }, Duration::ZERO);
    assert!(effects.contains(&Effect::AllRecorded { job: GANG }));
    let beat = Event::Heartbeat { worker, credits: 2, leases: vec![], models: vec![], draining: false };
    scheduler.apply(beat, Duration::ZERO);
    let later = (3..6).map(|unit| UnitId::new(unit).into()).collect();
    let effects = scheduler.apply(Event::Planned { job: GANG, units: later }, Duration::ZERO);
    assert_eq!((grants(&effects).len(), seats_of(&effects).len()), (2, 0));
}

proptest! {
    #[test]
    fn a_worker_with_a_seat_holds_nothing_else_and_no_seat_is_held_twice(
        events in prop::collection::vec((0u8..9, 0u64..5, 0usize..8), 0..120),
        min in 1u32..4,
    ) {
        let (mut scheduler, mut now) = (Scheduler::new(Config::default(), 1), Duration::ZERO);
        // By unit: who was granted it, under what.
        let mut held: BTreeMap<(JobId, UnitId), (WorkerId, Lease)> = BTreeMap::new();
        let (mut sessions, mut next) = (BTreeMap::<u64, WorkerId>::new(), 1);
        begin_gang(&mut scheduler, GANG, min, 3);
        scheduler.apply(add(OTHER), now);
        scheduler.apply(Event::Planned { job: OTHER, units: units(50) }, now);
        for (what, process, pick) in events {
            now += Duration::from_millis(500);
            let picked = held.values().nth(pick % held.len().max(1)).copied();
            let (reason, records) = ("r".to_string(), Vec::new());
            let effects = match (what, picked, sessions.get(&process).copied()) {
                (0 | 1, _, None) => {
                    let worker = WorkerId::new(next);
                    next += 1;
                    sessions.insert(process, worker);
                    let Event::Joined { held, credits, models, offer, serves_peers, .. } = joined(0, 2) else {
                        unreachable!()
                    };
                    let instance = format!("i{process}");
                    scheduler.apply(
                        Event::Joined { worker, instance, held, credits, models, offer, serves_peers },
                        now,
                    )
                }
                (2, _, Some(worker)) => {
                    sessions.remove(&process);
                    scheduler.apply(Event::Left { worker, goodbye: pick % 2 == 0 }, now)
                }
                (3, Some((worker, lease)), _) => {
                    scheduler.apply(Event::UnitReturned { worker, lease, records }, now)
                }
                (4, Some((worker, lease)), _) if lease.job == OTHER => {
                    scheduler.apply(Event::UnitDone { worker, lease }, now)
                }
                (5, Some((worker, lease)), _) => {
                    scheduler.apply(Event::UnitFailed { worker, lease, kind: Transient, reason, records }, now)
                }
                (6, Some((worker, lease)), _) => scheduler.evict(worker, lease, "r", now),
                (7, _, _) => scheduler.apply(Event::Tick, now),
                _ => Vec::new(),
            };
            let mut all = effects;
            for &worker in sessions.values() {
                let leases: Vec<Lease> =
                    held.values().map(|(_, lease)| *lease).filter(|l| scheduler.holds(worker, *l)).collect();
                let credits = 2u32.saturating_sub(leases.len() as u32);
                let beat = Event::Heartbeat { worker, credits, leases, models: vec![], draining: false };
                all.extend(scheduler.apply(beat, now));
            }
            for effect in all {
                if let Effect::Grant { worker, lease, isolated, .. } = effect {
                    prop_assert!(lease.job == OTHER || !isolated);
                    held.insert((lease.job, lease.unit), (worker, lease));
                }
            }
            held.retain(|_, (worker, lease)| scheduler.holds(*worker, *lease));
            for &worker in sessions.values() {
                let of: Vec<JobId> =
                    held.values().filter(|(w, _)| *w == worker).map(|(_, lease)| lease.job).collect();
                prop_assert!(of.len() == 1 || !of.contains(&GANG), "{of:?}");
            }
        }
    }
}
