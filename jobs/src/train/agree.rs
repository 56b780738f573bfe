//! Where the members of a generation go on: with the largest step that any of them has finished.
//!
//! Each says how far it is. Whoever is behind gets the state of one who is ahead; where nobody has any, all begin with the
//! newest checkpoint that the first member finds, or at the beginning. Two that are equally far have the same state: where
//! they say they have not, the fewer are wrong, and leave, and the others go back to that checkpoint.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::train::TrainingState;
use sr3_proto::FailureKind;
use sr3_worker::{
    Failure, Stop,
    gang::{Lost, Mesh},
};

use super::{
    checkpoint::{self, CheckpointInfo},
    curve::{self, History, Sums},
    member::{At, Ours},
};

/// Tags of what is said before the first step of a generation; steps have others.
const OFFER: u64 = u64::MAX - 3;
const BEGIN: u64 = u64::MAX - 2;
const STATE: u64 = u64::MAX - 1;

/// What a member says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Offer {
    /// Steps that it has done, and a fingerprint of what it has come to; none with nothing.
    state: Option<(u64, u64)>,
    /// What came after this step is not to be trusted, whoever has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    back_to: Option<u64>,
}

/// What precedes a state on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    rows: String,
    sums: Sums,
}

/// Why members do not go on together.
pub(super) enum Apart {
    /// One of them is not there.
    Lost(Lost),
    /// This member cannot.
    Stop(Stop),
    /// They have come to different weights, and nobody can tell whose are right: they begin again where they agreed last.
    Again,
}

impl From<Lost> for Apart {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<Stop> for Apart {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Makes this member one of those that go on together.
pub(super) async fn agree(at: &At<'_>, ours: &mut Ours, mesh: &mut Mesh) -> Result<(), Apart> {
    let mine = match ours.has_state {
        true => Some(at.on_device(|learner| Ok((learner.step(), learner.whole_fingerprint()))).await?),
        false => None,
    };
    let offer = Offer { state: mine, back_to: ours.back_to };
    let offers: Vec<Offer> = said(mesh.gather(OFFER, written(&offer)).await?)?;
    let back_to = offers.iter().filter_map(|offer| offer.back_to).min();
    if let Some(step) = back_to {
        ours.go_back_to(step);
        return begin(at, ours, mesh, back_to).await;
    }
    let Some(newest) = offers.iter().filter_map(|offer| offer.state).map(|(step, _)| step).max() else {
        return begin(at, ours, mesh, None).await;
    };
    let holders: Vec<(usize, u64)> = offers
        .iter()
        .enumerate()
        .filter_map(|(rank, offer)| offer.state.filter(|(step, _)| *step == newest).map(|(_, f)| (rank, f)))
        .collect();
    let right = majority(holders.iter().map(|(_, fingerprint)| *fingerprint));
    let wrong = holders.iter().find(|(_, fingerprint)| Some(*fingerprint) != right);
    if let Some((wrong, _)) = wrong {
        // Gradients of wrong weights are in what all have come to. What was written down when all had the same is right.
        ours.go_back_to(newest);
        if right.is_none() {
            return begin(at, ours, mesh, Some(newest)).await;
        }
        if mine.is_some_and(|(step, fingerprint)| step == newest && Some(fingerprint) != right) {
            return Err(broken(newest, "weights").into());
        }
        let reason = format!("its weights at step {newest} are wrong");
        return Err(Apart::Lost(Lost { rank: *wrong, reason }));
    }
    let source = holders.first().map_or(0, |(rank, _)| *rank);
    let behind: Vec<usize> =
        (0..offers.len()).filter(|rank| offers[*rank].state.is_none_or(|(step, _)| step < newest)).collect();
    if behind.is_empty() {
        return Ok(());
    }
    if mesh.rank() == source {
        let state = at.on_device(|learner| Ok(learner.state())).await?;
        let rows = String::from_utf8_lossy(&curve::encode(&ours.rows)).into_owned();
        let header = Header { rows, sums: ours.window.sums };
        let bytes = state.encode().map_err(Stop::worker)?;
        let mut all = (written(&header).len() as u64).to_le_bytes().to_vec();
        all.extend_from_slice(&written(&header));
        all.extend_from_slice(&bytes);
        mesh.send(STATE, &behind, all.into()).await?;
    } else if behind.contains(&mesh.rank()) {
        let all = mesh.receive(STATE, source).await?;
        let (history, state) = read(at, &all).map_err(Stop::worker)?;
        tracing::info!(
            step = state.moments.step,
            from = source,
            "the state of another member was taken over"
        );
        at.open_learner(Some(state)).await?;
        ours.take_over(history);
    }
    Ok(())
}

/// All begin with the newest checkpoint that is whole, and not after step `back_to`, or at the beginning.
async fn begin(at: &At<'_>, ours: &mut Ours, mesh: &mut Mesh, back_to: Option<u64>) -> Result<(), Apart> {
    if let (0, Some(step)) = (mesh.rank(), back_to) {
        checkpoint::take_back(&at.open.destination, step).await.map_err(Stop::transient)?;
    }
    let found = if mesh.rank() == 0 { at.newest_checkpoint().await? } else { None };
    let mut said: Vec<Option<CheckpointInfo>> = said(mesh.gather(BEGIN, written(&found)).await?)?;
    let chosen = said.swap_remove(0);
    let state = match &chosen {
        None => resumed(at).await?,
        Some(info) => {
            let open = at.open;
            let loaded = checkpoint::load(&open.destination, info, &open.order, &at.pictures.index).await;
            Some(loaded.map_err(|e| Stop::Failed(Failure::new(FailureKind::Job, e)))?)
        }
    };
    if let (Some(info), 0) = (&chosen, mesh.rank()) {
        let (step, digest) = (info.step, &info.weights_sha256[..12]);
        tracing::info!("resumed at step {step} (weights sha256:{digest}…)");
    }
    at.open_learner(state).await?;
    (ours.named, ours.back_to) = (chosen.as_ref().map_or(0, |info| info.step), None);
    let sums = chosen.map(|info| info.sums).unwrap_or_default();
    ours.take_over(History { rows: Vec::new(), sums });
    Ok(())
}

/// What a run that goes on from another's begins with.
async fn resumed(at: &At<'_>) -> Result<Option<TrainingState>, Stop> {
    let (Some(store), Some(from)) = (&at.open.resume_from, &at.open.order.recipe.resume_from) else {
        return Ok(None);
    };
    let wrong =
        |e: String| Stop::Failed(Failure::new(FailureKind::Job, format!("`{}`: {e}", from.reference)));
    let loaded = checkpoint::load_of_another(store, &at.open.order.recipe, &from.weights_sha256).await;
    let state = loaded.map_err(|e| wrong(e.to_string()))?;
    let (done, steps) = (state.moments.step, at.open.order.steps);
    if done >= steps {
        return Err(wrong(format!("it has done {done} steps, and `steps` counts them too: it is {steps}")));
    }
    tracing::info!("goes on from step {done} of `{}`", from.reference);
    Ok(Some(state))
}

fn read(at: &At<'_>, all: &Bytes) -> Result<(History, TrainingState), String> {
    let cut = || "a state from another member was cut short".to_string();
    let length = all.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes).ok_or_else(cut)?;
    let end = usize::try_from(length).ok().and_then(|n| n.checked_add(8)).ok_or_else(cut)?;
    let header = all.get(8..end).ok_or_else(cut)?;
    let header: Header = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    let state = at.decode(&all[end..])?;
    Ok((History { rows: curve::decode_curve(header.rows.as_bytes()), sums: header.sums }, state))
}

/// What more than half say, or all of one; none where nobody has more than half.
pub(super) fn majority(all: impl Iterator<Item = u64> + Clone) -> Option<u64> {
    let count = all.clone().count();
    all.clone().find(|one| 2 * all.clone().filter(|other| other == one).count() > count)
}

/// This member computes wrongly.
pub(super) fn broken(step: u64, what: &str) -> Stop {
    let text = format!(
        "at step {step} the {what} here are not those of the other members: this machine computes or stores wrongly; \
         look at its memory before it takes part again"
    );
    tracing::error!("{text}");
    Stop::worker(text)
}

/// As it is said to others.
pub(super) fn written<T: Serialize>(what: &T) -> Bytes {
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_vec(what).unwrap_or_default().into()
}

/// What all said.
pub(super) fn said<T: serde::de::DeserializeOwned>(all: Vec<Bytes>) -> Result<Vec<T>, Stop> {
    let read = |bytes: &Bytes| serde_json::from_slice(bytes);
    let all: Result<Vec<T>, _> = all.iter().map(read).collect();
    all.map_err(|e| {
        Stop::worker(format!("a member says what this sr3 cannot read: {e}; run the same sr3 everywhere"))
    })
}
