//! How far a job is. Pure: the time that passed is an argument.

use std::time::Duration;

/// A snapshot, sent on a watch channel whenever something changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Items found so far, those left out by globs not counted.
    pub planned: u64,
    /// Whether `planned` is the final number.
    pub planning_done: bool,
    /// Items with a result.
    pub done: u64,
    /// Items that needed nothing.
    pub skipped: u64,
    /// Items without a result.
    pub quarantined: u64,
    /// Encoded bytes of all items that are to be computed.
    pub work_planned: u64,
    /// Encoded bytes of those computed or quarantined by the worker.
    pub work_done: u64,
    /// The item on the device.
    pub current: Option<Current>,
}

/// The item on the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Its path relative to the source.
    pub input: String,
    /// How much of it is done, 0 to 1.
    pub share: f32,
    /// Its encoded bytes.
    pub bytes: u64,
}

impl Progress {
    /// Results per second.
    pub fn images_per_second(&self, elapsed: Duration) -> f64 {
        if elapsed.is_zero() { 0.0 } else { self.done as f64 / elapsed.as_secs_f64() }
    }

    /// Time left, judged by the encoded bytes that are done, those of the current item by its share; none before
    /// anything is.
    pub fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let within =
            self.current.as_ref().map_or(0.0, |current| current.bytes as f64 * f64::from(current.share));
        let done = self.work_done as f64 + within;
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
        let half = Current { input: "b.png".into(), share: 0.5, bytes: 200 };
        let within = Progress { current: Some(half), ..progress };
        assert_eq!(within.time_left(Duration::from_secs(10)), Some(Duration::from_secs(10)));
        assert_eq!(Progress::default().time_left(Duration::from_secs(10)), None);
        assert_eq!(Progress::default().images_per_second(Duration::ZERO), 0.0);
    }
}
