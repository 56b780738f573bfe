//! Listening: who gets a connection, and for how long one that nobody vouches for may keep it.
//!
//! A connection is a stranger's until its certificate holds, or a call of its was admitted ([`Peer::admit`]). Strangers have
//! little time and few places, in all and for an address, so that however many come, those who are known find room. Nothing a
//! stranger does makes anybody wait: handshakes run beside each other, each with its own deadline.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::{
    CONNECTIONS_MAX, STRANGER_TIME, STRANGERS_MAX, STRANGERS_OF_ADDRESS_MAX, Tally, Tls, tally::Inside,
    tls::CertificateName,
};

/// Connections that wait to be served.
const WAITING: usize = 64;
/// After the system refused a connection: it has no descriptors left.
const SYSTEM_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// What its certificate says, if it showed one.
    pub certificate: Option<Arc<CertificateName>>,
    place: Arc<Place>,
}

impl Peer {
    /// It is no stranger any more: a call of its was admitted.
    pub fn admit(&self) {
        self.place.admit();
    }
}

/// A connection that may be served.
pub struct Arrival {
    stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    peer: Peer,
    deadline: Pin<Box<Sleep>>,
    _inside: Inside,
}

/// Accepts those who come to `listener` until the stream is dropped, and counts them.
pub fn listen(
    listener: TcpListener,
    tls: Option<Tls>,
    tally: Tally,
) -> impl Stream<Item = io::Result<Arrival>> + Send {
    let (send, receive) = mpsc::channel(WAITING);
    let doors = Arc::new(Doors::default());
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = send.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(SYSTEM_PAUSE).await;
                continue;
            };
            let Some(place) = Doors::enter(&doors, address.ip()) else {
                tally.refuse();
                tracing::debug!(%address, "no room for another stranger");
                continue;
            };
            let (tls, send, inside) = (tls.clone(), send.clone(), tally.enter());
            tokio::spawn(async move {
                match arrive(stream, address, tls, place, inside).await {
                    Ok(arrival) => drop(send.send(Ok(arrival)).await),
                    Err(error) => {
                        tracing::info!(target: "sr3::audit", %address, %error, "a handshake failed")
                    }
                }
            });
        }
    });
    ReceiverStream::new(receive)
}

async fn arrive(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Tls>,
    place: Arc<Place>,
    inside: Inside,
) -> io::Result<Arrival> {
    stream.set_nodelay(true)?;
    let until = Instant::now() + STRANGER_TIME;
    let (stream, certificate) = match tls {
        None => (Either::Left(stream), None),
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls.server()?).accept(stream);
            let stream = tokio::time::timeout_at(until, handshake).await??;
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let name = shown.and_then(|shown| CertificateName::read(shown)).map(Arc::new);
            if name.is_some() {
                place.admit();
            }
            (Either::Right(Box::new(stream)), name)
        }
    };
    let peer = Peer { address, certificate, place };
    Ok(Arrival { stream, peer, deadline: Box::pin(tokio::time::sleep_until(until)), _inside: inside })
}

impl Connected for Arrival {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Arrival {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.peer.place.is_admitted() && self.deadline.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing that may be served came",
            )));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Arrival {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who is in.
#[derive(Debug, Default)]
struct Doors(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    known: usize,
    strangers: usize,
    of_address: HashMap<IpAddr, usize>,
}

impl Counts {
    fn forget_stranger(&mut self, address: IpAddr) {
        self.strangers -= 1;
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

impl Doors {
    fn enter(doors: &Arc<Self>, address: IpAddr) -> Option<Arc<Place>> {
        let mut counts = doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = counts.of_address.get(&address).copied().unwrap_or(0);
        if counts.strangers >= STRANGERS_MAX
            || of_address >= STRANGERS_OF_ADDRESS_MAX
            || counts.known + counts.strangers >= CONNECTIONS_MAX
        {
            return None;
        }
        counts.strangers += 1;
        *counts.of_address.entry(address).or_default() += 1;
        Some(Arc::new(Place { doors: Arc::clone(doors), address, admitted: AtomicBool::new(false) }))
    }
}

/// A connection's place; given back when the last who knows of the connection is gone.
#[derive(Debug)]
struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
    admitted: AtomicBool,
}

impl Place {
    fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    fn admit(&self) {
        if !self.admitted.swap(true, Ordering::Relaxed) {
            let mut counts = self.doors.0.lock().unwrap_or_else(PoisonError::into_inner);
            counts.forget_stranger(self.address);
            counts.known += 1;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.is_admitted() {
            true => counts.known -= 1,
            false => counts.forget_stranger(self.address),
        }
    }
}
