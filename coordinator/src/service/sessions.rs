//! `WorkerSessionService`: a stream each way, carried into the coordinator's channels and out of them.

use futures::{StreamExt, stream::BoxStream};
use sr3_proto::{
    FromWorker, Hello, WorkerEnd,
    wire::v1::{self, session_request::Message, worker_session_service_server::WorkerSessionService},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Gate, active, gate::caller, status};

pub(super) struct Sessions(pub(super) Gate);

#[tonic::async_trait]
impl WorkerSessionService for Sessions {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let by = caller(&request)?;
        let coordinator = active(&self.0.active)?;
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|request| request.message);
        let Some(Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("a session begins with hello"));
        };
        let hello = Hello::try_from(hello).map_err(|e| Status::failed_precondition(e.to_string()))?;
        let name = hello.name.clone();
        let WorkerEnd { receive, send } = coordinator.attach(hello, by.identity()).await.map_err(status)?;
        self.0.audit.did(&by, "join", &name);
        let gate = self.0.clone();
        let stop = coordinator.stop().clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    message = incoming.message() => message,
                };
                let request = match message {
                    Ok(Some(request)) => request,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::info!(worker = %name, %error, "the session broke");
                        return;
                    }
                };
                if let Err(refused) = gate.still_admits(&by) {
                    gate.audit.refused(Some(&by), "report", refused.message());
                    return;
                }
                match FromWorker::try_from(request) {
                    Ok(report) => {
                        if send.send(report).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(worker = %name, %error, "the session is ended");
                        return;
                    }
                }
            }
        });
        let stop = coordinator.stop().clone();
        let outgoing = ReceiverStream::new(receive)
            .map(|message| Ok(v1::SessionResponse::from(message)))
            .take_until(async move { stop.cancelled().await });
        Ok(Response::new(outgoing.boxed()))
    }
}
