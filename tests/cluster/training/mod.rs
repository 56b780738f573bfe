//! Training on real processes: whatever happens to them, the weights are those of one process alone.
//!
//! [`chaos`] has what happens by chance.

mod chaos;

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{
    pictures,
    processes::{Coordinator, Environment, Process, RUN_TIME, json, run, run_within, until, worker},
};

/// A run of a tiny network on pictures of its own.
struct Run {
    folder: tempfile::TempDir,
    none: Environment,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        pictures::write_of(&folder.path().join("in"), 24, 24..32);
        Self { folder, none: Environment::new() }
    }

    fn text(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    /// A spec whose run goes to `name`.
    fn spec(&self, name: &str, steps: u64, more: &str) -> String {
        let text = format!(
            "kind: train\nname: {name}\nsource: {}\ndestination: {}\nvalidation_fraction: 0.2\nhigh_res: 16\n\
             low_res: 8\ncrop: random\nmodel: {{inner_channel: 8, norm_groups: 4, channel_mults: [1, 2], res_blocks: 1, \
             dropout: 0.1}}\nsteps: {steps}\nbatch: 8\ngrains: 8\nlearning_rate: 1e-3\naverages: [1k]\n\
             checkpoint_every: 50\nlog_every: 10\nvalidation_every: 100\nvalidation_pictures: 4\n\
             validation_samples: 2\nseed: 5\n{more}",
            self.text("in"),
            self.text(name),
        );
        fs::create_dir_all(self.folder.path().join(name)).unwrap();
        let file = self.text(&format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        file
    }

    /// In this process, by so many members: the weights' digest.
    fn alone(&self, name: &str, steps: u64, members: &str, more: &str) -> String {
        let spec = self.spec(name, steps, more);
        let time = RUN_TIME + Duration::from_secs(steps / 20);
        let arguments = ["train", &spec, "--workers", members, "--json"];
        let (code, out, errors) = run_within(time, &arguments, &self.none);
        assert_eq!(code, 0, "{errors}");
        digest(&json(&out))
    }

    /// What a trainer looks at, without what belongs to time.
    fn curve(&self, name: &str) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(self.folder.path().join(name).join("curve"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut rows: Vec<Value> = Vec::new();
        for file in files {
            rows.extend(fs::read_to_string(file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()));
        }
        // A segment whose checkpoint was never named is told again by the next.
        let mut by_step = std::collections::BTreeMap::new();
        for mut row in rows {
            row.as_object_mut().unwrap().remove("time");
            by_step.insert(row["step"].as_u64().unwrap(), row);
        }
        by_step.into_values().collect()
    }
}

fn digest(trained: &Value) -> String {
    trained["weights_sha256"].as_str().unwrap().to_string()
}

/// A job of a cluster.
struct Job<'a> {
    address: &'a str,
    id: String,
    none: Environment,
}

impl<'a> Job<'a> {
    fn submit(address: &'a str, spec: &str) -> Self {
        let none = Environment::new();
        let (code, out, errors) = run(&["submit", spec, "--coordinator", address], &none);
        assert_eq!(code, 0, "{errors}");
        Self { address, id: out.trim().to_string(), none }
    }

    /// None while no coordinator answers.
    fn status(&self) -> Option<Value> {
        let asked = run(&["status", &self.id, "--json", "--coordinator", self.address], &self.none);
        (asked.0 == 0).then(|| json(&asked.1))
    }

    /// The weights' digest, once it is over.
    fn ended(&self, patience: Duration) -> String {
        let status = until(patience, || {
            self.status().filter(|status| ["succeeded", "failed", "cancelled"].contains(&state(status)))
        });
        assert_eq!(state(&status), "succeeded", "{status}");
        digest(&status["summary"])
    }

    /// Steps that it is known to have done.
    fn step(&self) -> u64 {
        let said = |status: &Value| {
            let current = status["current"].as_array()?.first()?["input"].as_str()?.to_string();
            current.strip_prefix("step ")?.split(' ').next()?.parse().ok()
        };
        self.status().as_ref().and_then(said).unwrap_or(0)
    }
}

fn state(status: &Value) -> &str {
    status["state"].as_str().unwrap()
}

#[test]
fn the_weights_are_the_same_for_any_number_of_members_in_one_process_and_over_the_network() {
    let run = Run::new();
    for more in ["", "gradients: bf16\n"] {
        let expected = run.alone(&format!("alone {}", more.len()), 120, "1", more);
        for members in ["2", "3", "5"] {
            let name = format!("in process {members} {}", more.len());
            assert_eq!(run.alone(&name, 120, members, more), expected, "{members} members in process");
            assert!(run.curve(&name) == run.curve(&format!("alone {}", more.len())), "another curve");
        }
        for count in [1, 2, 4] {
            let state = run.text(&format!("state {count} {}", more.len()));
            let coordinator = Coordinator::start(&state, &[], &run.none);
            let _workers: Vec<_> = (0..count).map(|_| worker(&coordinator.address, &run.none)).collect();
            let name = format!("over grpc {count} {}", more.len());
            let job = Job::submit(&coordinator.address, &run.spec(&name, 120, more));
            assert_eq!(job.ended(Duration::from_secs(120)), expected, "{count} processes");
            assert!(run.curve(&name) == run.curve(&format!("alone {}", more.len())), "another curve");
        }
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_by_another_number_as_if_it_had_not() {
    let run = Run::new();
    let expected = run.alone("whole", 160, "1", "");
    // In parts: one that ends early, and one that is stopped amid its steps.
    run.alone("parts", 70, "3", "");
    let spec = run.spec("parts", 160, "");
    let stopped = Process::start(&["train", &spec, "--workers", "2", "--json"], &run.none);
    let checkpoints = || fs::read_dir(run.folder.path().join("parts/checkpoints")).unwrap().count();
    until(Duration::from_secs(60), || (checkpoints() >= 3).then_some(()));
    stopped.signal("INT");
    let code = stopped.wait();
    assert!(code == 0 || code == 130, "{code}");
    assert_eq!(run.alone("parts", 160, "1", ""), expected);
    // Where a run ended early its last step was told as well.
    let losses = |name: &str| {
        let rows = run.curve(name).into_iter().filter(|row| row["step"].as_u64().unwrap().is_multiple_of(10));
        rows.map(|row| (row["step"].clone(), row["loss"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(losses("parts"), losses("whole"));
}

/// A run of three members, one of them broken by this variable; the gang waits for another once it is found, and comes to
/// `expected`. Yields the step at which the log says that the broken one's `what` are wrong.
fn found(run: &Run, broken: (&'static str, u64), what: &str, [spec, expected]: [&str; 2]) -> u64 {
    let coordinator = Coordinator::start(&run.text("state"), &[], &run.none);
    let address = coordinator.address.as_str();
    let broken: Environment = vec![(broken.0, broken.1.to_string())];
    let _workers = [worker(address, &broken), worker(address, &run.none), worker(address, &run.none)];
    let job = Job::submit(address, spec);
    let said = format!(
        "the {what} here are not those of the other members: this machine computes or stores wrongly"
    );
    let log = until(Duration::from_secs(60), || {
        let (_, log, _) = crate::processes::run(&["logs", &job.id, "--coordinator", address], &run.none);
        log.contains(&said).then_some(log)
    });
    let _another = worker(address, &run.none);
    assert_eq!(job.ended(Duration::from_secs(60)), expected);
    log.split("at step ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_member_whose_memory_breaks_is_found_and_named_and_the_others_go_on_to_the_right_weights() {
    let run = Run::new();
    let expected = run.alone("alone", 300, "1", "");
    let spec = run.spec("broken", 300, "workers_min: 3\n");
    let step = found(&run, ("SR3_TEST_BREAK_WEIGHTS", 100), "weights", [&spec, &expected]);
    assert!((100..=164).contains(&step), "found at step {step}");
}

#[test]
fn no_checkpoint_holds_what_not_all_members_have() {
    let run = Run::new();
    let expected = run.alone("alone", 200, "1", "keep: 100\n");
    // By what is compared each step the bit that breaks would be found at step 191, after the checkpoint of step 150.
    let spec = run.spec("broken", 200, "keep: 100\nworkers_min: 3\n");
    let step = found(&run, ("SR3_TEST_BREAK_WEIGHTS", 130), "weights", [&spec, &expected]);
    assert_eq!(step, 150);
    let written = |name: &str| -> Vec<(u64, String)> {
        let (_, said, _) = crate::processes::run(&["checkpoints", &run.text(name), "--json"], &run.none);
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let digest = |line: Value| (line["step"].as_u64().unwrap(), line["weights_sha256"].to_string());
        said.lines().map(of).map(digest).collect()
    };
    assert_eq!(written("alone").len(), 4);
    assert_eq!(written("broken"), written("alone"));
}

#[test]
fn a_member_that_computes_wrongly_is_found_by_an_audit_and_what_it_summed_up_is_taken_back() {
    let run = Run::new();
    let expected = run.alone("alone", 300, "1", "");
    assert_eq!(run.alone("audited", 300, "3", "audit: true\n"), expected, "an audit changes the weights");
    let spec = run.spec("broken", 300, "audit: true\nworkers_min: 3\n");
    let step = found(&run, ("SR3_TEST_BREAK_GRADIENTS", 99), "gradients", [&spec, &expected]);
    assert!((99..=115).contains(&step), "found at step {step}");
}

#[test]
fn a_run_goes_on_from_a_checkpoint_of_another() {
    let run = Run::new();
    let expected = run.alone("whole", 160, "1", "");
    run.alone("first", 80, "1", "");
    let from = run.text("first/checkpoints/step-000000000080");
    assert_eq!(run.alone("second", 160, "2", &format!("resume_from: {from}\n")), expected);
    let refused = |name: &str, steps: u64, more: &str| {
        let spec = run.spec(name, steps, more);
        let (code, _, errors) = crate::processes::run(&["train", &spec, "--json"], &run.none);
        assert!(code != 0, "{errors}");
        errors
    };
    let errors = refused("too short", 80, &format!("resume_from: {from}\n"));
    assert!(errors.contains("it has done 80 steps"), "{errors}");
    let errors = refused("nowhere", 160, &format!("resume_from: {}\n", run.text("first")));
    assert!(errors.contains("no checkpoint of a training run"), "{errors}");
    assert!(errors.contains("nowhere.yaml:21: `resume_from`"), "{errors}");
}

#[test]
fn pictures_in_a_tar_shard_are_learned_from_as_if_they_were_files() {
    let run = Run::new();
    // A folder that is called as the shard will be: its files have the names that pictures in the shard have.
    let files = run.folder.path().join("files/one.tar");
    fs::create_dir_all(files.parent().unwrap()).unwrap();
    fs::rename(run.folder.path().join("in"), &files).unwrap();
    let shards = run.folder.path().join("shards");
    fs::create_dir_all(&shards).unwrap();
    let mut archive = tar::Builder::new(fs::File::create(shards.join("one.tar")).unwrap());
    let mut names: Vec<String> = pictures::files(&files).into_keys().collect();
    names.sort();
    for name in &names {
        archive.append_path_with_name(files.join(name), name).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        archive.append_data(&mut header, format!("{name}.cls"), &b"7"[..]).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    archive.append_data(&mut header, "z/broken.png", &b"none"[..]).unwrap();
    archive.finish().unwrap();
    let of = |source: &str, name: &str, members: &str| {
        fs::rename(run.folder.path().join(source), run.folder.path().join("in")).unwrap();
        let weights = run.alone(name, 60, members, "");
        fs::rename(run.folder.path().join("in"), run.folder.path().join(source)).unwrap();
        weights
    };
    let expected = of("files", "of files", "1");
    assert_eq!(of("shards", "of shards", "3"), expected);
    let left_out = fs::read_to_string(run.folder.path().join("of shards/index/left-out.jsonl")).unwrap();
    assert!(left_out.lines().count() == 1 && left_out.contains("one.tar/z/broken.png"), "{left_out}");
}

/// The contract of machines that differ and results that do not: whoever runs this comes to this digest, whatever processor it
/// has. A change of the order of operations changes it, and is one that users are told of.
#[test]
fn every_machine_comes_to_the_same_weights() {
    let run = Run::new();
    let of_png = "include: [\"**/*.png\"]\n";
    let digest = run.alone("golden", 120, "2", of_png);
    assert_eq!(&digest[..32], "ef4e81c6b6db91c6cd0dc7fcc20da4c5");
}

#[test]
fn a_destination_with_another_run_is_refused() {
    let run = Run::new();
    run.alone("one", 20, "1", "");
    let spec = run.spec("one", 20, "loss: l2\n");
    let (code, _, errors) = crate::processes::run(&["train", &spec, "--json"], &run.none);
    assert!(code != 0 && errors.contains("a run of another spec"), "{errors}");
}

#[test]
fn a_run_whose_loss_explodes_ends_and_says_where_and_what_is_left() {
    let run = Run::new();
    let spec = run.spec("wild", 100, "loss: l2\n");
    let text = fs::read_to_string(&spec).unwrap().replace("learning_rate: 1e-3", "learning_rate: 10");
    fs::write(&spec, text).unwrap();
    let (code, _, errors) = crate::processes::run(&["train", &spec, "--json"], &run.none);
    assert!(code != 0 && errors.contains("the loss explodes (samples `"), "{errors}");
    assert!(errors.contains("smaller learning_rate"), "{errors}");
    assert!(errors.contains("there is no checkpoint yet"), "{errors}");
    assert!(!run.folder.path().join("wild/checkpoints").exists(), "what has come apart is written down");
}

#[test]
fn a_regression_is_a_model_that_upscales_in_one_go() {
    let run = Run::new();
    run.alone("regression", 60, "1", "objective: regression\nloss: l2\n");
    let model = run.text("regression/checkpoints/step-000000000060/average-1000");
    let [source, out] = [run.text("in"), run.text("out")];
    let (code, _, errors) = crate::processes::run(&["upscale", &source, &out, "--model", &model], &run.none);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(pictures::files(&run.folder.path().join("out")).len(), 24);
}

#[test]
fn a_run_s_curve_is_a_picture_and_goes_to_tensorboard() {
    let run = Run::new();
    run.alone("one", 60, "1", "");
    let [place, picture] = [run.text("one"), run.text("curve.svg")];
    let (code, _, errors) = crate::processes::run(&["plot", &place, &place, "--out", &picture], &run.none);
    assert_eq!(code, 0, "{errors}");
    let text = fs::read_to_string(&picture).unwrap();
    assert!(text.starts_with("<svg") && text.contains("one: learning"));
    // A file a checkpoint: after 50 steps, and at the end.
    assert_eq!(fs::read_dir(run.folder.path().join("one/tensorboard")).unwrap().count(), 2);
    let (code, _, errors) = crate::processes::run(&["plot", &place, "--out", "curve.gif"], &run.none);
    assert!(code == 2 && errors.contains("neither in .png nor in .svg"), "{errors}");
    let nothing = run.text("in");
    let (code, _, errors) = crate::processes::run(&["plot", &nothing, "--out", &picture], &run.none);
    assert!(code != 0 && errors.contains("has no curve yet"), "{errors}");
}
