//! The commands that ask a cluster, against a coordinator that is played.
#![allow(clippy::unwrap_used)] // helpers of tests, too
#![cfg(unix)]

mod common;
mod played;

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use common::{Ran, Scene, become_the_command_if_asked, sr3, sr3_process};
use played::{Served, Shared, end, event, running, until};
use serde_json::Value;
use sr3::{
    jobs::JobSpec,
    proto::wire::v1::{JobState, Worker},
};

/// Not a test by itself: what `sr3_process` runs.
#[test]
fn the_command() {
    become_the_command_if_asked();
}

/// A cluster with one job under way.
fn cluster() -> (Shared, Served) {
    let state = Shared::default();
    state.lock().unwrap().jobs.push(running(1));
    let served = Served::new(&state, false);
    (state, served)
}

fn ask(served: &Served, arguments: &[&str]) -> Ran {
    sr3(&[arguments, &["--coordinator", &served.url()]].concat())
}

fn begin(served: &Served, arguments: &[&str]) -> Child {
    sr3_process(&[arguments, &["--coordinator", &served.url()]].concat(), Duration::ZERO).spawn().unwrap()
}

fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let out = out.strip_prefix("\nrunning 1 test\n").unwrap();
    let out = out.strip_prefix("test the_command ... ").unwrap_or(out).to_string();
    Ran { code: output.status.code().unwrap_or(-1), out, err: String::from_utf8(output.stderr).unwrap() }
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

fn json_lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SPEC: &str = "kind: upscale\nname: autumn\nsource: /photos\ndestination: /results\n";

#[test]
fn a_submitted_job_gets_an_id_and_is_listed() {
    let (state, served) = cluster();
    let scene = Scene::new(&[("job.yaml", SPEC)]);
    let ran = ask(&served, &["submit", &scene.text("in/job.yaml")]);
    assert_eq!((ran.code, ran.out.trim(), ran.err.as_str()), (0, "000002", ""));
    assert_eq!(state.lock().unwrap().jobs[1].spec, SPEC);
    let list = ask(&served, &["jobs"]);
    let lines: Vec<&str> = list.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", list.out);
    for (line, words) in lines[1..].iter().zip([["000002", "autumn"], ["000001", "summer"]]) {
        assert!(
            words.iter().chain(&["running", "4/8", "photo-4x"]).all(|word| line.contains(word)),
            "{line}"
        );
    }
    let newest = json_lines(&ask(&served, &["jobs", "--json", "--limit", "1"]));
    assert_eq!((newest.len(), &newest[0]["name"]), (1, &"autumn".into()));
}

#[test]
fn a_key_of_ones_own_finds_the_job_again_and_a_lost_answer_makes_no_second() {
    let (state, served) = cluster();
    state.lock().unwrap().answers_to_lose = 2;
    let scene = Scene::new(&[("job.yaml", SPEC)]);
    let file = scene.text("in/job.yaml");
    assert_eq!(ask(&served, &["submit", &file]).code, 0);
    assert_eq!(state.lock().unwrap().jobs.len(), 2);
    for existed in [false, true] {
        let ran = ask(&served, &["submit", &file, "--idempotency-key", "mine", "--json"]);
        assert_eq!((&ran.json()["id"], &ran.json()["existed"]), (&3.into(), &existed.into()));
    }
}

#[test]
fn a_bad_spec_is_refused_with_its_line_and_without_a_coordinator() {
    let scene = Scene::new(&[("job.yaml", "kind: upscale\nsource: a\ndestinaton: b\n")]);
    let ran = sr3(&["submit", &scene.text("in/job.yaml"), "--coordinator", "127.0.0.1:1"]);
    assert_eq!(ran.code, 2);
    assert!(ran.refusal().contains("job.yaml:3: ") && ran.refusal().contains("destination"), "{}", ran.err);
    let ran = sr3(&["submit", &scene.text("in/none.yaml"), "--coordinator", "127.0.0.1:1"]);
    assert_eq!(ran.code, 2);
    assert!(ran.refusal().contains("none.yaml"));
}

#[test]
fn json_has_its_documented_keys() {
    let (state, served) = cluster();
    state.lock().unwrap().workers.push(Worker { id: 1, name: "w1".into(), ..Worker::default() });
    state.lock().unwrap().events.push(event(1, "planned"));
    let job = ask(&served, &["status", "1", "--json"]).json();
    let expected = "current destination done ended_ms generation id kind leases members model model_sha256 name planned \
                    planning_done quarantined reason shards_done shards_planned skipped source spec state \
                    submitted_ms summary with_notes work_done work_planned";
    assert_eq!(keys(&job).join(" "), expected);
    assert_eq!(keys(&job["current"][0]).join(" "), "input share worker");
    assert_eq!((&job["state"], &job["ended_ms"]), (&"running".into(), &Value::Null));
    let worker = ask(&served, &["workers", "--json"]).json();
    let expected = "caller classes credits device id kinds leases memory_bytes models name shards_done state threads version";
    assert_eq!(keys(&worker).join(" "), expected);
    let logged = ask(&served, &["logs", "1", "--json"]).json();
    assert_eq!(keys(&logged).join(" "), "at_ms sequence text");
}

#[test]
fn a_status_says_where_a_job_is() {
    let (_state, served) = cluster();
    let ran = ask(&served, &["status", "000001"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in ["job 000001: running", "/in", "/out", "4 done", "of 8", "a.png 50 % at w1"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
}

#[test]
fn a_watch_ends_as_its_job_does() {
    let (state, served) = cluster();
    state.lock().unwrap().jobs.extend((2..=4).map(running));
    let ends = [
        (JobState::Succeeded, 0, 0, ""),
        (JobState::Succeeded, 2, 3, ""),
        (JobState::Failed, 0, 1, "disk full"),
        (JobState::Cancelled, 0, 1, "cancelled"),
    ];
    let children = [1, 2, 3, 4].map(|id| begin(&served, &["watch", &id.to_string()]));
    until(|| state.lock().unwrap().streams == 4);
    for (job, (how, quarantined, ..)) in state.lock().unwrap().jobs.iter_mut().zip(ends) {
        end(job, how, quarantined);
        job.reason = if how == JobState::Failed { "disk full".into() } else { String::new() };
    }
    for (child, (_, quarantined, code, said)) in children.into_iter().zip(ends) {
        let ran = finish(child);
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains(said) && ran.err.contains("sr3:") != said.is_empty(), "{}", ran.err);
        let summary = format!("{} done, 0 skipped, {quarantined} set aside in 1:05", 8 - quarantined);
        assert!(ran.out.starts_with(&summary), "{}", ran.out);
    }
}

#[test]
fn a_submission_can_stay_with_its_job() {
    let (state, served) = cluster();
    let scene = Scene::new(&[("job.yaml", SPEC)]);
    let child = begin(&served, &["submit", &scene.text("in/job.yaml"), "--watch", "--json"]);
    until(|| state.lock().unwrap().streams == 1);
    end(&mut state.lock().unwrap().jobs[1], JobState::Succeeded, 0);
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let states: Vec<_> = json_lines(&ran).iter().map(|line| line["state"].clone()).collect();
    assert_eq!((&states[0], &states[states.len() - 1]), (&"running".into(), &"succeeded".into()));
}

#[test]
fn ctrl_c_leaves_the_watched_job_running() {
    let (state, served) = cluster();
    let child = begin(&served, &["watch", "1"]);
    until(|| state.lock().unwrap().streams == 1);
    interrupt(&child);
    let ran = finish(child);
    assert_eq!(ran.code, 130);
    assert!(ran.refusal().contains("goes on"), "{}", ran.err);
    assert_eq!(state.lock().unwrap().jobs[0].state(), JobState::Running);
}

#[test]
fn jobs_and_workers_are_steered() {
    let (state, served) = cluster();
    state.lock().unwrap().workers.push(Worker { id: 3, name: "w3".into(), leases: 2, ..Worker::default() });
    for (command, word) in [("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")] {
        let ran = ask(&served, &[command, "1"]);
        assert_eq!((ran.code, ran.out), (0, format!("job 000001: {word}\n")));
    }
    assert!(ask(&served, &["workers"]).out.contains("working"));
    assert_eq!(ask(&served, &["drain", "3"]).code, 0);
    assert!(ask(&served, &["workers"]).out.contains("draining"));
}

#[test]
fn what_does_not_exist_is_refused_in_the_coordinators_words() {
    let (_state, served) = cluster();
    for command in ["status", "watch", "logs", "cancel", "pause", "resume", "drain"] {
        let ran = ask(&served, &[command, "7"]);
        assert_eq!(ran.code, 2);
        assert!(ran.refusal().starts_with("sr3: no ") && ran.refusal().ends_with(" 7"), "{}", ran.err);
    }
    for id in ["0", "seven", "-1"] {
        assert_eq!(ask(&served, &["status", id]).code, 2);
    }
}

#[test]
fn the_coordinator_that_serves_is_found_among_those_that_do_not() {
    let (state, served) = cluster();
    let standby = Served::new(&state, true);
    let gone = "http://127.0.0.1:1";
    let all = format!("{gone},{},{}", standby.url(), served.address);
    assert_eq!(sr3(&["status", "1", "--coordinator", &all]).code, 0);
    let ran = common::ran(sr3_process(&["status", "1"], Duration::ZERO).env("SR3_COORDINATOR", &all));
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn nobody_serving_is_told_after_a_while_with_every_address() {
    let state = Shared::default();
    let standby = Served::new(&state, true);
    let gone = "http://127.0.0.1:1";
    let all = format!("{gone},{}", standby.url());
    let begun = Instant::now();
    let ran = sr3(&["jobs", "--coordinator", &all, "--connect-timeout", "1"]);
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(20));
    assert_eq!(ran.code, 1);
    for part in [gone, &standby.url(), "stands by", "sr3 coordinator"] {
        assert!(ran.refusal().contains(part), "{part}: {}", ran.err);
    }
    for (address, word) in [("ftp://a:1", "http://"), ("host", "port")] {
        let ran = sr3(&["jobs", "--coordinator", address]);
        assert_eq!(ran.code, 2);
        assert!(ran.refusal().contains(word), "{}", ran.err);
    }
    let ran = common::ran(sr3_process(&["jobs"], Duration::ZERO).env_remove("SR3_COORDINATOR"));
    assert_eq!(ran.code, 2);
    assert!(ran.refusal().contains("SR3_COORDINATOR"));
}

#[test]
fn a_watch_outlives_its_coordinator() {
    let (state, served) = cluster();
    let address = served.address;
    let child = begin(&served, &["watch", "1", "--json"]);
    until(|| state.lock().unwrap().streams == 1);
    drop(served);
    end(&mut state.lock().unwrap().jobs[0], JobState::Succeeded, 0);
    let _back = Served::at(address, &state, false);
    let ran = finish(child);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(json_lines(&ran).last().unwrap()["state"], "succeeded");
    assert_eq!(state.lock().unwrap().streams, 2);
}

#[test]
fn followed_events_are_told_once_each_through_a_takeover() {
    let (state, first) = cluster();
    let second = Served::new(&state, true);
    let addresses = format!("{},{}", first.url(), second.url());
    state.lock().unwrap().events.extend([event(1, "planned"), event(2, "leased")]);
    let arguments = ["logs", "1", "--follow", "--coordinator", &addresses];
    let child = sr3_process(&arguments, Duration::ZERO).spawn().unwrap();
    until(|| state.lock().unwrap().streams == 1);
    let address = second.address;
    drop((first, second));
    state.lock().unwrap().events.extend([event(3, "recorded"), event(4, "ended")]);
    end(&mut state.lock().unwrap().jobs[0], JobState::Succeeded, 0);
    let _serving = Served::at(address, &state, false);
    let ran = finish(child);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let told: Vec<_> = ran.out.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(told, ["planned", "leased", "recorded", "ended"]);
}

#[test]
fn a_cluster_upscales_with_the_options_and_the_end_of_the_local_command() {
    let (state, served) = cluster();
    let scene = Scene::new(&[("a.png", "a")]);
    let (source, destination) = (scene.text("in"), scene.text("out"));
    let (options, file) =
        (["--seed", "7", "--scale", "2", "--no-projection", "--json"], scene.text("in/a.png"));
    let child = begin(&served, &[&["upscale", &source, "out"][..], &options].concat());
    until(|| state.lock().unwrap().streams == 1);
    let job = state.lock().unwrap().jobs[1].clone();
    let JobSpec::Upscale(asked) = JobSpec::parse(&job.spec).unwrap() else { panic!("{}", job.spec) };
    assert_eq!(asked.job.source, source);
    let destination_asked = &asked.job.destination;
    assert!(destination_asked.starts_with('/') && destination_asked.ends_with("/out"), "{destination_asked}");
    assert_eq!((asked.wish.seed, asked.wish.scale, asked.wish.projection), (7, Some(2), false));
    end(&mut state.lock().unwrap().jobs[1], JobState::Succeeded, 1);
    let ran = finish(child);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    let here = sr3(&["upscale", &source, &destination, "--json"]);
    assert_eq!(keys(&ran.json()), keys(&here.json()), "the same keys as of a run in this process");
    assert_eq!((&ran.json()["done"], &ran.json()["outcome"]), (&7.into(), &"finished".into()));
    for unfit in
        [&["upscale", &file, &destination][..], &["upscale", &source, &destination, "--threads", "1"]]
    {
        assert_eq!(ask(&served, unfit).code, 2);
    }
}

#[test]
fn ctrl_c_cancels_the_job_of_an_upscale() {
    let (state, served) = cluster();
    let scene = Scene::new(&[]);
    let child = begin(&served, &["upscale", &scene.text("in"), &scene.text("out")]);
    until(|| state.lock().unwrap().streams == 1);
    interrupt(&child);
    let ran = finish(child);
    assert_eq!(ran.code, 130, "{}", ran.err);
    assert!(ran.err.contains("run the same command again"), "{}", ran.err);
    assert_eq!(state.lock().unwrap().jobs[1].state(), JobState::Cancelled);
}
