//! Makes batches durable, in order, and then does what waited for them.

use std::{sync::Arc, time::Duration};

use sr3_proto::{Cancel, ToWorker};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::view::JobView;
use crate::{
    ledger::{Batch, Ledger, LedgerError},
    telemetry::{self, Recorded},
};

/// What waits for a batch.
pub(super) enum Told {
    /// A message for a worker.
    Worker(mpsc::Sender<ToWorker>, ToWorker),
    /// A job's new state for those who watch.
    View(watch::Sender<Arc<JobView>>, Box<JobView>),
    /// Somebody waits for an answer.
    Answer(Box<dyn FnOnce() + Send>),
}

impl Told {
    /// An answer to a waiting call; it is fine if the caller has gone.
    pub(super) fn answer<T: Send + 'static>(to: oneshot::Sender<T>, value: T) -> Self {
        Self::Answer(Box::new(move || drop(to.send(value))))
    }

    fn tell(self) {
        match self {
            Self::Worker(to, message) => {
                // A worker that does not read loses its session with the channel, and its leases with time.
                if let Err(error) = to.try_send(message) {
                    tracing::debug!(%error, "a worker's message was not taken");
                }
            }
            Self::View(to, view) => drop(to.send_replace(Arc::new(*view))),
            Self::Answer(answer) => answer(),
        }
    }
}

/// A batch and what waits for it.
#[derive(Default)]
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) told: Vec<Told>,
    /// What of the batch is counted once it is durable.
    pub(super) recorded: Recorded,
}

impl Work {
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.told.is_empty()
    }
}

/// So many operations go into one commit; a longer one only makes the rest wait.
const OPERATIONS_MAX: usize = 8192;

/// A ledger to which nothing was written for so long is asked whether it still is ours: a coordinator that was replaced
/// and has nothing to write must find out too, and what it answers until then is no older than this.
const OURS_EVERY: Duration = Duration::from_secs(2);

/// Commits what comes until nothing more does, or the ledger refuses: then `stop` is set and the reason returned.
pub(super) async fn run(
    ledger: Arc<dyn Ledger>,
    mut work: mpsc::Receiver<Work>,
    stop: Cancel,
) -> Result<(), LedgerError> {
    let mut ask_at = Instant::now() + OURS_EVERY;
    loop {
        let mut all = match timeout_at(ask_at, work.recv()).await {
            Ok(Some(first)) => first,
            Ok(None) => return Ok(()),
            Err(_) => Work::default(),
        };
        while all.batch.len() < OPERATIONS_MAX
            && let Ok(more) = work.try_recv()
        {
            all.batch.extend(more.batch);
            all.told.extend(more.told);
            all.recorded.add(more.recorded);
        }
        let (begun, writes) = (Instant::now(), !all.batch.is_empty());
        if writes || ask_at <= begun {
            if let Err(error) = ledger.commit(all.batch).await {
                if error.is_fenced() {
                    telemetry::fenced();
                }
                stop.cancel();
                return Err(error);
            }
            if writes {
                telemetry::committed(all.recorded, begun.elapsed());
            }
            ask_at = Instant::now() + OURS_EVERY;
        }
        all.told.into_iter().for_each(Told::tell);
    }
}
