//! A seat in a gang, as its unit sees it: what the coordinator wants of it, and what it has to say.

use sr3_proto::gang::{GangState, Generation};
use tokio::sync::{mpsc, watch};

/// What a seat has to say to the coordinator: whom it cannot reach, and in which generation.
pub(crate) type Accusation = (Generation, String);

/// A unit's side of a seat.
#[derive(Debug)]
pub struct Seat {
    me: String,
    states: watch::Receiver<Option<GangState>>,
    accusations: mpsc::UnboundedSender<Accusation>,
    generation: watch::Sender<Option<Generation>>,
}

/// The holder's side of a seat.
#[derive(Debug)]
pub(crate) struct SeatHeld {
    states: watch::Sender<Option<GangState>>,
    generation: watch::Receiver<Option<Generation>>,
}

/// Both sides, of the process `me`; accusations go to `accusations`.
pub(crate) fn seat(me: String, accusations: mpsc::UnboundedSender<Accusation>) -> (Seat, SeatHeld) {
    let (say, states) = watch::channel(None);
    let (generation, works_in) = watch::channel(None);
    (Seat { me, states, accusations, generation }, SeatHeld { states: say, generation: works_in })
}

impl Seat {
    /// This process, as others know it.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// What the coordinator wants, and every change of it; nothing before it has said so for the first time.
    pub fn states(&self) -> watch::Receiver<Option<GangState>> {
        self.states.clone()
    }

    /// Tells the coordinator that a member of a generation cannot be reached.
    pub fn accuse(&self, generation: Generation, instance: &str) {
        // Nobody listens: the worker leaves.
        let _ = self.accusations.send((generation, instance.to_string()));
    }

    /// Tells the coordinator which generation this seat works in.
    pub fn working_in(&self, generation: Option<Generation>) {
        self.generation.send_replace(generation);
    }
}

impl SeatHeld {
    /// The coordinator has said so. Said again, nothing changes.
    pub(crate) fn tell(&self, state: GangState) {
        self.states.send_if_modified(|now| {
            let is_new = now.as_ref() != Some(&state);
            *now = Some(state);
            is_new
        });
    }

    /// The generation that it works in.
    pub(crate) fn generation(&self) -> Option<Generation> {
        *self.generation.borrow()
    }
}
