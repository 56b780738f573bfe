//! The gang machine, driven through histories.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sr3_proto::UnitId;

use super::*;

const JOB: JobId = JobId::new(1);

/// Workers that take seats, and a machine that makes generations of them.
struct World {
    gangs: Gangs,
    now: Time,
    /// What each worker was told last.
    told: BTreeMap<u64, GangState>,
    evicted: Vec<(u64, Option<Duration>)>,
}

fn worker(n: u64) -> WorkerId {
    WorkerId::new(n)
}

fn lease(n: u64) -> Lease {
    Lease { epoch: 1, job: JOB, unit: UnitId::new(n), attempt: 1, token: n }
}

fn peer(n: u64) -> Peer {
    Peer { instance: format!("i{n}"), name: format!("n{n}"), address: format!("a{n}") }
}

impl World {
    fn new(epoch: u64, min: u32, holders: &[u64]) -> Self {
        let gangs = Gangs::new(Config::default(), epoch);
        let mut world = Self { gangs, now: Time::ZERO, told: BTreeMap::new(), evicted: Vec::new() };
        let holders = holders.iter().map(|n| format!("i{n}")).collect();
        world.event(Event::Began { job: JOB, min, holders });
        world
    }

    fn event(&mut self, event: Event) {
        for effect in self.gangs.apply(event, self.now) {
            match effect {
                Effect::Tell { worker, state, .. } => drop(self.told.insert(worker.get(), state)),
                Effect::Evict { worker, bar, .. } => self.evicted.push((worker.get(), bar)),
                Effect::Log { .. } | Effect::Changed { .. } => {}
            }
        }
    }

    fn seat(&mut self, n: u64) {
        let (worker, lease, peer) = (worker(n), lease(n), peer(n));
        self.event(Event::Seated { worker, instance: peer.instance.clone(), lease, peer });
    }

    fn unseat(&mut self, n: u64) {
        self.event(Event::Unseated { job: JOB, instance: peer(n).instance });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.event(Event::Tick);
    }

    fn settle(&mut self) {
        self.wait(Duration::from_secs(1));
    }

    fn accuse(&mut self, by: u64, of: u64) {
        if let Some(generation) = self.generation_of(by) {
            let of = peer(of).instance;
            self.event(Event::Accused { lease: lease(by), worker: worker(by), generation, of });
        }
    }

    fn generation_of(&self, n: u64) -> Option<Generation> {
        match self.told.get(&n)? {
            GangState::Together(membership) => Some(membership.generation),
            _ => None,
        }
    }

    fn members(&self, n: u64) -> Vec<u64> {
        match self.told.get(&n) {
            Some(GangState::Together(m)) => {
                m.members.iter().filter_map(|p| p.instance.strip_prefix('i')?.parse().ok()).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[test]
fn many_who_join_at_once_make_one_generation_and_ranks_are_stable() {
    let mut world = World::new(1, 1, &[]);
    for n in 1..=5 {
        world.seat(n);
        world.wait(Duration::from_millis(50));
    }
    world.settle();
    assert_eq!(world.members(3), [1, 2, 3, 4, 5]);
    assert_eq!(world.generation_of(3), Some(Generation { epoch: 1, number: 1 }));
    world.unseat(2);
    assert_eq!(world.members(5), [1, 3, 4, 5], "a loss makes one at once");
    world.seat(6);
    world.settle();
    assert_eq!(world.members(5), [1, 3, 4, 5, 6]);
    assert_eq!(world.generation_of(1), Some(Generation { epoch: 1, number: 3 }));
}

#[test]
fn below_its_least_a_gang_waits_and_goes_on_when_there_are_enough() {
    let mut world = World::new(1, 2, &[]);
    world.seat(1);
    world.settle();
    assert!(matches!(world.told[&1], GangState::Waiting { .. }));
    world.seat(2);
    world.settle();
    assert_eq!(world.members(1), [1, 2]);
    world.unseat(1);
    assert!(matches!(world.told[&2], GangState::Waiting { .. }));
}

#[test]
fn a_member_without_a_session_stays_until_another_cannot_reach_it() {
    let mut world = World::new(1, 1, &[]);
    (1..=3).for_each(|n| world.seat(n));
    world.settle();
    world.event(Event::Gone { worker: worker(2) });
    world.settle();
    assert!(world.evicted.is_empty());
    world.accuse(3, 2);
    assert_eq!(world.evicted, [(2, None)], "at once, and it may come back");
}

#[test]
fn whoever_is_silent_leaves_and_whoever_passes_the_word_on_does_not() {
    let mut world = World::new(1, 1, &[]);
    (1..=4).for_each(|n| world.seat(n));
    world.settle();
    // Nobody hears of 1, and 4 blames 2, whose link it lost.
    world.accuse(2, 1);
    world.accuse(3, 1);
    world.accuse(4, 2);
    assert!(world.evicted.is_empty(), "others may have more to say");
    world.settle();
    assert_eq!(world.evicted, [(1, None)]);
}

#[test]
fn of_two_that_cannot_reach_each_other_the_newer_leaves_and_is_kept_out_longer_each_time() {
    let mut world = World::new(1, 1, &[]);
    (1..=3).for_each(|n| world.seat(n));
    world.settle();
    for bar in [30, 60, 120] {
        world.accuse(1, 3);
        world.accuse(3, 1);
        world.settle();
        assert_eq!(world.evicted.pop(), Some((3, Some(Duration::from_secs(bar)))));
        world.unseat(3);
        assert_eq!(world.members(1), [1, 2]);
        world.seat(3);
        world.settle();
    }
}

#[test]
fn accusations_of_an_earlier_generation_count_no_more() {
    let mut world = World::new(1, 1, &[]);
    (1..=2).for_each(|n| world.seat(n));
    world.settle();
    let old = world.generation_of(1).unwrap();
    world.seat(3);
    world.settle();
    world.event(Event::Accused { lease: lease(1), worker: worker(1), generation: old, of: "i2".into() });
    world.settle();
    assert!(world.evicted.is_empty());
}

#[test]
fn after_a_takeover_those_who_all_came_back_go_on_where_they_are() {
    let before = Generation { epoch: 1, number: 7 };
    let mut world = World::new(2, 1, &[1, 2]);
    for n in [2, 1] {
        world.seat(n);
        world.settle();
        let generation = Some(before);
        world.event(Event::Heard { lease: lease(n), worker: worker(n), generation });
    }
    world.settle();
    assert!(world.told.is_empty(), "nobody hears of it");
    world.event(Event::Accused { lease: lease(1), worker: worker(1), generation: before, of: "i2".into() });
    world.settle();
    assert_eq!(world.evicted, [(2, None)]);
    world.unseat(2);
    assert_eq!(world.generation_of(1), Some(Generation { epoch: 2, number: 1 }));
}

#[test]
fn after_a_takeover_without_one_of_them_the_others_make_a_generation_of_their_own() {
    let before = Some(Generation { epoch: 1, number: 7 });
    let mut world = World::new(2, 1, &[1, 2]);
    world.seat(1);
    world.event(Event::Heard { lease: lease(1), worker: worker(1), generation: before });
    world.settle();
    assert!(world.told.is_empty(), "the other may still come back");
    world.wait(Config::default().takeover);
    assert_eq!(world.members(1), [1]);
    assert_eq!(world.generation_of(1), Some(Generation { epoch: 2, number: 1 }));
}

#[test]
fn a_paused_gang_leaves_and_one_that_goes_on_begins_anew() {
    let mut world = World::new(1, 1, &[]);
    (1..=2).for_each(|n| world.seat(n));
    world.settle();
    world.event(Event::Paused { job: JOB, paused: true });
    assert!((1..=2).all(|n| matches!(world.told[&n], GangState::Leave { .. })));
    (1..=2).for_each(|n| world.unseat(n));
    world.event(Event::Paused { job: JOB, paused: false });
    world.seat(1);
    world.settle();
    assert_eq!(world.members(1), [1]);
}

#[test]
fn one_that_has_not_heard_is_told_again() {
    let mut world = World::new(1, 1, &[]);
    world.seat(1);
    world.settle();
    let said = world.told.remove(&1).unwrap();
    world.event(Event::Heard { lease: lease(1), worker: worker(1), generation: None });
    assert_eq!(world.told[&1], said);
}

proptest! {
    #[test]
    fn whatever_paths_are_broken_generations_end_and_those_left_reach_each_other(
        n in 2u64..7,
        broken in prop::collection::btree_set((1u64..7, 1u64..7), 0..12),
    ) {
        let mut world = World::new(1, 1, &[]);
        (1..=n).for_each(|n| world.seat(n));
        world.settle();
        let mut generations = 0;
        let mut left: BTreeSet<u64> = (1..=n).collect();
        loop {
            let members = world.members(*left.first().unwrap());
            let cannot: Vec<(u64, u64)> = broken
                .iter()
                .copied()
                .filter(|(a, b)| a != b && members.contains(a) && members.contains(b))
                .collect();
            if cannot.is_empty() {
                break;
            }
            for (by, of) in cannot {
                world.accuse(by, of);
            }
            world.settle();
            let (gone, _) = world.evicted.pop().expect("somebody leaves");
            left.remove(&gone);
            world.unseat(gone);
            generations += 1;
            prop_assert!(generations < n);
        }
        let members: BTreeSet<u64> = world.members(*left.first().unwrap()).into_iter().collect();
        prop_assert_eq!(members, left);
    }

    #[test]
    fn numbers_grow_and_members_hold_seats(events in prop::collection::vec((0u8..5, 1u64..5, 1u64..5), 0..60)) {
        let mut world = World::new(1, 1, &[]);
        let mut seated = BTreeSet::new();
        let mut last = 0;
        for (what, a, b) in events {
            match what {
                0 => { world.seat(a); seated.insert(a); }
                1 => { world.unseat(a); seated.remove(&a); }
                2 => world.accuse(a, b),
                3 => world.event(Event::Gone { worker: worker(a) }),
                _ => world.settle(),
            }
            for (gone, _) in std::mem::take(&mut world.evicted) {
                world.unseat(gone);
                seated.remove(&gone);
            }
            let newest = (1..5).filter_map(|n| Some((world.generation_of(n)?.number, n))).max();
            if let Some((number, n)) = newest {
                prop_assert!(number >= last);
                if number > last {
                    prop_assert!(world.members(n).iter().all(|member| seated.contains(member)));
                }
                last = number;
            }
        }
    }
}
