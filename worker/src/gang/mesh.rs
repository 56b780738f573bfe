//! Members joined by links, and what they say over them.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use sr3_proto::Digest;
use tokio::{sync::mpsc, time::timeout};

use super::{
    segment::Taken,
    tree::{Numbers, Wire},
};

/// Frames that wait at an end of a link, in each lane. More than a member has parts of the longest tree.
pub(super) const FRAMES: usize = 32;
/// Bytes of a state that travel at once.
const BULK: usize = 1 << 20;
/// The tag of the last word of a member that has lost another.
const PARTING: u64 = u64::MAX;
/// How long that may take.
const PARTING_TIME: Duration = Duration::from_millis(200);
/// Longest state.
const BULK_MAX: u64 = 64 << 30;

/// A peer that is not there any more, or says what it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("member {rank}: {reason}")]
pub struct Lost {
    /// Its rank.
    pub rank: usize,
    /// One line.
    pub reason: String,
}

/// What travels.
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it belongs to.
    pub tag: u64,
    /// What it is of that.
    pub index: u64,
    /// What it says.
    pub payload: Payload,
}

/// What a frame says.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Bytes.
    Bytes(Bytes),
    /// Numbers: a part of a list that its owner keeps, and what they are rounded to already.
    Floats(Arc<Vec<f32>>, Range<usize>, Wire),
    /// Numbers as they came over a network: little-endian, as many bytes each as the format has.
    Packed(Bytes, Wire),
    /// Numbers that another process of this machine wrote.
    Shared(Arc<Taken>),
}

impl Payload {
    /// The numbers; none where it holds bytes.
    pub fn numbers(&self) -> Option<Numbers<'_>> {
        match self {
            Self::Floats(list, range, _) => list.get(range.clone()).map(Numbers::Floats),
            Self::Packed(bytes, Wire::F32) => Some(Numbers::F32(bytes.as_chunks().0)),
            Self::Packed(bytes, Wire::Bf16) => Some(Numbers::Bf16(bytes.as_chunks().0)),
            Self::Shared(taken) => Some(taken.numbers()),
            Self::Bytes(_) => None,
        }
    }
}

/// Both ways to a peer, in two lanes: what is asked and said, and sums that come back. Each lane is in order; dropping it ends
/// the link.
#[derive(Debug)]
pub struct Link {
    /// To the peer, by lane.
    pub send: [mpsc::Sender<Frame>; 2],
    /// From the peer, by lane.
    pub receive: [mpsc::Receiver<Frame>; 2],
}

/// The lane of messages and of parts.
pub(super) const PARTS: usize = 0;
/// The lane of sums.
pub(super) const SUMS: usize = 1;

/// The members of a generation, joined.
#[derive(Debug)]
pub struct Mesh {
    me: usize,
    /// By rank; none for this member.
    pub(super) links: Vec<Option<Link>>,
}

impl Mesh {
    /// With a link to every member but this one, in the order of ranks.
    pub fn new(me: usize, links: Vec<Option<Link>>) -> Self {
        Self { me, links }
    }

    /// This member's rank.
    pub const fn rank(&self) -> usize {
        self.me
    }

    /// Members, this one among them.
    pub fn members(&self) -> usize {
        self.links.len()
    }

    /// Tells the others whom this member has lost, so that they do not take it for the one that is gone when it ends its links.
    pub(super) async fn parting<T>(&self, done: Result<T, Lost>) -> Result<T, Lost> {
        let Err(lost) = done else { return done };
        let each =
            self.links.iter().enumerate().filter(|(rank, _)| *rank != lost.rank).flat_map(|(_, link)| {
                let lanes = link.iter().flat_map(|link| &link.send);
                lanes.map(|lane| {
                    let payload = Payload::Bytes(lost.reason.clone().into());
                    let frame = Frame { tag: PARTING, index: lost.rank as u64, payload };
                    timeout(PARTING_TIME, lane.send(frame))
                })
            });
        // Whoever cannot be told finds out.
        drop(join_all(each).await);
        Err(lost)
    }

    /// What each member says, by rank: short messages.
    ///
    /// # Errors
    /// The first that is gone.
    pub async fn gather(&mut self, tag: u64, mine: Bytes) -> Result<Vec<Bytes>, Lost> {
        let gathered = self.try_gather(tag, mine).await;
        self.parting(gathered).await
    }

    async fn try_gather(&mut self, tag: u64, mine: Bytes) -> Result<Vec<Bytes>, Lost> {
        let me = self.me;
        let each = self.links.iter_mut().enumerate().map(|(rank, link)| {
            let mine = mine.clone();
            async move {
                let Some(link) = link.as_mut().filter(|_| rank != me) else { return Ok(mine) };
                say(rank, &link.send[PARTS], tag, 0, Payload::Bytes(mine)).await?;
                bytes(rank, hear(rank, &mut link.receive[PARTS], tag, 0).await?)
            }
        });
        try_join_all(each).await
    }

    /// Sends a state to some members, which [`Self::receive`] it.
    ///
    /// # Errors
    /// The first that is gone.
    pub async fn send(&mut self, tag: u64, to: &[usize], state: Bytes) -> Result<(), Lost> {
        let mut head = (state.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(Digest::of(&state).as_str().as_bytes());
        let head = Bytes::from(head);
        let each = to.iter().map(|rank| {
            let (link, head, state) =
                (self.links.get(*rank).and_then(Option::as_ref), head.clone(), state.clone());
            async move {
                let Some(link) = link else { return Ok(()) };
                let to = &link.send[PARTS];
                say(*rank, to, tag, 0, Payload::Bytes(head)).await?;
                for (index, from) in (0..state.len()).step_by(BULK).enumerate() {
                    let part = state.slice(from..state.len().min(from + BULK));
                    say(*rank, to, tag, index as u64 + 1, Payload::Bytes(part)).await?;
                }
                Ok(())
            }
        });
        try_join_all(each).await.map(|_| ())
    }

    /// The state that a member sends.
    ///
    /// # Errors
    /// It is gone, or what came is not what it sent.
    pub async fn receive(&mut self, tag: u64, from: usize) -> Result<Bytes, Lost> {
        let lost = |reason: &str| Lost { rank: from, reason: reason.to_string() };
        let Some(link) = self.links.get_mut(from).and_then(Option::as_mut) else {
            return Err(lost("there is no such member"));
        };
        let receive = &mut link.receive[PARTS];
        let head = bytes(from, hear(from, receive, tag, 0).await?)?;
        let (length, digest) = head.split_at_checked(8).ok_or_else(|| lost("its state has no length"))?;
        let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
        if length > BULK_MAX {
            return Err(lost("its state is longer than any"));
        }
        let mut state = Vec::new();
        let mut index = 1;
        while (state.len() as u64) < length {
            let part = bytes(from, hear(from, receive, tag, index).await?)?;
            if part.is_empty() {
                return Err(lost("its state was cut short"));
            }
            state.extend_from_slice(&part);
            index += 1;
        }
        if state.len() as u64 != length || Digest::of(&state).as_str().as_bytes() != digest {
            return Err(lost("its state was damaged on the way"));
        }
        Ok(state.into())
    }
}

pub(super) async fn say(
    rank: usize,
    to: &mpsc::Sender<Frame>,
    tag: u64,
    index: u64,
    payload: Payload,
) -> Result<(), Lost> {
    let gone = |_| Lost { rank, reason: "its link has ended".to_string() };
    to.send(Frame { tag, index, payload }).await.map_err(gone)
}

/// The next frame of a lane, which is the one that is due, or the peer has lost its way.
pub(super) async fn hear(
    rank: usize,
    from: &mut mpsc::Receiver<Frame>,
    tag: u64,
    index: u64,
) -> Result<Payload, Lost> {
    let lost = |reason: String| Lost { rank, reason };
    match from.recv().await {
        Some(frame) if (frame.tag, frame.index) == (tag, index) => Ok(frame.payload),
        Some(Frame { tag: PARTING, index: whom, payload: Payload::Bytes(reason) }) => {
            let reason: String = String::from_utf8_lossy(&reason).chars().take(200).collect();
            Err(Lost { rank: whom as usize, reason: format!("member {rank} has lost it: {reason}") })
        }
        Some(frame) => Err(lost(format!("it says {}.{} where {tag}.{index} is due", frame.tag, frame.index))),
        None => Err(lost("its link has ended".to_string())),
    }
}

fn bytes(rank: usize, payload: Payload) -> Result<Bytes, Lost> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        Payload::Floats(..) | Payload::Packed(..) | Payload::Shared(_) => {
            Err(Lost { rank, reason: "it says numbers where words are due".to_string() })
        }
    }
}
