//! One flag that asks running work to stop.
//!
//! Cancelling is a request, not a kill: whoever holds a clone looks at it between steps and comes to a clean stop.
//! Once set it never goes back.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use tokio::sync::Notify;

/// A shared flag; clones see the same state.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    set: AtomicBool,
    waiting: Notify,
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes everybody who waits for it, in the order in which they came.
    pub fn cancel(&self) {
        self.shared.set.store(true, SeqCst);
        self.shared.waiting.notify_waiters();
    }

    /// Whether the flag is set; cheap enough to ask between two steps of a computation.
    pub fn is_cancelled(&self) -> bool {
        self.shared.set.load(SeqCst)
    }

    /// Returns once the flag is set, at once if it is already.
    pub async fn cancelled(&self) {
        let mut woken = pin!(self.shared.waiting.notified());
        // Waits from here on, so that a flag that is set after the look wakes it.
        woken.as_mut().enable();
        if !self.is_cancelled() {
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_and_a_late_comer_both_see_it() {
        let cancel = Cancel::new();
        let other = cancel.clone();
        let waiter = tokio::spawn(async move { other.cancelled().await });
        assert!(!cancel.is_cancelled());
        cancel.cancel();
        waiter.await.unwrap();
        cancel.cancelled().await;
        assert!(cancel.is_cancelled());
    }
}
