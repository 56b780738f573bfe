//! A coordinator's job service that does nothing but what a test tells it, on a port of its own. State outlives the
//! server, so that one can go and another come, as after a takeover.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "a test helper")]

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use sr3::{
    jobs::{JobSpec, upscale::UpscaleSpec},
    proto::wire::v1::*,
};
use tokio::{runtime::Runtime, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use job_service_server::{JobService, JobServiceServer};

/// What the coordinators of one cluster know.
#[derive(Default)]
pub struct State {
    pub jobs: Vec<Job>,
    pub events: Vec<JobEvent>,
    pub workers: Vec<Worker>,
    /// Idempotency keys, and the jobs that they made.
    pub keys: HashMap<String, u64>,
    /// Streams that were opened.
    pub streams: usize,
    /// Submissions that are carried out and whose answer is lost.
    pub answers_to_lose: usize,
}

pub type Shared = Arc<Mutex<State>>;

/// A running server; gone when dropped.
pub struct Served {
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    /// Serves `state` on a free port; one that stands by refuses everything.
    pub fn new(state: &Shared, standby: bool) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), state, standby)
    }

    pub fn at(address: SocketAddr, state: &Shared, standby: bool) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let service = JobServiceServer::new(Played { state: Arc::clone(state), standby });
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, runtime: Some(runtime) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Connections break where they are.
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
    }
}

/// A job of eight images, four of them done, that has an event for each.
pub fn running(id: u64) -> Job {
    let spec = UpscaleSpec::new("/in", "/out");
    let place =
        |what: &str, location: &str, writes| Place { what: what.into(), location: location.into(), writes };
    Job {
        id,
        spec: JobSpec::from(spec).to_yaml(),
        state: JobState::Running.into(),
        counts: Some(JobCounts {
            planned: 8,
            done: 4,
            work_planned: 8000,
            work_done: 4000,
            units_planned: 2,
            units_done: 1,
            ..JobCounts::default()
        }),
        planning_done: true,
        submitted_ms: 1_000_000,
        kind: "upscale".into(),
        name: "summer".into(),
        places: vec![place("source", "/in", false), place("destination", "/out", true)],
        models: vec![ModelName { name: "photo-4x".into(), sha256: "ab".repeat(32) }],
        leases: 1,
        current: vec![CurrentItem { worker: "w1".into(), input: "a.png".into(), share: 0.5 }],
        ..Job::default()
    }
}

/// Ends a job so many milliseconds after it was submitted.
pub fn end(job: &mut Job, state: JobState, quarantined: u64) {
    job.set_state(state);
    let counts = job.counts.as_mut().unwrap();
    counts.quarantined = quarantined;
    counts.done = counts.planned - quarantined;
    job.ended_ms = job.submitted_ms + 65_000;
    job.current.clear();
    job.leases = 0;
}

pub fn event(sequence: u64, text: &str) -> JobEvent {
    JobEvent { sequence, at_ms: 1_000_000, text: text.into() }
}

/// Waits for something that another process or thread brings about.
pub fn until(what: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < patience, "it does not come about");
        thread::park_timeout(Duration::from_millis(5));
    }
}

struct Played {
    state: Shared,
    standby: bool,
}

impl Played {
    fn with<T>(&self, what: impl FnOnce(&mut State) -> Result<T, Status>) -> Result<Response<T>, Status> {
        if self.standby {
            return Err(Status::failed_precondition("this coordinator stands by"));
        }
        what(&mut self.state.lock().unwrap()).map(Response::new)
    }

    fn change(&self, id: u64, what: impl FnOnce(&mut Job)) -> Result<Option<Job>, Status> {
        let answer = self.with(|state| {
            let job = find(state, id)?;
            what(job);
            Ok(Some(job.clone()))
        });
        answer.map(Response::into_inner)
    }
}

fn find(state: &mut State, id: u64) -> Result<&mut Job, Status> {
    state.jobs.iter_mut().find(|job| job.id == id).ok_or_else(|| Status::not_found(format!("no job {id}")))
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl JobService for Played {
    type WatchJobStream = Stream<WatchJobResponse>;
    type JobLogsStream = Stream<JobLogsResponse>;

    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        let SubmitJobRequest { spec, idempotency_key } = request.into_inner();
        self.with(|state| {
            let JobSpec::Upscale(asked) =
                JobSpec::parse(&spec).map_err(|e| Status::invalid_argument(e.to_string()))?
            else {
                return Err(Status::invalid_argument("played for one kind"));
            };
            let known = state.keys.get(&idempotency_key).copied();
            let id = known.unwrap_or(state.jobs.len() as u64 + 1);
            if known.is_none() {
                state.keys.insert(idempotency_key, id);
                let name = asked.job.name.unwrap_or_default();
                state.jobs.push(Job { spec, name, ..running(id) });
            }
            if state.answers_to_lose > 0 {
                state.answers_to_lose -= 1;
                return Err(Status::unavailable("lost"));
            }
            let job = find(state, id)?.clone();
            Ok(SubmitJobResponse { job: Some(job), existed: known.is_some() })
        })
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let job = self.change(request.into_inner().id, |_| {})?;
        Ok(Response::new(GetJobResponse { job }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let ListJobsRequest { page_size, before } = request.into_inner();
        self.with(|state| {
            let older = state.jobs.iter().rev().filter(|job| before == 0 || job.id < before);
            Ok(ListJobsResponse { jobs: older.take(page_size as usize).cloned().collect() })
        })
    }

    async fn watch_job(
        &self,
        request: Request<WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let id = request.into_inner().id;
        self.change(id, |_| {})?;
        self.with(|state| {
            state.streams += 1;
            let (sender, receiver) = mpsc::channel(4);
            let shared = Arc::clone(&self.state);
            tokio::spawn(async move {
                let mut told = None;
                loop {
                    let job = find(&mut shared.lock().unwrap(), id).unwrap().clone();
                    let ended = job.ended_ms > 0;
                    if told.as_ref() != Some(&job) {
                        told = Some(job.clone());
                        if sender.send(Ok(WatchJobResponse { job: Some(job) })).await.is_err() {
                            return;
                        }
                    }
                    if ended {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            Ok(ReceiverStream::new(receiver))
        })
    }

    async fn job_logs(
        &self,
        request: Request<JobLogsRequest>,
    ) -> Result<Response<Self::JobLogsStream>, Status> {
        let JobLogsRequest { id, mut after, follow } = request.into_inner();
        self.change(id, |_| {})?;
        self.with(|state| {
            state.streams += 1;
            let (sender, receiver) = mpsc::channel(4);
            let shared = Arc::clone(&self.state);
            tokio::spawn(async move {
                loop {
                    let (ended, events) = {
                        let mut state = shared.lock().unwrap();
                        let events: Vec<_> =
                            state.events.iter().filter(|e| e.sequence > after).cloned().collect();
                        (find(&mut state, id).unwrap().ended_ms > 0, events)
                    };
                    for event in events {
                        after = event.sequence;
                        if sender.send(Ok(JobLogsResponse { event: Some(event) })).await.is_err() {
                            return;
                        }
                    }
                    if ended || !follow {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            Ok(ReceiverStream::new(receiver))
        })
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        let job = self.change(request.into_inner().id, |job| {
            job.set_state(JobState::Cancelled);
            job.ended_ms = job.submitted_ms + 65_000;
        })?;
        Ok(Response::new(CancelJobResponse { job }))
    }

    async fn pause_job(
        &self,
        request: Request<PauseJobRequest>,
    ) -> Result<Response<PauseJobResponse>, Status> {
        let job = self.change(request.into_inner().id, |job| job.set_state(JobState::Paused))?;
        Ok(Response::new(PauseJobResponse { job }))
    }

    async fn resume_job(
        &self,
        request: Request<ResumeJobRequest>,
    ) -> Result<Response<ResumeJobResponse>, Status> {
        let job = self.change(request.into_inner().id, |job| job.set_state(JobState::Running))?;
        Ok(Response::new(ResumeJobResponse { job }))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        self.with(|state| Ok(ListWorkersResponse { workers: state.workers.clone(), insecure: false }))
    }

    async fn drain_worker(
        &self,
        request: Request<DrainWorkerRequest>,
    ) -> Result<Response<DrainWorkerResponse>, Status> {
        let id = request.into_inner().id;
        self.with(|state| {
            let worker = state.workers.iter_mut().find(|worker| worker.id == id);
            worker.ok_or_else(|| Status::not_found(format!("no worker {id}")))?.draining = true;
            Ok(DrainWorkerResponse {})
        })
    }
}
