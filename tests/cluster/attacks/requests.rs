//! Places, specs, names and pictures that somebody with a right to ask may ask for, and that are refused.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use sr3::{
    proto::{
        Hello,
        net::Address,
        wire::v1::{self, job_service_client::JobServiceClient},
    },
    worker::{Connect, GrpcConnect},
};
use tokio::runtime::Runtime;
use tonic::Code;

use super::{Target, hello, spec};
use crate::{
    authority::Authority,
    pictures,
    processes::{Coordinator, Environment, run},
};

#[test]
fn a_place_that_is_not_allowed_stays_closed() {
    let target = Target::new();
    let (source, out) = (target.at("in"), target.at("out"));
    pictures::write(&target.folder.path().join("in"), 1, false);
    fs::create_dir(target.folder.path().join("in2")).unwrap();
    pictures::write(&target.folder.path().join("secret"), 1, false);
    std::os::unix::fs::symlink(target.at("secret"), target.at("in/way-out")).unwrap();
    for (from, to, said) in [
        (target.at("secret"), out.clone(), "in none of the allowed places"),
        (target.at("in2"), out.clone(), "in none of the allowed places"),
        (format!("{source}/../secret"), out.clone(), "allowed places"),
        (format!("{source}/way-out"), out.clone(), "in none of the allowed places"),
        (format!("file://{}", target.at("secret")), out.clone(), "in none of the allowed places"),
        ("/etc".into(), out.clone(), "in none of the allowed places"),
        (source.clone(), target.at("state"), "this coordinator's own state"),
        (source.clone(), target.at("elsewhere"), "in none of the allowed places"),
        ("http://169.254.169.254/latest/meta-data".into(), out.clone(), "http"),
        ("https://example.com/pictures".into(), out.clone(), "http"),
        ("s3://key:secret@bucket/pre".into(), out.clone(), "s3"),
        ("s3://bucket/pre".into(), out.clone(), "in none of the allowed places"),
    ] {
        let (code, said_here) = target.submit(&spec(&from, &to), &target.admin());
        assert!(code == 2 && said_here.contains(said), "{from} → {to}: {code} {said_here}");
    }
    // A model is a place, too.
    let with_model = format!("{}model: \"{}\"\n", spec(&source, &out), target.at("secret"));
    let (code, said) = target.submit(&with_model.replace("preset: one\n", ""), &target.admin());
    assert!(code == 2 && said.contains("in none of the allowed places"), "{said}");
    let (code, said) = target.submit(&spec(&source, &out), &target.admin());
    assert_eq!(code, 0, "{said}");
}

#[test]
fn one_prefix_does_not_allow_another_that_begins_like_it() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let more = ["--allow-store", "s3://bucket/pre", "--allow-store", "s3://other"];
    let state = folder.path().to_str().unwrap();
    let environment = authority.environment("coordinator", &Environment::new());
    let coordinator = Coordinator::start(state, &more, &environment);
    let admin = authority.environment("admin", &Environment::new());
    for place in ["s3://bucket/prefix2", "s3://bucket", "s3://other2/x", "s3://Bucket/pre", "gs://bucket/pre"]
    {
        let path = folder.path().join("job.yaml");
        fs::write(&path, spec(place, "s3://other/out")).unwrap();
        let arguments = ["submit", path.to_str().unwrap(), "--coordinator", &coordinator.address];
        let (code, _, errors) = run(&arguments, &admin);
        assert!(code == 2 && errors.contains("in none of the allowed places"), "{place}: {code} {errors}");
    }
}

#[test]
fn a_spec_that_is_a_bomb_is_refused_at_once() {
    let target = Target::new();
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..30 {
        let list = vec![format!("*a{}", i - 1); 9].join(", ");
        aliases += &format!("a{i}: &a{i} [{list}]\n");
    }
    aliases += "kind: upscale\nsource: *a29\n";
    let deep = format!("kind: upscale\nsource: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let maps = format!("kind: upscale\nsource: {}x", "{a: ".repeat(50_000));
    let long = format!("{}# {}\n", spec("/in", "/out"), "x".repeat(1 << 20));
    let too_long = format!("{}# {}\n", spec("/in", "/out"), "x".repeat(3 << 20));
    for (name, bomb) in [
        ("aliases", aliases.as_str()),
        ("deep", &deep),
        ("maps", &maps),
        ("long", &long),
        ("too long", &too_long),
    ] {
        // As a client that checks nothing would send it.
        let begun = Instant::now();
        let refused = Runtime::new().unwrap().block_on(async {
            let mut client = JobServiceClient::new(target.channel("admin").await);
            let request = v1::SubmitJobRequest { spec: bomb.into(), idempotency_key: String::new() };
            client.submit_job(request).await.unwrap_err()
        });
        assert!(begun.elapsed() < Duration::from_secs(5), "{name} took {:?}", begun.elapsed());
        assert!(
            matches!(refused.code(), Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted),
            "{name}: {refused}"
        );
        assert_eq!(refused.message().lines().count(), 1, "{name}: {refused}");
        assert!(refused.message().len() < 1000, "{name}: {refused}");
        let (code, said) = target.submit(bomb, &target.admin());
        assert!(code != 0 && said.len() < 2000, "{name}: {said}");
    }
    assert_eq!(target.ask(&["jobs"], &target.admin()).0, 0);
}

/// Names and keys are bounded, and what a terminal would obey never reaches one.
#[test]
fn names_of_strangers_are_short_and_harmless() {
    let target = Target::new();
    let runtime = Runtime::new().unwrap();
    let evil = "\u{1b}]0;owned\u{7}\u{202e}name";
    let _end = runtime.block_on(async {
        let address = Address::parse(target.address()).unwrap();
        let connect = || GrpcConnect::new(vec![address.clone()], target.dialer("worker"));
        for long in [
            Hello { name: "n".repeat(10_000), ..hello("a") },
            Hello { device: "d".repeat(10_000), ..hello("a") },
            Hello { instance: "i".repeat(10_000), ..hello("a") },
        ] {
            let refused = connect().connect(long).await.map(drop).unwrap_err().to_string();
            assert!(refused.contains("at most 256 bytes"), "{refused}");
        }
        let mut client = JobServiceClient::new(target.channel("admin").await);
        let request = v1::SubmitJobRequest { spec: spec("/in", "/out"), idempotency_key: "k".repeat(10_000) };
        let refused = client.submit_job(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        connect().connect(Hello { name: evil.into(), device: evil.into(), ..hello("b") }).await.unwrap().1
    });
    let (code, out) = target.ask(&["workers"], &target.admin());
    assert!(code == 0 && out.contains("name"), "{out}");
    assert!(!out.contains('\u{1b}') && !out.contains('\u{7}') && !out.contains('\u{202e}'), "{out:?}");
    let named = format!("{}name: {}\n", spec("/in", "/out"), "n".repeat(10_000));
    let (code, said) = target.submit(&named, &target.admin());
    assert!(code == 2 && said.contains("at most 200 characters"), "{said}");
    let job = spec(&target.at("in"), &format!("{}/\\e[2J", target.at("out")));
    let (_, out) = target.submit(&job, &target.admin());
    assert!(!out.contains('\u{1b}'), "{out:?}");
    assert!(!target.audit().contains('\u{1b}'));
}

#[test]
fn a_picture_that_is_a_bomb_is_set_aside_and_the_others_are_not() {
    let target = Target::new();
    let folder = target.folder.path();
    pictures::write(&folder.join("in"), 5, false);
    let bombs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hard/broken");
    let mut count = 0;
    for entry in fs::read_dir(&bombs).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("bomb") {
            fs::copy(entry.path(), folder.join("in").join(&name)).unwrap();
            count += 1;
        }
    }
    assert!(count > 0, "no bombs");
    let _worker = target.worker();
    let (code, said) =
        target.ask(&["upscale", &target.at("in"), &target.at("out"), "--preset", "one"], &target.admin());
    assert_eq!(code, 3, "{said}");
    assert_eq!(pictures::files(&folder.join("out")).len(), 5, "{said}");
}
