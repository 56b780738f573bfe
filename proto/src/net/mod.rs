//! The network, once: how addresses are read, how one side dials and the other listens, and every limit.
//!
//! The windows and the frame are those that were measured to matter: one loopback stream went from 1 to over 3 GB/s with
//! them. Keep-alive runs while nothing is said: without it neither side of a partition notices. Every limit has its number
//! here, and docs/operations.md repeats them.

mod address;
mod dial;
mod listen;
mod tally;
mod tls;

use std::time::Duration;

use tonic::transport::Server;

pub use address::{Address, AddressError};
pub use dial::{Bearer, Dialer, Line, PlainToken, distrust};
pub use listen::{Arrival, Peer, listen};
pub use tally::Tally;
pub use tls::{CertificateName, Tls, TlsError};

/// Stream and connection windows of HTTP/2.
pub const WINDOW_BYTES: u32 = 16 << 20;
/// Largest frame of HTTP/2.
pub const FRAME_BYTES: u32 = 1 << 20;
/// Longest message of a session: a grant with its unit and the verdicts of earlier attempts.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Longest answer to a person: a page of jobs whose specs are all as long as a spec may be.
pub const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Longest request of a person: a spec, and little else.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// Of these, those of strangers: in the handshake, or without an admitted call so far.
pub const STRANGERS_MAX: usize = 512;
/// And of one address.
pub const STRANGERS_OF_ADDRESS_MAX: usize = 64;
/// After so long a stranger's connection is ended.
pub const STRANGER_TIME: Duration = Duration::from_secs(10);
/// Streams at once on a connection.
pub const STREAMS_MAX: u32 = 256;
/// Headers of a call.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Whoever dialled asks so often whether the other side is there.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(1);
/// And is sure that it is not after so long without an answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever listens asks less often: it may have a thousand at the other end.
const LISTEN_ALIVE_EVERY: Duration = Duration::from_secs(5);
const LISTEN_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A server with these limits; the services are the caller's.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(LISTEN_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(LISTEN_ALIVE_TIMEOUT))
        .tcp_nodelay(true)
}
