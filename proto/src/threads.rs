//! Threads of their own for work that would hold up everything else, and how a simulation does without them.
//!
//! A simulation runs every machine on one thread and owns time; work on another thread would end whenever the real
//! machine lets it, and the run would depend on more than its seed. So a thread that called
//! [`simulate_on_this_thread`] does the work where it is asked for, in that order.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// The work panicked. A bug; what it said is on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error; please report it")]
pub struct Panicked;

/// From now on, no work that is begun on this thread leaves it.
pub fn simulate_on_this_thread() {
    SIMULATED.set(true);
}

/// Whether no work may leave this thread.
pub fn is_simulated() -> bool {
    SIMULATED.get()
}

/// What `work` returns, done on a thread where it may block.
///
/// # Errors
/// [`Panicked`].
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    if is_simulated() {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_leaves_the_thread_unless_simulated() {
        let here = std::thread::current().id();
        let there = || off_thread(|| std::thread::current().id());
        assert_ne!(there().await, Ok(here));
        assert_eq!(off_thread(|| panic!("on purpose")).await, Err::<(), _>(Panicked));
        simulate_on_this_thread();
        assert_eq!(there().await, Ok(here));
        assert_eq!(off_thread(|| panic!("on purpose")).await, Err::<(), _>(Panicked));
    }
}
