//! The two clocks of a coordinator, in the one place that reads them: a monotonic one that decides, which the runtime
//! can hold and move in a simulation, and the wall's, which only labels what people read.

use std::time::Duration;

use tokio::time::Instant;

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    wall: fn() -> u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { origin: Instant::now(), wall: wall_ms }
    }
}

impl Clock {
    /// A clock whose wall time is `wall`, in milliseconds since the Unix epoch; for simulation.
    pub fn with_wall(wall: fn() -> u64) -> Self {
        Self { wall, ..Self::default() }
    }

    /// Time since this clock was made.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Milliseconds since the Unix epoch, for people.
    pub fn wall_ms(&self) -> u64 {
        (self.wall)()
    }
}

#[allow(clippy::disallowed_methods, reason = "a label for people; no decision and no result depends on it")]
fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
