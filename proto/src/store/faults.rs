//! A store that fails, for tests: what a share of the operations on a real bucket do on a bad day.
//!
//! [`Store::with_faults`](super::Store::with_faults) puts it under the store's own retries, where a server's faults
//! are. A process started with `SR3_TEST_STORE_FAULTS=SEED:RATE` has it under every store that it opens by location.
//! Never set that where results matter: nothing gets lost, but everything takes longer.
//!
//! The n-th operation of a store fails or not by the seed and n alone.

use std::{
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use super::retry::{mix, unit};

/// The environment variable that turns faults on.
pub const FAULTS_VARIABLE: &str = "SR3_TEST_STORE_FAULTS";

/// Which operations fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// Chooses them.
    pub seed: u64,
    /// Their share, in [0, 1].
    pub rate: f64,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server refuses: nothing is done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// Half of an upload arrives, and the rest never does.
    Torn,
}

/// A text that is not `SEED:RATE`.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not SEED:RATE with a rate from 0 to 1, such as 7:0.05")]
pub struct FaultsError {
    text: String,
}

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let read = || {
            let (seed, rate) = text.split_once(':')?;
            let faults = Self { seed: seed.parse().ok()?, rate: rate.parse().ok()? };
            (0.0..=1.0).contains(&faults.rate).then_some(faults)
        };
        read().ok_or_else(|| FaultsError { text: text.to_string() })
    }
}

/// What was done to the caller on purpose.
#[derive(Debug, thiserror::Error)]
#[error("injected fault: {0:?}")]
pub(super) struct Injected(pub(super) Fault);

#[derive(Debug)]
pub(super) struct Injector {
    faults: Faults,
    operations: AtomicU64,
}

impl Injector {
    pub(super) fn new(faults: Faults) -> Self {
        Self { faults, operations: AtomicU64::new(0) }
    }

    /// What happens to the next operation, with a number to choose by.
    pub(super) fn next(&self) -> Option<(Fault, u64)> {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed);
        let drawn = mix(self.faults.seed ^ mix(operation));
        let kinds = [Fault::Before, Fault::After, Fault::Torn];
        (unit(drawn) < self.faults.rate).then(|| (kinds[(drawn % 3) as usize], (drawn >> 2) % 8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_kept_and_the_seed_decides() {
        let draw = |seed| {
            let injector = Injector::new(Faults { seed, rate: 0.05 });
            (0..10_000).map(|_| injector.next()).collect::<Vec<_>>()
        };
        let (one, two) = (draw(1), draw(2));
        assert_eq!(one, draw(1));
        assert_ne!(one, two);
        for kind in [Fault::Before, Fault::After, Fault::Torn] {
            let share = one.iter().flatten().filter(|(fault, _)| *fault == kind).count();
            assert!((100..250).contains(&share), "{kind:?}: {share} of 10,000");
        }
    }

    #[test]
    fn faults_are_read_from_seed_and_rate() {
        assert_eq!("7:0.05".parse::<Faults>().unwrap(), Faults { seed: 7, rate: 0.05 });
        for text in ["", "7", "7:", ":0.1", "7:1.5", "7:-1", "7:NaN", "x:0.1"] {
            assert!(text.parse::<Faults>().is_err(), "{text}");
        }
    }
}
