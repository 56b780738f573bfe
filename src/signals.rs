//! Ctrl-C and its relatives.

use std::process;

use sr3_proto::Cancel;

use crate::exit;

/// The first signal sets `interrupt` and says `first`, the second ends the process where it stands.
pub(crate) async fn watch(interrupt: Cancel, first: Option<&'static str>) {
    if !next().await {
        return;
    }
    interrupt.cancel();
    if let Some(first) = first {
        tell!("sr3: {first}");
    }
    if next().await {
        process::exit(exit::INTERRUPTED.into());
    }
}

/// False if this system lets nobody listen; then a signal does what it always does.
#[cfg(unix)]
async fn next() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
            }
        }
        _ => false,
    }
}

#[cfg(not(unix))]
async fn next() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
