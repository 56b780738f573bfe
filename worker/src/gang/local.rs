//! Peers within one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use sr3_proto::{
    JobId,
    gang::{Generation, Membership},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Peers,
    mesh::{FRAMES, Link, Lost, Mesh},
};

/// A link's end that waits for the member it is for: of a job's generation, from one instance, to another.
type Waiting = HashMap<(u64, Generation, String, String), oneshot::Sender<Link>>;

/// Reaches members in the same process. Clones know the same ones.
#[derive(Clone, Debug, Default)]
pub struct LocalPeers {
    waiting: Arc<Mutex<Waiting>>,
}

#[async_trait]
impl Peers for LocalPeers {
    fn address(&self) -> String {
        "in this process".to_string()
    }

    async fn mesh(&self, me: usize, membership: &Membership) -> Result<Mesh, Lost> {
        let mut links = Vec::with_capacity(membership.members.len());
        for rank in 0..membership.members.len() {
            let link = if rank == me { None } else { Some(self.met(membership, me, rank).await?) };
            links.push(link);
        }
        Ok(Mesh::new(me, links))
    }
}

enum Met {
    Link(Link),
    Waiting(oneshot::Receiver<Link>),
}

impl LocalPeers {
    /// The link to the member of `rank`, once it is there.
    pub(super) async fn met(&self, membership: &Membership, me: usize, rank: usize) -> Result<Link, Lost> {
        let Membership { job, generation, members } = membership;
        let (mine, other) = (&members[me].instance, &members[rank].instance);
        let reason = "it is in a later generation".to_string();
        let met = self.meeting(*job, *generation, mine, other).await;
        met.ok_or(Lost { rank, reason })
    }

    /// The link of `mine` to `other` in a generation, once both are there; none where either is in a later one.
    pub(super) async fn meeting(
        &self,
        job: JobId,
        generation: Generation,
        mine: &str,
        other: &str,
    ) -> Option<Link> {
        match self.meet(job.get(), generation, mine, other) {
            Met::Link(link) => Some(link),
            Met::Waiting(receiver) => receiver.await.ok(),
        }
    }

    /// Whoever comes second makes the link. Whoever waits in an earlier generation waits no more, and whoever has gone
    /// is forgotten.
    fn meet(&self, job: u64, generation: Generation, mine: &str, other: &str) -> Met {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pair_of = |from: &str, to: &str| [(mine, other), (other, mine)].contains(&(from, to));
        waiting.retain(|(of, earlier, from, to), there| {
            let is_over = *of == job && *earlier < generation && pair_of(from, to);
            !is_over && !there.is_closed()
        });
        if let Some(there) = waiting.remove(&(job, generation, other.to_string(), mine.to_string())) {
            let (ours, theirs) = pair();
            if there.send(theirs).is_ok() {
                return Met::Link(ours);
            }
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert((job, generation, mine.to_string(), other.to_string()), sender);
        Met::Waiting(receiver)
    }
}

/// Both ends of a link.
pub(super) fn pair() -> (Link, Link) {
    let ((a0, b0), (a1, b1)) = (mpsc::channel(FRAMES), mpsc::channel(FRAMES));
    let ((c0, d0), (c1, d1)) = (mpsc::channel(FRAMES), mpsc::channel(FRAMES));
    let ours = Link { send: [a0, a1], receive: [d0, d1] };
    let theirs = Link { send: [c0, c1], receive: [b0, b1] };
    (ours, theirs)
}
