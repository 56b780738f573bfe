//! One flag that asks running work to stop.
//!
//! Cancelling is a request, not a kill: whoever holds a clone looks at it between steps and comes to a clean stop.
//! Once set it never goes back.

use std::sync::Arc;

use tokio::sync::watch;

/// A shared flag; clones see the same state.
#[derive(Clone, Debug)]
pub struct Cancel {
    flag: Arc<watch::Sender<bool>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self { flag: Arc::new(watch::Sender::new(false)) }
    }

    /// Sets the flag and wakes everybody who waits for it.
    pub fn cancel(&self) {
        self.flag.send_replace(true);
    }

    /// Whether the flag is set; cheap enough to ask between two steps of a computation.
    pub fn is_cancelled(&self) -> bool {
        *self.flag.borrow()
    }

    /// Returns once the flag is set, at once if it is already.
    pub async fn cancelled(&self) {
        let mut seen = self.flag.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = seen.wait_for(|set| *set).await;
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
