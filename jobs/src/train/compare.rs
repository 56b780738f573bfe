//! Whether members are right: they look at one another's weights, a part each step, and at a grain that two of them computed.
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
    run::{AGAIN, Steps, tag},
    saving::settle,
};

impl Steps<'_> {
    /// Whether all members have the same weights.
    pub(super) fn compare_weights(&self, rank: usize, ours: &mut Ours, facts: &[Facts]) -> Result<(), Apart> {
        let all = facts.iter().map(|facts| facts.fingerprint);
        let Some(first) = facts.first() else { return Ok(()) };
        if all.clone().all(|one| one == first.fingerprint) {
            return Ok(());
        }
        match majority(all.clone()) {
            // Of two nobody can tell which is right: both go back to what is written down.
            None => {
                tracing::error!(
                    step = self.step,
                    "the members' weights differ: going back to the checkpoint"
                );
                ours.has_state = false;
                Err(Apart::Again)
            }
            Some(right) => {
                let wrong: Vec<usize> =
                    (0..facts.len()).filter(|rank| facts[*rank].fingerprint != right).collect();
                tracing::error!(step = self.step, ?wrong, "weights of some members are wrong");
                if wrong.contains(&rank) {
                    ours.has_state = false;
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
        ours.back_to = Some(ours.trust.of(two.iter().map(|rank| instance(*rank))));
        ours.has_state = false;
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
