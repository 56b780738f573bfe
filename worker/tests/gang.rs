//! What members of a gang say to one another: one set of promises, held to by peers in one process and over gRPC with and without memory in common.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::join_all;
use sr3_proto::{
    Cancel, JobId,
    gang::{Generation, Membership, Peer},
    net::Dialer,
};
use sr3_worker::gang::{Cut, Frame, GrpcPeers, Leaves, Link, LocalPeers, Lost, Mesh, Peers, Wire};
use tokio::sync::mpsc;

/// More than a chunk, and no multiple of a block.
const LENGTH: usize = 150_001;

/// What joins members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Channels of one process.
    Process,
    /// gRPC, with numbers in memory that two processes share.
    Memory,
    /// gRPC alone.
    Network,
}

impl By {
    const ALL: [Self; 3] = [Self::Process, Self::Memory, Self::Network];
}

/// Peers of so many members, of any kind, and who they are.
async fn members(count: usize, by: By) -> (Vec<Arc<dyn Peers>>, Membership, Cancel) {
    let stop = Cancel::new();
    let local = LocalPeers::default();
    let mut all: Vec<Arc<dyn Peers>> = Vec::new();
    for _ in 0..count {
        all.push(match by {
            By::Process => Arc::new(local.clone()),
            By::Memory | By::Network => {
                let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                let peers = GrpcPeers::serve(listen, None, None, Dialer::default(), stop.clone()).await;
                let peers = peers.unwrap();
                Arc::new(if by == By::Network { peers.over_network() } else { peers })
            }
        });
    }
    let peer = |(n, peers): (usize, &Arc<dyn Peers>)| Peer {
        instance: format!("i{n}"),
        name: format!("n{n}"),
        address: peers.address(),
    };
    let members = all.iter().enumerate().map(peer).collect();
    let generation = Generation { epoch: 1, number: 1 };
    (all, Membership { job: JobId::new(1), generation, members }, stop)
}

async fn meshes(count: usize, by: By) -> (Vec<Mesh>, Cancel) {
    let (peers, membership, stop) = members(count, by).await;
    let joined = peers.iter().enumerate().map(|(me, peers)| peers.mesh(me, &membership));
    (join_all(joined).await.into_iter().collect::<Result<_, _>>().unwrap(), stop)
}

/// A gradient whose sums depend on their order.
fn gradient(grain: u32) -> Vec<f32> {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(7919) ^ (grain * 104_729)) as f32 * 1e-9 - 1.0).collect()
}

fn parts(cut: &Cut, rank: usize, wire: Wire) -> Vec<(sr3_worker::gang::Node, Vec<f32>)> {
    let mut leaves = Leaves::new(cut.grains(), wire);
    cut.of(rank).for_each(|grain| leaves.push(grain, gradient(grain)));
    leaves.finish()
}

async fn sum(count: usize, grains: u32, wire: Wire, by: By) -> Vec<Vec<f32>> {
    let (mut meshes, stop) = meshes(count, by).await;
    let cut = Cut::even(grains, count as u32);
    let mut sums = Vec::new();
    // Twice over the same links.
    for tag in [1, 2] {
        let each = meshes.iter_mut().enumerate().map(|(rank, mesh)| {
            let (cut, parts) = (cut.clone(), parts(&cut, rank, wire));
            async move { mesh.all_reduce(tag, &cut, parts, vec![0.0; LENGTH], wire).await.map(|(sum, _)| sum) }
        });
        sums = join_all(each).await.into_iter().collect::<Result<_, _>>().unwrap();
    }
    stop.cancel();
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_has_the_same_bits_for_any_number_of_members_over_any_links() {
    for wire in [Wire::F32, Wire::Bf16] {
        for grains in [1, 5, 8] {
            let expected = sum(1, grains, wire, By::Process).await.remove(0);
            for by in By::ALL {
                for count in [2, 3, 5] {
                    for found in sum(count, grains, wire, by).await {
                        assert!(found == expected, "{count} members, {grains} grains, {wire:?}, {by:?}");
                    }
                }
            }
        }
    }
    assert!(sum(1, 8, Wire::F32, By::Process).await != sum(1, 8, Wire::Bf16, By::Process).await);
}

/// Members whose links carry both lanes one behind the other, through a pipe that holds a frame: what a network may come to
/// when it is full. `room` frames wait at their end: as many parts as are sent ahead.
fn narrow(count: usize, room: usize) -> Vec<Mesh> {
    let mut links: Vec<Vec<Option<Link>>> = (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    let one_way = || {
        let (senders, lanes): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<Frame>(1)).unzip();
        let (into, mut pipe) = mpsc::channel::<(usize, Frame)>(1);
        for (lane, mut from) in lanes.into_iter().enumerate() {
            let into = into.clone();
            tokio::spawn(async move {
                while let Some(frame) = from.recv().await {
                    into.send((lane, frame)).await.unwrap();
                }
            });
        }
        let (out, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel::<Frame>(room)).unzip();
        tokio::spawn(async move {
            while let Some((lane, frame)) = pipe.recv().await {
                if out[lane].send(frame).await.is_err() {
                    return;
                }
            }
        });
        (<[_; 2]>::try_from(senders).unwrap(), <[_; 2]>::try_from(receivers).unwrap())
    };
    for (a, b) in (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))) {
        let ((to_b, from_a), (to_a, from_b)) = (one_way(), one_way());
        links[a][b] = Some(Link { send: to_b, receive: from_b });
        links[b][a] = Some(Link { send: to_a, receive: from_a });
    }
    links.into_iter().enumerate().map(|(me, links)| Mesh::new(me, links)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_of_long_lists_do_not_wait_for_each_other_in_a_ring() {
    // Far more chunks than wait anywhere.
    const LONG: usize = 16_000_000;
    let (count, grains) = (4, 4);
    let mut meshes = narrow(count, 16);
    let cut = Cut::even(grains, count as u32);
    let each = meshes.iter_mut().enumerate().map(|(rank, mesh)| {
        let parts = cut.nodes(rank).into_iter().map(|node| (node, vec![node.len as f32; LONG])).collect();
        let cut = cut.clone();
        async move { mesh.all_reduce(1, &cut, parts, vec![0.0; LONG], Wire::F32).await }
    });
    let sums = tokio::time::timeout(Duration::from_secs(60), join_all(each)).await.unwrap();
    for sum in sums {
        assert!(sum.unwrap().0.iter().all(|value| *value == 4.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_hears_everybody_by_rank_and_a_state_arrives_whole() {
    for by in By::ALL {
        let (mut meshes, _stop) = meshes(3, by).await;
        let each =
            meshes.iter_mut().enumerate().map(|(rank, mesh)| mesh.gather(7, Bytes::from(vec![rank as u8])));
        for heard in join_all(each).await {
            assert_eq!(heard.unwrap(), [&[0u8][..], &[1], &[2]]);
        }
        let state: Bytes = (0..5_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        let [a, b, c] = meshes.as_mut_slice() else { panic!() };
        let (sent, b, c) =
            futures::join!(a.send(9, &[1, 2], state.clone()), b.receive(9, 0), c.receive(9, 0));
        sent.unwrap();
        assert!(b.unwrap() == state && c.unwrap() == state);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_gone_is_named_at_once_even_by_those_who_hear_of_it() {
    for by in By::ALL {
        let (mut meshes, _stop) = meshes(4, by).await;
        let gone = meshes.remove(2);
        let begun = Instant::now();
        drop(gone);
        let each = meshes.iter_mut().map(|mesh| mesh.gather(1, Bytes::new()));
        for heard in join_all(each).await {
            let Lost { rank, reason } = heard.unwrap_err();
            assert_eq!(rank, 2, "{reason}");
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_computes_for_long_is_not_lost() {
    let (mut meshes, _stop) = meshes(2, By::Memory).await;
    let (b, a) = (meshes.pop().unwrap(), meshes.pop().unwrap());
    let late = |mut mesh: Mesh, wait| async move {
        tokio::time::sleep(wait).await;
        mesh.gather(1, Bytes::from_static(b"late")).await.map(|_| ())
    };
    let (a, b) = futures::join!(late(a, Duration::ZERO), late(b, Duration::from_secs(5)));
    a.unwrap();
    b.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_in_an_earlier_generation_waits_no_more() {
    let (peers, membership, _stop) = members(2, By::Process).await;
    let old = membership.clone();
    let waiting = tokio::spawn({
        let peers = Arc::clone(&peers[1]);
        async move { peers.mesh(1, &old).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let later = Membership { generation: Generation { epoch: 1, number: 2 }, ..membership };
    let joined = tokio::join!(peers[0].mesh(0, &later), peers[1].mesh(1, &later));
    assert!(joined.0.is_ok() && joined.1.is_ok());
    assert_eq!(waiting.await.unwrap().unwrap_err().rank, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_lost_its_way_is_named() {
    let (mut meshes, _stop) = meshes(2, By::Process).await;
    let [a, b] = meshes.as_mut_slice() else { panic!() };
    let (a, b) = futures::join!(a.gather(1, Bytes::new()), b.gather(2, Bytes::new()));
    assert_eq!((a.unwrap_err().rank, b.unwrap_err().rank), (1, 0));
}
