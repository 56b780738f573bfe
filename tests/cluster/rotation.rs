//! A cluster under load is changed piece by piece: certificates, tokens, coordinators and workers. No unit fails.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    authority::Authority,
    pictures,
    processes::{Coordinator, Environment, Process, run, until, worker},
    whole::upscaled_locally,
};

const PICTURES: usize = 150;

/// A job that somebody waits for.
struct Job<'a> {
    authority: &'a Authority,
    addresses: String,
    waiting: Process,
}

impl<'a> Job<'a> {
    fn begin(authority: &'a Authority, addresses: String, folder: &Path, somebody: &Environment) -> Self {
        let at = |name: &str| folder.join(name).to_str().unwrap().to_string();
        let arguments =
            ["upscale", &at("in"), &at("out"), "--preset", "one", "--quiet", "--coordinator", &addresses];
        let waiting = Process::start(&arguments, somebody);
        Self { authority, addresses, waiting }
    }

    fn status(&self) -> Option<Value> {
        let admin = self.authority.environment("admin", &Environment::new());
        let (code, out, _) = run(&["status", "1", "--json", "--coordinator", &self.addresses], &admin);
        (code == 0).then(|| serde_json::from_str(out.lines().last().unwrap()).unwrap())
    }

    /// Until so many pictures are recorded.
    fn until_done(&self, count: usize) {
        until(Duration::from_secs(120), || {
            let now = self.status()?;
            (now["done"].as_u64() >= Some(count as u64) || now["state"] == "succeeded").then_some(())
        });
    }

    /// It ends well, with every byte, and no attempt of a unit failed.
    fn ends_well(self, folder: &Path) {
        let addresses = self.addresses.clone();
        let admin = self.authority.environment("admin", &Environment::new());
        assert_eq!(self.waiting.wait(), 0);
        let there = pictures::files(&folder.join("out"));
        assert!(there == pictures::files(&folder.join("local")), "other bytes");
        let (_, events, _) = run(&["logs", "1", "--coordinator", &addresses], &admin);
        assert!(!events.contains("fail") && !events.contains("set aside"), "{events}");
    }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pictures::write_of(&folder.path().join("in"), PICTURES, 24..32);
    upscaled_locally(&folder.path().join("in"), &folder.path().join("local"));
    folder
}

#[test]
fn certificates_and_tokens_are_replaced_amid_a_job() {
    let (folder, authority) = (folder(), Authority::new());
    let state = folder.path().join("state").to_str().unwrap().to_string();
    let none = Environment::new();
    let coordinator = Coordinator::start(&state, &[], &authority.environment("coordinator", &none));
    coordinator.process.line("is active");
    let address = coordinator.address.clone();
    let by_certificate = worker(&address, &authority.environment("worker", &none));
    // The other one has its token in a file, which may be replaced at any time.
    let first = authority.bearer(&address, "workers", "work", &[]);
    let file = folder.path().join("token");
    fs::write(&file, &first.token).unwrap();
    let by_token = worker(
        &address,
        &vec![("SR3_TLS", authority.trust_alone()), ("SR3_TOKEN_FILE", file.to_str().unwrap().into())],
    );
    let job = Job::begin(
        &authority,
        address.clone(),
        folder.path(),
        &authority.environment("admin", &Environment::new()),
    );
    job.until_done(10);
    for name in ["coordinator", "worker", "admin"] {
        authority.certs(&["renew"], &[name]);
    }
    job.until_done(30);
    let second = authority.bearer(&address, "workers", "work", &[]);
    fs::write(&file, &second.token).unwrap();
    // The old one does not hold any more; whoever used it comes back with the new one, and keeps what it holds.
    authority.ask_nothing(&["tokens", "revoke", first.id()], &address);
    job.until_done(60);
    // What is revoked is a certificate that nobody uses any more.
    authority.issue("former", "work");
    authority.certs(&["revoke"], &["former"]);
    job.ends_well(folder.path());
    for worker in [by_certificate, by_token] {
        worker.signal("TERM");
        assert_eq!(worker.wait(), 0);
    }
}

#[test]
fn coordinators_and_workers_are_restarted_one_by_one_under_load() {
    let (folder, authority) = (folder(), Authority::new());
    let state = folder.path().join("state").to_str().unwrap().to_string();
    let none = Environment::new();
    let environment = authority.environment("coordinator", &none);
    let first = Coordinator::start(&state, &[], &environment);
    first.process.line("is active");
    let second = Coordinator::start(&state, &["--peer", &first.address], &environment);
    second.process.line("on standby");
    let both = format!("{},{}", first.address, second.address);
    let as_worker = authority.environment("worker", &none);
    let mut workers = [worker(&both, &as_worker), worker(&both, &as_worker)];
    let admin = authority.environment("admin", &Environment::new());
    let job = Job::begin(&authority, both.clone(), folder.path(), &admin);
    job.until_done(10);
    for (index, reached) in [(0, 30), (1, 50)] {
        let old = std::mem::replace(&mut workers[index], worker(&both, &as_worker));
        old.signal("TERM");
        assert_eq!(old.wait(), 0);
        job.until_done(reached);
    }
    // The standby first, then the active one, as docs/operations.md says.
    let (here, there) = (first.address.clone(), second.address.clone());
    second.process.signal("TERM");
    assert_eq!(second.process.wait(), 0);
    let second = Coordinator::start_at(&there, &state, &["--peer", &here], &environment, "on standby");
    first.process.signal("TERM");
    assert_eq!(first.process.wait(), 0);
    second.process.line("is active");
    let _first = Coordinator::start_at(&here, &state, &["--peer", &there], &environment, "on standby");
    job.ends_well(folder.path());
}
