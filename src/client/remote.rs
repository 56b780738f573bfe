//! A cluster's coordinator, asked over the network.
//!
//! Of several addresses the one that serves is found: one that is unreachable, or says that it stands by or was
//! replaced, is skipped for the next, round after round, until patience ends. What is asked may be asked twice; no
//! request changes more the second time. So a takeover is invisible, to streams too: see [`super::streams`].

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use sr3_proto::{
    JobId, WorkerId,
    access::{self, Role},
    net::{Address, AddressError, Dialer, Line, distrust},
    wire::v1::{
        CancelJobRequest, CreateTokenRequest, DrainWorkerRequest, GetJobRequest, Job, ListJobsRequest,
        ListTokensRequest, ListWorkersRequest, ListWorkersResponse, PauseJobRequest, ResumeJobRequest,
        RevokeTokenRequest, SubmitJobRequest, Token, job_service_client::JobServiceClient,
    },
    words::printable,
};
use tonic::{Code, Response, Status};

use super::{
    streams::{Logs, Watch},
    target::Target,
};

/// How long a coordinator that does not serve is waited for, unless said otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// For one answer of one address.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Jobs asked for at once.
const PAGE: u32 = 100;

/// Why the coordinator did not do what was asked. Shown as one line.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address was given.
    #[error("which coordinator? pass --coordinator URL, or set SR3_COORDINATOR")]
    NoAddress,
    /// An address cannot be read.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody served for as long as patience lasted.
    #[error(
        "no coordinator answers at {addresses}: start one with `sr3 coordinator`, or name another with --coordinator"
    )]
    Unreachable {
        /// Each with what came of it.
        addresses: String,
    },
    /// One side does not trust the other.
    #[error("{address}: {reason}: see --tls")]
    Distrust {
        /// Where.
        address: String,
        /// Who does not trust whom, and why.
        reason: String,
    },
    /// The coordinator understood, and refuses.
    #[error("{message}")]
    Refused {
        /// How.
        code: Code,
        /// In its words, on one line.
        message: String,
    },
    /// It answered with something that has no meaning.
    #[error("the coordinator's answer lacks `{field}`: run the same sr3 on both sides")]
    Answer {
        /// What is missing.
        field: &'static str,
    },
}

/// A connection to whichever coordinator serves. Its methods need a tokio runtime.
#[derive(Debug)]
pub struct Client {
    addresses: Vec<Target>,
    /// Index of the address that served last.
    serving: AtomicUsize,
    patience: Duration,
}

impl Client {
    /// A client of the coordinators at `addresses`, as whom `dialer` says. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::NoAddress`].
    pub fn new(addresses: Vec<Address>, dialer: &Dialer) -> Result<Self, ClientError> {
        let mut targets: Vec<Target> = Vec::new();
        for address in addresses {
            if targets.iter().all(|known| known.text() != address.text()) {
                targets.push(Target::new(address, dialer.clone()));
            }
        }
        if targets.is_empty() {
            return Err(ClientError::NoAddress);
        }
        Ok(Self { addresses: targets, serving: AtomicUsize::new(0), patience: PATIENCE })
    }

    /// With another patience than [`PATIENCE`]. Every address is tried once, however short it is.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Submits a job spec. The same `idempotency_key` never makes a second job. Says whether the job existed.
    ///
    /// # Errors
    /// As of every call: [`ClientError::Unreachable`], [`ClientError::Refused`], [`ClientError::Answer`].
    pub async fn submit(&self, spec: &str, idempotency_key: &str) -> Result<(Job, bool), ClientError> {
        let request =
            SubmitJobRequest { spec: spec.to_string(), idempotency_key: idempotency_key.to_string() };
        let answer = self.call(|mut at| {
            let request = request.clone();
            async move { at.submit_job(request).await }
        });
        let answer = answer.await?;
        Ok((job(answer.job)?, answer.existed))
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn job(&self, id: JobId) -> Result<Job, ClientError> {
        let request = GetJobRequest { id: id.get() };
        job(self.call(|mut at| async move { at.get_job(request).await }).await?.job)
    }

    /// The newest `count_max` jobs, newest first.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn jobs(&self, count_max: u32) -> Result<Vec<Job>, ClientError> {
        let mut jobs: Vec<Job> = Vec::new();
        loop {
            let missing = count_max.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            let before = jobs.last().map_or(0, |job| job.id);
            let request = ListJobsRequest { page_size: missing.min(PAGE), before };
            if missing == 0 || (before == 1 && !jobs.is_empty()) {
                return Ok(jobs);
            }
            let page = self.call(|mut at| async move { at.list_jobs(request).await }).await?.jobs;
            // A coordinator that ignores `before` must not keep us here.
            let older: Vec<_> = page.into_iter().filter(|job| before == 0 || job.id < before).collect();
            if older.is_empty() {
                return Ok(jobs);
            }
            jobs.extend(older.into_iter().take(missing as usize));
        }
    }

    /// The job's state now and after every change, until it has ended.
    pub fn watch(&self, id: JobId) -> Watch<'_> {
        Watch::new(self, id)
    }

    /// The job's events from the first; with `follow` until it has ended.
    pub fn logs(&self, id: JobId, follow: bool) -> Logs<'_> {
        Logs::new(self, id, follow)
    }

    /// Ends the job; what is finished stays.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn cancel(&self, id: JobId) -> Result<Job, ClientError> {
        let request = CancelJobRequest { id: id.get() };
        job(self.call(|mut at| async move { at.cancel_job(request).await }).await?.job)
    }

    /// Begins nothing more of the job.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn pause(&self, id: JobId) -> Result<Job, ClientError> {
        let request = PauseJobRequest { id: id.get() };
        job(self.call(|mut at| async move { at.pause_job(request).await }).await?.job)
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn resume(&self, id: JobId) -> Result<Job, ClientError> {
        let request = ResumeJobRequest { id: id.get() };
        job(self.call(|mut at| async move { at.resume_job(request).await }).await?.job)
    }

    /// Workers that are connected, and whether anybody may call this cluster.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn workers(&self) -> Result<ListWorkersResponse, ClientError> {
        self.call(|mut at| async move { at.list_workers(ListWorkersRequest {}).await }).await
    }

    /// Gives the worker nothing more; it leaves once it is idle.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn drain(&self, id: WorkerId) -> Result<(), ClientError> {
        let request = DrainWorkerRequest { id: id.get() };
        self.call(|mut at| async move { at.drain_worker(request).await }).await.map(drop)
    }

    /// Makes a token known; only its hash goes to the coordinator. Lives for `lifetime`, or for ever.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn create_token(
        &self,
        token: &access::Token,
        name: &str,
        role: Role,
        lifetime: Option<Duration>,
    ) -> Result<Token, ClientError> {
        let lifetime_ms = lifetime.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let request = CreateTokenRequest {
            id: token.id().to_string(),
            name: name.to_string(),
            role: role.name().to_string(),
            sha256: token.sha256().to_vec().into(),
            lifetime_ms,
        };
        let answer = self.ask(|target| {
            let (mut at, request) = (target.access(), request.clone());
            async move { at.create_token(request).await }
        });
        answer.await?.token.ok_or(ClientError::Answer { field: "token" })
    }

    /// Every token, without its secret.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        let list = self.ask(|target| {
            let mut at = target.access();
            async move { at.list_tokens(ListTokensRequest {}).await }
        });
        Ok(list.await?.tokens)
    }

    /// Refuses a token from now on.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub async fn revoke_token(&self, id: &str) -> Result<Token, ClientError> {
        let answer = self.ask(|target| {
            let (mut at, request) = (target.access(), RevokeTokenRequest { id: id.to_string() });
            async move { at.revoke_token(request).await }
        });
        answer.await?.token.ok_or(ClientError::Answer { field: "token" })
    }

    /// Asks the job service of one address after the other until one serves.
    pub(super) async fn call<R, F>(
        &self,
        ask: impl Fn(JobServiceClient<Line>) -> F + Send + Sync,
    ) -> Result<R, ClientError>
    where
        R: Send,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        self.ask(|target| ask(target.service())).await
    }

    async fn ask<R, F>(&self, ask: impl Fn(&Target) -> F + Send + Sync) -> Result<R, ClientError>
    where
        R: Send,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let mut patience = self.patience();
        loop {
            let first = self.serving.load(Ordering::Relaxed);
            let mut reasons = Vec::new();
            for index in (0..self.addresses.len()).map(|offset| (first + offset) % self.addresses.len()) {
                let address = &self.addresses[index];
                let reason = match tokio::time::timeout(ANSWER_PATIENCE, ask(address)).await {
                    Ok(Ok(answer)) => {
                        self.serving.store(index, Ordering::Relaxed);
                        return Ok(answer.into_inner());
                    }
                    Ok(Err(status)) => match distrust(&status) {
                        Some(reason) => {
                            return Err(ClientError::Distrust {
                                address: address.text().to_string(),
                                reason,
                            });
                        }
                        None => not_serving(&status).ok_or_else(|| ClientError::from(status))?,
                    },
                    Err(_) => "no answer".to_string(),
                };
                reasons.push(format!("{} ({reason})", address.text()));
            }
            if !patience.pause().await {
                return Err(ClientError::Unreachable { addresses: reasons.join(", ") });
            }
        }
    }

    /// The patience of one outage.
    pub(super) fn patience(&self) -> Patience {
        Patience { until: Instant::now() + self.patience, pause: PAUSE_MIN }
    }

    /// Begins with the next address from now on: the stream of this one broke.
    pub(super) fn turn_away(&self, reason: &str) -> String {
        let serving = self.serving.load(Ordering::Relaxed);
        self.serving.store((serving + 1) % self.addresses.len(), Ordering::Relaxed);
        format!("{} ({reason})", self.addresses[serving].text())
    }
}

/// How long it is still worth asking again.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// Waits a little longer than the last time; false if patience has ended.
    pub(super) async fn pause(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::time::sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// Why another address, or this one later, may do better; none if the answer is meant.
pub(super) fn not_serving(status: &Status) -> Option<String> {
    // Only what this side made up of a broken connection has a source.
    let Some(mut cause) = status.source() else {
        let aside = matches!(status.code(), Code::Unavailable | Code::FailedPrecondition);
        return aside.then(|| one_line(status.message()));
    };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(one_line(&cause.to_string()))
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let code = status.code();
        let message = match code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted => one_line(status.message()),
            _ => {
                let kind = code.description().to_lowercase();
                format!("the coordinator could not do it ({kind}): {}", one_line(status.message()))
            }
        };
        Self::Refused { code, message }
    }
}

fn job(answer: Option<Job>) -> Result<Job, ClientError> {
    answer.ok_or(ClientError::Answer { field: "job" })
}

/// Text of the other side that neither breaks the line nor drives the terminal.
fn one_line(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
