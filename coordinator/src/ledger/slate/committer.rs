//! Group commit: one task that takes what waits, writes it as one batch, flushes once, answers everyone.
//!
//! While a flush is on its way the next commits gather, so the more wait, the more share. A group is all or nothing,
//! and its order is the order of arrival. The task ends, and closes the database, when the handle is closed or dropped;
//! whoever was answered before that is safe, whoever was not does not know.

use std::sync::Arc;

use slatedb::{
    Db, WriteBatch,
    config::{CloseOptions, FlushOptions, FlushType, PutOptions},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::Failures;
use crate::ledger::{Batch, LedgerError, Operation};

/// After so many objects of the log their rows go to a table, in the background. Fewer make taking over quicker (each is
/// a read), more make fewer tables to write and compact; a table costs about three writes. SlateDB's own setting is not
/// less than 4096.
pub(super) const LOG_OBJECTS: u64 = 256;
/// How many commits may wait before the next one waits to wait.
const QUEUE: usize = 4096;
/// A group is not made larger than this, in bytes of keys and values: a flush is one object.
const GROUP_BYTES: usize = 16 << 20;

type Answer = oneshot::Sender<Result<(), LedgerError>>;

enum Request {
    Commit(Batch, Answer),
    Close(Answer),
}

/// The way to the task.
pub(super) struct Committer {
    requests: mpsc::Sender<Request>,
}

impl Committer {
    pub(super) fn start(db: Arc<Db>, failures: Failures) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Task { db, failures, queue, log_objects: 0, table: None }.run());
        Self { requests }
    }

    pub(super) async fn commit(&self, batch: Batch) -> Result<(), LedgerError> {
        self.ask(|answer| Request::Commit(batch, answer)).await
    }

    pub(super) async fn close(&self) -> Result<(), LedgerError> {
        match self.ask(Request::Close).await {
            Err(LedgerError::Closed) => Ok(()),
            done => done,
        }
    }

    async fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| LedgerError::Closed)?;
        answered.await.unwrap_or(Err(LedgerError::Closed))
    }
}

struct Task {
    db: Arc<Db>,
    failures: Failures,
    queue: mpsc::Receiver<Request>,
    log_objects: u64,
    table: Option<JoinHandle<()>>,
}

/// Commits that share a flush.
#[derive(Default)]
struct Group {
    batch: WriteBatch,
    bytes: usize,
    operations: usize,
    waiting: Vec<Answer>,
}

impl Group {
    fn add(&mut self, batch: Batch, answer: Answer) {
        self.operations += batch.len();
        for operation in batch.into_operations() {
            match operation {
                Operation::Put(key, value) => {
                    self.bytes += key.len() + value.len();
                    self.batch.put_bytes_with_options(key.into(), value, &PutOptions::default());
                }
                Operation::Delete(key) => {
                    self.bytes += key.len();
                    self.batch.delete(key);
                }
            }
        }
        self.waiting.push(answer);
    }
}

impl Task {
    async fn run(mut self) {
        while let Some(mut request) = self.queue.recv().await {
            let mut group = Group::default();
            let closing = loop {
                match request {
                    Request::Commit(batch, answer) => group.add(batch, answer),
                    Request::Close(answer) => break Some(answer),
                }
                if group.bytes >= GROUP_BYTES {
                    break None;
                }
                match self.queue.try_recv() {
                    Ok(next) => request = next,
                    Err(_) => break None,
                }
            };
            self.commit(group).await;
            if let Some(answer) = closing {
                let closed = self.db.close().await.map_err(|error| self.failures.explain(error));
                // Nobody waits any more if the caller gave up.
                let _ = answer.send(closed);
                return;
            }
        }
        // Dropped: leave the store as it is, a later opener may be at work on it.
        if let Err(error) = self.db.close_with_options(CloseOptions::default().with_flush_type(None)).await {
            tracing::debug!(%error, "the ledger was dropped and did not close cleanly");
        }
    }

    async fn commit(&mut self, group: Group) {
        if group.waiting.is_empty() {
            return;
        }
        let wrote = group.operations > 0;
        let done =
            self.write(group.batch, group.operations).await.map_err(|error| self.failures.explain(error));
        for answer in group.waiting {
            let _ = answer.send(done.clone());
        }
        self.log_objects += u64::from(wrote);
        if self.log_objects >= LOG_OBJECTS && self.table.as_ref().is_none_or(JoinHandle::is_finished) {
            self.log_objects = 0;
            self.table = Some(tokio::spawn(write_table(Arc::clone(&self.db))));
        }
    }

    async fn write(&self, batch: WriteBatch, operations: usize) -> Result<(), slatedb::Error> {
        if operations == 0 {
            // Nothing to write that would run into a fence: look whether there is one.
            return self.db.refresh_manifest().await;
        }
        let written = self.db.write(batch).await?;
        self.db.flush().await?;
        // The flush is done; this only waits until reads take it in.
        written.await_durable().await
    }
}

/// Nothing durable depends on it: what it means for commits, they will be told themselves.
async fn write_table(db: Arc<Db>) {
    let table = FlushOptions { flush_type: FlushType::MemTable };
    if let Err(error) = db.flush_with_options(table).await {
        tracing::debug!(%error, "the rows of the ledger's log did not go to a table");
    }
}
