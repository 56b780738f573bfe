//! An audit: one grain of a step, drawn anew for each, is computed by a second member as well.
//!
//! What members say of their weights finds a memory that breaks; it cannot find a core that computes wrongly, since a wrong
//! gradient is summed up and comes to all alike. An audit can: the two gradients are one sequence of operations, and differ in a
//! bit only where a machine is wrong. It is compared before the step is applied. What the wrong one did between its last audit
//! and this one nobody has looked at, so the run goes back to a checkpoint from before that.
//!
//! A machine that is wrong in every grain is found in the first step that looks at it: of N members each is looked at in two
//! steps of N. One that is wrong now and then is found by chance, and what it did before it was is in the weights.

use std::collections::BTreeMap;

use sr3_engine::train::Draws;
use sr3_proto::gang::Membership;
use sr3_worker::gang::Cut;

use super::agree::majority;

/// Who computes what, in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Audit {
    /// The grain.
    pub(super) grain: u64,
    /// Rank of the member whose grain it is.
    pub(super) owner: usize,
    /// Rank of the one that computes it as well.
    pub(super) second: usize,
}

impl Audit {
    /// That of a step; none where there is nobody else.
    pub(super) fn of(draws: &Draws, step: u64, cut: &Cut, members: usize) -> Option<Self> {
        if members < 2 {
            return None;
        }
        let [grain, second, ..] = draws.audit(step);
        let grain = grain % cut.grains();
        let owner = (0..members).find(|rank| cut.of(*rank).contains(&grain))?;
        let second = (owner + 1 + second as usize % (members - 1)) % members;
        Some(Self { grain: u64::from(grain), owner, second })
    }
}

/// Who was wrong, by what the two came to (`said`, by rank) and what all came to when they computed the grain `again`; none
/// where nobody can tell.
pub(super) fn wrong(said: &[(usize, u64)], again: &[u64]) -> Option<Vec<usize>> {
    let right = majority(again.iter().copied())?;
    let then = said.iter().filter(|(_, one)| *one != right).map(|(rank, _)| *rank);
    let now = (0..again.len()).filter(|rank| again[*rank] != right);
    let mut wrong: Vec<usize> = then.chain(now).collect();
    wrong.sort_unstable();
    wrong.dedup();
    Some(wrong)
}

/// Until when members are known to compute rightly.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// By process: the last step whose audit found it right, or that with which it came.
    until: BTreeMap<String, u64>,
}

impl Trust {
    /// A generation begins at a step: who is new is trusted up to here.
    pub(super) fn meet(&mut self, members: &Membership, step: u64) {
        for peer in &members.members {
            self.until.entry(peer.instance.clone()).or_insert(step);
        }
    }

    /// The audit of a step found a member right.
    pub(super) fn right(&mut self, instance: &str, step: u64) {
        self.until.insert(instance.to_string(), step);
    }

    /// The step up to which all of these are trusted.
    pub(super) fn of<'a>(&self, instances: impl Iterator<Item = &'a str>) -> u64 {
        instances.map(|one| self.until.get(one).copied().unwrap_or(0)).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use sr3_proto::{
        JobId,
        gang::{Generation, Peer},
    };

    use super::*;

    #[test]
    fn every_member_is_looked_at_and_none_by_itself() {
        let draws = Draws::new(7);
        for members in 2..=5u32 {
            let cut = Cut::even(8, members);
            let mut looked = vec![0; members as usize];
            for step in 0..200 {
                let audit = Audit::of(&draws, step, &cut, members as usize).unwrap();
                assert_ne!(audit.owner, audit.second);
                assert!(cut.of(audit.owner).contains(&(audit.grain as u32)));
                looked[audit.owner] += 1;
                looked[audit.second] += 1;
            }
            let fewest = *looked.iter().min().unwrap();
            assert!(fewest > 200 / members as usize, "{members} members: {looked:?}");
        }
        assert_eq!(Audit::of(&draws, 0, &Cut::even(8, 1), 1), None);
    }

    #[test]
    fn the_wrong_one_is_named_and_of_two_only_one_that_was_right_the_second_time() {
        // A third tells.
        assert_eq!(wrong(&[(0, 1), (2, 9)], &[1, 1, 9]), Some(vec![2]));
        // A flip that does not come again: the first time tells.
        assert_eq!(wrong(&[(0, 1), (1, 9)], &[1, 1]), Some(vec![1]));
        // It comes again, and there is no third.
        assert_eq!(wrong(&[(0, 1), (1, 9)], &[1, 9]), None);
        // Whoever is asked for the first time may be wrong as well.
        assert_eq!(wrong(&[(0, 1), (1, 9)], &[1, 9, 8, 1, 1]), Some(vec![1, 2]));
    }

    #[test]
    fn trust_goes_back_to_the_last_audit_that_found_it_right() {
        let member =
            |name: &str| Peer { instance: name.to_string(), name: String::new(), address: String::new() };
        let mut trust = Trust::default();
        let members = vec![member("a"), member("b")];
        let mut membership = Membership { job: JobId::new(1), generation: Generation::default(), members };
        trust.meet(&membership, 10);
        trust.right("a", 14);
        membership.members.push(member("c"));
        trust.meet(&membership, 20);
        assert_eq!(trust.of(["a"].into_iter()), 14);
        assert_eq!(trust.of(["b", "c"].into_iter()), 10);
        assert_eq!(trust.of(["c"].into_iter()), 20);
    }
}
