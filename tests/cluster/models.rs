//! Models that lie in a bucket, and devices of two classes.

use std::{fs, path::Path};

use sr3::proto::{Key, Location, store::PutMode};

use crate::{
    pictures,
    processes::{Coordinator, Environment, Process, json, run, worker},
    s3::Server,
    whole::upscaled_locally,
};

const FILES: [&str; 2] = ["config.json", "model.safetensors"];

fn of_the_box(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/models/photo-4x");
    fs::read(folder.join(name)).unwrap()
}

/// Puts the files of a model into a bucket; `change` may spoil them.
fn put(server: &Server, location: &Location, files: &[&'static str], change: impl Fn(&str, &mut Vec<u8>)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in files {
        let mut bytes = of_the_box(name);
        change(name, &mut bytes);
        let (store, key) = (server.open(location), Key::new(*name).unwrap());
        runtime.block_on(store.put(&key, bytes.into(), PutMode::Replace)).unwrap();
    }
}

fn with_cache(environment: &Environment, cache: &Path) -> Environment {
    let mut with = environment.clone();
    with.push(("SR3_CACHE", cache.to_str().unwrap().into()));
    with
}

fn kept(cache: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(cache.join("models")) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string()).collect();
    names.sort();
    names
}

#[test]
fn workers_with_empty_caches_fetch_a_model_and_notice_a_wrong_byte_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write(&path("in"), 8, false);
    upscaled_locally(&path("in"), &path("local"));
    let server = Server::seaweedfs();
    let environment: Environment = server.environment().to_vec();
    let [model, spoilt, half, elsewhere] = [0, 1, 2, 3].map(|_| server.fresh());
    put(server, &model, &FILES, |_, _| ());
    put(server, &spoilt, &FILES, |name, bytes| {
        if name == FILES[1] {
            *bytes.last_mut().unwrap() ^= 1;
        } else {
            // Another model by name, so that nobody has it in memory.
            *bytes = String::from_utf8(bytes.clone()).unwrap().replace("photo-4x", "spoilt").into_bytes();
        }
    });
    put(server, &half, &FILES[..1], |_, _| ());

    let mut arguments = vec!["--allow-store".to_string(), folder.path().to_str().unwrap().into()];
    for place in [&model, &spoilt, &half] {
        arguments.extend(["--allow-store".to_string(), place.to_string()]);
    }
    fs::create_dir(path("out")).unwrap();
    let allow: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let coordinator = Coordinator::start(&text("state"), &allow, &environment);
    let caches = [path("cache 1"), path("cache 2")];
    let _workers =
        [&caches[0], &caches[1]].map(|cache| worker(&coordinator.address, &with_cache(&environment, cache)));
    let upscale = |model: &str, out: &str| {
        let (source, destination) = (text("in"), text(out));
        let arguments = ["upscale", &source, &destination, "--preset", "one", "--quiet", "--model", model];
        run(&[&arguments[..], &["--coordinator", &coordinator.address]].concat(), &environment)
    };
    let (code, _, errors) = upscale(&model.to_string(), "out/good");
    assert_eq!(code, 0, "{errors}");
    assert!(pictures::files(&path("out/good")) == pictures::files(&path("local")), "other bytes");
    assert!(caches.iter().any(|cache| !kept(cache).is_empty()), "nothing was kept");
    for cache in &caches {
        assert!(kept(cache).iter().all(|name| name.ends_with(".safetensors")), "{:?}", kept(cache));
    }
    // From empty caches again, so that only what lies there can tell.
    for cache in &caches {
        let _ = fs::remove_dir_all(cache);
    }
    for (place, code, parts) in [
        (&spoilt, 1, ["has sha256", "fetch both files again"]),
        (&half, 2, ["half there", "no model.safetensors"]),
        (&elsewhere, 2, ["not allowed", "in none of the allowed places"]),
    ] {
        let (ended, _, errors) = upscale(&place.to_string(), "out/bad");
        assert_eq!(ended, code, "{place}: {errors}");
        assert!(parts.iter().all(|part| errors.contains(part)), "{place}: {errors}");
    }
    // What holds nothing is no model.
    let nothing = format!("{}/nothing", model);
    let (code, _, errors) = upscale(&nothing, "out/bad");
    assert!(code == 2 && errors.contains("it holds no config.json"), "{errors}");
}

#[test]
fn a_command_killed_amid_a_download_leaves_nothing_that_harms_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    pictures::write(&path("in"), 1, false);
    upscaled_locally(&path("in"), &path("local"));
    let server = Server::seaweedfs();
    let model = server.fresh();
    put(server, &model, &FILES, |_, _| ());
    let environment = with_cache(&server.environment().to_vec(), &path("cache"));
    let (source, destination, model) = (
        path("in").to_str().unwrap().to_string(),
        path("out").to_str().unwrap().to_string(),
        model.to_string(),
    );
    let arguments = ["upscale", &source, &destination, "--preset", "one", "--quiet", "--model", &model];
    for milliseconds in [5, 20, 40, 80, 120] {
        let process = Process::start(&arguments, &environment);
        std::thread::park_timeout(std::time::Duration::from_millis(milliseconds));
        process.kill();
    }
    // And what a broken disk would leave: a whole file that is none.
    let sha256: serde_json::Value = serde_json::from_slice(&of_the_box(FILES[0])).unwrap();
    let name = format!("{}.safetensors", sha256["sha256"].as_str().unwrap());
    fs::create_dir_all(path("cache/models")).unwrap();
    fs::write(path("cache/models").join(&name), "half").unwrap();
    let (code, _, errors) = run(&arguments, &environment);
    assert_eq!(code, 0, "{errors}");
    assert!(pictures::files(&path("out")) == pictures::files(&path("local")), "other bytes");
    assert_eq!(fs::read(path("cache/models").join(&name)).unwrap(), of_the_box(FILES[1]));
}

#[test]
fn workers_of_two_classes_never_mix_their_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    pictures::write_of(&path("in"), 6, 16..20);
    upscaled_locally(&path("in"), &path("cpu"));
    let none = Environment::new();
    let source = text("in");
    let candle = ["--preset", "one", "--quiet", "--device", "candle-cpu"];
    let (code, _, errors) = run(&[&["upscale", &source, &text("candle")][..], &candle].concat(), &none);
    assert_eq!(code, 0, "{errors}");
    let coordinator = Coordinator::start(&text("state"), &[], &none);
    let address = coordinator.address.as_str();
    let other = ["worker", "--coordinator", address, "--threads", "1", "--device", "candle-cpu"];
    let _candle = Process::start(&other, &none);
    let cpu = worker(address, &none);
    let workers = || {
        let (_, out, _) = run(&["workers", "--json", "--coordinator", address], &none);
        out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    };
    crate::processes::until(std::time::Duration::from_secs(30), || (workers().len() == 2).then_some(()));
    let upscale = |out: &str| {
        let destination = text(out);
        let arguments =
            ["upscale", &source, &destination, "--preset", "one", "--json", "--coordinator", address];
        run(&arguments, &none)
    };
    let (code, _, errors) = upscale("both");
    assert_eq!(code, 0, "{errors}");
    assert!(pictures::files(&path("both")) == pictures::files(&path("cpu")), "other bytes");
    let of = |device: &str| {
        let all = workers();
        let found = all.iter().find(|one| one["device"].as_str().unwrap().starts_with(device)).cloned();
        found.unwrap_or_default()
    };
    let class = of("candle-cpu")["classes"][0].as_str().unwrap().to_string();
    assert!(class.starts_with("candle-cpu/") && class.ends_with("/f32"), "{class}");
    assert_eq!(of("candle-cpu")["shards_done"], 0);
    assert!(of("cpu")["shards_done"].as_u64().unwrap() > 0);

    // Which class it was stands beside the results.
    let recipe = |out: &str| -> serde_json::Value {
        let record = fs::read(path(out).join(".sr3/jobs/000001.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&record).unwrap()["recipe"]["class"].clone()
    };
    assert_eq!((recipe("both"), recipe("candle")), ("f32".into(), class.as_str().into()));

    // Where nobody gives f32, any device is the one that is there; and what it makes goes into no other's destination.
    cpu.signal("TERM");
    assert_eq!(cpu.wait(), 0);
    let (code, _, errors) = upscale("other");
    assert_eq!(code, 0, "{errors}");
    assert!(pictures::files(&path("other")) == pictures::files(&path("candle")), "other bytes");
    let (code, out, errors) = upscale("both");
    assert_eq!(code, 1, "{errors}");
    let said = format!("{out}{errors}");
    assert!(said.contains("made otherwise") && said.contains(&format!("now {class}")), "{said}");
    assert_eq!(json(&out)["outcome"], "failed");
}
