//! Jobs of two kinds on the same workers, and measuring by any number of them.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    classes, pictures,
    processes::{Coordinator, Environment, Process, json, run, until, worker},
    s3::Server,
    wheels,
    whole::{download, upload, upscaled_locally},
};

/// The numbers of an evaluation, as they were written.
fn numbers(folder: &Path) -> [Vec<u8>; 3] {
    ["evaluation.jsonl", "evaluation.csv", "evaluation.json"].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn numbers_do_not_depend_on_who_measures_nor_on_how_many_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("in"), 40, 24..40);
    fs::write(path("in/broken.png"), "no picture").unwrap();
    let none = Environment::new();
    let more = ["--preset", "one", "--scale", "2"];
    let (source, here) = (text("in"), text("here"));
    let (code, out, errors) = run(&[&["evaluate", &source, "--out", &here][..], &more].concat(), &none);
    assert_eq!(code, 3, "one is set aside: {errors}");
    assert!(out.contains("mean of 40") && out.contains("broken.png"), "{out}");
    let expected = numbers(&path("here"));
    for count in [1, 2, 3] {
        let coordinator = Coordinator::start(&text(&format!("state {count}")), &[], &none);
        let _workers: Vec<_> = (0..count).map(|_| worker(&coordinator.address, &none)).collect();
        let there = text(&format!("there {count}"));
        let arguments = ["evaluate", &source, "--out", &there, "--coordinator", &coordinator.address];
        let (code, out, errors) = run(&[&arguments[..], &more].concat(), &none);
        assert_eq!(code, 3, "{errors}");
        assert!(out.contains("mean of 40"), "{out}");
        assert!(numbers(&path(&format!("there {count}"))) == expected, "{count} workers, other numbers");
    }
}

/// Workers have no weights: they come to them with the job.
#[test]
fn networks_say_the_same_wherever_they_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("some"), 9, 40..49);
    // Two folders whose names are classes.
    fs::create_dir(path("in")).unwrap();
    fs::rename(path("some/a"), path("in/7")).unwrap();
    fs::rename(path("some/b/c"), path("in/n01440764")).unwrap();
    let with = |cache: &Path| -> Environment { vec![("SR3_CACHE", cache.to_str().unwrap().to_string())] };
    let (full, empty) = (with(wheels::cache()), with(&path("empty")));
    let more = ["--preset", "one", "--scale", "2", "--metrics", "st-lpips,spectrum,accuracy"];
    let (source, here) = (text("in"), text("here"));
    let (code, _, errors) = run(&[&["evaluate", &source, "--out", &here][..], &more].concat(), &full);
    assert_eq!(code, 0, "{errors}");
    let expected = numbers(&path("here"));
    let coordinator = Coordinator::start(&text("state"), &[], &full);
    let _workers = [0, 1].map(|_| worker(&coordinator.address, &empty));
    let there = text("there");
    let all = ["evaluate", &source, "--out", &there, "--coordinator", &coordinator.address];
    let (code, out, errors) = run(&[&all[..], &more].concat(), &empty);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("st-lpips-alexnet: weights sha256:ba7bb00a8cd3"), "{out}");
    assert!(numbers(&path("there")) == expected, "other numbers");
    // The workers brought what they looked with into the one cache; another has none of it.
    let without = with(&path("another"));
    let elsewhere = Coordinator::start(&text("state 2"), &[], &without);
    let all = ["evaluate", &source, "--out", &there, "--coordinator", &elsewhere.address];
    let (code, _, errors) = run(&[&all[..], &more].concat(), &without);
    assert!(
        code != 0 && errors.contains("at the coordinator: ") && errors.contains("pip download"),
        "{errors}"
    );
}

#[test]
fn pictures_are_looked_at_wherever_they_are_enlarged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    classes::models(folder.path());
    fs::create_dir(path("in")).unwrap();
    fs::write(path("in/a.png"), classes::canyon()).unwrap();
    let with = |cache: &Path| -> Environment { vec![("SR3_CACHE", cache.to_str().unwrap().to_string())] };
    // The coordinator knows the network that looks, and whoever computes does not.
    let (full, empty) = (with(wheels::cache()), with(&path("empty")));
    let coordinator = Coordinator::start(&text("state"), &[], &full);
    let _worker = worker(&coordinator.address, &empty);
    let [source, model] = ["in", "thousand"].map(text);
    let upscale = |out: &str, class: &str, more: &[&str], environment: &Environment| {
        let out = text(out);
        let arguments = ["upscale", &source, &out, "--model", &model, "--steps", "2", "--class", class];
        let (code, _, errors) = run(&[&arguments[..], more].concat(), environment);
        assert_eq!(code, 0, "{errors}");
    };
    upscale("there", "auto", &["--coordinator", &coordinator.address], &empty);
    upscale("told", classes::CANYON, &[], &empty);
    assert!(fs::read(path("there/a.png")).unwrap() == fs::read(path("told/a.png")).unwrap());
    assert!(
        pictures::files(&path("there")).keys().all(|name| !name.contains("weights")),
        "among the results"
    );
}

#[test]
fn results_are_measured_against_their_reference_in_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    pictures::write_of(&path("truth"), 6, 40..44);
    // As if a model had made them: the truths themselves but for one that is missing.
    pictures::write_of(&path("made"), 5, 40..44);
    let server = Server::seaweedfs();
    let environment: Environment = server.environment().to_vec();
    let [truth, made, state, out] = [server.fresh(), server.fresh(), server.fresh(), server.fresh()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(upload(&server.open(&truth), &path("truth")));
    runtime.block_on(upload(&server.open(&made), &path("made")));
    let coordinator = Coordinator::start(&state.to_string(), &[], &environment);
    let _workers = [0, 1].map(|_| worker(&coordinator.address, &environment));
    let [truth, made, out] = [truth, made, out].map(|place| place.to_string());
    let arguments = ["evaluate", &made, "--reference", &truth, "--out", &out, "--json"];
    let all = [&arguments[..], &["--coordinator", &coordinator.address]].concat();
    let (code, printed, errors) = run(&all, &environment);
    assert_eq!(code, 3, "{errors}");
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let means = json(&printed);
    assert_eq!((&means["method"], &means["set_aside"]), (&"result".into(), &1.into()), "{printed}");
    assert_eq!((&means["scores"]["ssim"], &means["scores"]["mean_shift_r"]), (&1.0.into(), &0.0.into()));
    let missing = lines.iter().find(|line| line.get("reason").is_some()).unwrap();
    assert_eq!(missing["reason"], "the source has no picture of this name");
}

/// The bytes of the one and the numbers of the other are those of one process, though a worker of the two is killed.
#[test]
fn a_job_of_each_kind_at_once_survives_the_death_of_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("in"), 60, 30..40);
    upscaled_locally(&path("in"), &path("local"));
    let none = Environment::new();
    let more = ["--preset", "one", "--scale", "2"];
    let (source, here) = (text("in"), text("here"));
    let (code, _, errors) = run(&[&["evaluate", &source, "--out", &here][..], &more].concat(), &none);
    assert_eq!(code, 0, "{errors}");

    let coordinator = Coordinator::start(&text("state"), &["--lease-ttl", "2"], &none);
    let address = coordinator.address.as_str();
    let mut workers = vec![worker(address, &none), worker(address, &none)];
    let (out, there) = (text("out"), text("there"));
    let upscale = ["upscale", &source, &out, "--preset", "one", "--quiet", "--coordinator", address];
    let upscale = Process::start(&upscale, &none);
    let evaluate = ["evaluate", &source, "--out", &there, "--json", "--coordinator", address];
    let evaluate = Process::start(&[&evaluate[..], &more].concat(), &none);
    let done = || {
        let (_, printed, _) = run(&["jobs", "--json", "--coordinator", address], &none);
        let jobs: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        jobs.iter().map(|job| job["done"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    until(Duration::from_secs(60), || {
        (done().iter().filter(|count| **count >= 4).count() == 2).then_some(())
    });
    workers.remove(0).kill();
    workers.push(worker(address, &none));
    assert_eq!((upscale.wait(), evaluate.wait()), (0, 0));
    assert!(pictures::files(&path("out")) == pictures::files(&path("local")), "other bytes");
    assert!(numbers(&path("there")) == numbers(&path("here")), "other numbers");
    let (_, printed, _) = run(&["jobs", "--json", "--coordinator", address], &none);
    assert_eq!(printed.matches("\"state\":\"succeeded\"").count(), 2, "{printed}");
}

/// What another tool has enlarged comes out the same from folders by one process and from buckets by any number of workers.
#[test]
fn projecting_gives_the_same_bytes_from_a_folder_from_a_bucket_and_by_workers() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write(&path("low"), 30, true);
    upscaled_locally(&path("low"), &path("high"));
    let high = pictures::files(&path("high"));
    let none = Environment::new();
    let arguments = ["project", &text("low"), &text("high"), &text("here"), "--quiet"];
    let (code, _, errors) = run(&arguments, &none);
    assert_eq!(code, 3, "the bad files are set aside: {errors}");
    let expected = pictures::files(&path("here"));
    assert_eq!(expected.len(), high.len());

    let server = Server::seaweedfs();
    let environment: Environment = server.environment().to_vec();
    let [low, enlarged, state] = [server.fresh(), server.fresh(), server.fresh()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(upload(&server.open(&low), &path("low")));
    runtime.block_on(upload(&server.open(&enlarged), &path("high")));
    let [low, enlarged] = [low, enlarged].map(|place| place.to_string());
    let out = server.fresh();
    let (code, _, errors) = run(&["project", &low, &enlarged, &out.to_string(), "--quiet"], &environment);
    assert_eq!(code, 3, "{errors}");
    assert!(runtime.block_on(download(&server.open(&out))) == expected, "from a bucket, other bytes");

    let coordinator = Coordinator::start(&state.to_string(), &[], &environment);
    let _workers = [0, 1].map(|_| worker(&coordinator.address, &environment));
    let out = server.fresh();
    let place = out.to_string();
    let arguments = ["project", &low, &enlarged, &place, "--quiet", "--coordinator", &coordinator.address];
    let (code, _, errors) = run(&arguments, &environment);
    assert_eq!(code, 3, "{errors}");
    assert!(runtime.block_on(download(&server.open(&out))) == expected, "by workers, other bytes");
    // The same as a spec.
    let spec = path("job.yaml");
    let again = server.fresh();
    let written = format!("kind: project\nsource: '{low}'\nenlarged: '{enlarged}'\ndestination: '{again}'\n");
    fs::write(&spec, written).unwrap();
    let submit = ["submit", spec.to_str().unwrap(), "--watch", "--coordinator", &coordinator.address];
    let (code, _, errors) = run(&submit, &environment);
    assert_eq!(code, 3, "{errors}");
    assert!(runtime.block_on(download(&server.open(&again))) == expected, "from a spec, other bytes");
}

/// A search finds the same whoever measures, and goes on where another process stopped.
#[test]
fn a_search_by_workers_finds_what_one_process_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("in"), 9, 40..48);
    let none = Environment::new();
    let tune = |out: &str, more: &[&str]| {
        let (source, out) = (text("in"), text(out));
        let fixed =
            ["tune", "photo-4x", "--source", &source, "--out", &out, "--json", "--sampler", "dpmpp_2m"];
        let options = ["--shape", "log_snr", "--last", "7"];
        let (code, printed, errors) = run(&[&fixed[..], &options, more].concat(), &none);
        assert_eq!(code, 0, "{errors}");
        printed
    };
    let here = tune("here", &["--steps", "1,2,3"]);
    let coordinator = Coordinator::start(&text("state"), &[], &none);
    let _workers = [0, 1].map(|_| worker(&coordinator.address, &none));
    tune("there", &["--steps", "2"]);
    let there = tune("there", &["--steps", "1,2,3", "--coordinator", &coordinator.address]);
    assert_eq!(here, there);
    let search = |place: &str| fs::read(path(place).join("tune.json")).unwrap();
    assert!(search("here") == search("there"), "other files");
}
