//! The same over gRPC on a loopback port: the service below only turns messages into values.

use std::time::Duration;

use futures::{StreamExt, stream::BoxStream};
use sr3_proto::net::{Address, Dialer};
use sr3_proto::{
    FromWorker, Hello, Lease, Offer, ToWorker,
    wire::v1::{
        self,
        session_request::Message,
        worker_session_service_server::{WorkerSessionService, WorkerSessionServiceServer},
    },
};
use sr3_worker::{Connect, ConnectError, GrpcConnect, WorkerFailure};

use super::channels::Joining;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::played::{Scene, Setup, done, grant, lease};

struct Service {
    joins: mpsc::Sender<Joining>,
    /// Sessions are refused for this reason.
    refuses: Option<&'static str>,
}

#[tonic::async_trait]
impl WorkerSessionService for Service {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(reason) = self.refuses {
            return Err(Status::failed_precondition(reason));
        }
        let mut requests = request.into_inner();
        let Some(Message::Hello(hello)) = requests.message().await?.unwrap().message else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (send, outgoing) = mpsc::channel(4);
        let (incoming, receive) = mpsc::channel(4);
        let joining = Joining { hello: Hello::try_from(hello).unwrap(), send, receive };
        self.joins.send(joining).await.unwrap();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                if incoming.send(FromWorker::try_from(request).unwrap()).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outgoing).map(|m| Ok(m.into())).boxed()))
    }
}

/// The service's address, and who joins there.
async fn listen(refuses: Option<&'static str>) -> (String, mpsc::Receiver<Joining>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (joins, joined) = mpsc::channel(1);
    let service = WorkerSessionServiceServer::new(Service { joins, refuses });
    tokio::spawn(
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (address, joined)
}

fn addresses(written: &[&str]) -> Vec<Address> {
    written.iter().map(|text| Address::parse(text).unwrap()).collect()
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_is_done_over_grpc_and_survives_a_broken_stream() {
    let (address, joins) = listen(None).await;
    let connect = GrpcConnect::new(addresses(&[&nobody().await, &address]), Dialer::default());
    let mut scene = Scene::with(Setup::default(), connect, joins);
    let mut desk = scene.welcome(|_| None).await;
    desk.grant(grant(lease(1, 0, 1), "out", scene.items(&[("é#.png", "abc"), ("b.png", "bad")]).await)).await;
    let first = done(desk.report().await);
    drop(desk);
    let new = Lease { token: 2, ..lease(1, 0, 1) };
    let mut desk = scene.welcome(|_| Some(new)).await;
    assert_eq!(desk.hello.held, [lease(1, 0, 1)]);
    let again = done(desk.report().await);
    assert_eq!((again.0, &again.3, again.1, again.2), (new, &first.3, 1, 1));
    assert_eq!(scene.manifest("out", 7, 0).await.1, first.3);
    desk.commit(new).await;
    desk.heartbeat(|heard| matches!(heard, FromWorker::Heartbeat { credits: 2, .. })).await;
    desk.say(ToWorker::Drain).await;
    assert_eq!(desk.report().await, FromWorker::Goodbye);
    drop(desk);
    scene.ended().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_gives_up_and_who_finds_nobody_tries_again() {
    let (address, joins) = listen(Some("speak version 2")).await;
    let scene =
        Scene::with(Setup::default(), GrpcConnect::new(addresses(&[&address]), Dialer::default()), joins);
    match scene.ended().await.unwrap_err() {
        WorkerFailure::Refused { reason } => assert!(reason.contains("speak version 2")),
        other => panic!("{other}"),
    }
    let hello = Hello {
        peer_address: String::new(),
        name: "n".into(),
        version: "v".into(),
        device: "d".into(),
        instance: "i".into(),
        held: Vec::new(),
        credits: 1,
        models: Vec::new(),
        offer: Offer::default(),
    };
    let mut lonely = GrpcConnect::new(addresses(&[&nobody().await]), Dialer::default())
        .with_timeout(Duration::from_secs(1));
    assert!(matches!(lonely.connect(hello).await, Err(ConnectError::Unreachable { .. })));
}
