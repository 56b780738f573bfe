//! The sum of all members' gradients: each member owns a range of the parameters, sums up what all have of it, and sends the
//! sum back to all.
//!
//! Everything travels in chunks and at the same time: an owner sends a chunk of its sum as soon as it has every member's
//! part of it. What a member sends is what it sent before from the same list; nothing is copied on the way out.
//!
//! Owners do not wait for each other in a ring, though a link's parts and sums may share one stream: parts never wait there.
//! A member sends an owner no more of them than the owner's end holds, until a sum from it says that it has taken some.
//! Sums are taken as they come, so whoever has one to send always gets it through.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use futures::future::{try_join_all, try_join3};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    mesh::{FRAMES, Lost, Mesh, PARTS, Payload, SUMS, hear, say},
    tree::{Cut, Node, Numbers, Wire, combine},
};

/// Ranges of parameters begin at multiples of this: the optimizer's block.
const BLOCK: usize = 1 << 14;
/// Numbers that travel at once: half a MiB. What a message costs beside its bytes counts less the longer it is, and from here
/// on no more (docs/training.md).
pub(super) const CHUNK: usize = 1 << 17;

/// Parts that an owner may be sent ahead of its sums; a chunk of all that a member has goes in any case. Less than an end of
/// a link holds ([`FRAMES`]), so that nothing lies before a sum.
const AHEAD: usize = 16;
const _: () = assert!(AHEAD < FRAMES);

/// Range of a list that a member owns.
fn owned(length: usize, rank: usize, members: usize) -> Range<usize> {
    let blocks = length.div_ceil(BLOCK);
    let bound = |i: usize| (i * blocks / members * BLOCK).min(length);
    bound(rank)..bound(rank + 1)
}

/// Chunks of a range, in order.
fn chunks(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(CHUNK).map(move |first| first..end.min(first + CHUNK))
}

impl Mesh {
    /// The sum of all grains' gradients in the tree's order. `parts` are those of the tree that this member has summed up:
    /// [`Cut::nodes`] of its rank, in order. Yields the sum, which is as long as `memory` and lies there, and buffers to be used
    /// again.
    ///
    /// # Errors
    /// The first member that is gone.
    pub async fn all_reduce(
        &mut self,
        tag: u64,
        cut: &Cut,
        parts: Vec<(Node, Vec<f32>)>,
        memory: Vec<f32>,
        wire: Wire,
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), Lost> {
        let reduced = self.try_all_reduce(tag, cut, parts, memory, wire).await;
        self.parting(reduced).await
    }

    async fn try_all_reduce(
        &mut self,
        tag: u64,
        cut: &Cut,
        mut parts: Vec<(Node, Vec<f32>)>,
        mut sum: Vec<f32>,
        wire: Wire,
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), Lost> {
        let (me, members) = (self.rank(), self.members());
        if members == 1
            && parts.len() == 1
            && let Some((_, whole)) = parts.pop()
        {
            return Ok((whole, vec![sum]));
        }
        let parts: Vec<(Node, Arc<Vec<f32>>)> =
            parts.into_iter().map(|(node, values)| (node, Arc::new(values))).collect();
        let nodes: Vec<Vec<Node>> = (0..members).map(|rank| cut.nodes(rank)).collect();
        let length = sum.len();
        let mine = owned(length, me, members);
        let (before, rest) = sum.split_at_mut(mine.start);
        let (own, after) = rest.split_at_mut(mine.len());

        let mut senders = Vec::with_capacity(members);
        let (mut part_lanes, mut sum_lanes) = (Vec::new(), Vec::new());
        for (rank, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            let [parts_in, sums_in] = &mut link.receive;
            senders.push((rank, &link.send));
            part_lanes.push((rank, parts_in));
            sum_lanes.push((rank, sums_in));
        }
        let each = parts.len();
        let rooms: Vec<Semaphore> = (0..members).map(|_| Semaphore::new(AHEAD.max(each))).collect();
        // To every owner, what this member has of its range.
        let sending = try_join_all(senders.iter().map(|(rank, send)| {
            let (parts, room) = (&parts, &rooms[*rank]);
            async move {
                let mut index = 0;
                for chunk in chunks(owned(length, *rank, members)) {
                    // It is never closed; the owner's sums give it back.
                    room.acquire_many(each as u32).await.into_iter().for_each(SemaphorePermit::forget);
                    for (_, values) in parts {
                        let payload = Payload::Floats(Arc::clone(values), chunk.clone(), wire);
                        say(*rank, &send[PARTS], tag, index, payload).await?;
                        index += 1;
                    }
                }
                Ok(())
            }
        }));
        // From all, what they have of this member's range; the sum goes back to all.
        let owning = async {
            for (number, chunk) in chunks(mine.clone()).enumerate() {
                let from_all = part_lanes.iter_mut().map(|(rank, lane)| {
                    let (nodes, length) = (&nodes[*rank], chunk.len());
                    async move {
                        let mut of_peer = Vec::with_capacity(nodes.len());
                        for (i, node) in nodes.iter().enumerate() {
                            let index = (number * nodes.len() + i) as u64;
                            let payload = hear(*rank, lane, tag, index).await?;
                            numbers(*rank, &payload, length)?;
                            of_peer.push((*node, payload));
                        }
                        Ok::<_, Lost>(of_peer)
                    }
                });
                let heard: Vec<(Node, Payload)> =
                    try_join_all(from_all).await?.into_iter().flatten().collect();
                let theirs = heard.iter().filter_map(|(node, payload)| Some((*node, payload.numbers()?)));
                let ours =
                    parts.iter().map(|(node, values)| (*node, Numbers::Floats(&values[chunk.clone()])));
                let all: BTreeMap<Node, Numbers<'_>> = theirs.chain(ours).collect();
                let reduced = &mut own[chunk.start - mine.start..chunk.end - mine.start];
                combine(cut.grains(), &all, wire, reduced);
                let reduced = Arc::new(reduced.to_vec());
                let to_all = senders.iter().map(|(rank, send)| {
                    let payload = Payload::Floats(Arc::clone(&reduced), 0..reduced.len(), wire);
                    say(*rank, &send[SUMS], tag, number as u64, payload)
                });
                try_join_all(to_all).await?;
            }
            Ok(())
        };
        // From every owner, the sum of its range.
        let (mut early, mut late) = (before, after);
        let mut listening = Vec::new();
        for (rank, lane) in sum_lanes {
            let range = owned(length, rank, members);
            // Owners come in the order of their ranges.
            let from = if rank < me { &mut early } else { &mut late };
            let (out, rest) = std::mem::take(from).split_at_mut(range.len());
            *from = rest;
            let room = &rooms[rank];
            listening.push(async move {
                for (number, chunk) in chunks(range.clone()).enumerate() {
                    let payload = hear(rank, lane, tag, number as u64).await?;
                    room.add_permits(each);
                    let values = numbers(rank, &payload, chunk.len())?;
                    values.copy_to(&mut out[chunk.start - range.start..chunk.end - range.start]);
                }
                Ok::<_, Lost>(())
            });
        }
        try_join3(sending, owning, try_join_all(listening)).await?;
        // Whoever still reads a list keeps it.
        let spare = parts.into_iter().filter_map(|(_, values)| Arc::try_unwrap(values).ok()).collect();
        Ok((sum, spare))
    }
}

fn numbers(rank: usize, payload: &Payload, length: usize) -> Result<Numbers<'_>, Lost> {
    let wrong = || Lost { rank, reason: "it sends another number of values than is due".to_string() };
    payload.numbers().filter(|values| values.len() == length).ok_or_else(wrong)
}
