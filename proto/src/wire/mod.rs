//! The generated types of `sr3/v1` and of the ledger's rows. Only the services, the session and the ledger's rows
//! name them; everything else speaks this crate's own types.

mod convert;

pub use convert::WireError;

/// What crosses the network.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::clone_on_ref_ptr)]
    tonic::include_proto!("sr3.v1");
}

/// What lies in the ledger.
pub mod ledger {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("sr3.ledger.v1");
}

/// The protocol's descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("sr3");

/// Stream and connection windows of HTTP/2: one loopback stream went from 1 to over 3 GB/s with them.
pub const WINDOW_BYTES: u32 = 16 << 20;

/// Largest frame of HTTP/2.
pub const FRAME_BYTES: u32 = 1 << 20;

/// Version of the worker session; a coordinator refuses another.
pub const PROTOCOL: u32 = 1;
