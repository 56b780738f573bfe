//! How far a job is. Pure: the time that passed is an argument.

use std::time::Duration;

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Items found so far, those left out by globs not counted.
    pub(crate) planned: u64,
    /// Whether `planned` is the final number.
    pub(crate) planning_done: bool,
    /// Items with a result.
    pub(crate) done: u64,
    /// Items that needed nothing.
    pub(crate) skipped: u64,
    /// Items without a result.
    pub(crate) quarantined: u64,
    /// Encoded bytes of all items that are to be computed.
    pub(crate) work_planned: u64,
    /// Encoded bytes of what is done of them.
    pub(crate) work_done: u64,
    /// The item on the device.
    pub(crate) current: Option<Current>,
}

/// The item on the device.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Current {
    /// Its path relative to the source.
    pub(crate) input: String,
    /// How much of it is done, 0 to 1.
    pub(crate) share: f32,
}

impl Progress {
    /// Results per second.
    pub(crate) fn images_per_second(&self, elapsed: Duration) -> f64 {
        if elapsed.is_zero() { 0.0 } else { self.done as f64 / elapsed.as_secs_f64() }
    }

    /// Time left, judged by the encoded bytes that are done; none before anything is.
    pub(crate) fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let done = self.work_done as f64;
        if !self.planning_done || done <= 0.0 {
            return None;
        }
        let left = (self.work_planned as f64 - done).max(0.0);
        Some(elapsed.mul_f64(left / done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_follows_the_work_not_the_count() {
        let progress = Progress {
            planning_done: true,
            done: 1,
            work_planned: 400,
            work_done: 100,
            ..Progress::default()
        };
        assert_eq!(progress.time_left(Duration::from_secs(10)), Some(Duration::from_secs(30)));
        assert_eq!(progress.images_per_second(Duration::from_secs(10)), 0.1);
        assert_eq!(Progress::default().time_left(Duration::from_secs(10)), None);
        assert_eq!(Progress::default().images_per_second(Duration::ZERO), 0.0);
    }
}
