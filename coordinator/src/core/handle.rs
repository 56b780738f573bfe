//! A running coordinator, and the handle that services and sessions hold.

use std::sync::Arc;

use sr3_proto::{
    Cancel, FromWorker, Hello, JobId, Order, WorkerEnd, WorkerId, job_spec::Document, wire::ledger::TokenRow,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    Parts,
    command::Command,
    committer,
    driver::Driver,
    tokens::Tokens,
    view::{JobView, Load, Refusal, WorkerInfo},
};
use crate::{
    kind::{Begun, Known, Ordered},
    ledger::{Ledger, LedgerError},
    rows,
};

/// Commands that wait for the driver.
const COMMANDS: usize = 4096;
/// Batches that wait for the committer.
const BATCHES: usize = 4;
/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 256;
/// Longest text that a worker says of itself, and most of a kind.
const WORKER_TEXT_BYTES_MAX: usize = 256;
const WORKER_LIST_MAX: usize = 256;
/// Messages that wait for a worker; one that does not read for so long is gone.
const MESSAGES: usize = 1024;

/// A running coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    commands: mpsc::Sender<Command>,
    ledger: Arc<dyn Ledger>,
    parts: Parts,
    tokens: Arc<Tokens>,
    stop: Cancel,
}

/// The tasks of a coordinator.
pub struct Running {
    driver: JoinHandle<()>,
    committer: JoinHandle<Result<(), LedgerError>>,
    stop: Cancel,
    ledger: Arc<dyn Ledger>,
}

/// Reads the ledger and starts.
pub async fn start(
    parts: Parts,
    ledger: Arc<dyn Ledger>,
    stop: Cancel,
) -> Result<(Coordinator, Running), LedgerError> {
    let (commands, received) = mpsc::channel(COMMANDS);
    let mut driver = Driver::recover(parts.clone(), Arc::clone(&ledger), &commands, stop.clone()).await?;
    driver.start_tasks();
    let tokens = Arc::clone(&driver.tokens);
    let (work, batches) = mpsc::channel(BATCHES);
    let committer = tokio::spawn(committer::run(Arc::clone(&ledger), batches, stop.clone()));
    let driver = tokio::spawn(driver.run(received, work));
    let running = Running { driver, committer, stop: stop.clone(), ledger: Arc::clone(&ledger) };
    Ok((Coordinator { commands, ledger, parts, tokens, stop }, running))
}

impl Running {
    /// Waits until the coordinator has ended: it was stopped, or the ledger refused.
    pub async fn ended(self) -> Result<(), LedgerError> {
        // A panic of either is a bug that must not look like a clean end.
        let broken = |_| LedgerError::Closed;
        let driven = self.driver.await;
        self.stop.cancel();
        let committed = self.committer.await;
        let closed = self.ledger.close().await;
        committed.map_err(broken)??;
        driven.map_err(broken)?;
        closed
    }
}

impl Coordinator {
    /// The flag that stops it.
    pub fn stop(&self) -> &Cancel {
        &self.stop
    }

    /// Accepts a job of any of its kinds, as a person wrote it; durable when this returns. `by` is the identity of who submits.
    /// The flag says whether the key had made it before.
    ///
    /// # Errors
    /// What is wrong with the spec, or that its places cannot be used.
    pub async fn submit(&self, spec: &str, key: String, by: String) -> Result<(JobView, bool), Refusal> {
        let wrong = |e| Refusal::Invalid(format!("the spec: {e}"));
        if key.len() > KEY_BYTES_MAX {
            return Err(Refusal::Invalid(format!(
                "the idempotency key is longer than {KEY_BYTES_MAX} bytes"
            )));
        }
        let document = Document::parse(spec, &self.parts.kinds.names()).map_err(wrong)?;
        let Some(kind) = self.parts.kinds.find(document.kind()) else {
            return Err(Refusal::Invalid("the spec's kind is none that this coordinator runs".into()));
        };
        let offers = self.workers().await?.into_iter().map(|worker| worker.offer).collect();
        let known = Known { open_store: Arc::clone(&self.parts.open_store), offers };
        let Ordered { spec, order } = kind.order(&document, &known).await.map_err(wrong)?;
        self.check_places(&order)?;
        let order = Arc::new(order);
        self.ask(|answer| Command::Submit { spec, order, key, by, begun: None, answer }).await
    }

    /// Places are there and allowed, whichever worker asks for them.
    fn check_places(&self, order: &Order) -> Result<(), Refusal> {
        for place in &order.head.places {
            let (what, location) = (&place.what, &place.location);
            if location.path().is_some_and(std::path::Path::is_relative) {
                let way_out = "name it from the root: workers stand in other folders";
                return Err(Refusal::Invalid(format!(
                    "the {what} `{location}` is a relative path: {way_out}"
                )));
            }
        }
        if let Some(state) = &self.parts.state
            && let Some(place) = order.written().find(|place| place.location.overlaps(state))
        {
            return Err(Refusal::Invalid(format!(
                "the {} `{}` overlaps the place of this coordinator's own state: choose another",
                place.what, place.location
            )));
        }
        for place in &order.head.places {
            let opened = match place.writes {
                true => super::open_to_write(&self.parts.open_store, &place.location),
                false => (self.parts.open_store)(&place.location),
            };
            opened
                .map_err(|error| Refusal::Invalid(format!("the {} cannot be used: {error}", place.what)))?;
        }
        Ok(())
    }

    /// Accepts a job that has its places already: of a coordinator that works for nobody else.
    ///
    /// # Errors
    /// It writes where another job does.
    pub async fn submit_begun(&self, order: Arc<Order>, begun: Box<dyn Begun>) -> Result<JobView, Refusal> {
        let (spec, key, by, begun) = (String::new(), String::new(), String::new(), Some(begun));
        let submitted = self.ask(|answer| Command::Submit { spec, order, key, by, begun, answer }).await;
        submitted.map(|(job, _)| job)
    }

    /// A job's state, now and as it changes.
    pub async fn job(&self, job: JobId) -> Result<watch::Receiver<Arc<JobView>>, Refusal> {
        self.ask(|answer| Command::Job { job, answer }).await
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, before: Option<JobId>, most: usize) -> Result<Vec<JobView>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Jobs { before, most, answer }).await?;
        answered.await.map_err(|_| over())
    }

    /// Pauses or resumes a job.
    pub async fn pause(&self, job: JobId, paused: bool) -> Result<JobView, Refusal> {
        self.ask(|answer| Command::Pause { job, paused, answer }).await
    }

    /// Cancels a job.
    pub async fn cancel(&self, job: JobId) -> Result<JobView, Refusal> {
        self.ask(|answer| Command::Cancel { job, answer }).await
    }

    /// Workers that are connected.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Workers { answer }).await?;
        answered.await.map_err(|_| over())
    }

    /// What there is to do, and who does it.
    pub async fn load(&self) -> Result<Load, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Load { answer }).await?;
        answered.await.map_err(|_| over())
    }

    /// Lets a worker drain.
    pub async fn drain(&self, worker: WorkerId) -> Result<(), Refusal> {
        self.ask(|answer| Command::DrainWorker { worker, answer }).await
    }

    /// A job's events after a number: number, time in milliseconds since the Unix epoch, text.
    pub async fn events(&self, job: JobId, after: u64) -> Result<Vec<(u64, u64, String)>, Refusal> {
        use futures::TryStreamExt;
        let (prefix, after) = (rows::events(job), rows::event(job, after));
        let unavailable = |e: LedgerError| Refusal::Unavailable(e.to_string());
        self.ledger
            .scan(&prefix, Some(&after))
            .and_then(|(key, bytes)| async move {
                let row: sr3_proto::wire::ledger::EventRow = rows::read(&key, &bytes)?;
                Ok((rows::last_number(&key)?, row.at_ms, row.text))
            })
            .try_collect()
            .await
            .map_err(unavailable)
    }

    /// The tokens that are known.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Makes a token known; durable when this returns. The same one again changes nothing.
    ///
    /// # Errors
    /// It cannot be, or its id is another's.
    pub async fn create_token(&self, id: String, row: TokenRow) -> Result<TokenRow, Refusal> {
        if let Some(known) = self.tokens.get(&id) {
            return match known.sha256 == row.sha256 {
                true => Ok(known),
                false => Err(Refusal::Conflict(format!("there is a token {id} already"))),
            };
        }
        self.tokens.check_new(&id, &row)?;
        self.ask(|answer| Command::PutToken { id, row, answer }).await
    }

    /// Refuses a token from now on; durable when this returns.
    ///
    /// # Errors
    /// There is none.
    pub async fn revoke_token(&self, id: String) -> Result<TokenRow, Refusal> {
        let unknown = || Refusal::NotFound(format!("there is no token {id}; `sr3 tokens list` lists them"));
        let known = self.tokens.get(&id).ok_or_else(unknown)?;
        if known.revoked_ms > 0 {
            return Ok(known);
        }
        let row = TokenRow { revoked_ms: self.parts.clock.wall_ms().max(1), ..known };
        self.ask(|answer| Command::PutToken { id, row, answer }).await
    }

    /// Begins a worker's session in this process, or behind a stream: the first thing to be received is the welcome.
    /// `identity` is as whom it was let in; what its process holds, nobody of another identity can claim.
    pub async fn attach(&self, hello: Hello, identity: String) -> Result<WorkerEnd, Refusal> {
        check_hello(&hello)?;
        let (to_worker, receive) = mpsc::channel(MESSAGES);
        let (send, mut from_worker) = mpsc::channel::<FromWorker>(MESSAGES);
        let (answer, answered) = oneshot::channel();
        self.send(Command::Attach { hello, identity, send: to_worker, answer }).await?;
        let worker: WorkerId = answered.await.map_err(|_| over())?;
        let commands = self.commands.clone();
        tokio::spawn(async move {
            while let Some(report) = from_worker.recv().await {
                if commands.send(Command::Report { worker, report }).await.is_err() {
                    return;
                }
            }
            drop(commands.send(Command::Detached { worker }).await);
        });
        Ok(WorkerEnd { receive, send })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command + Send,
    ) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.map_err(|_| over())?
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        if self.stop.is_cancelled() {
            return Err(over());
        }
        self.commands.send(command).await.map_err(|_| over())
    }
}

/// What a worker says of itself is shown to people and kept: it has bounds.
fn check_hello(hello: &Hello) -> Result<(), Refusal> {
    let Hello { name, version, device, instance, offer, models, .. } = hello;
    let texts = [name, version, device, instance].into_iter().chain(&offer.kinds).chain(&offer.classes);
    let long = texts.into_iter().any(|text| text.len() > WORKER_TEXT_BYTES_MAX);
    let many =
        [offer.kinds.len(), offer.classes.len(), models.len()].into_iter().any(|n| n > WORKER_LIST_MAX);
    match long || many {
        true => Err(Refusal::Invalid(format!(
            "a worker's name, device, kinds and classes have at most {WORKER_TEXT_BYTES_MAX} bytes each, and at most \
             {WORKER_LIST_MAX} of a kind"
        ))),
        false => Ok(()),
    }
}

fn over() -> Refusal {
    Refusal::Unavailable("this coordinator has ended: another one may have taken over".into())
}
