//! What SIGINT and SIGTERM do.

use std::process;

use sr3_proto::Cancel;

use crate::exit;

/// The first signal sets `stop`, the second ends the process where it stands: no output is ever under its name before
/// it is whole, so even that leaves nothing to repair.
pub(crate) async fn stop_on_signal(stop: Cancel) {
    if !next_signal().await {
        return;
    }
    stop.cancel();
    eprintln!("sr3: stopping; once more to stop at once");
    if next_signal().await {
        process::exit(exit::INTERRUPTED.into());
    }
}

/// False if this system lets nobody listen; then a signal does what it always does.
#[cfg(unix)]
async fn next_signal() -> bool {
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
async fn next_signal() -> bool {
    tokio::signal::ctrl_c().await.is_ok()
}
