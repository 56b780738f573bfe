//! Who did what, from where, and when: an event each, and a line of JSON each where a file is named.
//!
//! It holds names, never secrets: a token by its id, a spec not at all.

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

/// The log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    file: Option<Arc<Mutex<File>>>,
    clock: Clock,
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
        Ok(Self { file, clock })
    }

    /// A caller did something.
    pub(super) fn did(&self, caller: &Caller, what: &str, which: &str) {
        self.say(Some(caller), what, which, "done");
    }

    /// A call was refused.
    pub(super) fn refused(&self, caller: Option<&Caller>, what: &str, why: &str) {
        telemetry::refused(Refused::Caller);
        self.say(caller, what, why, "refused");
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
