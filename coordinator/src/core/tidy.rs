//! What becomes of jobs that have ended: a coordinator that runs for years keeps no more of them than it did at first.
//!
//! The rows of an ended job's units go as soon as its end is recorded: what came of each item stands in the job's report, at its
//! destination. The job itself, with its log, stays until [`ENDED_JOBS_MAX`] later ones have ended. Both go piece by piece,
//! the job's own row last, so that whoever takes over amid that goes on with it.

use std::sync::Arc;

use futures::TryStreamExt;
use sr3_proto::JobId;
use tokio::sync::oneshot;

use super::{command::Command, committer::Told, driver::Driver};
use crate::{ledger::LedgerKey, rows};

/// So many ended jobs can be asked for.
pub(super) const ENDED_JOBS_MAX: usize = 1000;
/// Lines of a job's log; the rest is in its report.
pub(super) const EVENTS_MAX: u64 = 10_000;
/// Rows that go at once: beside them, others are written.
const ROWS_AT_ONCE: usize = 1024;

impl Driver {
    /// Begins to remove what an ended job does not need any more, and the jobs that are too many.
    pub(super) fn tidy(&mut self) {
        let ended = self.jobs.values().filter(|job| job.phase.is_final()).count();
        let mut surplus = ended.saturating_sub(ENDED_JOBS_MAX);
        let mut begin = Vec::new();
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| job.phase.is_final()) {
            let whole = surplus > 0;
            surplus = surplus.saturating_sub(1);
            if !job.tidying && (whole || !job.rows_gone) {
                job.tidying = true;
                begin.push((*id, whole));
            }
        }
        for (id, whole) in begin {
            self.remove_rows(id, whole);
        }
    }

    fn remove_rows(&self, job: JobId, whole: bool) {
        let Some(commands) = self.commands.upgrade() else { return };
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move {
            let mut prefixes = vec![rows::all_attempts(job), rows::all_done(job), rows::units(job)];
            if whole {
                prefixes.push(rows::events(job));
            }
            for prefix in prefixes {
                let mut keys = ledger.scan(&prefix, None).map_ok(|(key, _)| key).try_chunks(ROWS_AT_ONCE);
                // What cannot be read now goes when the coordinator starts again.
                loop {
                    let keys = match keys.try_next().await {
                        Ok(Some(keys)) => keys,
                        Ok(None) => break,
                        Err(error) => return tracing::info!(%job, error = %error.1, "not tidied"),
                    };
                    let (answer, durable) = oneshot::channel();
                    let command = Command::Remove { keys, answer };
                    if commands.send(command).await.is_err() || durable.await.is_err() {
                        return;
                    }
                }
            }
            drop(commands.send(Command::Tidied { job, whole }).await);
        });
    }

    /// Removes rows; answers once that is durable.
    pub(super) fn remove(&mut self, keys: Vec<LedgerKey>, answer: oneshot::Sender<()>) {
        for key in keys {
            self.work.batch.delete(key);
        }
        self.work.told.push(Told::answer(answer, ()));
    }

    /// The rows of an ended job are gone.
    pub(super) fn tidied(&mut self, id: JobId, whole: bool) {
        self.work.batch.delete(rows::plan(id));
        if !whole {
            if let Some(job) = self.jobs.get_mut(&id) {
                (job.tidying, job.rows_gone) = (false, true);
                self.work.batch.put(rows::job(id), rows::write(job.row()));
            }
        } else if let Some(job) = self.jobs.remove(&id) {
            if !job.idempotency_key.is_empty() {
                self.work.batch.delete(rows::idempotency(&job.idempotency_key));
                self.by_key.remove(&job.idempotency_key);
            }
            self.work.batch.delete(rows::job(id));
        }
    }
}
