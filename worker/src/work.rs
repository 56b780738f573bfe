//! What the items of a shard have in common: stores, recipe, processor, the flag that stops them and how far they are.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sr3_proto::{Cancel, Digest, FailureKind, Key, RecipeSpec, Store};

use crate::{ItemError, Processor};

/// The common part of items, one for each shard, so that each can be stopped by itself.
pub(crate) struct Work<P: Processor> {
    pub(crate) processor: Arc<P>,
    pub(crate) source: Store,
    pub(crate) destination: Store,
    pub(crate) recipe: RecipeSpec,
    pub(crate) recipe_digest: Digest,
    pub(crate) cancel: Cancel,
    /// For whoever watches.
    pub(crate) progress: Arc<ShardProgress>,
    /// An input that still cannot be read after some tries is quarantined; otherwise the work fails, and somebody
    /// tries again later.
    pub(crate) quarantine_unreadable: bool,
    failure: OnceLock<Failure>,
}

impl<P: Processor> Work<P> {
    pub(crate) fn new(
        processor: Arc<P>,
        [source, destination]: [Store; 2],
        recipe: RecipeSpec,
        cancel: Cancel,
        progress: Arc<ShardProgress>,
        quarantine_unreadable: bool,
    ) -> Self {
        let (recipe_digest, failure) = (recipe.digest(), OnceLock::new());
        Self {
            processor,
            source,
            destination,
            recipe,
            recipe_digest,
            cancel,
            progress,
            quarantine_unreadable,
            failure,
        }
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
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) kind: FailureKind,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, reason: impl ToString) -> Self {
        let text = reason.to_string();
        // Sources of errors may bring lines of their own.
        Self { reason: text.split_whitespace().collect::<Vec<_>>().join(" "), kind }
    }
}

/// Why an item stopped before its output was written.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A verdict: it cannot be made from this input.
    Bad { reason: String },
    /// No verdict: the work was asked to stop.
    Cancelled,
    /// No verdict: something else than the item failed.
    Failed(Failure),
}

impl Stop {
    pub(crate) fn worker(reason: impl ToString) -> Self {
        Self::Failed(Failure::new(FailureKind::Worker, reason))
    }

    pub(crate) fn transient(reason: impl ToString) -> Self {
        Self::Failed(Failure::new(FailureKind::Transient, reason))
    }
}

impl From<ItemError> for Stop {
    fn from(error: ItemError) -> Self {
        match error {
            ItemError::Bad { reason } => Self::Bad { reason },
            ItemError::Cancelled => Self::Cancelled,
        }
    }
}

/// How far a shard is, as of now.
#[derive(Debug, Default)]
pub(crate) struct ShardProgress(Mutex<Progress>);

/// Items with a verdict, the item on the device, and how much of it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) items_done: u32,
    pub(crate) current: Option<String>,
    pub(crate) share: f32,
}

impl ShardProgress {
    pub(crate) fn now(&self) -> Progress {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn on_device(&self, input: &Key, share: f32) {
        self.change(|now| {
            now.share = share;
            if now.current.as_deref() != Some(input.as_str()) {
                now.current = Some(input.as_str().to_string());
            }
        });
    }

    pub(crate) fn off_device(&self) {
        self.change(|now| (now.current, now.share) = (None, 0.0));
    }

    pub(crate) fn verdict(&self) {
        self.change(|now| now.items_done += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
