//! The gang machine, driven through histories.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use sr3_proto::{
    UnitId,
    gang::{GangState, Peer},
};

use super::*;

const JOB: JobId = JobId::new(1);

/// Workers that take seats, and a machine that makes generations of them.
struct World {
    gangs: Gangs,
    now: Time,
    /// What each worker was told last.
    told: BTreeMap<u64, GangState>,
    evicted: Vec<(u64, Option<Duration>)>,
    /// Members of every generation that anybody was told of.
    made: BTreeMap<Generation, Vec<String>>,
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
        let mut world = Self {
            gangs,
            now: Time::ZERO,
            told: BTreeMap::new(),
            evicted: Vec::new(),
            made: BTreeMap::new(),
        };
        let holders = holders.iter().map(|n| format!("i{n}")).collect();
        world.event(Event::Began { job: JOB, min, holders });
        world
    }

    fn event(&mut self, event: Event) {
        for effect in self.gangs.apply(event, self.now) {
            match effect {
                Effect::Tell { worker, state, .. } => {
                    if let GangState::Together(membership) = &state {
                        let members: Vec<_> = membership.members.iter().map(|p| p.instance.clone()).collect();
                        let before = self.made.insert(membership.generation, members.clone());
                        assert!(before.is_none_or(|before| before == members), "one number, two memberships");
                    }
                    self.told.insert(worker.get(), state);
                }
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

    fn heard(&mut self, n: u64, generation: Option<Generation>) {
        self.event(Event::Heard { lease: lease(n), worker: worker(n), generation });
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
        world.heard(n, Some(before));
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
    world.heard(1, before);
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
    world.heard(1, None);
    assert_eq!(world.told[&1], said);
}

#[test]
fn whoever_was_silent_once_may_come_back_and_is_kept_out_after_that() {
    let mut world = World::new(1, 1, &[]);
    (1..=2).for_each(|n| world.seat(n));
    for bar in [None, Some(30), Some(60)] {
        world.settle();
        world.accuse(1, 2);
        world.settle();
        assert_eq!(world.evicted.pop(), Some((2, bar.map(Duration::from_secs))));
        world.unseat(2);
        world.seat(2);
    }
}

#[test]
fn whoever_names_a_stranger_changes_nothing() {
    let mut world = World::new(1, 1, &[]);
    (1..=2).for_each(|n| world.seat(n));
    world.settle();
    let before = world.generation_of(1);
    world.accuse(1, 9);
    world.accuse(1, 1);
    world.seat(3);
    world.accuse(1, 3);
    world.wait(Duration::from_millis(200));
    assert_eq!(world.generation_of(1), before);
    world.settle();
    assert!(world.evicted.is_empty());
}

#[test]
fn a_generation_that_was_taken_over_ends_when_one_that_held_no_seat_is_missed_in_it() {
    let before = Generation { epoch: 1, number: 7 };
    let mut world = World::new(2, 1, &[1, 2]);
    for n in [1, 2] {
        world.seat(n);
        world.heard(n, Some(before));
    }
    assert!(world.told.is_empty());
    // It gave its seat back, and the coordinator ended before it told the others.
    let of = "i3".to_string();
    world.event(Event::Accused { lease: lease(1), worker: worker(1), generation: before, of });
    assert_eq!(world.members(1), [1, 2]);
    assert_eq!(world.generation_of(2), Some(Generation { epoch: 2, number: 1 }));
}

#[test]
fn after_a_takeover_members_of_several_generations_make_a_new_one() {
    let mut world = World::new(2, 1, &[1, 2]);
    for n in [1, 2] {
        world.seat(n);
        world.heard(n, Some(Generation { epoch: 1, number: n }));
    }
    assert_eq!(world.generation_of(1), Some(Generation { epoch: 2, number: 1 }));
    // And so does one of whom somebody was lost before all were back.
    let before = Some(Generation { epoch: 1, number: 7 });
    let mut world = World::new(2, 1, &[1, 2]);
    world.seat(1);
    world.heard(1, before);
    world.unseat(2);
    assert_eq!(world.members(1), [1]);
}

#[test]
fn one_that_was_away_while_the_gang_was_paused_hears_of_it() {
    let mut world = World::new(1, 1, &[]);
    (1..=2).for_each(|n| world.seat(n));
    world.settle();
    let generation = world.generation_of(2);
    world.event(Event::Gone { worker: worker(2) });
    world.event(Event::Paused { job: JOB, paused: true });
    world.told.clear();
    world.seat(2);
    world.heard(2, generation);
    assert!(matches!(world.told[&2], GangState::Leave { .. }));
}

#[test]
fn a_gang_that_is_done_makes_no_generation_and_lets_go_who_misses_another() {
    let mut world = World::new(1, 2, &[]);
    (1..=3).for_each(|n| world.seat(n));
    world.settle();
    let last = world.generation_of(3);
    world.event(Event::Done { job: JOB });
    world.unseat(1);
    world.settle();
    assert_eq!(world.generation_of(3), last);
    world.accuse(2, 1);
    assert!(matches!(world.told[&2], GangState::Leave { .. }));
    world.unseat(2);
    world.unseat(3);
    // The next stage's numbers go on.
    world.event(Event::Began { job: JOB, min: 1, holders: Vec::new() });
    world.seat(4);
    world.settle();
    assert_eq!(world.generation_of(4).map(|g| g.number), last.map(|g| g.number + 1));
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
    fn numbers_grow_members_hold_seats_ranks_are_stable_and_nothing_happens_by_itself(
        events in prop::collection::vec((0u8..8, 1u64..6, 1u64..6), 0..80),
        min in 1u32..4,
    ) {
        let mut world = World::new(1, min, &[]);
        let mut seated = BTreeSet::new();
        // Whoever left since the last generation; if it is back, it is behind the others.
        let mut left = BTreeSet::new();
        for (what, a, b) in events {
            let newest = world.made.keys().next_back().copied();
            match what {
                0 | 1 => { world.seat(a); seated.insert(a); }
                2 => { world.unseat(a); seated.remove(&a); left.insert(peer(a).instance); }
                3 => world.accuse(a, b),
                4 => world.event(Event::Gone { worker: worker(a) }),
                5 => { let generation = world.generation_of(b); world.heard(a, generation) }
                6 => world.event(Event::Paused { job: JOB, paused: b % 2 == 0 }),
                _ => world.settle(),
            }
            for (gone, _) in std::mem::take(&mut world.evicted) {
                world.unseat(gone);
                seated.remove(&gone);
                left.insert(peer(gone).instance);
            }
            let mut later = world.made.iter().filter(|(generation, _)| Some(**generation) > newest);
            prop_assert!(later.clone().count() <= 2, "one for what happened, one for who leaves because of it");
            let names: BTreeSet<String> = seated.iter().map(|n| peer(*n).instance).collect();
            if let Some((_, members)) = later.next_back() {
                prop_assert!(members.iter().all(|member| names.contains(member)));
                prop_assert!(members.len() >= min as usize);
                let before = newest.and_then(|newest| world.made.get(&newest)).cloned().unwrap_or_default();
                let steady = |of: &[String], other: &[String]| -> Vec<String> {
                    of.iter().filter(|one| other.contains(one) && !left.contains(*one)).cloned().collect()
                };
                prop_assert_eq!(steady(&before, members), steady(members, &before));
                left.clear();
            }
        }
        world.event(Event::Paused { job: JOB, paused: false });
        (0..3).for_each(|_| { world.settle(); world.evicted.clear(); });
        let count = world.made.len();
        (0..50).for_each(|_| world.settle());
        prop_assert_eq!(world.made.len(), count, "time alone makes no generation");
    }
}
