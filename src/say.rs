//! Standard output: the one way to it, and what becomes of a command whose output cannot be written.
//!
//! A reader that has gone (as `head` does) is its own choice and no failure. Anything else, such as a full disk, is one,
//! and is told. (Standard output that is closed from the start is opened as /dev/null before this program begins, and
//! cannot be told from it.)

use std::{
    io::{self, ErrorKind, Write},
    sync::OnceLock,
};

/// The first failure; what comes after it follows from it.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// `println!`, by [`print`].
macro_rules! say {
    ($($line:tt)*) => { $crate::say::print(&format!("{}\n", format_args!($($line)*))) };
}

/// Writes to standard output; a failure is kept for [`failure`].
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        keep(error);
    }
}

/// Keeps a failure that was met on the way to standard output.
pub(crate) fn keep(error: io::Error) {
    if error.kind() != ErrorKind::BrokenPipe {
        let _ = FAILURE.set(error);
    }
}

/// What to tell of output that did not arrive, if there was such.
pub(crate) fn failure() -> Option<String> {
    let error = FAILURE.get()?;
    Some(format!("standard output cannot be written ({error}): send it somewhere else"))
}
