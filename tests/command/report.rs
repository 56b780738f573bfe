//! `sr3 report`: one page for whatever lies at a place, which needs nothing else and lets nothing else in.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sr3::engine::image::{DecodeLimits, OutputFormat, Picture, Samples, decode, encode};

use crate::inception;

/// A name that would be a script if a page took it for anything but a name.
const ODD: &str = "a<script>alert(1)<!-- 'b' & \"c\".png";

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    /// A part of a sample photograph.
    fn cut(&self, name: &str, [left, top, width, height]: [usize; 4]) {
        let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/canyons/grand-canyon.png");
        let picture = decode(&fs::read(photo).unwrap(), &DecodeLimits::default()).unwrap().picture;
        let Samples::U8(samples) = &picture.samples else { panic!() };
        let row = |y: usize| samples[(y * picture.width + left) * 3..][..width * 3].to_vec();
        let rows = (top..top + height).flat_map(row).collect();
        let part = Picture { width, height, samples: Samples::U8(rows), ..picture.clone() };
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), encode(&part, OutputFormat::Png, 100).unwrap().bytes).unwrap();
    }

    /// The page of these places.
    fn page(&self, arguments: &[&str]) -> String {
        let out = self.text("page.html");
        let ran = sr3(&[&["report", "--out", &out][..], arguments].concat());
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let page = fs::read_to_string(out).unwrap();
        check(&page);
        page
    }
}

fn sr3(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sr3")).args(arguments).output().unwrap()
}

/// Elements are closed in order, and nothing refers to anything outside or can run.
fn check(page: &str) {
    let empty = ["meta", "img", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').unwrap() + at;
        let tag = &rest[at + 1..end];
        let name = tag.split([' ', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "{}", &rest[at..end + 1]),
            None if empty.contains(&name) => {}
            None => open.push(name),
        }
        for attribute in [" src=\"", " href=\""] {
            if let Some((_, value)) = tag.split_once(attribute) {
                assert!(value.starts_with("data:image/"), "{}", &value[..value.len().min(60)]);
            }
        }
        assert!(!["script", "link", "iframe", "object", "a"].contains(&name), "<{tag}>");
        assert!(!tag.contains(" on"), "<{tag}>");
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn upscaled_and_projected_pictures_are_counted_and_some_shown_before_and_after() {
    let folders = Folders::new();
    folders.cut("in/one.png", [20, 10, 40, 30]);
    folders.cut(&format!("in/{ODD}"), [60, 40, 24, 24]);
    fs::write(folders.path("in/<b>broken.png"), b"no picture").unwrap();
    let [source, large, repaired] = ["in", "large", "repaired"].map(|name| folders.text(name));
    let ran = sr3(&["upscale", &source, &large, "--preset", "one", "--no-projection", "--quiet"]);
    assert_eq!(ran.status.code(), Some(3));
    let ran = sr3(&["project", &source, &large, &repaired, "--quiet"]);
    assert_eq!(ran.status.code(), Some(3));
    let page = folders.page(&[&large, &repaired]);
    assert!(page.contains("2 done, 0 skipped, 1 set aside."), "{page}");
    assert!(
        page.contains("&lt;b&gt;broken.png")
            && page.contains("photo-4x")
            && page.contains("bicubic reduction")
    );
    // Two pictures with two views, and with three where another tool's lie between.
    assert_eq!(page.matches("data:image/png").count(), 2 * 2 + 2 * 3);
    assert!(page.contains("a&lt;script&gt;alert(1)&lt;!-- &#39;b&#39; &amp; &quot;c&quot;.png, bicubic"));
    // Pictures that are gone are not shown, and the rest is told all the same.
    fs::remove_dir_all(folders.path("in")).unwrap();
    assert_eq!(folders.page(&[&large]).matches("data:image/png").count(), 0);
}

#[test]
fn an_evaluation_shows_its_means_and_its_worst_and_best_pictures() {
    let folders = Folders::new();
    for (number, left) in (0..8).zip([0, 10, 20, 30, 40, 50, 60, 70]) {
        folders.cut(&format!("in/{number}.png"), [left, 5, 48, 44]);
    }
    folders.cut("in/small.png", [0, 0, 12, 12]);
    let [source, out] = ["in", "out"].map(|name| folders.text(name));
    let ran = sr3(&["evaluate", &source, "--out", &out, "--pictures", "--preset", "one"]);
    assert_eq!(ran.status.code(), Some(3), "{}", String::from_utf8_lossy(&ran.stderr));
    let page = folders.page(&[&out]);
    assert!(page.contains("8 pictures measured, 1 set aside.") && page.contains("too small to compare"));
    assert!(page.contains(" ± ") && page.contains("bicubic") && page.contains("photo-4x"));
    assert_eq!(page.matches("data:image/png").count(), 0);
    let page = folders.page(&[&out, "--truths", &source]);
    assert_eq!(page.matches("data:image/png").count(), 3 * 2, "the three worst; none is shown twice");
}

#[test]
fn a_training_run_shows_its_curve_its_samples_and_its_checkpoints() {
    let folders = Folders::new();
    for number in 0..12 {
        folders.cut(&format!("in/{number}.png"), [10 * number, 7, 28, 28]);
    }
    let [source, run] = ["in", "run"].map(|name| folders.text(name));
    let spec = format!(
        "kind: train\nsource: {source}\ndestination: {run}\nvalidation_fraction: 0.3\nhigh_res: 16\nlow_res: 8\n\
         crop: random\nmodel: {{inner_channel: 8, norm_groups: 4, channel_mults: [1, 2], res_blocks: 1}}\nsteps: 40\n\
         batch: 8\ngrains: 8\nlearning_rate: 1e-3\naverages: [1k]\ncheckpoint_every: 20\nlog_every: 5\n\
         validation_every: 20\nvalidation_pictures: 2\nvalidation_samples: 2\nseed: 5\n"
    );
    fs::write(folders.path("job.yaml"), spec).unwrap();
    let ran = sr3(&["train", &folders.text("job.yaml"), "--json"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let trained: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let page = folders.page(&[&run]);
    assert!(page.contains(trained["weights_sha256"].as_str().unwrap()), "the digest of the weights");
    assert_eq!(page.matches("data:image/svg+xml").count(), 1);
    assert_eq!(page.matches("data:image/png").count(), 1);
    assert!(page.contains("checkpoints/step-000000000040/average-1000"), "{page}");
}

#[test]
fn samples_are_shown_by_class_and_a_comparison_with_all_that_decides_it() {
    let folders = Folders::new();
    for number in 0..12 {
        let class = ["roses", "<b>tulips"][number % 2];
        folders.cut(&format!("in/{class}/{number}.png"), [10 * number, 7, 28, 28]);
    }
    let [source, run, samples, numbers] = ["in", "run", "samples", "numbers"].map(|name| folders.text(name));
    let spec = format!(
        "kind: train\nsource: {source}\ndestination: {run}\nhigh_res: 16\nlabels: folders\nclasses: 2\nmodel: {{layout: iddpm, \
         inner_channel: 8, norm_groups: 4, channel_mults: [1, 2], res_blocks: 1, heads: {{count: 2}}, \
         use_affine_level: true, learned_variance: true}}\nsteps: 2\nbatch: 8\naverages: [1k]\nseed: 5\n"
    );
    fs::write(folders.path("train.yaml"), spec).unwrap();
    let ran = sr3(&["train", &folders.text("train.yaml"), "--quiet"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let model = format!("{run}/checkpoints/step-000000000002/average-1000");
    let spec =
        format!("kind: generate\ndestination: {samples}\ncount: 7\nstages:\n- model: {model}\n  steps: 2\n");
    fs::write(folders.path("generate.yaml"), spec).unwrap();
    let ran = sr3(&["generate", &folders.text("generate.yaml"), "--quiet"]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let page = folders.page(&[&samples]);
    assert!(page.contains("7 samples, 0 set aside.") && page.contains("&lt;b&gt;tulips: 4"), "{page}");
    assert!(page.contains("roses: 3"), "{page}");
    assert_eq!(page.matches("data:image/png").count(), 7);
    let compared = Command::new(env!("CARGO_BIN_EXE_sr3"))
        .args(["fid", &samples, &source, "--out", &numbers, "--json"])
        .env("SR3_CACHE", inception::cache().path())
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    let compared: serde_json::Value = serde_json::from_slice(&compared.stdout).unwrap();
    let page = folders.page(&[&numbers]);
    for digest in [&compared["sets"][0]["sha256"], &compared["sets"][1]["sha256"], &compared["weights"]] {
        assert!(page.contains(digest.as_str().unwrap()), "{digest}");
    }
    assert!(page.contains(&format!("{:.6}", compared["numbers"]["fid"].as_f64().unwrap())), "{page}");
}

#[test]
fn a_place_without_a_run_is_refused_in_one_line() {
    let folders = Folders::new();
    fs::create_dir(folders.path("empty")).unwrap();
    for place in ["empty", "none"] {
        let ran = sr3(&["report", &folders.text(place), "--out", &folders.text("page.html")]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && said.trim().lines().count() == 1, "{said}");
        assert!(said.contains(place), "{said}");
    }
    assert!(!folders.path("page.html").exists());
}
