//! The units that a worker holds, and what it has to say about them: a pure state machine.
//!
//! Promises: a unit is held from its grant until its last report is committed, or its lease is void. Of each unit one
//! report at a time awaits its answer, so that an answer needs no number. A report without an answer is said again in
//! the next session, under the renewed lease. Of a void lease nothing more is said.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use sr3_proto::{Cancel, FromWorker, Lease, LeaseProgress, gang::GangState, session::UnitResult};
use tokio::sync::oneshot;

use crate::{
    seat::{Accusation, SeatHeld},
    work::{Failure, UnitProgress},
};

/// Names a held unit within the process, whatever its lease becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holding(u64);

/// What is to be said about a unit. All but [`Report::Item`] are the last word.
#[derive(Debug)]
pub(crate) enum Report {
    /// A verdict of an isolated unit; `committed` is answered once it is durable.
    Item { record: Bytes, committed: oneshot::Sender<()> },
    /// It is finished.
    Done(UnitResult),
    /// It could not be done, but for these verdicts.
    Failed(Failure, Vec<Bytes>),
    /// Given back with these verdicts.
    Returned(Vec<Bytes>),
}

impl Report {
    fn message(&self, lease: Lease) -> FromWorker {
        match self {
            Self::Item { record, .. } => FromWorker::ItemDone { lease, record: record.clone() },
            Self::Done(result) => FromWorker::UnitDone { lease, result: result.clone() },
            Self::Failed(Failure { reason, kind }, records) => FromWorker::UnitFailed {
                lease,
                reason: reason.clone(),
                kind: *kind,
                records: records.clone(),
            },
            Self::Returned(records) => FromWorker::UnitReturned { lease, records: records.clone() },
        }
    }

    fn is_last(&self) -> bool {
        !matches!(self, Self::Item { .. })
    }
}

struct Held {
    lease: Lease,
    cancel: Cancel,
    progress: Arc<UnitProgress>,
    seat: SeatHeld,
    /// What the seat has to say of others in the generation that it works in.
    accusations: Vec<Accusation>,
    /// The first awaits its answer.
    reports: VecDeque<Report>,
}

/// The units.
#[derive(Default)]
pub(crate) struct Holdings {
    held: BTreeMap<Holding, Held>,
    next: u64,
}

/// What an answer changed.
#[derive(Debug, PartialEq)]
pub(crate) enum Answered {
    /// Nothing: it is about nothing that is held.
    Unknown,
    /// The unit goes on; the next report, if one waited.
    Next(Option<FromWorker>),
    /// The unit is no longer held.
    Released,
}

impl Holdings {
    /// Takes a granted unit; none if it is held already.
    pub(crate) fn add(
        &mut self,
        lease: Lease,
        cancel: Cancel,
        progress: Arc<UnitProgress>,
        seat: SeatHeld,
    ) -> Option<Holding> {
        if self.held.values().any(|held| held.lease == lease) {
            return None;
        }
        let id = Holding(self.next);
        self.next += 1;
        self.held.insert(
            id,
            Held { lease, cancel, progress, seat, accusations: Vec::new(), reports: VecDeque::new() },
        );
        Some(id)
    }

    /// Something is to be said about a unit; what to send now, if anything.
    pub(crate) fn report(&mut self, id: Holding, report: Report) -> Option<FromWorker> {
        let held = self.held.get_mut(&id)?;
        held.reports.push_back(report);
        // Others wait for the answer to the first.
        if held.reports.len() > 1 {
            return None;
        }
        held.reports.front().map(|report| report.message(held.lease))
    }

    /// The report that awaited its answer is durable.
    pub(crate) fn committed(&mut self, lease: Lease) -> Answered {
        let Some(id) = self.find(lease) else { return Answered::Unknown };
        let Some(held) = self.held.get_mut(&id) else { return Answered::Unknown };
        match held.reports.pop_front() {
            None => Answered::Unknown,
            Some(Report::Item { committed, .. }) => {
                let _ = committed.send(());
                Answered::Next(held.reports.front().map(|r| r.message(held.lease)))
            }
            Some(_) => {
                self.held.remove(&id);
                Answered::Released
            }
        }
    }

    /// A lease is void: its items are stopped.
    pub(crate) fn revoke(&mut self, lease: Lease) -> Answered {
        match self.find(lease).and_then(|id| self.held.remove(&id)) {
            Some(held) => {
                held.cancel.cancel();
                Answered::Released
            }
            None => Answered::Unknown,
        }
    }

    /// A session begins: of the leases held, these go on. What awaits an answer is to be said again.
    pub(crate) fn renew(&mut self, renewed: &[(Lease, Lease)]) -> Vec<FromWorker> {
        self.held.retain(|_, held| match renewed.iter().find(|(old, _)| *old == held.lease) {
            Some((_, new)) => {
                held.lease = *new;
                true
            }
            None => {
                held.cancel.cancel();
                false
            }
        });
        let again = |held: &Held| held.reports.front().map(|r| r.message(held.lease));
        self.held.values().filter_map(again).collect()
    }

    /// Asks every unit that is still worked on to stop: each will be reported with what it has.
    pub(crate) fn stop_all(&self) {
        self.held.values().filter(|held| !held.is_over()).for_each(|held| held.cancel.cancel());
    }

    /// Leases that are held.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.held.values().map(|held| held.lease).collect()
    }

    /// What a heartbeat says, given that all reports so far were sent. A unit whose end was reported is left out: the
    /// coordinator holds the lease no longer, and its answer is on the way. One that failed is listed, because it
    /// may be answered by nothing but the renewal's refusal.
    pub(crate) fn progress(&self) -> Vec<LeaseProgress> {
        let listed =
            |held: &&Held| !matches!(held.reports.front(), Some(Report::Done(_) | Report::Returned(_)));
        let progress = |held: &Held| {
            let now = held.progress.now();
            LeaseProgress {
                lease: held.lease,
                items_done: now.items_done,
                current: now.current,
                share: now.share,
                generation: held.seat.generation(),
            }
        };
        self.held.values().filter(listed).map(progress).collect()
    }

    /// The coordinator says what a seat's holder is to do.
    pub(crate) fn tell_seat(&self, lease: Lease, state: GangState) {
        if let Some(held) = self.find(lease).and_then(|id| self.held.get(&id)) {
            held.seat.tell(state);
        }
    }

    /// Whoever holds a seat is to give it back.
    pub(crate) fn leave_seats(&self, reason: &str) {
        for held in self.held.values().filter(|held| !held.is_over()) {
            held.seat.tell(GangState::Leave { reason: reason.to_string() });
        }
    }

    /// A seat's holder cannot reach another member; what to send now.
    pub(crate) fn accuse(&mut self, id: Holding, accusation: Accusation) -> Option<FromWorker> {
        let held = self.held.get_mut(&id)?;
        if !held.accusations.contains(&accusation) {
            held.accusations.push(accusation.clone());
        }
        let (generation, of) = accusation;
        Some(FromWorker::Accuse { lease: held.lease, generation, of })
    }

    /// What seats have to say of others, again: it may have been said to nobody, or to a coordinator that is no more.
    pub(crate) fn accusations(&mut self) -> Vec<FromWorker> {
        let mut all = Vec::new();
        for held in self.held.values_mut() {
            let (lease, now) = (held.lease, held.seat.generation());
            // Of an earlier generation nobody wants to know.
            held.accusations.retain(|(generation, _)| now.is_none_or(|now| *generation >= now));
            let again = |(generation, of): &Accusation| FromWorker::Accuse {
                lease,
                generation: *generation,
                of: of.clone(),
            };
            all.extend(held.accusations.iter().map(again).filter(|_| !held.is_over()));
        }
        all
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many are still worked on.
    pub(crate) fn working(&self) -> usize {
        self.held.values().filter(|held| !held.is_over()).count()
    }

    fn find(&self, lease: Lease) -> Option<Holding> {
        self.held.iter().find(|(_, held)| held.lease == lease).map(|(id, _)| *id)
    }
}

impl Held {
    fn is_over(&self) -> bool {
        self.reports.back().is_some_and(Report::is_last)
    }
}

#[cfg(test)]
mod tests {
    use sr3_proto::{JobId, UnitId, gang::Generation};
    use tokio::sync::mpsc;

    use super::*;
    use crate::seat::seat;

    #[test]
    fn what_a_seat_says_of_others_is_said_again_under_its_new_lease_until_there_is_a_later_generation() {
        let mut holdings = Holdings::default();
        let lease = |token| Lease { epoch: 1, job: JobId::new(1), unit: UnitId::new(1), attempt: 1, token };
        let (seat, held) = seat("me".into(), mpsc::unbounded_channel().0);
        let id = holdings.add(lease(1), Cancel::new(), Arc::default(), held).unwrap();
        let generation = |number| Generation { epoch: 1, number };
        seat.working_in(Some(generation(1)));
        let said =
            |token| FromWorker::Accuse { lease: lease(token), generation: generation(1), of: "i".into() };
        for _ in 0..2 {
            assert_eq!(holdings.accuse(id, (generation(1), "i".into())), Some(said(1)));
        }
        assert_eq!(holdings.renew(&[(lease(1), lease(2))]), []);
        assert_eq!(holdings.accusations(), [said(2)]);
        seat.working_in(Some(generation(2)));
        assert_eq!(holdings.accusations(), []);
    }
}
