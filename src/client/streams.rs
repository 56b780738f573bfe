//! What a coordinator goes on telling: a job's state, a job's events. A stream that breaks is taken up again, at
//! whichever coordinator serves then, where it broke: nothing is told twice, nothing is left out.

use sr3_proto::{
    JobId,
    wire::v1::{Job, JobEvent, JobLogsRequest, JobLogsResponse, WatchJobRequest, WatchJobResponse},
};
use tonic::{Status, Streaming};

use super::remote::{Client, ClientError, Patience, not_serving};
use crate::remote_job::has_ended;

/// A job's state after every change. See [`Client::watch`].
#[derive(Debug)]
pub struct Watch<'a> {
    outage: Outage<'a>,
    id: JobId,
    stream: Option<Streaming<WatchJobResponse>>,
    ended: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(client: &'a Client, id: JobId) -> Self {
        Self { outage: Outage::new(client), id, stream: None, ended: false }
    }

    /// The next state; none after the job's last. May be dropped while it waits.
    ///
    /// # Errors
    /// As of [`Client::submit`].
    pub async fn next(&mut self) -> Result<Option<Job>, ClientError> {
        while !self.ended {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let request = WatchJobRequest { id: self.id.get() };
                    let opened =
                        self.outage.client.call(|mut at| async move { at.watch_job(request).await }).await?;
                    self.stream.insert(opened)
                }
            };
            match stream.message().await {
                Ok(Some(WatchJobResponse { job })) => {
                    let job = job.ok_or(ClientError::Answer { field: "job" })?;
                    self.outage.over();
                    self.ended = has_ended(&job);
                    return Ok(Some(job));
                }
                Ok(None) => {
                    self.stream = None;
                    self.outage.wait("it stopped telling").await?;
                }
                Err(status) => {
                    self.stream = None;
                    self.outage.survive(status).await?;
                }
            }
        }
        Ok(None)
    }
}

/// A job's events in order. See [`Client::logs`].
#[derive(Debug)]
pub struct Logs<'a> {
    outage: Outage<'a>,
    id: JobId,
    follow: bool,
    after: u64,
    stream: Option<Streaming<JobLogsResponse>>,
    ended: bool,
}

impl<'a> Logs<'a> {
    pub(super) fn new(client: &'a Client, id: JobId, follow: bool) -> Self {
        Self { outage: Outage::new(client), id, follow, after: 0, stream: None, ended: false }
    }

    /// The next event; none after the last. May be dropped while it waits.
    ///
    /// # Errors
    /// As of [`Client::submit`].
    pub async fn next(&mut self) -> Result<Option<JobEvent>, ClientError> {
        while !self.ended {
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let request =
                        JobLogsRequest { id: self.id.get(), after: self.after, follow: self.follow };
                    let opened =
                        self.outage.client.call(|mut at| async move { at.job_logs(request).await }).await?;
                    self.stream.insert(opened)
                }
            };
            match stream.message().await {
                Ok(Some(JobLogsResponse { event })) => {
                    let event = event.ok_or(ClientError::Answer { field: "event" })?;
                    self.outage.over();
                    if event.sequence > self.after {
                        self.after = event.sequence;
                        return Ok(Some(event));
                    }
                }
                Ok(None) => self.end_of_stream().await?,
                Err(status) => {
                    self.stream = None;
                    self.outage.survive(status).await?;
                }
            }
        }
        Ok(None)
    }

    /// A coordinator that is going down ends its streams in good order too: the job's state tells which it was, and
    /// of an ended job what is left is read without following.
    async fn end_of_stream(&mut self) -> Result<(), ClientError> {
        self.stream = None;
        if !self.follow {
            self.ended = true;
        } else if has_ended(&self.outage.client.job(self.id).await?) {
            self.follow = false;
        } else {
            self.outage.wait("it stopped telling").await?;
        }
        Ok(())
    }
}

/// The time since a stream last told something.
#[derive(Debug)]
struct Outage<'a> {
    client: &'a Client,
    patience: Option<Patience>,
}

impl<'a> Outage<'a> {
    fn new(client: &'a Client) -> Self {
        Self { client, patience: None }
    }

    fn over(&mut self) {
        self.patience = None;
    }

    /// Waits for the time to try again, if `status` is of the kind that passes.
    async fn survive(&mut self, status: Status) -> Result<(), ClientError> {
        match not_serving(&status) {
            Some(reason) => self.wait(&reason).await,
            None => Err(status.into()),
        }
    }

    async fn wait(&mut self, reason: &str) -> Result<(), ClientError> {
        let addresses = self.client.turn_away(reason);
        let patience = self.patience.get_or_insert_with(|| self.client.patience());
        if patience.pause().await { Ok(()) } else { Err(ClientError::Unreachable { addresses }) }
    }
}
