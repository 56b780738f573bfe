//! The one place where the command looks at the wall clock: to show how long ago something was. Nothing that is
//! computed or recorded depends on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since `at_ms`, in milliseconds since the Unix epoch by a coordinator's clock; zero if that clock is ahead.
#[allow(clippy::disallowed_methods, reason = "shown to a person as an age, and kept nowhere")]
pub(crate) fn since(at_ms: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(at_ms))
}

/// `12s`, `5m`, `3h` or `2d`.
pub(crate) fn age(time: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match time.as_secs() {
        seconds if seconds < 2 * MINUTE => format!("{seconds}s"),
        seconds if seconds < 2 * HOUR => format!("{}m", seconds / MINUTE),
        seconds if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        seconds => format!("{}d", seconds / DAY),
    }
}

/// `1:05` or `2:00:07`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_coordinator_ahead_of_us_is_now() {
        assert_eq!(since(u64::MAX), Duration::ZERO);
    }
}
