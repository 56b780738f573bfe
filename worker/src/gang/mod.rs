//! What the members of a gang say to one another.
//!
//! Members of one generation are joined by a [`Mesh`]: a link between every two. Over it they exchange short messages, the sum
//! of their gradients, and states of those that lag. Whoever sets it up ([`Peers`]) is in this process or reaches others by
//! gRPC, on one machine with numbers in memory that both have; what is said is the same, and one set of tests holds all to it.
//!
//! Promises. A sum has the same bits whoever computed which grains: it is taken in one fixed [`tree`]. A message carries the tag
//! of what it belongs to, so that a late one is never taken for another. A peer that is gone is noticed when its link ends,
//! and named. Never: a decision about who takes part; that is the coordinator's.

mod grpc;
mod local;
mod mesh;
mod reduce;
mod segment;
pub mod tree;
mod wire;

pub use grpc::{GrpcPeers, PeersError};
pub use local::LocalPeers;
pub use mesh::{Frame, Link, Lost, Mesh, Payload};
pub use segment::Taken;
pub use tree::{Cut, Leaves, Node, Numbers, Wire};

use async_trait::async_trait;
use sr3_proto::gang::Membership;

/// Reaches the other members.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Where others reach this one; what it tells the coordinator.
    fn address(&self) -> String;

    /// Joins the members of a generation, of which this one has rank `me`.
    ///
    /// # Errors
    /// The first that cannot be reached.
    async fn mesh(&self, me: usize, membership: &Membership) -> Result<Mesh, Lost>;
}
