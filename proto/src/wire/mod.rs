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
    pub use v1::*;

    /// As prost names it: rows hold messages of [`super::v1`].
    mod v1 {
        #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
        tonic::include_proto!("sr3.ledger.v1");
    }
}

/// The protocol's descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("sr3");

/// Version of the worker session; a coordinator refuses another.
pub const PROTOCOL: u32 = 3;
