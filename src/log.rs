//! Standard error: what is told to people, and the log, as text or as JSON for machines that collect it.
//!
//! As JSON every line is an object, whoever wrote it.

use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::exit::CommandError;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

const VARIABLE: &str = "SR3_LOG_FORMAT";
/// Target of what is told to people; no filter leaves it out.
const TOLD: &str = "sr3::told";

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// `eprintln!`, by [`print`].
macro_rules! tell {
    ($($line:tt)*) => { $crate::log::print(&format!($($line)*)) };
}

/// Begins to log in that format, or in the one that the environment names.
///
/// # Errors
/// That is none.
pub(crate) fn start(format: Option<LogFormat>) -> Result<(), CommandError> {
    let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let format = match (format, named) {
        (Some(format), _) => format,
        (None, None) => LogFormat::Text,
        (None, Some(name)) => LogFormat::from_str(&name, false)
            .map_err(|_| CommandError::usage(format!("{VARIABLE} is `{name}`: write text or json")))?,
    };
    let format = *FORMAT.get_or_init(|| format);
    let filter = EnvFilter::try_from_env("SR3_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    // A second initialisation, in tests, changes nothing.
    let _ = match format {
        LogFormat::Text => log.with_env_filter(filter).try_init(),
        LogFormat::Json => {
            let told = format!("{TOLD}=info").parse();
            let filter = told.map(|told| filter.clone().add_directive(told)).unwrap_or(filter);
            log.json().flatten_event(true).with_env_filter(filter).try_init()
        }
    };
    Ok(())
}

/// Whether every line is an object.
pub(crate) fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Writes a line for people.
pub(crate) fn print(line: &str) {
    match is_json() {
        true => tracing::info!(target: TOLD, "{}", line.strip_prefix("sr3: ").unwrap_or(line)),
        false => eprintln!("{line}"),
    }
}
