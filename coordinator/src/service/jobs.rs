//! `JobService`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::stream::BoxStream;
use sr3_proto::{
    JobId, Offer, WorkerId,
    wire::v1::{self, job_service_server::JobService},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Gate, active, gate::caller, status};
use crate::{
    caller::Caller,
    core::{
        Coordinator,
        view::{JobView, OnDevice, Phase, WorkerInfo},
    },
};

/// A watcher hears of changes at most so often.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// Watchers and readers of logs at once, of all callers and of one identity.
const WATCHERS_MAX: usize = 1024;
const WATCHERS_OF_ONE_MAX: usize = 256;
/// Jobs on a page, unless asked otherwise.
const PAGE: usize = 100;
/// Most jobs on a page.
const PAGE_MAX: usize = 1000;

pub(super) struct Jobs {
    gate: Gate,
    watchers: Arc<Watchers>,
}

impl Jobs {
    pub(super) fn new(gate: Gate) -> Self {
        Self { gate, watchers: Arc::default() }
    }

    fn active(&self) -> Result<Arc<Coordinator>, Status> {
        active(&self.gate.active)
    }
}

/// How many watch, by identity.
#[derive(Debug, Default)]
struct Watchers(Mutex<HashMap<String, usize>>);

/// One of them, until it is dropped.
struct Watcher {
    all: Arc<Watchers>,
    identity: String,
}

impl Watchers {
    fn enter(all: &Arc<Self>, caller: &Caller) -> Result<Watcher, Status> {
        let mut counts = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = caller.identity();
        let of_one = counts.get(&identity).copied().unwrap_or(0);
        // Where nobody is asked, all are one.
        let most_of_one = if identity.is_empty() { WATCHERS_MAX } else { WATCHERS_OF_ONE_MAX };
        if of_one >= most_of_one || counts.values().sum::<usize>() >= WATCHERS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{of_one} watchers of yours are here, and no more are let in: at most {most_of_one} of one caller and {WATCHERS_MAX} in all"
            )));
        }
        *counts.entry(identity.clone()).or_default() += 1;
        Ok(Watcher { all: Arc::clone(all), identity })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.identity);
            }
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl JobService for Jobs {
    async fn submit_job(&self, request: Request<v1::SubmitJobRequest>) -> Answer<v1::SubmitJobResponse> {
        let by = caller(&request)?;
        let v1::SubmitJobRequest { spec, idempotency_key } = request.into_inner();
        let submitted = self.active()?.submit(&spec, idempotency_key, by.identity()).await;
        let (job, existed) = submitted.map_err(status)?;
        if !existed {
            self.gate.audit.did(&by, "submit", &format!("job {}", job.id));
        }
        Ok(Response::new(v1::SubmitJobResponse { job: Some((&job).into()), existed }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        let seen = self.active()?.job(JobId::new(request.into_inner().id)).await.map_err(status)?;
        let job = Some((&**seen.borrow()).into());
        Ok(Response::new(v1::GetJobResponse { job }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        let v1::ListJobsRequest { page_size, before } = request.into_inner();
        let most = if page_size == 0 { PAGE } else { (page_size as usize).min(PAGE_MAX) };
        let before = Some(before).filter(|before| *before > 0).map(JobId::new);
        let jobs = self.active()?.jobs(before, most).await.map_err(status)?;
        Ok(Response::new(v1::ListJobsResponse { jobs: jobs.iter().map(v1::Job::from).collect() }))
    }

    type WatchJobStream = BoxStream<'static, Result<v1::WatchJobResponse, Status>>;

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Answer<Self::WatchJobStream> {
        let by = caller(&request)?;
        let watcher = Watchers::enter(&self.watchers, &by)?;
        let coordinator = self.active()?;
        let mut seen = coordinator.job(JobId::new(request.into_inner().id)).await.map_err(status)?;
        let gate = self.gate.clone();
        let (send, receive) = mpsc::channel(4);
        let stop = coordinator.stop().clone();
        tokio::spawn(async move {
            let _watcher = watcher;
            loop {
                if let Err(refused) = gate.still_admits(&by) {
                    drop(send.send(Err(refused)).await);
                    return;
                }
                let view = Arc::clone(&seen.borrow_and_update());
                let response = v1::WatchJobResponse { job: Some((&*view).into()) };
                if send.send(Ok(response)).await.is_err() || view.phase.is_final() {
                    return;
                }
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {
                        let ended = Status::unavailable("this coordinator has ended");
                        drop(send.send(Err(ended)).await);
                        return;
                    }
                    () = send.closed() => return,
                    changed = seen.changed() => if changed.is_err() { return },
                }
                tokio::time::sleep(WATCH_EVERY).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    type JobLogsStream = BoxStream<'static, Result<v1::JobLogsResponse, Status>>;

    async fn job_logs(&self, request: Request<v1::JobLogsRequest>) -> Answer<Self::JobLogsStream> {
        let by = caller(&request)?;
        let watcher = Watchers::enter(&self.watchers, &by)?;
        let wanted = request.into_inner();
        let coordinator = self.active()?;
        let seen = coordinator.job(JobId::new(wanted.id)).await.map_err(status)?;
        let (send, receive) = mpsc::channel(64);
        let gate = self.gate.clone();
        tokio::spawn(async move {
            let _watcher = watcher;
            let admitted = || gate.still_admits(&by);
            if let Err(status) = send_logs(&coordinator, wanted, admitted, seen, &send).await {
                drop(send.send(Err(status)).await);
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Answer<v1::CancelJobResponse> {
        let (by, id) = (caller(&request)?, request.into_inner().id);
        let job = self.active()?.cancel(JobId::new(id)).await.map_err(status)?;
        self.gate.audit.did(&by, "cancel", &format!("job {id}"));
        Ok(Response::new(v1::CancelJobResponse { job: Some((&job).into()) }))
    }

    async fn pause_job(&self, request: Request<v1::PauseJobRequest>) -> Answer<v1::PauseJobResponse> {
        let (by, id) = (caller(&request)?, request.into_inner().id);
        let job = self.active()?.pause(JobId::new(id), true).await.map_err(status)?;
        self.gate.audit.did(&by, "pause", &format!("job {id}"));
        Ok(Response::new(v1::PauseJobResponse { job: Some((&job).into()) }))
    }

    async fn resume_job(&self, request: Request<v1::ResumeJobRequest>) -> Answer<v1::ResumeJobResponse> {
        let (by, id) = (caller(&request)?, request.into_inner().id);
        let job = self.active()?.pause(JobId::new(id), false).await.map_err(status)?;
        self.gate.audit.did(&by, "resume", &format!("job {id}"));
        Ok(Response::new(v1::ResumeJobResponse { job: Some((&job).into()) }))
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersResponse> {
        let workers = self.active()?.workers().await.map_err(status)?;
        let workers = workers.into_iter().map(v1::Worker::from).collect();
        Ok(Response::new(v1::ListWorkersResponse { workers, insecure: self.gate.is_insecure() }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Answer<v1::DrainWorkerResponse> {
        let (by, id) = (caller(&request)?, request.into_inner().id);
        self.active()?.drain(WorkerId::new(id)).await.map_err(status)?;
        self.gate.audit.did(&by, "drain", &format!("worker {id}"));
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }
}

async fn send_logs(
    coordinator: &Coordinator,
    wanted: v1::JobLogsRequest,
    admitted: impl Fn() -> Result<(), Status>,
    mut seen: tokio::sync::watch::Receiver<Arc<JobView>>,
    send: &mpsc::Sender<Result<v1::JobLogsResponse, Status>>,
) -> Result<(), Status> {
    let v1::JobLogsRequest { id, mut after, follow } = wanted;
    loop {
        admitted()?;
        let ended = seen.borrow_and_update().phase.is_final();
        for (sequence, at_ms, text) in coordinator.events(JobId::new(id), after).await.map_err(status)? {
            after = sequence;
            let event = Some(v1::JobEvent { sequence, at_ms, text });
            if send.send(Ok(v1::JobLogsResponse { event })).await.is_err() {
                return Ok(());
            }
        }
        if ended || !follow {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = coordinator.stop().cancelled() => return Err(Status::unavailable("this coordinator has ended")),
            () = send.closed() => return Ok(()),
            changed = seen.changed() => if changed.is_err() { return Ok(()) },
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

impl From<&JobView> for v1::Job {
    fn from(view: &JobView) -> Self {
        let state = match view.phase {
            Phase::Queued | Phase::Running if view.paused => v1::JobState::Paused,
            Phase::Queued => v1::JobState::Queued,
            Phase::Running => v1::JobState::Running,
            Phase::Finishing => v1::JobState::Finishing,
            Phase::Succeeded => v1::JobState::Succeeded,
            Phase::Failed => v1::JobState::Failed,
            Phase::Cancelled => v1::JobState::Cancelled,
        };
        let counts = view.counts;
        let v1::Order { kind, name, places, models, class, .. } = v1::Order::from(&*view.order);
        Self {
            id: view.id.get(),
            spec: view.spec.clone(),
            state: state.into(),
            reason: view.reason.clone(),
            counts: Some(v1::JobCounts {
                planned: counts.planned,
                done: counts.done,
                skipped: counts.skipped,
                quarantined: counts.quarantined,
                work_planned: counts.work_planned,
                work_done: counts.work_done,
                units_planned: counts.units_planned,
                with_notes: counts.with_notes,
                units_done: counts.units_done,
            }),
            planning_done: view.planning_done,
            submitted_ms: view.submitted_ms,
            ended_ms: view.ended_ms,
            kind,
            name,
            places,
            models,
            class,
            summary: view.summary.clone(),
            leases: view.leases,
            items_under_way: view.items_under_way,
            work_under_way: view.work_under_way,
            reported: view.reported,
            submitted_by: view.submitted_by.clone(),
            current: view.on_device.iter().cloned().map(v1::CurrentItem::from).collect(),
            members: view.gang.map_or(0, |(members, _)| members),
            generation: view.gang.map_or(0, |(_, generation)| generation),
        }
    }
}

impl From<OnDevice> for v1::CurrentItem {
    fn from(item: OnDevice) -> Self {
        let OnDevice { worker, input, share } = item;
        Self { worker, input, share }
    }
}

impl From<WorkerInfo> for v1::Worker {
    fn from(worker: WorkerInfo) -> Self {
        let WorkerInfo {
            id,
            name,
            caller,
            device,
            offer,
            version,
            draining,
            leases,
            credits,
            models,
            units_done,
        } = worker;
        let Offer { kinds, classes, memory_bytes, threads } = offer;
        Self {
            id: id.get(),
            name,
            device,
            version,
            draining,
            leases,
            credits,
            models: models.into_iter().map(String::from).collect(),
            units_done,
            kinds,
            classes,
            memory_bytes,
            threads,
            caller,
        }
    }
}
