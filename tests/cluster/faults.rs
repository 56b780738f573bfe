//! Real processes on a real S3 server, and everything that may go wrong with them, each alone and all together:
//! afterwards nothing is missing, nothing is there twice, no byte is wrong.
//!
//! `SR3_SOAK_SECONDS=600` makes the test of everything together go on for so long (see CONTRIBUTING.md).

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use sr3::proto::{Location, layout};
use tokio::runtime::Runtime;

use crate::{
    authority::Authority,
    pictures::{self, BAD},
    processes::{Coordinator, Environment, Process, json, run, until, worker},
    s3::Server,
    whole::{download, report, upload, upscaled_locally},
    wire::Wire,
};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A worker is killed, and another begins.
    WorkerKilled,
    /// The active coordinator is killed, most likely amid a commit, and begun again while the other takes over.
    CoordinatorKilled,
    /// A worker stands still until its leases are lost, and goes on.
    WorkerStopped,
    /// Nothing that workers and the active coordinator say arrives for a while.
    Cut,
    /// A twentieth of what stores are asked fails: refused, done but not answered, or half of it done.
    StoreFails,
}

use Trouble::{CoordinatorKilled, Cut, StoreFails, WorkerKilled, WorkerStopped};

const PICTURES: usize = 48;
const LEASE: Duration = Duration::from_secs(4);
/// Something goes wrong so often.
const EVERY: Duration = Duration::from_millis(1500);

/// Two coordinators that stand in for each other, each behind a wire, and three workers.
struct Cluster {
    state: String,
    /// Of coordinators.
    environment: Environment,
    /// Of workers, in turn.
    workers_environments: Vec<Environment>,
    /// Of whoever asks.
    client_environment: Environment,
    coordinators: Vec<Coordinator>,
    wires: Vec<Wire>,
    workers: Vec<Process>,
    counts: BTreeMap<&'static str, u32>,
    /// When a coordinator was killed last.
    coordinator_killed: Option<Instant>,
    /// What heals, and when.
    healing: Vec<(Instant, Heal)>,
}

enum Heal {
    Continue(Process),
    Mend(usize),
}

impl Cluster {
    fn start(server: &Server, troubles: &[Trouble], authority: Option<&Authority>) -> Self {
        let mut plain: Environment = server.environment().to_vec();
        if troubles.contains(&StoreFails) {
            plain.push(("SR3_TEST_STORE_FAULTS", "7:0.05".into()));
        }
        let environment = match authority {
            Some(authority) => authority.environment("coordinator", &plain),
            None => plain.clone(),
        };
        let state = server.fresh().to_string();
        let lease = LEASE.as_secs().to_string();
        // The second one has to know the first one's port, and the first the second one's.
        let first = Coordinator::start(&state, &["--lease-ttl", &lease], &environment);
        let second =
            Coordinator::start(&state, &["--lease-ttl", &lease, "--peer", &first.address], &environment);
        let coordinators = vec![first, second];
        let wires: Vec<Wire> = coordinators.iter().map(|one| Wire::to(&one.address)).collect();
        // Certificates for the ones, tokens for the others.
        let (workers_environments, client_environment) = match authority {
            None => (vec![plain.clone()], plain),
            Some(authority) => {
                coordinators[0].process.line("is active");
                let bearer = |name, role| {
                    let bearer = authority.bearer(&coordinators[0].address, name, role, &[]);
                    bearer.environment(&plain)
                };
                let workers = vec![authority.environment("worker", &plain), bearer("workers", "work")];
                (workers, bearer("somebody", "submit"))
            }
        };
        let mut cluster = Self {
            state,
            environment,
            workers_environments,
            client_environment,
            coordinators,
            wires,
            workers: Vec::new(),
            counts: BTreeMap::new(),
            coordinator_killed: None,
            healing: Vec::new(),
        };
        for _ in 0..3 {
            let worker = cluster.worker();
            cluster.workers.push(worker);
        }
        cluster
    }

    fn addresses(&self) -> String {
        self.coordinators.iter().map(|one| one.address.as_str()).collect::<Vec<_>>().join(",")
    }

    fn worker(&self) -> Process {
        let addresses: Vec<_> = self.wires.iter().map(|wire| wire.address.as_str()).collect();
        let kind = self.workers.len() % self.workers_environments.len();
        worker(&addresses.join(","), &self.workers_environments[kind])
    }

    /// The one that said last that it is active.
    fn active(&self) -> usize {
        usize::from(self.coordinators[1].process.last_line().is_some_and(|line| line.contains("is active")))
    }

    fn heal(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.healing).into_iter().partition(|(at, _)| *at <= now);
        self.healing = later;
        let due: Vec<(Instant, Heal)> = due;
        for (_, heal) in due {
            match heal {
                Heal::Continue(process) => {
                    process.signal("CONT");
                    self.workers.push(process);
                }
                Heal::Mend(wire) => self.wires[wire].mend(),
            }
        }
    }

    fn make(&mut self, trouble: Trouble) {
        let healed_at = Instant::now() + 3 * LEASE;
        match trouble {
            WorkerKilled if self.workers.len() > 1 => {
                self.workers.remove(0).kill();
                self.workers.push(self.worker());
            }
            // A takeover lasts a lease: killed more often, coordinators would do little but start.
            CoordinatorKilled if self.coordinator_killed.is_none_or(|at| at.elapsed() > 2 * LEASE) => {
                self.coordinator_killed = Some(Instant::now());
                let active = self.active();
                let (address, peer) = (self.coordinators[active].address.clone(), 1 - active);
                let peer = self.coordinators[peer].address.clone();
                let killed = self.coordinators.remove(active);
                killed.process.kill();
                let lease = LEASE.as_secs().to_string();
                let more = ["--lease-ttl", lease.as_str(), "--peer", peer.as_str()];
                let again =
                    Coordinator::start_at(&address, &self.state, &more, &self.environment, "listens on");
                self.coordinators.insert(active, again);
            }
            WorkerStopped if self.workers.len() > 1 => {
                let worker = self.workers.remove(0);
                worker.signal("STOP");
                self.healing.push((healed_at, Heal::Continue(worker)));
            }
            Cut => {
                let wire = self.active();
                self.wires[wire].cut();
                self.healing.push((healed_at, Heal::Mend(wire)));
            }
            WorkerKilled | CoordinatorKilled | WorkerStopped | StoreFails => return,
        }
        *self.counts.entry(name(trouble)).or_default() += 1;
    }

    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        let addresses = self.addresses();
        run(&[arguments, &["--coordinator", &addresses]].concat(), &self.client_environment)
    }

    fn submit(&self, folder: &Path, source: &Location, destination: &Location) -> String {
        let spec = folder.join("job.yaml");
        let text =
            format!("kind: upscale\nsource: \"{source}\"\ndestination: \"{destination}\"\npreset: one\n");
        fs::write(&spec, text).unwrap();
        let (code, out, errors) = self.ask(&["submit", spec.to_str().unwrap(), "--json"]);
        assert_eq!(code, 0, "{errors}");
        json(&out)["id"].to_string()
    }

    fn status(&self, job: &str) -> Option<Value> {
        let (code, out, _) = self.ask(&["status", job, "--json"]);
        (code == 0).then(|| json(&out))
    }

    fn logs(&self, job: &str) -> String {
        self.ask(&["logs", job]).1
    }
}

fn name(trouble: Trouble) -> &'static str {
    match trouble {
        WorkerKilled => "workers killed",
        CoordinatorKilled => "coordinators killed",
        WorkerStopped => "workers stopped past their leases",
        Cut => "partitions",
        StoreFails => "",
    }
}

fn has_ended(status: &Value) -> bool {
    matches!(status["state"].as_str(), Some("succeeded" | "failed" | "cancelled"))
}

/// Jobs, one after the other, for at least so long, while the troubles come in turn.
fn soak(troubles: &[Trouble], least: Duration, authority: Option<&Authority>) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pictures::write(&folder.join("in"), PICTURES, true);
    upscaled_locally(&folder.join("in"), &folder.join("local"));
    let wanted = pictures::files(&folder.join("local"));
    let server = Server::seaweedfs();
    let runtime = Runtime::new().unwrap();
    let source = server.fresh();
    runtime.block_on(upload(&server.open(&source), &folder.join("in")));

    let mut cluster = Cluster::start(server, troubles, authority);
    let end = Instant::now() + least;
    let (mut jobs, mut units, mut turns) = (0, 0, troubles.iter().cycle());
    loop {
        let destination = server.fresh();
        let job = cluster.submit(folder, &source, &destination);
        let mut next = Instant::now() + EVERY;
        let mut recorded = 0;
        let ended = until(Duration::from_secs(300), || {
            cluster.heal();
            if Instant::now() >= next {
                next = Instant::now() + EVERY;
                cluster.make(*turns.next().unwrap());
            }
            let status = cluster.status(&job)?;
            let now = status["shards_done"].as_u64().unwrap();
            assert!(
                now >= recorded,
                "an acknowledged completion is lost: {recorded} were recorded, {status}"
            );
            recorded = now;
            Some(status).filter(has_ended)
        });
        let events = cluster.logs(&job);
        assert_eq!(ended["state"], "succeeded", "{ended}\n{events}");
        let outputs = server.open(&destination);
        let there = runtime.block_on(download(&outputs));
        let missing: Vec<_> = wanted.keys().filter(|name| !there.contains_key(*name)).collect();
        let extra: Vec<_> = there.keys().filter(|name| !wanted.contains_key(*name)).collect();
        let wrong: Vec<_> = wanted.iter().filter(|(name, bytes)| there.get(*name) != Some(bytes)).collect();
        let (_, lines) = runtime.block_on(outputs.get(&layout::report_key())).unwrap();
        let (bad, lines) = report(std::str::from_utf8(&lines).unwrap());
        eprintln!(
            "job {job}: {} outputs, {} missing, {} extra, {} wrong, {lines} report lines, {} set aside",
            there.len(),
            missing.len(),
            extra.len(),
            wrong.len(),
            bad.len()
        );
        assert!(
            missing.is_empty() && extra.is_empty() && wrong.is_empty(),
            "{missing:?} {extra:?}\n{events}"
        );
        assert_eq!((lines, bad), (PICTURES + BAD.len(), BAD.map(String::from).into()), "{events}");
        // A unit that were recorded twice would count twice.
        assert_eq!(ended["shards_done"], ended["shards_planned"], "{ended}");
        assert_eq!((&ended["done"], &ended["quarantined"]), (&PICTURES.into(), &BAD.len().into()), "{ended}");
        jobs += 1;
        units += ended["shards_done"].as_u64().unwrap();
        if Instant::now() >= end {
            break;
        }
    }
    eprintln!("{troubles:?}: {jobs} jobs, {units} units, {:?}", cluster.counts);
    // Those that stand still must end with the test, too.
    cluster.healing.clear();
}

#[test]
fn workers_may_be_killed_at_any_time() {
    soak(&[WorkerKilled], Duration::ZERO, Authority::of_all_tests());
}

#[test]
fn the_coordinator_may_be_killed_at_any_time() {
    soak(&[CoordinatorKilled], Duration::ZERO, Authority::of_all_tests());
}

#[test]
fn a_worker_that_stands_still_past_its_lease_cannot_commit() {
    soak(&[WorkerStopped], Duration::ZERO, Authority::of_all_tests());
}

#[test]
fn a_partition_may_come_and_go() {
    soak(&[Cut], Duration::ZERO, Authority::of_all_tests());
}

#[test]
fn a_store_may_fail_now_and_then() {
    soak(&[StoreFails], Duration::ZERO, Authority::of_all_tests());
}

#[test]
fn everything_may_go_wrong_together() {
    soak(&EVERYTHING, soak_time(), Authority::of_all_tests());
}

/// With certificates for a part of the cluster, and tokens for the rest.
#[test]
fn everything_may_go_wrong_together_over_tls() {
    soak(&EVERYTHING, soak_time(), Some(&Authority::new()));
}

const EVERYTHING: [Trouble; 6] =
    [WorkerKilled, Cut, WorkerKilled, WorkerStopped, CoordinatorKilled, StoreFails];

fn soak_time() -> Duration {
    let seconds = std::env::var("SR3_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds)
}

/// How long the other one takes, on a ledger at `state`.
fn takeover(state: &str, environment: &Environment) -> Duration {
    let first = Coordinator::start(state, &[], environment);
    first.process.line("is active");
    let second = Coordinator::start(state, &["--peer", &first.address], environment);
    second.process.line("on standby");
    let both = format!("{},{}", first.address, second.address);
    let _workers = [worker(&both, environment), worker(&both, environment)];
    let folder = tempfile::tempdir().unwrap();
    pictures::write(&folder.path().join("in"), PICTURES, true);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = format!("kind: upscale\nsource: {}\ndestination: {}\npreset: one\n", at("in"), at("out"));
    fs::write(folder.path().join("job.yaml"), text).unwrap();
    let ask =
        |arguments: &[&str]| run(&[arguments, &["--json", "--coordinator", &both]].concat(), environment);
    let (code, out, errors) = ask(&["submit", &at("job.yaml")]);
    assert_eq!(code, 0, "{errors}");
    let job = json(&out)["id"].to_string();
    let status =
        || Some(ask(&["status", &job])).filter(|(code, ..)| *code == 0).map(|(_, out, _)| json(&out));
    let before = until(Duration::from_secs(120), || status().filter(|now| now["done"].as_u64() > Some(0)));
    first.process.kill();
    let killed = Instant::now();
    second.process.line("is active");
    let took = killed.elapsed();
    let after = status().unwrap();
    assert!(after["done"].as_u64() >= before["done"].as_u64(), "an acknowledged completion is lost");
    let ended = until(Duration::from_secs(300), || status().filter(has_ended));
    assert_eq!((&ended["state"], &ended["done"]), (&"succeeded".into(), &PICTURES.into()), "{ended}");
    took
}

#[test]
fn a_standby_takes_over_and_nobody_has_to_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let took = takeover(&folder.path().join("state").display().to_string(), &Environment::new());
    eprintln!("took over a folder in {:.2} s", took.as_secs_f64());
    let server = Server::seaweedfs();
    let took = takeover(&server.fresh().to_string(), &server.environment().to_vec());
    eprintln!("took over a bucket in {:.2} s", took.as_secs_f64());
}
