//! Peers across processes: a stream for each link, served by every worker and dialled by the member of lower rank.
//!
//! What comes over a stream goes into the same channels that join members of one process, and out of them: a link is a link.
//! Both ends say that they are alive when they have nothing else to say. A peer that says nothing for [`SILENCE`] is gone;
//! so one that is stopped is noticed, and one that computes for minutes is not, because it is the network's task that speaks.
//! Time in which this end did not listen does not count. A stranger gets no link: with certificates only workers' are
//! taken, and a link is made only for a generation that this worker is in.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::{Extensions, HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use sr3_proto::{
    Cancel, JobId,
    access::Role,
    gang::{Generation, Membership},
    net::{self, Address, AddressError, Dialer, Peer, Tally, Tls},
    wire::{
        self,
        v1::{self, link_request, link_response, peer_service_server::SERVICE_NAME},
    },
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body, client::GrpcService, server::NamedService};

use super::{
    LocalPeers, Peers,
    local::pair,
    mesh::{Frame, Link, Lost, Mesh, PARTS, Payload, SUMS},
    segment::{Reader, Writer},
    wire::{Messages, pointing, read, short, written},
};

/// A peer that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_millis(2500);
/// Both ends say so often that they are there.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// A peer that is dialled answers within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// A link that was dialled waits so long for the member that it is for.
const EARLY: Duration = Duration::from_secs(10);
/// Pieces that wait before the network: a head and a payload each.
const WAITING: usize = 8;
/// The call that links two members.
const METHOD: &str = "/sr3.v1.PeerService/Link";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Why a worker does not serve its peers.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// Its address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Reaches members in other processes, and is reached by them.
#[derive(Clone, Debug)]
pub struct GrpcPeers {
    address: Address,
    dialer: Dialer,
    meeting: LocalPeers,
    /// Whether members on this machine hand each other numbers in memory.
    shares_memory: bool,
}

impl GrpcPeers {
    /// Serves peers at `listen` until `stop` is set. Others are told to find this worker at `host`, or where it listens;
    /// `tls` is what it shows and whom it trusts.
    ///
    /// # Errors
    /// [`PeersError`].
    pub async fn serve(
        listen: SocketAddr,
        host: Option<&str>,
        tls: Option<Tls>,
        dialer: Dialer,
        stop: Cancel,
    ) -> Result<Self, PeersError> {
        let cannot = |source| PeersError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let bound = listener.local_addr().map_err(cannot)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let host = host.map_or_else(|| bound.ip().to_string(), str::to_string);
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let address = Address::parse(&format!("{scheme}://{host}:{}", bound.port()))?;
        let meeting = LocalPeers::default();
        let service = Links { meeting: meeting.clone(), tls: tls.clone() };
        let server = net::server().add_service(service);
        let stopped = async move { stop.cancelled().await };
        let arrivals = net::listen(listener, tls, Tally::default()).take_until(Box::pin(stopped));
        tokio::spawn(server.serve_with_incoming(arrivals));
        Ok(Self { address, dialer, meeting, shares_memory: true })
    }

    /// Has everything go over the network, also to members on this machine.
    #[must_use]
    pub fn over_network(self) -> Self {
        Self { shares_memory: false, ..self }
    }

    /// Whether a member may be on this machine: it says the same host as this one.
    fn is_near(&self, peer: &Address) -> bool {
        self.shares_memory && peer.host() == self.address.host()
    }

    async fn dial(&self, membership: &Membership, me: usize, rank: usize) -> Result<Link, Lost> {
        let lost = |reason: String| Lost { rank, reason };
        let peer = &membership.members[rank];
        let address = Address::parse(&peer.address).map_err(|e| lost(e.to_string()))?;
        let channel = timeout(PATIENCE, self.dialer.connect(&address, PATIENCE)).await;
        let channel = channel.map_err(|_| lost(format!("{} does not answer", peer.address)))?;
        let channel = channel.map_err(|e| lost(format!("{}: {e}", peer.address)))?;
        let mut line = self.dialer.line(channel, &address);
        let (say, outgoing) = mpsc::channel(WAITING);
        let writer = self.is_near(&address).then(Writer::new).flatten();
        let hello = v1::LinkHello {
            protocol: wire::PROTOCOL,
            job: membership.job.get(),
            generation: Some(membership.generation.into()),
            from: membership.members[me].instance.clone(),
            to: peer.instance.clone(),
            segment: writer.as_ref().map(Writer::offer),
        };
        // There is room.
        let hello = v1::LinkRequest { message: Some(link_request::Message::Hello(hello)) };
        let _ = say.try_send(http_body::Frame::data(short(&hello)));
        let mut request = http::Request::new(body(outgoing));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(METHOD);
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        request.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        let answered = async {
            futures::future::poll_fn(|context| GrpcService::<Body>::poll_ready(&mut line, context)).await?;
            GrpcService::<Body>::call(&mut line, request).await
        };
        let answered = timeout(PATIENCE, answered).await;
        let answered = answered.map_err(|_| lost(format!("{} does not answer", peer.address)))?;
        let answered = answered.map_err(|e| lost(Status::from_error(e.into()).message().to_string()))?;
        if let Some(status) = Status::from_header_map(answered.headers()) {
            return Err(lost(status.message().to_string()));
        }
        let incoming = Incoming::<v1::LinkResponse>::new(Body::new(answered.into_body()));
        let (ours, theirs) = pair();
        let near = Near { writer, reader: None };
        tokio::spawn(pump::<_, v1::LinkRequest>(theirs, incoming, say, near));
        Ok(ours)
    }
}

#[async_trait]
impl Peers for GrpcPeers {
    fn address(&self) -> String {
        self.address.text().to_string()
    }

    async fn mesh(&self, me: usize, membership: &Membership) -> Result<Mesh, Lost> {
        keep_memory();
        let mut links: Vec<Option<Link>> = (0..membership.members.len()).map(|_| None).collect();
        // Those of lower rank dial: all at once, as nobody waits for anybody to do so.
        let dialled = (me + 1..membership.members.len())
            .map(|rank| async move { Ok::<_, Lost>((rank, self.dial(membership, me, rank).await?)) });
        let awaited = (0..me).map(|rank| async move {
            let met = self.meeting.met(membership, me, rank);
            let reason = "it does not come".to_string();
            let late = |_| Lost { rank, reason };
            Ok::<_, Lost>((rank, timeout(EARLY, met).await.map_err(late)??))
        });
        let (dialled, awaited) = futures::future::try_join(
            futures::future::try_join_all(dialled),
            futures::future::try_join_all(awaited),
        )
        .await?;
        for (rank, link) in dialled.into_iter().chain(awaited) {
            links[rank] = Some(link);
        }
        Ok(Mesh::new(me, links))
    }
}

/// Has the allocator keep what the network frees, for the network to use again.
///
/// glibc gives memory back to the system from a size on that grows with the largest block that was ever freed (`mallopt(3)`), up to
/// 32 MiB. Messages are a quarter of one: before it has grown each of them costs the faults of its pages, a third of an
/// exchange's time. The block is never touched, so it costs nothing but two calls.
fn keep_memory() {
    const LARGEST: usize = (32 << 20) - (1 << 16);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}

/// The service of a worker. It is taken below the generated one, which would copy every message twice.
#[derive(Clone)]
struct Links {
    meeting: LocalPeers,
    tls: Option<Tls>,
}

impl NamedService for Links {
    const NAME: &'static str = SERVICE_NAME;
}

impl tower_service::Service<http::Request<Body>> for Links {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let links = self.clone();
        Box::pin(async move { Ok(links.link(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Links {
    /// Only workers, by certificates that still hold; without TLS, which there is on loopback alone, everybody.
    fn admit(&self, request: &Extensions) -> Result<(), Status> {
        let peer = request.get::<Peer>();
        if let Some(tls) = &self.tls {
            let certificate = peer.and_then(|peer| peer.certificate.as_ref());
            let holds = certificate.is_some_and(|certificate| {
                certificate.role == Some(Role::Work) && !tls.is_revoked(&certificate.serial)
            });
            if !holds {
                return Err(Status::permission_denied("members of a gang show a worker's certificate"));
            }
        }
        if let Some(peer) = peer {
            peer.admit();
        }
        Ok(())
    }

    async fn link(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        if request.uri().path() != METHOD {
            return Err(Status::unimplemented("workers serve links, and nothing else"));
        }
        self.admit(request.extensions())?;
        let mut incoming = Incoming::<v1::LinkRequest>::new(request.into_body());
        let first = timeout(PATIENCE, incoming.next()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("a link begins with hello"))?;
        let Ok(Some(v1::LinkRequest { message: Some(link_request::Message::Hello(hello)) })) = first else {
            return Err(Status::invalid_argument("a link begins with hello"));
        };
        let v1::LinkHello { protocol, job, generation, from, to, segment } = hello;
        if protocol != wire::PROTOCOL {
            return Err(Status::failed_precondition("the member speaks another version: run the same sr3"));
        }
        let generation = generation.ok_or_else(|| Status::invalid_argument("a link has a generation"))?;
        let met = self.meeting.meeting(JobId::new(job), Generation::from(generation), &from, &to);
        let late = |_| Status::not_found("no member of that generation is here");
        let link = timeout(EARLY, met).await.map_err(late)?;
        let link = link.ok_or_else(|| Status::not_found("that generation is over"))?;
        let (say, outgoing) = mpsc::channel(WAITING);
        // What was offered tells that both are on one machine.
        let reader = segment.and_then(|offer| Reader::open(&offer));
        let writer = reader.as_ref().and_then(|_| Writer::new());
        if let Some(writer) = &writer {
            let segment = link_response::Message::Segment(writer.offer());
            // There is room.
            let _ = say.try_send(Part::data(short(&v1::LinkResponse { message: Some(segment) })));
        }
        let near = Near { writer, reader };
        tokio::spawn(pump::<_, v1::LinkResponse>(link, incoming, say, near));
        let mut response = http::Response::new(body(outgoing));
        response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
        Ok(response)
    }
}

/// A part of what is sent: bytes of messages, or how it ended.
type Part = http_body::Frame<Bytes>;

/// A body of what comes out of a channel.
fn body(parts: mpsc::Receiver<Part>) -> Body {
    Body::new(StreamBody::new(ReceiverStream::new(parts).map(Ok::<_, Infallible>)))
}

/// Messages as they come.
struct Incoming<M> {
    body: Body,
    messages: Messages,
    kind: std::marker::PhantomData<fn() -> M>,
}

impl<M: Message + Default> Incoming<M> {
    fn new(body: Body) -> Self {
        Self { body, messages: Messages::default(), kind: std::marker::PhantomData }
    }

    /// The next; none once the other side has ended it.
    async fn next(&mut self) -> Result<Option<M>, &'static str> {
        loop {
            if let Some(message) = self.messages.next().map_err(|_| BROKEN)? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(part)) => {
                    if let Ok(piece) = part.into_data() {
                        self.messages.push(piece);
                    }
                }
                Some(Err(_)) => return Err("the stream broke"),
                None => return Ok(None),
            }
        }
    }
}

const BROKEN: &str = "the peer broke the protocol";

/// What a message says.
enum Saying {
    Frame(v1::PeerFrame),
    /// A sign of life.
    Alive,
    /// What was offered is mapped there; maybe with a way back.
    Taken(Option<v1::Segment>),
}

/// A message of either direction.
trait Said: Message + Default + Send + 'static {
    /// The number of the field that is a frame.
    const FRAME: u32;
    fn alive() -> Self;
    fn of(frame: v1::PeerFrame) -> Self;
    /// That the other's segment is mapped here, where that is still to be said.
    fn taken() -> Option<Self>;
    /// What comes after the last message.
    fn end() -> Option<Part>;
    /// What it says; none of what breaks the protocol.
    fn said(self) -> Option<Saying>;
}

impl Said for v1::LinkRequest {
    const FRAME: u32 = 2;

    fn alive() -> Self {
        Self { message: Some(link_request::Message::Alive(v1::Alive {})) }
    }

    fn of(frame: v1::PeerFrame) -> Self {
        Self { message: Some(link_request::Message::Frame(frame)) }
    }

    fn taken() -> Option<Self> {
        Some(Self { message: Some(link_request::Message::Taken(v1::SegmentTaken {})) })
    }

    fn end() -> Option<Part> {
        None
    }

    fn said(self) -> Option<Saying> {
        match self.message? {
            link_request::Message::Frame(frame) => Some(Saying::Frame(frame)),
            link_request::Message::Alive(v1::Alive {}) => Some(Saying::Alive),
            link_request::Message::Taken(v1::SegmentTaken {}) => Some(Saying::Taken(None)),
            link_request::Message::Hello(_) => None,
        }
    }
}

impl Said for v1::LinkResponse {
    const FRAME: u32 = 1;

    fn alive() -> Self {
        Self { message: Some(link_response::Message::Alive(v1::Alive {})) }
    }

    fn of(frame: v1::PeerFrame) -> Self {
        Self { message: Some(link_response::Message::Frame(frame)) }
    }

    fn taken() -> Option<Self> {
        None
    }

    fn end() -> Option<Part> {
        let mut trailers = HeaderMap::new();
        // A status without a text has none that cannot be sent.
        let _ = Status::ok("").add_header(&mut trailers);
        Some(Part::trailers(trailers))
    }

    fn said(self) -> Option<Saying> {
        match self.message? {
            link_response::Message::Frame(frame) => Some(Saying::Frame(frame)),
            link_response::Message::Alive(v1::Alive {}) => Some(Saying::Alive),
            link_response::Message::Segment(back) => Some(Saying::Taken(Some(back))),
        }
    }
}

/// What two processes of one machine have beside the network.
struct Near {
    /// To the peer.
    writer: Option<Writer>,
    /// From it.
    reader: Option<Reader>,
}

/// Carries a link's frames to the network and back, until either side ends it.
async fn pump<In: Said, Out: Said>(
    link: Link,
    mut incoming: Incoming<In>,
    outgoing: mpsc::Sender<Part>,
    near: Near,
) {
    let Link { send, receive } = link;
    let Near { writer, reader } = near;
    // Whether the peer has mapped what is written here.
    let is_taken = AtomicBool::new(false);
    tokio::select! {
        reason = hear_all::<In, Out>(&mut incoming, send, reader, (&is_taken, &outgoing)) => {
            tracing::debug!(reason, "a link has ended");
        }
        () = say_all::<Out>(receive, &outgoing, (writer, &is_taken)) => {}
    }
    if let Some(end) = Out::end() {
        // A peer that takes nothing any more need not hear it.
        let _ = timeout(SILENCE, outgoing.send(end)).await;
    }
    drop(outgoing);
    // Whoever stops listening resets the stream, and with it what it said last: the peer ends it once it has heard that.
    let last = async { while let Ok(Some(_)) = incoming.next().await {} };
    let _ = timeout(SILENCE, last).await;
}

async fn hear_all<In: Said, Out: Said>(
    incoming: &mut Incoming<In>,
    send: [mpsc::Sender<Frame>; 2],
    mut reader: Option<Reader>,
    (is_taken, outgoing): (&AtomicBool, &mpsc::Sender<Part>),
) -> &'static str {
    loop {
        let said = match timeout(SILENCE, incoming.next()).await {
            Ok(Ok(Some(said))) => said,
            Ok(Ok(None)) => return "the peer ended it",
            Ok(Err(reason)) => return reason,
            Err(_) => return "the peer is silent",
        };
        match said.said() {
            None => return BROKEN,
            Some(Saying::Alive) => {}
            Some(Saying::Taken(back)) => {
                is_taken.store(true, Ordering::Relaxed);
                reader = back.and_then(|offer| Reader::open(&offer)).or(reader);
                if let Some(taken) = Out::taken().filter(|_| reader.is_some()) {
                    // Whoever ends the link finds out by itself.
                    let _ = outgoing.send(Part::data(short(&taken))).await;
                }
            }
            Some(Saying::Frame(frame)) => {
                let Some(lane) = send.get(frame.lane as usize) else { return BROKEN };
                let Some(frame) = read(frame, reader.as_ref()) else { return BROKEN };
                if lane.send(frame).await.is_err() {
                    return "nobody listens here";
                }
            }
        }
    }
}

async fn say_all<Out: Said>(
    mut receive: [mpsc::Receiver<Frame>; 2],
    outgoing: &mpsc::Sender<Part>,
    (writer, is_taken): (Option<Writer>, &AtomicBool),
) {
    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let [parts, sums] = &mut receive;
    let pieces = |lane: usize, frame: &Frame| {
        let writer = writer.as_ref().filter(|_| is_taken.load(Ordering::Relaxed));
        let slot = match &frame.payload {
            Payload::Floats(list, range, _) => writer.and_then(|writer| writer.put(list.get(range.clone())?)),
            _ => None,
        };
        match slot {
            Some(slot) => [short(&Out::of(pointing(lane, frame, slot))), Bytes::new()],
            None => written(Out::FRAME, lane, frame),
        }
    };
    loop {
        let pieces = tokio::select! {
            biased;
            Some(frame) = sums.recv() => pieces(SUMS, &frame),
            Some(frame) = parts.recv() => pieces(PARTS, &frame),
            _ = alive.tick(), if !(parts.is_closed() && sums.is_closed()) => [short(&Out::alive()), Bytes::new()],
            else => return,
        };
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            if outgoing.send(Part::data(piece)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sr3_proto::gang;

    use super::*;
    use crate::gang::{
        Wire,
        mesh::{hear, say},
    };

    /// Whether any of a hundred lists that one member sends another comes in memory that both have.
    async fn shares([a, b]: [GrpcPeers; 2]) -> bool {
        let peer = |n: usize, peers: &GrpcPeers| gang::Peer {
            instance: n.to_string(),
            name: n.to_string(),
            address: peers.address(),
        };
        let generation = Generation { epoch: 1, number: 1 };
        let membership =
            Membership { job: JobId::new(1), generation, members: vec![peer(0, &a), peer(1, &b)] };
        let (mut from, mut to) = tokio::try_join!(a.mesh(0, &membership), b.mesh(1, &membership)).unwrap();
        let mut shared = [false; 2];
        let list = Arc::new((0..1000u16).map(f32::from).collect::<Vec<_>>());
        // Both ways, as only one of them dials.
        for (way, shared) in shared.iter_mut().enumerate() {
            let (from, to) = if way == 0 { (&mut from, &mut to) } else { (&mut to, &mut from) };
            let (send, receive) = (from.links[1 - way].as_mut().unwrap(), to.links[way].as_mut().unwrap());
            for tag in 0..100 {
                let payload = Payload::Floats(Arc::clone(&list), 10..990, Wire::F32);
                say(1, &send.send[SUMS], tag, 0, payload).await.unwrap();
                let heard = hear(0, &mut receive.receive[SUMS], tag, 0).await.unwrap();
                let mut values = vec![0.0; 980];
                heard.numbers().unwrap().copy_to(&mut values);
                assert_eq!(values, list[10..990]);
                *shared |= matches!(heard, Payload::Shared(_));
            }
        }
        assert_eq!(shared[0], shared[1]);
        shared[0]
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn members_of_one_machine_share_memory_and_others_do_not() {
        let serve = || async {
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            GrpcPeers::serve(listen, None, None, Dialer::default(), Cancel::new()).await.unwrap()
        };
        assert_eq!(shares([serve().await, serve().await]).await, cfg!(target_os = "linux"));
        assert!(!shares([serve().await.over_network(), serve().await.over_network()]).await);
    }
}
