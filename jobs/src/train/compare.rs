//! Whether members are right: they look at one another's weights, a part each step and all before they are written down, and at
//! a grain that two of them computed.
//!
//! What is wrong ends the step before anything is applied. Whoever is known to be wrong leaves, and says so; where nobody can
//! tell, all go back to what is written down.

use sr3_worker::{
    Stop,
    gang::{Lost, Mesh},
};

use super::{
    agree::{Apart, broken, majority, said, written},
    audit::{self, Audit},
    facts::Facts,
    member::Ours,
    run::{AGAIN, Steps, WHOLE, tag},
    saving::settle,
};

impl Steps<'_> {
    /// Whether all members have the same weights, all of them. What one alone has is not written down: whoever went on from it
    /// would be wrong with nobody to say so.
    pub(super) async fn compare_all_weights(&self, ours: &mut Ours, mesh: &mut Mesh) -> Result<(), Apart> {
        let whole = self.at.on_device(|learner| Ok(learner.whole_fingerprint())).await?;
        let all: Vec<u64> = said(mesh.gather(tag(self.step, WHOLE), written(&whole)).await?)?;
        self.compare_weights(mesh.rank(), ours, &all)
    }

    /// Whether all members have the same weights, by their fingerprints. If not, the fewest are wrong; all go back to what was
    /// written down when all had the same, since gradients of wrong weights are in what everybody has come to.
    pub(super) fn compare_weights(&self, rank: usize, ours: &mut Ours, all: &[u64]) -> Result<(), Apart> {
        if all.iter().all(|one| *one == all[0]) {
            return Ok(());
        }
        ours.go_back_to(self.step);
        match majority(all.iter().copied()) {
            // Of two nobody can tell which is right.
            None => {
                tracing::error!(
                    step = self.step,
                    "the members' weights differ: going back to the checkpoint"
                );
                Err(Apart::Again)
            }
            Some(right) => {
                let wrong: Vec<usize> = (0..all.len()).filter(|rank| all[*rank] != right).collect();
                tracing::error!(step = self.step, ?wrong, "weights of some members are wrong");
                if wrong.contains(&rank) {
                    return Err(broken(self.step, "weights").into());
                }
                let reason = format!("its weights at step {} are wrong", self.step);
                Err(Apart::Lost(Lost { rank: wrong[0], reason }))
            }
        }
    }

    /// Whether the two that computed the audited grain came to the same. If not, all compute it, and the fewest are wrong; all
    /// go back to before what the two have summed up since they were last found right.
    pub(super) async fn compare_grain(
        &self,
        audit: Audit,
        mesh: &mut Mesh,
        ours: &mut Ours,
        facts: &[Facts],
    ) -> Result<(), Apart> {
        let instance = |rank: usize| self.membership.members[rank].instance.as_str();
        let two = [audit.owner, audit.second];
        let said_first = two.map(|rank| (rank, facts[rank].audited));
        if said_first[0].1 == said_first[1].1 {
            two.iter().for_each(|rank| ours.trust.right(instance(*rank), self.step));
            return Ok(());
        }
        let names = two.map(|rank| self.membership.members[rank].name.as_str());
        tracing::error!(
            step = self.step,
            grain = audit.grain,
            members = ?names,
            "two members come to different gradients of a grain: all compute it"
        );
        // Before anything else can go wrong: nobody goes on with what there is now.
        ours.go_back_to(ours.trust.of(two.iter().map(|rank| instance(*rank))));
        settle(ours).await;
        let samples = self.at.loader.grains(self.step, audit.grain..audit.grain + 1, self.at.attempt).await?;
        let memory = ours.spare.pop().unwrap_or_default();
        let again = self.at.on_device(move |learner| match samples.first() {
            Some(grain) => learner.audit(grain, memory).map_err(Stop::worker),
            None => Err(Stop::worker("the step has no such grain")),
        });
        let (again, memory) = again.await?;
        ours.spare.push(memory);
        let all: Vec<u64> = said(mesh.gather(tag(self.step, AGAIN), written(&again)).await?)?;
        let wrong = audit::wrong(&said_first, &all);
        let Some(wrong) = wrong else { return Err(Apart::Again) };
        if wrong.contains(&mesh.rank()) {
            return Err(broken(self.step, "gradients").into());
        }
        let reason = format!("its gradient of grain {} at step {} is wrong", audit.grain, self.step);
        Err(Apart::Lost(Lost { rank: wrong[0], reason }))
    }
}
