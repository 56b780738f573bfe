//! Who did what, from where, and when: an event each, and a line of JSON each where a file is named.
//!
//! It holds names, never secrets: a token by its id, a spec not at all. Strangers cannot fill the disk with it: of what is refused
//! [`REFUSALS_A_SECOND`] lines a second are written, and then how many there were.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::json;
use sr3_proto::words::printable;

use crate::{
    caller::Caller,
    clock::Clock,
    telemetry::{self, Refused},
};

/// So many refusals a second are written one by one.
const REFUSALS_A_SECOND: u64 = 100;

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    file: Option<Arc<Mutex<File>>>,
    refusals: Arc<Mutex<Refusals>>,
    clock: Clock,
}

/// Refusals of the second that they came in last.
#[derive(Debug, Default)]
struct Refusals {
    second: u64,
    count: u64,
}

impl Refusals {
    /// Whether one more, in this second, is written; and how many of an earlier one were not.
    fn add(&mut self, second: u64) -> (bool, u64) {
        let mut left_out = 0;
        if second != self.second {
            left_out = self.count.saturating_sub(REFUSALS_A_SECOND);
            *self = Self { second, count: 0 };
        }
        self.count += 1;
        (self.count <= REFUSALS_A_SECOND, left_out)
    }
}

impl Audit {
    /// With a file that lines are added to, if one is named.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(file: Option<&Path>, clock: Clock) -> io::Result<Self> {
        let file = match file {
            None => None,
            Some(path) => {
                let mut options = OpenOptions::new();
                options.append(true).create(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                Some(Arc::new(Mutex::new(options.open(path)?)))
            }
        };
        Ok(Self { file, refusals: Arc::default(), clock })
    }

    /// A caller did something.
    pub(super) fn did(&self, caller: &Caller, what: &str, which: &str) {
        self.say(Some(caller), what, which, "done");
    }

    /// A call was refused.
    pub(super) fn refused(&self, caller: Option<&Caller>, what: &str, why: &str) {
        telemetry::refused(Refused::Caller);
        let second = self.clock.wall_ms() / 1000;
        let (written, left_out) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).add(second);
        if left_out > 0 {
            self.say(
                None,
                "",
                &format!("{left_out} more refusals were not written down one by one"),
                "refused",
            );
        }
        if written {
            self.say(caller, what, why, "refused");
        }
    }

    fn say(&self, caller: Option<&Caller>, what: &str, detail: &str, outcome: &str) {
        let who = caller.map_or_else(|| "a stranger".to_string(), ToString::to_string);
        let from = caller.and_then(|c| c.from).map(|from| from.to_string()).unwrap_or_default();
        let detail = printable(detail);
        tracing::info!(target: "sr3::audit", %who, %from, what, outcome, "{detail}");
        let Some(file) = &self.file else { return };
        let line = json!({
            "at_ms": self.clock.wall_ms(),
            "who": who,
            "role": caller.map(|c| c.role.name()),
            "from": from,
            "what": what,
            "outcome": outcome,
            "detail": detail,
        });
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_not_written() {
        let mut refusals = Refusals::default();
        let written = (0..5000).filter(|_| refusals.add(7).0).count() as u64;
        assert_eq!(written, REFUSALS_A_SECOND);
        assert_eq!(refusals.add(8), (true, 4900));
        assert_eq!(refusals.add(9), (true, 0));
    }
}
