//! Cascades on real processes: samples are functions of their numbers, whoever makes them, and whatever happens meanwhile.

use std::{collections::BTreeMap, fs, time::Duration};

use serde_json::Value;

use crate::{
    pictures,
    processes::{Coordinator, Environment, Process, command, json, run, until, worker},
};

/// A folder with pictures by label, and a tiny cascade that has learned from them.
struct Cascade {
    folder: tempfile::TempDir,
    none: Environment,
}

const LABELS: [&str; 3] = ["a", "c", "é#"];

impl Cascade {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        pictures::write_of(&folder.path().join("in"), 18, 32..40);
        Self { folder, none: Environment::new() }
    }

    /// With both stages trained.
    fn trained() -> Self {
        let cascade = Self::new();
        cascade.train("base", BASE, "1");
        cascade.train("enlarge", ENLARGE, "1");
        cascade
    }

    fn text(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_string()
    }

    fn written(&self, name: &str, text: &str) -> String {
        let file = self.text(&format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        file
    }

    fn training(&self, name: &str, more: &str) -> String {
        let (source, destination) = (self.text("in"), self.text(name));
        let text = format!(
            "kind: train\nsource: {source}\ndestination: {destination}\nvalidation_fraction: 0.2\nsteps: 12\nbatch: 8\n\
             grains: 4\nlearning_rate: 1e-3\naverages: [1k]\nvalidation_pictures: 2\nvalidation_samples: 2\nseed: 5\n{more}"
        );
        self.written(name, &text)
    }

    /// The digest of what comes of a training.
    fn train(&self, name: &str, more: &str, members: &str) -> String {
        let spec = self.training(name, more);
        let (code, out, errors) = run(&["train", &spec, "--workers", members, "--json"], &self.none);
        assert_eq!(code, 0, "{errors}");
        json(&out)["weights_sha256"].as_str().unwrap().to_string()
    }

    fn model(&self, name: &str) -> String {
        self.text(&format!("{name}/checkpoints/step-000000000012/average-1000"))
    }

    /// A spec of both stages.
    fn spec(&self, name: &str, count: u64, more: &str) -> String {
        let [base, enlarge] = ["base", "enlarge"].map(|model| self.model(model));
        fs::create_dir_all(self.folder.path().join(name)).unwrap();
        let text = format!(
            "kind: generate\ndestination: {}\ncount: {count}\nseed: 3\nstages:\n- model: {base}\n  steps: 6\n  guidance: 1.5\n\
             - model: {enlarge}\n  steps: 3\n  blur: 0.5\n{more}",
            self.text(name)
        );
        self.written(name, &text)
    }

    fn generate(&self, spec: &str) -> Value {
        let (code, out, errors) = run(&["generate", spec, "--json"], &self.none);
        assert_eq!(code, 0, "{errors}");
        json(&out)
    }

    /// All files of samples, by their names.
    fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let files = pictures::files(&self.folder.path().join(name)).into_iter();
        files.filter(|(name, _)| name.ends_with(".png")).collect()
    }
}

const BASE: &str = "high_res: 16\nlabels: folders\nclasses: 3\nlabel_dropout: 0.2\nmodel: {layout: iddpm, inner_channel: 8, \
                    norm_groups: 4, channel_mults: [1, 2], res_blocks: 1, heads: {count: 2}, use_affine_level: true, \
                    learned_variance: true, dropout: 0.1}\n";
const ENLARGE: &str = "high_res: 32\nlow_res: 16\nblur: [0, 1]\ntarget: residual\nmodel: {inner_channel: 8, norm_groups: 4, \
                       channel_mults: [1, 2], res_blocks: 1}\n";

#[test]
fn a_network_that_makes_pictures_by_class_is_trained_to_the_same_weights_by_any_number() {
    let cascade = Cascade::new();
    let expected = cascade.train("one", BASE, "1");
    for members in ["2", "4"] {
        assert_eq!(cascade.train(members, BASE, members), expected, "{members} members");
    }
    let config = fs::read_to_string(format!("{}/config.json", cascade.model("one"))).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["class_names"], serde_json::json!(LABELS));
    assert_eq!((&config["model"]["classes"], &config["any_class"]), (&4.into(), &true.into()));
    let refused = |name: &str, more: &str| {
        let (code, _, errors) = run(&["train", &cascade.training(name, more), "--json"], &cascade.none);
        assert!(code != 0, "{errors}");
        errors
    };
    let errors = refused("few", &BASE.replace("classes: 3", "classes: 5"));
    assert!(errors.contains("classes is 5, and the pictures have 3 labels (a, c, é#)"), "{errors}");
    let errors = refused("blurred", &format!("{BASE}blur: [0, 1]\n"));
    assert!(errors.contains("blurred.yaml:") && errors.contains("give `low_res`"), "{errors}");
    let (model, source) = (cascade.model("one"), cascade.text("in"));
    let upscale = ["upscale", &source, &cascade.text("enlarged"), "--model", &model];
    let (code, _, errors) = run(&upscale, &cascade.none);
    assert!(code == 2 && errors.contains("makes pictures of noise, and enlarges none"), "{errors}");
    assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    let errors = refused("unlabelled", &BASE.replace("labels: folders\n", ""));
    assert!(errors.contains("such as `labels: folders`"), "{errors}");
}

#[test]
fn labels_are_folders_or_lie_beside_pictures_or_in_a_list() {
    let cascade = Cascade::new();
    let by_folders = cascade.train("folders", BASE, "1");
    let root = cascade.folder.path().join("in");
    let mut list = String::new();
    let mut shard = tar::Builder::new(Vec::new());
    for (name, bytes) in pictures::files(&root) {
        let label = name.rsplit('/').nth(1).unwrap();
        let stem = name.rsplit_once('.').unwrap().0;
        fs::write(root.join(format!("{stem}.cls")), format!("{label}\n")).unwrap();
        list += &format!("{}\n", serde_json::json!({ "file_name": name, "label": label }));
        for (name, bytes) in [(&name, &bytes[..]), (&format!("{stem}.cls"), label.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            shard.append_data(&mut header, name.replace('/', "-"), bytes).unwrap();
        }
    }
    fs::write(root.join("metadata.jsonl"), list).unwrap();
    for labels in ["cls", "list"] {
        let told = BASE.replace("labels: folders", &format!("labels: {labels}"));
        assert_eq!(cascade.train(labels, &told, "2"), by_folders, "{labels}");
    }
    // In a shard there are no folders: what lies beside a picture says what it shows.
    fs::remove_dir_all(&root).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("shard.tar"), shard.into_inner().unwrap()).unwrap();
    cascade.train("shard", &BASE.replace("labels: folders", "labels: cls"), "1");
    let config = fs::read_to_string(format!("{}/config.json", cascade.model("shard"))).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["class_names"], serde_json::json!(LABELS));
    let spec = cascade.training("unlisted", &BASE.replace("labels: folders", "labels: list"));
    let (code, _, errors) = run(&["train", &spec, "--json"], &cascade.none);
    assert!(code != 0 && errors.contains("no picture to learn from"), "{errors}");
    let left_out = fs::read_to_string(cascade.folder.path().join("unlisted/index/left-out.jsonl")).unwrap();
    assert!(left_out.contains("`metadata.jsonl`, which would say its label: it is not there"), "{left_out}");
}

#[test]
fn both_stages_are_trained_by_one_spec_in_one_process_and_side_by_side() {
    let cascade = Cascade::new();
    let expected = [cascade.train("base", BASE, "1"), cascade.train("enlarge", ENLARGE, "1")];
    let spec = |name: &str| {
        let stages = [("base", BASE), ("enlarge", ENLARGE)].map(|(stage, more)| {
            let fields: String = more.lines().map(|line| format!("  {line}\n")).collect();
            format!("- name: {stage}\n{fields}")
        });
        cascade.training(name, &format!("stages:\n{}", stages.concat()))
    };
    let (code, out, errors) = run(&["train", &spec("here"), "--json"], &cascade.none);
    assert_eq!(code, 0, "{errors}");
    let digest = |line: &str| json(line)["weights_sha256"].as_str().unwrap().to_string();
    assert_eq!(out.lines().map(digest).collect::<Vec<_>>(), expected);
    let coordinator = Coordinator::start(&cascade.text("state"), &[], &cascade.none);
    let address = coordinator.address.as_str();
    let _workers = [worker(address, &cascade.none), worker(address, &cascade.none)];
    let there = spec("there");
    let submitted = ["submit", &there, "--coordinator", address, "--idempotency-key", "k", "--watch"];
    let (code, out, errors) = run(&submitted, &cascade.none);
    assert_eq!(code, 0, "{errors}");
    let told: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("weights sha256:")).collect();
    assert_eq!(told, expected, "{out}");
    for stage in ["base", "enlarge"] {
        let config = cascade.model(&format!("there/{stage}")) + "/config.json";
        assert!(fs::exists(&config).unwrap(), "{config}");
    }
    // The same submission again makes no more jobs.
    let again = ["submit", &there, "--coordinator", address, "--idempotency-key", "k", "--json"];
    let (code, out, errors) = run(&again, &cascade.none);
    assert_eq!(code, 0, "{errors}");
    assert!(out.lines().count() == 2 && out.lines().all(|line| json(line)["existed"] == true), "{out}");
}

#[test]
fn samples_are_the_same_whoever_makes_them_and_one_can_be_made_alone() {
    let cascade = Cascade::trained();
    let generated = cascade.generate(&cascade.spec("here", 20, ""));
    let expected = cascade.files("here");
    assert_eq!((&generated["samples"], expected.len()), (&20.into(), 20));
    for (place, label) in LABELS.iter().enumerate() {
        let count = expected.keys().filter(|name| name.starts_with(&format!("{label}/"))).count();
        assert_eq!(count, if place < 2 { 7 } else { 6 }, "{label}");
    }
    assert!(!cascade.folder.path().join("here/.sr3/stages").exists(), "pictures of stages are left");
    let alone = cascade.text("alone.png");
    let spec = cascade.spec("here", 20, "");
    let (code, _, errors) = run(&["generate", &spec, "--index", "13", "--out", &alone], &cascade.none);
    assert_eq!(code, 0, "{errors}");
    assert!(fs::read(alone).unwrap() == expected["c/00000013.png"]);
    // More of the same: what is there stays, and is not made again.
    let more = cascade.generate(&cascade.spec("here", 23, "keep_stages: true\n"));
    assert_eq!(more["samples"], 23);
    assert!(expected.iter().all(|(name, bytes)| cascade.files("here").get(name) == Some(bytes)));
    for count in [1, 3] {
        let state = cascade.text(&format!("state {count}"));
        let coordinator = Coordinator::start(&state, &[], &cascade.none);
        let _workers: Vec<_> = (0..count).map(|_| worker(&coordinator.address, &cascade.none)).collect();
        let name = format!("by {count}");
        let submitted =
            ["submit", &cascade.spec(&name, 20, ""), "--coordinator", &coordinator.address, "--watch"];
        let (code, out, errors) = run(&submitted, &cascade.none);
        assert_eq!(code, 0, "{errors}");
        assert!(out.contains("20 samples in ") && out.contains("samples sha256:"), "{out}");
        assert!(cascade.files(&name) == expected, "{count} workers, other samples");
    }
}

#[test]
fn a_job_whose_workers_are_killed_makes_every_sample_once() {
    let cascade = Cascade::trained();
    let expected = cascade.generate(&cascade.spec("here", 60, ""))["samples_sha256"].clone();
    let coordinator = Coordinator::start(&cascade.text("state"), &[], &cascade.none);
    let address = coordinator.address.as_str();
    let mut workers = vec![worker(address, &cascade.none), worker(address, &cascade.none)];
    let spec = cascade.spec("killed", 60, "");
    let (code, id, errors) = run(&["submit", &spec, "--coordinator", address], &cascade.none);
    assert_eq!(code, 0, "{errors}");
    for least in [5, 20, 40] {
        until(Duration::from_secs(60), || (cascade.files("killed").len() >= least).then_some(()));
        workers.remove(0).kill();
        workers.push(worker(address, &cascade.none));
    }
    let status = until(Duration::from_secs(90), || {
        let (_, out, _) = run(&["status", id.trim(), "--json", "--coordinator", address], &cascade.none);
        Some(json(&out)).filter(|status| status["state"] != "running" && status["state"] != "finishing")
    });
    assert_eq!(status["state"], "succeeded", "{status}");
    assert_eq!(status["summary"]["samples_sha256"], expected);
    assert!(cascade.files("killed") == cascade.files("here"));
}

#[test]
fn a_process_that_is_killed_goes_on_where_it_was() {
    let cascade = Cascade::trained();
    let expected = cascade.generate(&cascade.spec("whole", 60, ""));
    let spec = cascade.spec("parts", 60, "");
    for least in [5, 30] {
        let process = Process::start(&["generate", &spec, "--json"], &cascade.none);
        until(Duration::from_secs(60), || (cascade.files("parts").len() >= least).then_some(()));
        process.kill();
    }
    assert_eq!(cascade.generate(&spec), expected);
    assert!(cascade.files("parts") == cascade.files("whole"));
}

#[test]
fn small_pictures_of_a_folder_go_through_the_later_stages_alone() {
    let cascade = Cascade::trained();
    let small = cascade.folder.path().join("small");
    pictures::write_of(&small, 5, 16..17);
    fs::write(small.join("broken.png"), "no picture").unwrap();
    let text = format!(
        "kind: generate\nsource: {}\ndestination: {}\nstages:\n- {{model: {}, steps: 3}}\n",
        small.to_str().unwrap(),
        cascade.text("large"),
        cascade.model("enlarge")
    );
    let (code, out, errors) = run(&["generate", &cascade.written("large", &text), "--json"], &cascade.none);
    assert_eq!(code, 3, "one is set aside: {errors}");
    let generated = json(&out);
    assert_eq!((&generated["samples"], &generated["set_aside"]), (&5.into(), &1.into()), "{out}");
    assert_eq!(cascade.files("large").len(), 5);
    let samples = fs::read_to_string(cascade.folder.path().join("large/samples.jsonl")).unwrap();
    assert!(samples.lines().any(|line| line.contains("broken.png") && line.contains("reason")), "{samples}");
}

#[test]
fn a_stage_may_be_stopped_early_and_each_has_its_dtype() {
    let cascade = Cascade::new();
    cascade.train("base", BASE, "1");
    cascade.train("enlarge", &format!("{ENLARGE}noise: [0, 10]\n"), "1");
    let firsts = |name: &str| pictures::files(&cascade.folder.path().join(name).join(".sr3/stages/0"));
    let make = |name: &str, more: &str| {
        cascade.generate(&cascade.spec(name, 6, &format!("{more}keep_stages: true\n")));
        (firsts(name), cascade.files(name))
    };
    let (whole, added) = make("added", "  noise: 8\n");
    let (early, truncated) = make("truncated", "  noise: 8\n  truncated: true\n");
    assert!(whole != early && added != truncated);
    let (plain, f32) = make("f32", "");
    let (same, bf16) = make("bf16", "  dtype: bf16\n");
    assert_eq!(plain, same, "the first stage is computed in f32");
    assert!(f32 != bf16, "the second is not");
}

#[test]
fn a_cascade_that_cannot_be_is_refused_in_one_line_with_the_way_out() {
    let cascade = Cascade::trained();
    cascade.generate(&cascade.spec("taken", 3, ""));
    let [base, enlarge] = ["base", "enlarge"].map(|model| cascade.model(model));
    let names = std::cell::Cell::new(0);
    let with = |stages: &str, more: &str| {
        let text = format!(
            "kind: generate\ndestination: {}\ncount: 4\nstages:\n{stages}{more}",
            cascade.text("out")
        );
        let name = format!("wrong {}", names.get());
        names.set(names.get() + 1);
        cascade.written(&name, &text)
    };
    let cases = [
        (
            with(&format!("- model: {base}\n- model: {enlarge}\n- model: {enlarge}\n"), ""),
            "stage 3: its model makes 32 pixels of 16, and the stage before makes 32: the sizes do not chain",
        ),
        (
            with(&format!("- model: {enlarge}\n"), ""),
            "stage 1: the network has 6 input and 3 output channels",
        ),
        (
            with(&format!("- model: {base}\n- model: {base}\n"), ""),
            "stage 2: the model makes pictures of noise, and enlarges none",
        ),
        (
            with(&format!("- model: {base}\n"), "classes: [a, b]\n"),
            "the model has no class `b`: did you mean `a`?",
        ),
        (with(&format!("- model: {base}\n"), "classes: [3]\n"), "the model has no class `3`"),
        (with(&format!("- {{model: {base}, blur: 1}}\n"), ""), "stage 1: it is given no picture"),
        (
            with(&format!("- model: {base}\n- {{model: {enlarge}, blur: 2}}\n"), ""),
            "stage 2: blur is 2, and its model has learned from 0 to 1",
        ),
        (
            with(&format!("- model: {base}\n- {{model: {enlarge}, noise: 2}}\n"), ""),
            "stage 2: noise is 2, and its model has learned without",
        ),
        (
            with(&format!("- model: {base}\n- {{model: {enlarge}, truncated: true}}\n"), ""),
            "stage 2: truncated at what noise? Give `noise`",
        ),
        (
            with(
                &format!(
                    "- model: {base}\n- {{model: {enlarge}, projection: true}}\n\
                     - {{model: {enlarge}, noise: 2, truncated: true}}\n"
                ),
                "",
            ),
            "stage 3: the projection of the stage before would take its noise away",
        ),
        (
            with(&format!("- {{model: {base}, noise: 2, truncated: true}}\n"), ""),
            "stage 1: it is given no picture",
        ),
        (with(&format!("- {{model: {base}, sampler: dimm}}\n"), ""), "stage 1: there is no sampler dimm"),
        (cascade.spec("taken", 3, "classes: [a]\n"), "holds samples of another job"),
    ];
    for (spec, part) in cases {
        let (code, _, errors) = run(&["generate", &spec], &cascade.none);
        let text = fs::read_to_string(&spec).unwrap();
        assert!(code != 0 && errors.contains(part), "{text}: {errors}");
        assert_eq!(errors.trim_end().lines().count(), 1, "{errors}");
    }
}

#[test]
fn what_a_job_takes_is_said_before_its_networks_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.yaml");
    let text =
        "kind: generate\ndestination: nowhere\ncount: 50k\nstages:\n- {model: iddpm-64-uncond, steps: 100}\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let none = Environment::new();
    let (code, out, errors) = run(&["submit", file, "--dry-run"], &none);
    assert_eq!(code, 0, "{errors}");
    for part in [
        "50000 samples",
        "iddpm-64-uncond to 64 pixels, 100 evaluations a sample",
        "3125 units",
        "device-hours",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let mut piped = command(&["submit", "-", "--dry-run"], &none);
    let from_stdin = piped.stdin(fs::File::open(file).unwrap()).output().unwrap();
    let said = String::from_utf8(from_stdin.stdout).unwrap();
    assert!(from_stdin.status.success() && said.contains("3125 units"), "{said}");
    assert!(!folder.path().join("nowhere").exists());
    let (code, _, errors) = run(&["generate", file], &none);
    assert!(code != 0 && errors.contains("unknown model `iddpm-64-uncond`"), "{errors}");
}
