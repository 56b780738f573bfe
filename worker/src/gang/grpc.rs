//! Peers across processes: a stream for each link, served by every worker and dialled by the member of lower rank.
//!
//! What comes over a stream goes into the same channels that join members of one process, and out of them: a link is a link.
//! Both ends say that they are alive when they have nothing else to say. A peer that says nothing for [`SILENCE`] is gone;
//! so one that is stopped is noticed, and one that computes for minutes is not, because it is the network's task that speaks.
//! Time in which this end did not listen does not count. A stranger gets no link: with certificates only workers' are
//! taken, and a link is made only for a generation that this worker is in.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use sr3_proto::{
    Cancel, JobId,
    access::Role,
    gang::{Generation, Membership},
    net::{self, Address, AddressError, Dialer, Peer, Tally, Tls},
    wire::{
        self,
        v1::{
            self, link_request, link_response, peer_frame,
            peer_service_client::PeerServiceClient,
            peer_service_server::{PeerService, PeerServiceServer},
        },
    },
};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    LocalPeers, Peers,
    local::pair,
    mesh::{Frame, Link, Lost, Mesh, PARTS, Payload, SUMS},
    tree::{Wire, to_bf16},
};

/// A peer that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_millis(2500);
/// Both ends say so often that they are there.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// A peer that is dialled answers within this.
const PATIENCE: Duration = Duration::from_secs(3);
/// A link that was dialled waits so long for the member that it is for.
const EARLY: Duration = Duration::from_secs(10);
/// Messages that wait before the network.
const WAITING: usize = 4;

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
        let service = PeerServiceServer::new(service).max_decoding_message_size(net::MESSAGE_BYTES_MAX);
        let server = net::server().add_service(service);
        let stopped = async move { stop.cancelled().await };
        match tls {
            Some(tls) => {
                let arrivals =
                    net::listen(listener, Some(tls), Tally::default()).take_until(Box::pin(stopped));
                tokio::spawn(server.serve_with_incoming(arrivals));
            }
            // Only on loopback: everybody there may do everything.
            None => {
                let arrivals = TcpListenerStream::new(listener).take_until(Box::pin(stopped));
                tokio::spawn(server.serve_with_incoming(arrivals));
            }
        }
        Ok(Self { address, dialer, meeting })
    }

    async fn dial(&self, membership: &Membership, me: usize, rank: usize) -> Result<Link, Lost> {
        let lost = |reason: String| Lost { rank, reason };
        let peer = &membership.members[rank];
        let address = Address::parse(&peer.address).map_err(|e| lost(e.to_string()))?;
        let channel = timeout(PATIENCE, self.dialer.connect(&address, PATIENCE)).await;
        let channel = channel.map_err(|_| lost(format!("{} does not answer", peer.address)))?;
        let channel = channel.map_err(|e| lost(format!("{}: {e}", peer.address)))?;
        let mut client = PeerServiceClient::new(self.dialer.line(channel, &address))
            .max_decoding_message_size(net::MESSAGE_BYTES_MAX);
        let (say, outgoing) = mpsc::channel(WAITING);
        let hello = v1::LinkHello {
            protocol: wire::PROTOCOL,
            job: membership.job.get(),
            generation: Some(membership.generation.into()),
            from: membership.members[me].instance.clone(),
            to: peer.instance.clone(),
        };
        // There is room.
        let _ = say.try_send(v1::LinkRequest { message: Some(link_request::Message::Hello(hello)) });
        let answered = timeout(PATIENCE, client.link(ReceiverStream::new(outgoing))).await;
        let answered = answered.map_err(|_| lost(format!("{} does not answer", peer.address)))?;
        let incoming = answered.map_err(|status| lost(status.message().to_string()))?.into_inner();
        let (ours, theirs) = pair();
        tokio::spawn(pump(theirs, incoming, say));
        Ok(ours)
    }
}

#[async_trait]
impl Peers for GrpcPeers {
    fn address(&self) -> String {
        self.address.text().to_string()
    }

    async fn mesh(&self, me: usize, membership: &Membership) -> Result<Mesh, Lost> {
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

/// The service of a worker.
struct Links {
    meeting: LocalPeers,
    tls: Option<Tls>,
}

impl Links {
    /// Only workers, by certificates that still hold.
    fn admit(&self, request: &Request<Streaming<v1::LinkRequest>>) -> Result<(), Status> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        match certificate {
            Some(certificate)
                if certificate.role == Some(Role::Work) && !tls.is_revoked(&certificate.serial) =>
            {
                if let Some(peer) = peer {
                    peer.admit();
                }
                Ok(())
            }
            _ => Err(Status::permission_denied("members of a gang show a worker's certificate")),
        }
    }
}

#[tonic::async_trait]
impl PeerService for Links {
    type LinkStream = BoxStream<'static, Result<v1::LinkResponse, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<v1::LinkRequest>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        self.admit(&request)?;
        let mut incoming = request.into_inner();
        let first = timeout(PATIENCE, incoming.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("a link begins with hello"))??;
        let Some(link_request::Message::Hello(hello)) = first.and_then(|request| request.message) else {
            return Err(Status::invalid_argument("a link begins with hello"));
        };
        let v1::LinkHello { protocol, job, generation, from, to } = hello;
        if protocol != wire::PROTOCOL {
            return Err(Status::failed_precondition("the member speaks another version: run the same sr3"));
        }
        let generation = generation.ok_or_else(|| Status::invalid_argument("a link has a generation"))?;
        let met = self.meeting.meeting(JobId::new(job), Generation::from(generation), &from, &to);
        let late = |_| Status::not_found("no member of that generation is here");
        let link = timeout(EARLY, met).await.map_err(late)?;
        let link = link.ok_or_else(|| Status::not_found("that generation is over"))?;
        let (say, outgoing) = mpsc::channel(WAITING);
        tokio::spawn(pump(link, incoming, say));
        Ok(Response::new(ReceiverStream::new(outgoing).map(Ok).boxed()))
    }
}

/// A message of either direction: a frame, or a sign of life.
trait Said: Send + 'static {
    fn of(frame: Option<v1::PeerFrame>) -> Self;
    /// What it says; none of what breaks the protocol.
    fn frame(self) -> Option<Option<v1::PeerFrame>>;
}

impl Said for v1::LinkRequest {
    fn of(frame: Option<v1::PeerFrame>) -> Self {
        let alive = || link_request::Message::Alive(v1::Alive {});
        Self { message: Some(frame.map_or_else(alive, link_request::Message::Frame)) }
    }

    fn frame(self) -> Option<Option<v1::PeerFrame>> {
        match self.message? {
            link_request::Message::Frame(frame) => Some(Some(frame)),
            link_request::Message::Alive(v1::Alive {}) => Some(None),
            link_request::Message::Hello(_) => None,
        }
    }
}

impl Said for v1::LinkResponse {
    fn of(frame: Option<v1::PeerFrame>) -> Self {
        let alive = || link_response::Message::Alive(v1::Alive {});
        Self { message: Some(frame.map_or_else(alive, link_response::Message::Frame)) }
    }

    fn frame(self) -> Option<Option<v1::PeerFrame>> {
        match self.message? {
            link_response::Message::Frame(frame) => Some(Some(frame)),
            link_response::Message::Alive(v1::Alive {}) => Some(None),
        }
    }
}

/// Carries a link's frames to the network and back, until either side ends it.
async fn pump<In: Said, Out: Said>(link: Link, mut incoming: Streaming<In>, outgoing: mpsc::Sender<Out>) {
    let Link { send, receive } = link;
    tokio::select! {
        reason = hear_all(&mut incoming, send) => return tracing::debug!(reason, "a link has ended"),
        () = say_all(receive, outgoing) => {}
    }
    // Whoever stops listening resets the stream, and with it what it said last: the peer ends it once it has heard that.
    let last = async { while let Ok(Some(_)) = incoming.message().await {} };
    let _ = timeout(SILENCE, last).await;
}

async fn hear_all<In: Said>(incoming: &mut Streaming<In>, send: [mpsc::Sender<Frame>; 2]) -> &'static str {
    loop {
        let said = match timeout(SILENCE, incoming.message()).await {
            Ok(Ok(Some(said))) => said,
            Ok(Ok(None)) => return "the peer ended it",
            Ok(Err(_)) => return "the stream broke",
            Err(_) => return "the peer is silent",
        };
        match said.frame() {
            None => return "the peer broke the protocol",
            Some(None) => {}
            Some(Some(frame)) => {
                let Some(lane) = send.get(frame.lane as usize) else { return "the peer broke the protocol" };
                let Some(frame) = read(frame) else { return "the peer broke the protocol" };
                if lane.send(frame).await.is_err() {
                    return "nobody listens here";
                }
            }
        }
    }
}

async fn say_all<Out: Said>(mut receive: [mpsc::Receiver<Frame>; 2], outgoing: mpsc::Sender<Out>) {
    let mut alive = interval(ALIVE_EVERY);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let [parts, sums] = &mut receive;
    loop {
        let said = tokio::select! {
            biased;
            Some(frame) = sums.recv() => Some(written(SUMS, &frame)),
            Some(frame) = parts.recv() => Some(written(PARTS, &frame)),
            _ = alive.tick(), if !(parts.is_closed() && sums.is_closed()) => None,
            else => return,
        };
        if outgoing.send(Out::of(said)).await.is_err() {
            return;
        }
    }
}

fn written(lane: usize, frame: &Frame) -> v1::PeerFrame {
    let payload = match &frame.payload {
        Payload::Bytes(bytes) => peer_frame::Payload::Words(bytes.clone()),
        Payload::Floats(list, range, wire) => {
            let values = list.get(range.clone()).unwrap_or_default();
            match wire {
                Wire::F32 => {
                    let mut bytes = vec![0; 4 * values.len()];
                    let (chunks, _) = bytes.as_chunks_mut::<4>();
                    chunks.iter_mut().zip(values).for_each(|(to, value)| *to = value.to_le_bytes());
                    peer_frame::Payload::Floats(bytes.into())
                }
                Wire::Bf16 => {
                    let mut bytes = vec![0; 2 * values.len()];
                    let (chunks, _) = bytes.as_chunks_mut::<2>();
                    chunks.iter_mut().zip(values).for_each(|(to, value)| *to = to_bf16(*value).to_le_bytes());
                    peer_frame::Payload::Halves(bytes.into())
                }
            }
        }
    };
    v1::PeerFrame { lane: lane as u32, tag: frame.tag, index: frame.index, payload: Some(payload) }
}

/// None of what is no frame.
fn read(frame: v1::PeerFrame) -> Option<Frame> {
    let v1::PeerFrame { tag, index, payload, .. } = frame;
    let payload = match payload? {
        peer_frame::Payload::Words(bytes) => Payload::Bytes(bytes),
        peer_frame::Payload::Floats(bytes) => {
            let (chunks, rest) = bytes.as_chunks::<4>();
            let values: Vec<f32> = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
            rest.is_empty().then(|| Payload::owned(values, Wire::F32))?
        }
        peer_frame::Payload::Halves(bytes) => {
            let (chunks, rest) = bytes.as_chunks::<2>();
            let wide = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            let values: Vec<f32> = chunks.iter().map(wide).collect();
            rest.is_empty().then(|| Payload::owned(values, Wire::Bf16))?
        }
    };
    Some(Frame { tag, index, payload })
}
