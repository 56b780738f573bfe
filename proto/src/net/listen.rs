//! Listening: who gets a connection, and for how long one that nobody vouches for may keep it.
//!
//! A connection is a stranger's until its certificate holds, or a call of its was admitted ([`Peer::admit`]). Strangers have
//! little time and few places, in all and for an address. Where these are taken, the one that came first has to go: who is
//! known needs a place for some milliseconds only, and so finds one however many come. Nothing a stranger does makes anybody
//! wait: handshakes run beside each other, each with its own deadline.

use std::{
    collections::BTreeMap,
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

use futures::{FutureExt, Stream, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use super::{
    CONNECTIONS_MAX, STRANGER_TIME, STRANGERS_MAX, STRANGERS_OF_ADDRESS_MAX, Tally, Tls, tally::Inside,
    tls::CertificateName,
};
use crate::Cancel;

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
    /// Ready when a stranger has to go.
    over: BoxFuture<'static, ()>,
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
            let (place, refused) = Doors::enter(&doors, address.ip());
            if refused {
                tally.refuse();
            }
            let Some(place) = place else {
                tracing::debug!(%address, "no room for another connection");
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
    let (until, gone) = (Instant::now() + STRANGER_TIME, place.gone.clone());
    let mut over = async move {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = gone.cancelled() => {}
        }
    }
    .boxed();
    let (stream, certificate) = match tls {
        None => (Either::Left(stream), None),
        Some(tls) => {
            let stream = tokio::select! {
                biased;
                stream = TlsAcceptor::from(tls.server()?).accept(stream) => stream?,
                () = &mut over => return Err(timed_out()),
            };
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let name = shown.and_then(|shown| CertificateName::read(shown)).map(Arc::new);
            if name.is_some() {
                place.admit();
            }
            (Either::Right(Box::new(stream)), name)
        }
    };
    Ok(Arrival { stream, peer: Peer { address, certificate, place }, over, _inside: inside })
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nothing that may be served came in time")
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
        if !self.peer.place.is_admitted() && self.over.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(timed_out()));
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
struct Doors(Mutex<Guests>);

#[derive(Debug, Default)]
struct Guests {
    known: usize,
    next: u64,
    /// In the order in which they came.
    strangers: BTreeMap<u64, (IpAddr, Cancel)>,
}

/// Where there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// Somebody else had to go.
    Made,
    /// Those who are known have every place.
    None,
}

impl Guests {
    /// Makes room for one more stranger.
    fn make_room(&mut self, address: IpAddr) -> Room {
        let same = |(_, (of, _)): &(&u64, &(IpAddr, Cancel))| *of == address;
        let of_address = self.strangers.iter().filter(same).count();
        let first = if of_address >= STRANGERS_OF_ADDRESS_MAX {
            self.strangers.iter().find(same).map(|(number, _)| *number)
        } else if self.strangers.len() >= STRANGERS_MAX
            || self.known + self.strangers.len() >= CONNECTIONS_MAX
        {
            self.strangers.keys().next().copied()
        } else {
            return Room::Free;
        };
        match first.and_then(|number| self.strangers.remove(&number)) {
            Some((_, gone)) => {
                gone.cancel();
                Room::Made
            }
            None => Room::None,
        }
    }
}

impl Doors {
    /// A place, if there is one; and whether somebody was refused one for it, or for want of it.
    fn enter(doors: &Arc<Self>, address: IpAddr) -> (Option<Arc<Place>>, bool) {
        let mut guests = doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = guests.make_room(address);
        if room == Room::None {
            return (None, true);
        }
        let (number, gone) = (guests.next, Cancel::new());
        guests.next += 1;
        guests.strangers.insert(number, (address, gone.clone()));
        let place = Place { doors: Arc::clone(doors), number, gone, admitted: AtomicBool::new(false) };
        (Some(Arc::new(place)), room == Room::Made)
    }
}

/// A connection's place; given back when the last who knows of the connection is gone.
#[derive(Debug)]
struct Place {
    doors: Arc<Doors>,
    number: u64,
    /// Set when it has to make room for another.
    gone: Cancel,
    admitted: AtomicBool,
}

impl Place {
    fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    fn admit(&self) {
        if self.is_admitted() {
            return;
        }
        let mut guests = self.doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has to go stays a stranger.
        if guests.strangers.remove(&self.number).is_some() {
            guests.known += 1;
            self.admitted.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.doors.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.is_admitted() {
            true => guests.known -= 1,
            false => drop(guests.strangers.remove(&self.number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn however_many_strangers_come_the_next_one_finds_a_place() {
        let doors = Arc::new(Doors::default());
        let crowd: Vec<_> = (0..10_000).map(|i| Doors::enter(&doors, address((i % 200) as u8)).0).collect();
        let there = |crowd: &[Option<Arc<Place>>]| {
            crowd.iter().flatten().filter(|place| !place.gone.is_cancelled()).count()
        };
        assert_eq!(there(&crowd), STRANGERS_MAX);
        let known = Doors::enter(&doors, address(250)).0.unwrap();
        known.admit();
        drop((0..10_000).map(|_| Doors::enter(&doors, address(1)).0).collect::<Vec<_>>());
        assert!(known.is_admitted() && !known.gone.is_cancelled());
        assert!(doors.0.lock().unwrap().strangers.len() <= STRANGERS_MAX);
        drop((crowd, known));
        let guests = doors.0.lock().unwrap();
        assert_eq!((guests.known, guests.strangers.len()), (0, 0));
    }

    #[test]
    fn one_address_takes_no_place_of_another() {
        let doors = Arc::new(Doors::default());
        let other = Doors::enter(&doors, address(2)).0.unwrap();
        let crowd: Vec<_> = (0..1000).map(|_| Doors::enter(&doors, address(1)).0).collect();
        assert!(!other.gone.is_cancelled());
        let there = crowd.iter().flatten().filter(|place| !place.gone.is_cancelled()).count();
        assert_eq!(there, STRANGERS_OF_ADDRESS_MAX);
    }

    #[test]
    fn those_who_are_known_keep_their_places() {
        let doors = Arc::new(Doors::default());
        let known: Vec<_> = (0..CONNECTIONS_MAX)
            .map(|i| {
                let place = Doors::enter(&doors, address((i % 100) as u8)).0.unwrap();
                place.admit();
                place
            })
            .collect();
        assert!(matches!(Doors::enter(&doors, address(1)), (None, true)));
        assert!(known.iter().all(|place| !place.gone.is_cancelled()));
    }
}
