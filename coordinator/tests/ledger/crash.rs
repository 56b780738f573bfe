//! `kill -9` amid commits: what was acknowledged is there, and no batch in part.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::Arc,
};

use sr3_coordinator::ledger::open_ledger;
use tempfile::TempDir;

use super::conformance::{puts, rows};

const FOLDER: &str = "SR3_TEST_LEDGER";

/// The process that the test below kills; by itself, without a folder, it is nothing. It writes a line for every commit that was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn the_victim() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let ledger = open_ledger(&folder).await.unwrap();
    let epoch = ledger.epoch();
    let writers = (0..8).map(|writer| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for i in 0.. {
                let key = format!("{epoch:03}/{writer}/{i}");
                let (x, y) = (format!("{key}/x"), format!("{key}/y"));
                ledger.commit(puts(&[(&x, &x), (&y, &y)])).await.unwrap();
                writeln!(std::io::stdout().lock(), "done {key}").unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for killing in [1, 40, 400, 150] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_victim", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            // The harness may have begun the line.
            if let Some((_, key)) = line.split_once("done ") {
                acknowledged.push(key.to_string());
                seen += 1;
                if seen == killing {
                    child.kill().unwrap();
                }
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= killing);

        let ledger = open_ledger(folder.path().to_str().unwrap()).await.unwrap();
        let rows = rows(&*ledger).await;
        for key in &acknowledged {
            for key in [format!("{key}/x"), format!("{key}/y")] {
                assert_eq!(rows.get(&key).map(|value| &value[..]), Some(key.as_bytes()), "{key}");
            }
        }
        let partners = rows.keys().filter(|key| key.ends_with("/x"));
        assert_eq!(partners.count() * 2, rows.len());
        // Dropped without closing, as the victim was.
    }
}
