//! A bucket through a coordinator and three workers is the same bytes as a folder through one process.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    pictures::{self, BAD},
    processes::{Coordinator, Environment, run, worker},
};

/// The same pictures through `sr3 upscale` in one process.
pub(crate) fn upscaled_locally(source: &Path, destination: &Path) {
    let (source, destination) = (source.to_str().unwrap(), destination.to_str().unwrap());
    let (code, _, errors) =
        run(&["upscale", source, destination, "--preset", "one", "--quiet"], &Environment::new());
    assert!(matches!(code, 0 | 3), "{code} {errors}");
}

/// Inputs of the report that were set aside, and how many lines it has.
pub(crate) fn report(text: &str) -> (BTreeSet<String>, usize) {
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let inputs: BTreeSet<_> = lines.iter().map(|line| line["input"].as_str().unwrap()).collect();
    assert_eq!(inputs.len(), lines.len(), "an input is reported twice");
    let bad = lines.iter().filter(|line| line["status"] == "quarantined");
    (bad.map(|line| line["input"].as_str().unwrap().to_string()).collect(), lines.len())
}

#[test]
fn a_folder_through_a_cluster_has_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write(&path("in"), 30, true);
    upscaled_locally(&path("in"), &path("local"));

    let none = Environment::new();
    let coordinator = Coordinator::start(&text("state"), &[], &none);
    let workers = [0, 1, 2].map(|_| worker(&coordinator.address, &none));
    let arguments = ["upscale", &text("in"), &text("out"), "--preset", "one", "--quiet", "--coordinator"];
    let all = [&arguments[..], &[coordinator.address.as_str()]].concat();
    let (code, _, errors) = run(&all, &none);
    assert_eq!(code, 3, "{errors}");
    assert!(pictures::files(&path("out")) == pictures::files(&path("local")), "other bytes");
    let (bad, lines) = report(&fs::read_to_string(path("out/.sr3/report.jsonl")).unwrap());
    assert_eq!(lines, 33);
    assert_eq!(bad, BAD.map(String::from).into());
    assert!(path("out/.sr3/_SUCCESS").exists());

    // Once more: only what was set aside is tried again.
    let (code, out, _) =
        run(&[&arguments[..5], &["--json", "--coordinator", &coordinator.address]].concat(), &none);
    let ended = crate::processes::json(&out);
    assert_eq!((code, &ended["done"], &ended["skipped"]), (3, &0.into(), &30.into()), "{out}");

    // A worker that is asked to stop leaves cleanly.
    for worker in workers {
        worker.signal("TERM");
        assert_eq!(worker.wait(), 0);
    }
    coordinator.process.signal("TERM");
    assert_eq!(coordinator.process.wait(), 0);
}
