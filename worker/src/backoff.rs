//! Waits between tries that grow, with jitter, so that workers that lost one coordinator do not come back in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// The same seed gives the same waits.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    state: u64,
    next: Duration,
}

impl Backoff {
    /// `seed` names the process.
    pub(crate) fn new(seed: &str) -> Self {
        // FNV-1a: any function that tells processes apart.
        let state =
            seed.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self { state, next: FIRST }
    }

    /// The next wait: between half and the whole of a time that doubles.
    pub(crate) fn wait(&mut self) -> Duration {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        let wait = self.next.mul_f64(0.5 + 0.5 * share);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// Begins anew with the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_differ_between_processes() {
        let (mut a, mut b) = (Backoff::new("a"), Backoff::new("b"));
        let waits: Vec<_> = (0..12).map(|_| a.wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits.iter().all(|w| *w <= LONGEST) && waits[11] >= LONGEST / 2);
        assert!((0..12).map(|_| b.wait()).ne(waits.iter().copied()));
        a.reset();
        assert!(a.wait() <= FIRST);
    }
}
