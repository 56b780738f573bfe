//! What breaks, and when it heals: a function of the seed.

use std::time::Duration;

use sr3::coordinator::ledger::{Fault, MemoryLedgerStorage};
use turmoil::Sim;

use crate::{chance::Chance, cluster::COORDINATORS};

/// Afterwards everything heals.
const QUIET_FROM: Duration = Duration::from_secs(40);

enum Heal {
    Bounce(&'static str),
    Repair(&'static str, &'static str),
    Release(&'static str, &'static str),
}

/// Breaks hosts, links and the ledger.
pub(crate) struct Breaker {
    chance: Chance,
    workers: &'static [&'static str],
    /// Whether links between workers break too.
    between_workers: bool,
    next: Duration,
    healing: Vec<(Duration, Heal)>,
    pub(crate) faults: u64,
}

impl Breaker {
    pub(crate) fn new(seed: u64, workers: &'static [&'static str]) -> Self {
        let between_workers = false;
        Self {
            chance: Chance::new(seed),
            workers,
            between_workers,
            next: Duration::ZERO,
            healing: Vec::new(),
            faults: 0,
        }
    }

    /// Breaks links between workers, too.
    pub(crate) fn between_workers(self) -> Self {
        Self { between_workers: true, ..self }
    }

    /// What broke or healed at this moment, if anything did.
    pub(crate) fn step(&mut self, sim: &mut Sim<'_>, ledger: &MemoryLedgerStorage) -> Option<String> {
        let now = sim.elapsed();
        if let Some(due) = self.healing.iter().position(|(at, _)| *at <= now || now >= QUIET_FROM) {
            return Some(match self.healing.remove(due).1 {
                Heal::Bounce(host) => {
                    sim.bounce(host);
                    format!("{host} is begun again")
                }
                Heal::Repair(a, b) => {
                    sim.repair(a, b);
                    format!("{a} and {b} reach each other again")
                }
                Heal::Release(a, b) => {
                    sim.release(a, b);
                    format!("what {a} and {b} said arrives")
                }
            });
        }
        if now < self.next || now >= QUIET_FROM {
            return None;
        }
        self.next = now + Duration::from_millis(self.chance.between(200, 4000));
        self.faults += 1;
        Some(self.break_something(sim, ledger, now))
    }

    fn break_something(&mut self, sim: &mut Sim<'_>, ledger: &MemoryLedgerStorage, now: Duration) -> String {
        let worker = self.one_of(self.workers);
        let coordinator = self.one_of(&COORDINATORS);
        let length = Duration::from_millis(match self.chance.between(0, 4) {
            0 => self.chance.between(20, 200),
            1 | 2 => self.chance.between(200, 5_000),
            _ => self.chance.between(5_000, 20_000),
        });
        let heal_at = now + length;
        let kind = self.chance.between(0, 10);
        let (a, b) = match kind {
            4 | 6 if self.chance.between(0, 3) == 0 => (COORDINATORS[0], COORDINATORS[1]),
            4..=7 if self.between_workers && self.chance.between(0, 2) == 0 => self.two_workers(),
            _ => (worker, coordinator),
        };
        let crashed = if kind < 2 { worker } else { coordinator };
        match kind {
            0..=3 if self.is_down(crashed) => format!("{crashed} is down already"),
            0..=3 => {
                sim.crash(crashed);
                self.healing.push((heal_at, Heal::Bounce(crashed)));
                format!("{crashed} crashes for {length:?}")
            }
            4..=7 if self.is_cut(a, b) => format!("{a} and {b} are apart already"),
            4 | 5 => {
                sim.partition(a, b);
                self.healing.push((heal_at, Heal::Repair(a, b)));
                format!("{a} and {b} are apart for {length:?}")
            }
            6 => {
                sim.hold(a, b);
                self.healing.push((heal_at, Heal::Release(a, b)));
                format!("what {a} and {b} say is held for {length:?}")
            }
            7 => {
                let (from, to) = if self.chance.between(0, 2) == 0 { (a, b) } else { (b, a) };
                sim.partition_oneway(from, to);
                self.healing.push((heal_at, Heal::Repair(a, b)));
                format!("nothing of {from} reaches {to} for {length:?}")
            }
            8 => {
                let fault = [Fault::Lost, Fault::WrittenButUnknown][self.chance.between(0, 2) as usize];
                ledger.fail_next_commit(fault);
                format!("the next commit is {fault:?}")
            }
            _ => {
                let delay = Duration::from_millis(self.chance.between(0, 300));
                ledger.set_commit_delay(delay);
                format!("commits take {delay:?}")
            }
        }
    }

    fn one_of(&mut self, hosts: &[&'static str]) -> &'static str {
        hosts[self.chance.between(0, hosts.len() as u64) as usize]
    }

    /// In the order in which they are named, so that a link has one name.
    fn two_workers(&mut self) -> (&'static str, &'static str) {
        let count = self.workers.len() as u64;
        let first = self.chance.between(0, count - 1);
        let second = self.chance.between(first + 1, count);
        (self.workers[first as usize], self.workers[second as usize])
    }

    fn is_down(&self, host: &str) -> bool {
        self.healing.iter().any(|(_, heal)| matches!(heal, Heal::Bounce(other) if *other == host))
    }

    fn is_cut(&self, a: &str, b: &str) -> bool {
        let cut = |heal: &Heal| match heal {
            Heal::Repair(c, d) | Heal::Release(c, d) => (*c, *d) == (a, b),
            Heal::Bounce(_) => false,
        };
        self.healing.iter().any(|(_, heal)| cut(heal))
    }
}
