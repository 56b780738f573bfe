//! When to try again, and for how long.
//!
//! Two loops, one inside the other. `object_store` repeats a single request that got a 5xx, a 429 or no answer:
//! that keeps pages of a listing and parts of an upload from being done again as a whole. Around it, [`Store`]
//! repeats an operation that failed for a reason that may pass. A new attempt begins only within [`RETRY_TIME`] of
//! the first, in both loops, so that one operation on small objects ends within about two and a half minutes
//! (2 × `RETRY_TIME` + `REQUEST_TIME`), whatever the server does: below the five minutes for which a signature is
//! good for.
//!
//! [`Store`]: super::Store

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use object_store::{BackoffConfig, RetryConfig};
use tokio::time::Instant;

use crate::threads::is_simulated;

/// No attempt begins later than this after the first.
pub const RETRY_TIME: Duration = Duration::from_secs(60);
/// How long one request may take.
pub const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long one request with a large body may take: there is no telling how fast the line is.
pub const LARGE_REQUEST_TIME: Duration = Duration::from_secs(600);
/// How often a request is repeated.
const REQUEST_RETRIES: usize = 8;
/// How often an operation is begun.
const ATTEMPTS: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How `object_store` repeats requests.
pub(super) fn requests() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { init_backoff: FIRST_PAUSE * 2, max_backoff: LONGEST_PAUSE, base: 2.0 },
        max_retries: REQUEST_RETRIES,
        retry_timeout: RETRY_TIME,
    }
}

/// The same for a first look, which should tell soon that an address is wrong.
pub(super) fn first_look() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(5), ..requests() }
}

/// The pauses between attempts at one operation.
pub(super) struct Backoff {
    begun: Instant,
    attempts: u32,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), attempts: 0 }
    }

    /// Waits before the next attempt; false if there should be none.
    pub(super) async fn wait(&mut self) -> bool {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS || self.begun.elapsed() > RETRY_TIME {
            return false;
        }
        let pause = (FIRST_PAUSE * 2u32.pow(self.attempts - 1)).min(LONGEST_PAUSE);
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * spread())).await;
        true
    }
}

/// In [0, 1), different for processes and calls, so that those who failed together do not return together.
fn spread() -> f64 {
    if is_simulated() {
        return 0.5;
    }
    static CALLS: AtomicU64 = AtomicU64::new(0);
    unit(mix(u64::from(std::process::id()) << 32 | CALLS.fetch_add(1, Ordering::Relaxed)))
}

/// SplitMix64: every bit of the result depends on every bit of the argument.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The upper bits of `x` as a number in [0, 1).
pub(super) fn unit(x: u64) -> f64 {
    (x >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn attempts_are_bounded_in_number_and_time() {
        let begun = Instant::now();
        let mut backoff = Backoff::new();
        let mut attempts = 1;
        while backoff.wait().await {
            attempts += 1;
        }
        assert_eq!(attempts, ATTEMPTS);
        assert!(begun.elapsed() < RETRY_TIME);
        let mut backoff = Backoff::new();
        tokio::time::advance(RETRY_TIME * 2).await;
        assert!(!backoff.wait().await, "an attempt that took this long is not repeated");
    }
}
