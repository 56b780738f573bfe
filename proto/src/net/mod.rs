//! The network, once: how addresses are read, how one side dials and the other listens, and every limit.
//!
//! The windows and the frame are those that were measured to matter: one loopback stream went from 1 to over 3 GB/s with
//! them. Keep-alive runs while nothing is said: without it neither side of a partition notices. It opens no connection by
//! itself, and adds no TLS yet: [`Address`] is where that is put in.

mod address;

use std::time::Duration;

use tonic::transport::Server;

pub use address::{Address, AddressError};

/// Stream and connection windows of HTTP/2.
pub const WINDOW_BYTES: u32 = 16 << 20;
/// Largest frame of HTTP/2.
pub const FRAME_BYTES: u32 = 1 << 20;
/// Longest message of a session: a grant with its unit and the verdicts of earlier attempts.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Longest answer to a person: a page of jobs whose specs are all as long as a spec may be.
pub const ANSWER_BYTES_MAX: usize = 128 << 20;
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
        .http2_keepalive_interval(Some(LISTEN_ALIVE_EVERY))
        .http2_keepalive_timeout(Some(LISTEN_ALIVE_TIMEOUT))
        .tcp_nodelay(true)
}
