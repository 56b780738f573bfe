//! What must hold at the end of every seed.

use std::{collections::BTreeMap, fmt::Write};

use futures::TryStreamExt;
use sr3::{
    coordinator::ledger::Ledger,
    jobs::upscale::{ItemRecord, ItemStatus},
    proto::{
        Digest, Key, Store, layout,
        store::ListEntry,
        wire::v1::{Job, JobState},
    },
};

use crate::{
    cluster::{Stage, Task},
    played::{BAD, computed},
};

/// Every object, by name.
async fn objects(store: &Store, prefix: Option<&Key>) -> BTreeMap<String, Vec<u8>> {
    let listed = match prefix {
        Some(prefix) => store.list_under(prefix),
        None => store.list(),
    };
    let entries: Vec<ListEntry> = listed.try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for entry in entries {
        let ListEntry::Object(info) = entry else { panic!("{entry:?}") };
        let (_, bytes) = store.get(&info.key).await.unwrap();
        found.insert(info.key.to_string(), bytes.to_vec());
    }
    found
}

/// Panics on what does not hold; returns a digest of all that is left.
pub(crate) async fn check(stage: &Stage, jobs: &[Job]) -> String {
    let mut all = String::new();
    let ledger = stage.ledger.open();
    let rows: Vec<(String, bytes::Bytes)> = ledger.scan("", None).try_collect().await.unwrap();
    assert_eq!(jobs.len(), stage.tasks.len());
    for (task, job) in stage.tasks.iter().zip(jobs) {
        let open = rows.iter().filter(|(key, _)| key.starts_with(&format!("attempts/{:020}/", job.id)));
        let counts = job.counts.unwrap_or_default();
        assert_eq!((counts.units_done, open.count()), (counts.units_planned, 0), "{counts:?}");
        assert_eq!(counts.work_done, counts.work_planned, "{counts:?}");
        check_job(stage, task, job).await;
    }
    for (key, value) in rows {
        writeln!(all, "{key} {}", Digest::of(&value)).unwrap();
    }
    for (location, store) in &stage.stores {
        for prefix in [None, Some(Key::new(layout::STATE_FOLDER).unwrap())] {
            for (name, bytes) in objects(store, prefix.as_ref()).await {
                // Left by a coordinator that crashed while it tried the store out, under names of its own.
                if name.starts_with(".sr3/probe/") {
                    continue;
                }
                writeln!(all, "{location} {name} {}", Digest::of(&bytes)).unwrap();
            }
        }
    }
    Digest::of(all.as_bytes()).to_string()
}

async fn check_job(stage: &Stage, task: &Task, job: &Job) {
    let outputs = &stage.stores[&task.destination];
    let is_bad = |text: &str| text.starts_with(BAD);
    assert_eq!(job.state(), JobState::Succeeded, "{}", job.reason);
    let wanted: BTreeMap<String, Vec<u8>> = task
        .images
        .iter()
        .filter(|(_, text)| !is_bad(text))
        .map(|(name, text)| (name.clone(), computed(text).into_bytes()))
        .collect();
    assert_eq!(objects(outputs, None).await, wanted, "outputs");

    let (_, report) = outputs.get(&layout::report_key()).await.unwrap();
    let lines = report.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let report: Vec<ItemRecord> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let reported: Vec<_> = report
        .iter()
        .map(|record| (record.input.as_str(), record.status == ItemStatus::Quarantined))
        .collect();
    let wanted: Vec<_> = task.images.iter().map(|(name, text)| (name.as_str(), is_bad(text))).collect();
    assert_eq!(reported, wanted, "report");
    assert!(outputs.head(&layout::success_key()).await.unwrap().is_some());

    let counts = job.counts.unwrap_or_default();
    let bad = task.images.values().filter(|text| is_bad(text)).count() as u64;
    let good = task.images.len() as u64 - bad;
    assert_eq!(
        (counts.planned, counts.done, counts.skipped, counts.quarantined, counts.units_done),
        (good + bad, good, 0, bad, counts.units_planned),
        "{counts:?}"
    );
}
