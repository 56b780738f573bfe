//! `sr3 bench all-reduce`: the sum of a list over processes of this machine, as training takes it: numbers in memory that two
//! processes share, or all over gRPC on loopback TCP.
//!
//! Processes are started by this one and end with it. Each member holds one grain; the time of a repeat is the slowest
//! member's, and every sum is checked.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Instant,
};

use clap::Args;
use serde_json::json;
use sr3_engine::ops::Isa;
use sr3_proto::{
    Cancel, JobId,
    gang::{Generation, Membership, Peer},
    net::Dialer,
};
use sr3_worker::gang::{Cut, GrpcPeers, Leaves, Mesh, Peers, Wire};

use super::{BenchResult, WARM_UP};

/// Processes, sizes and repeats.
#[derive(Clone, Debug, Args)]
pub struct AllReduceArgs {
    /// Processes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub processes: u32,
    /// MiB of the list.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub mib: u32,
    /// Timed repeats; the median is reported.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Send numbers over the network as well, as between machines.
    #[arg(long)]
    pub network: bool,
    /// Print a JSON line.
    #[arg(long)]
    pub json: bool,
    /// The rank of a process that was started by this command.
    #[arg(long, hide = true)]
    pub rank: Option<u32>,
}

/// A member process, which is killed when this is dropped.
struct Member(Child);

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn run(args: &AllReduceArgs) -> BenchResult {
    match args.rank {
        Some(rank) => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(member(args, rank as usize))
        }
        None => lead(args),
    }
}

/// Starts the members, tells them of each other, and reports what they measured.
fn lead(args: &AllReduceArgs) -> BenchResult {
    let mut members = Vec::new();
    for rank in 0..args.processes {
        let (mib, repeat) = (args.mib.to_string(), args.repeat.to_string());
        let (processes, rank) = (args.processes.to_string(), rank.to_string());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "all-reduce", "--mib", &mib, "--repeat", &repeat])
            .args(["--processes", &processes, "--rank", &rank])
            .args(args.network.then_some("--network"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("a process has no output")?);
        members.push((Member(child), out));
    }
    let line = |out: &mut BufReader<_>| -> Result<String, Box<dyn std::error::Error>> {
        let mut line = String::new();
        match BufRead::read_line(out, &mut line)? {
            0 => Err("a process ended early".into()),
            _ => Ok(line.trim().to_string()),
        }
    };
    let addresses =
        members.iter_mut().map(|(_, out)| line(out)).collect::<Result<Vec<String>, _>>()?.join(" ");
    for (member, _) in &mut members {
        let input = member.0.stdin.as_mut().ok_or("a process has no input")?;
        writeln!(input, "{addresses}")?;
        input.flush()?;
    }
    let mut seconds = vec![0.0f64; args.repeat as usize];
    for (_, out) in &mut members {
        for (slowest, own) in seconds.iter_mut().zip(line(out)?.split(' ')) {
            *slowest = slowest.max(own.parse()?);
        }
    }
    seconds.sort_by(f64::total_cmp);
    report(args, &seconds);
    Ok(())
}

fn report(args: &AllReduceArgs, seconds: &[f64]) {
    let AllReduceArgs { processes, mib, .. } = *args;
    let median = seconds[seconds.len() / 2];
    let gib = f64::from(mib) / 1024.0;
    let bus = 2.0 * f64::from(processes - 1) / f64::from(processes) * gib / median;
    let (min, max) = (1e3 * seconds[0], 1e3 * seconds[seconds.len() - 1]);
    if args.json {
        let line = json!({
            "case": format!("allreduce/{processes}x{mib}MiB"), "peer": "sr3", "value": 1e3 * median, "unit": "ms",
            "dtype": "fp32", "layout": "flat", "backend": if args.network { "grpc-tcp" } else { "grpc-shared-memory" }, "processes": processes,
            "bytes": u64::from(mib) << 20, "bus_gib_per_s": bus, "alg_gib_per_s": gib / median,
            "median_ms": 1e3 * median, "min_ms": min, "max_ms": max, "repeat": seconds.len(),
            "cpu_features": Isa::detect().to_string(), "version": env!("CARGO_PKG_VERSION"),
        });
        return say!("{line}");
    }
    say!(
        "allreduce/{processes}x{mib}MiB: {bus:.2} GiB/s bus, median of {}: {:.1} ms, {min:.1} to {max:.1} ({})",
        seconds.len(),
        1e3 * median,
        if args.network { "gRPC, TCP" } else { "gRPC, numbers in shared memory" }
    );
}

/// A member: says where it is, hears where the others are, and measures.
async fn member(args: &AllReduceArgs, rank: usize) -> BenchResult {
    let stop = Cancel::new();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let peers = GrpcPeers::serve(listen, None, None, Dialer::default(), stop.clone()).await?;
    let peers = if args.network { peers.over_network() } else { peers };
    say!("{}", peers.address());
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let peer = |(n, address): (usize, &str)| Peer {
        instance: n.to_string(),
        name: n.to_string(),
        address: address.to_string(),
    };
    let members = line.split_whitespace().enumerate().map(peer).collect();
    let generation = Generation { epoch: 1, number: 1 };
    let mut mesh = peers.mesh(rank, &Membership { job: JobId::new(1), generation, members }).await?;
    let seconds = measure(args, &mut mesh, rank).await?;
    let text: Vec<String> = seconds.iter().map(f64::to_string).collect();
    say!("{}", text.join(" "));
    std::io::stdout().flush()?;
    // What it said last may still be on its way: it stays until it is ended.
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}

async fn measure(
    args: &AllReduceArgs,
    mesh: &mut Mesh,
    rank: usize,
) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let length = (args.mib as usize) << 18;
    let cut = Cut::even(args.processes, args.processes);
    let expected = (args.processes * (args.processes + 1) / 2) as f32;
    let (mut memory, mut reduced, mut seconds) = (Vec::new(), vec![0.0; length], Vec::new());
    for turn in 0..u64::from(WARM_UP + args.repeat) {
        memory.clear();
        memory.resize(length, rank as f32 + 1.0);
        let mut leaves = Leaves::new(args.processes, Wire::F32);
        leaves.push(rank as u32, std::mem::take(&mut memory));
        mesh.gather(2 * turn, Vec::new().into()).await?;
        let begun = Instant::now();
        let (sum, mut spare) =
            mesh.all_reduce(2 * turn + 1, &cut, leaves.finish(), reduced, Wire::F32).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        if sum.iter().any(|value| *value != expected) {
            return Err("a sum is wrong".into());
        }
        (memory, reduced) = (spare.pop().unwrap_or_default(), sum);
        if turn >= u64::from(WARM_UP) {
            seconds.push(elapsed);
        }
    }
    Ok(seconds)
}
