//! What the items of a unit have in common while it is tried: the flag that stops them, how far they are, why they stopped.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sr3_proto::{Cancel, FailureKind};

use crate::Seat;

/// An attempt at a unit.
pub struct Attempt {
    cancel: Cancel,
    progress: Arc<UnitProgress>,
    last_try: bool,
    seat: Seat,
    failure: OnceLock<Failure>,
}

impl Attempt {
    pub(crate) fn new(cancel: Cancel, progress: Arc<UnitProgress>, last_try: bool, seat: Seat) -> Self {
        Self { cancel, progress, last_try, seat, failure: OnceLock::new() }
    }

    /// Its seat in a gang. A unit that is none has one too, and never hears anything.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Set when the work is to stop.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// For whoever watches.
    pub fn progress(&self) -> &UnitProgress {
        &self.progress
    }

    /// Whether an input that still cannot be read after some tries is to be set aside; otherwise the attempt fails, and
    /// somebody tries again later.
    pub fn is_last_try(&self) -> bool {
        self.last_try
    }

    /// Stops all items for a reason that is none of theirs. The first reason stays; those after it follow from it.
    pub(crate) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.cancel.cancel();
    }

    /// Why the items were stopped, if it was not by their owner's wish.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.get()
    }
}

/// Why work cannot go on, in one line, and who could do better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One line.
    pub reason: String,
    /// Who could do better.
    pub kind: FailureKind,
}

impl Failure {
    /// For a reason, which becomes one line.
    pub fn new(kind: FailureKind, reason: impl ToString) -> Self {
        let text = reason.to_string();
        // Sources of errors may bring lines of their own.
        Self { reason: text.split_whitespace().collect::<Vec<_>>().join(" "), kind }
    }
}

/// Why an item stopped before its result was there.
#[derive(Debug)]
pub enum Stop {
    /// A verdict: it cannot be made from this input.
    Bad {
        /// One line.
        reason: String,
    },
    /// No verdict: the work was asked to stop.
    Cancelled,
    /// No verdict: something else than the item failed.
    Failed(Failure),
}

impl Stop {
    /// This worker cannot do it.
    pub fn worker(reason: impl ToString) -> Self {
        Self::Failed(Failure::new(FailureKind::Worker, reason))
    }

    /// Another attempt may do better.
    pub fn transient(reason: impl ToString) -> Self {
        Self::Failed(Failure::new(FailureKind::Transient, reason))
    }
}

/// How far a unit is, as of now.
#[derive(Debug, Default)]
pub struct UnitProgress(Mutex<Progress>);

/// Items with a verdict, the item on the device, and how much of it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) items_done: u32,
    pub(crate) current: Option<String>,
    pub(crate) share: f32,
    /// Whether it stays said when the device is free for a moment: a gang has one after each step.
    stays: bool,
}

impl UnitProgress {
    pub(crate) fn now(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An item is on the device, and so much of it is done, from 0 to 1.
    pub fn on_device(&self, item: &str, share: f32) {
        self.change(|now| {
            now.share = share;
            if now.current.as_deref() != Some(item) {
                now.current = Some(item.to_string());
            }
        });
    }

    /// What a gang is at, and how much of all is done, from 0 to 1: said until something else is.
    pub fn at(&self, what: &str, share: f32) {
        self.change(|now| now.stays = true);
        self.on_device(what, share);
    }

    pub(crate) fn off_device(&self) {
        self.change(|now| {
            if !now.stays {
                (now.current, now.share) = (None, 0.0);
            }
        });
    }

    pub(crate) fn verdict(&self) {
        self.change(|now| now.items_done += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
