//! Secrets of every kind that a cluster works with: in nothing that it says do they show.

use std::fs;

use crate::{
    authority::Authority,
    pictures,
    processes::{Environment, Process, json, run},
    s3::Server,
    whole::upload,
};

#[test]
fn secrets_show_in_no_log_spec_status_or_export() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    pictures::write(&folder.path().join("in"), 6, true);
    let server = Server::seaweedfs();
    let [source, destination, state] = [server.fresh(), server.fresh(), server.fresh()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(upload(&server.open(&source), &folder.path().join("in")));

    // Everything that every part could say.
    let mut all: Environment = server.environment().to_vec();
    all.push(("SR3_LOG", "trace".into()));
    let logged = |arguments: &[&str], name: &str, environment: &Environment| {
        Process::start_logged(arguments, environment, &folder.path().join(format!("{name}.log")))
    };
    let (state, audit) = (state.to_string(), at("audit.jsonl"));
    let arguments = ["coordinator", "--listen", "127.0.0.1:0", "--state", &state, "--audit", &audit];
    let coordinator = logged(&arguments, "coordinator", &authority.environment("coordinator", &all));
    coordinator.line("is active");
    let address = coordinator.line("listens on").rsplit(' ').next().unwrap().to_string();
    let workers = authority.bearer(&address, "workers", "work", &[]);
    let somebody = authority.bearer(&address, "somebody", "admin", &["--expires", "1h"]);
    let gone = authority.bearer(&address, "gone", "admin", &[]);
    authority.ask_nothing(&["tokens", "revoke", gone.id()], &address);
    let threads = ["worker", "--coordinator", &address, "--threads", "1"];
    let worker = logged(&threads, "worker", &workers.environment(&all));

    let mut said = String::new();
    let mut ask = |arguments: &[&str], environment: &Environment| {
        let (code, out, errors) = run(&[arguments, &["--coordinator", &address]].concat(), environment);
        said += &format!("{out}{errors}");
        (code, out)
    };
    let client = somebody.environment(&all);
    let (source, destination) = (source.to_string(), destination.to_string());
    let upscale = ["upscale", &source, &destination, "--preset", "one", "--json"];
    let (code, out) = ask(&upscale, &client);
    assert_eq!(code, 3, "{out}");
    let job = json(&out)["job"].to_string();
    let job = job.trim_matches('"');
    for command in [
        &["status", job, "--json"][..],
        &["logs", job],
        &["jobs", "--json"],
        &["workers", "--json"],
        &["tokens", "list", "--json"],
        &["tokens", "list"],
    ] {
        assert_eq!(ask(command, &client).0, 0, "{command:?}");
    }
    // Mistakes that people make with secrets.
    let planted = ["hushhush-key", "hushhush-query", "hushhush-password"];
    let spec = at("job.yaml");
    for place in [
        format!("s3://user:{}@bucket/x", planted[0]),
        format!("az://container/x?sig={}", planted[1]),
        format!("https://somebody:{}@example.com/x", planted[2]),
    ] {
        fs::write(&spec, format!("kind: upscale\nsource: \"{place}\"\ndestination: \"{destination}\"\n"))
            .unwrap();
        assert_eq!(ask(&["submit", &spec], &client).0, 2);
        assert_eq!(ask(&["upscale", &place, &destination], &client).0, 2);
    }
    assert_eq!(ask(&["jobs"], &gone.environment(&all)).0, 2);
    for (process, name) in [(worker, "worker"), (coordinator, "coordinator")] {
        process.signal("TERM");
        assert_eq!(process.wait(), 0, "{name}");
    }
    let export = at("ledger");
    let (code, out, errors) = run(&["ledger", "export", "--state", &state, &export], &all);
    assert_eq!(code, 0, "{out}{errors}");

    let secret_of = |token: &str| token.rsplit('_').next().unwrap().to_string();
    let mut secrets: Vec<String> = planted.map(String::from).into();
    secrets.extend([&workers, &somebody, &gone].map(|bearer| secret_of(&bearer.token)));
    let hidden = all.iter().filter(|(name, _)| name.contains("SECRET"));
    secrets.extend(hidden.map(|(_, value)| value.clone()));
    for name in ["coordinator", "worker", "admin"] {
        let key = fs::read_to_string(authority.path_of(name).join("tls.key")).unwrap();
        secrets.push(key.lines().nth(1).unwrap().to_string());
    }
    assert_eq!(secrets.len(), 10, "{secrets:?}");
    let mut places: Vec<(String, Vec<u8>)> = vec![("what commands said".into(), said.into_bytes())];
    for name in ["coordinator.log", "worker.log", "audit.jsonl", "ledger"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        assert!(!bytes.is_empty(), "{name}");
        places.push((name.into(), bytes));
    }
    for secret in &secrets {
        for (place, bytes) in &places {
            let shows = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!shows, "`{secret}` shows in {place}");
        }
    }
}
