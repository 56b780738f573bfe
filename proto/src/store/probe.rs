//! Does the store keep its word? Asked once, when a coordinator opens it.
//!
//! Everything that several processes do on one store rests on [`PutMode::Create`]: of several who create a key,
//! exactly one wins. Some servers that speak S3 ignore the condition, and some check it and then write, so that two
//! may pass. The probe really races, for several keys, and reads back who won. A racy server may pass by luck; how
//! often is measured by the tests below. It also checks that a listing is complete and goes on after each of
//! its keys with just what comes after it, which is how a plan goes on.
//!
//! A store that fails is for a single writer: one process alone may use it, as `sr3 upscale` without a coordinator
//! does after a warning; a coordinator refuses it.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use futures::{TryStreamExt, future, stream::BoxStream};

use super::{ListEntry, PutMode, Store, StoreError};
use crate::{Key, layout};

/// How many races are run.
const RACES: usize = 4;
/// How many race for one key.
const RACERS: u8 = 8;
/// Large enough to take a server some time, small enough for one packet train.
const RACE_BYTES: usize = 32 << 10;
/// Names that come in another order by bytes than by folders, by letters or by length.
const NAMES: [&str; 6] = ["B", "a-/x", "a.b", "a/x", "a/y", "\u{e9}"];

pub(super) async fn run(store: &Store) -> Result<(), StoreError> {
    // Nobody else may race for the same keys, on whatever machine.
    let run = layout::probe_prefix(RandomState::new().hash_one(std::process::id()));
    let mut keys = Vec::new();
    let found = races(store, &run, &mut keys).await;
    let found = match found {
        Ok(None) => listing(store, &run, &mut keys).await,
        other => other,
    };
    for removed in future::join_all(keys.iter().map(|key| store.delete(key))).await {
        // What is left behind is small and out of the way; the verdict matters more.
        if let Err(error) = removed {
            tracing::warn!(%error, "an object of the probe stays");
        }
    }
    match found? {
        None => Ok(()),
        Some(found) => Err(StoreError::NotConditional { location: store.location(), found }),
    }
}

/// All races at once: that takes no longer than one, and a busy server is a better test.
async fn races(store: &Store, run: &Key, keys: &mut Vec<Key>) -> Result<Option<String>, StoreError> {
    keys.extend((0..RACES).map(|race| layout::below(run, &format!("race-{race}"))));
    let found = future::try_join_all(keys.iter().map(|key| race(store, key))).await?;
    Ok(found.into_iter().flatten().next())
}

async fn race(store: &Store, key: &Key) -> Result<Option<String>, StoreError> {
    let racers = (0..RACERS).map(|racer| {
        let (store, key) = (store.clone(), key.clone());
        tokio::spawn(async move { store.put(&key, body(racer), PutMode::Create).await })
    });
    let mut winners = Vec::new();
    for (racer, ended) in (0..RACERS).zip(future::join_all(racers).await) {
        let ended = ended.map_err(|e| StoreError::Failed { path: key.to_string(), source: e.into() })?;
        match ended {
            Ok(()) => winners.push(racer),
            Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if winners.len() > 1 {
        return Ok(Some(format!("{} of {RACERS} created the same object at once", winners.len())));
    }
    let (_, first) = store.get(key).await?;
    let holds = (0..RACERS).find(|racer| first == body(*racer));
    // Without a winner, the answer to the winner got lost.
    if holds.is_none() || winners.first().is_some_and(|winner| Some(*winner) != holds) {
        return Ok(Some("an object does not hold what its creator wrote".into()));
    }
    match store.put(key, body(RACERS), PutMode::Create).await {
        Err(StoreError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error),
        Ok(()) => return Ok(Some("an object that exists was created again".into())),
    }
    let stays = store.get(key).await?.1 == first;
    Ok((!stays).then(|| "a refused creation changed the object".into()))
}

async fn listing(store: &Store, run: &Key, keys: &mut Vec<Key>) -> Result<Option<String>, StoreError> {
    let folder = layout::below(run, "names");
    let mut expected: Vec<Key> = NAMES.iter().map(|name| layout::below(&folder, name)).collect();
    for key in &expected {
        keys.push(key.clone());
        match store.put(key, Bytes::from_static(b"x"), PutMode::Create).await {
            Ok(()) | Err(StoreError::AlreadyExists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let listed = names(store.list_under(&folder)).await?;
    for (at, key) in listed.iter().enumerate() {
        if names(store.list_under_after(&folder, key)).await? != listed[at + 1..] {
            return Ok(Some("a listing does not go on where it stopped".into()));
        }
    }
    let mut sorted = listed;
    sorted.sort();
    expected.sort();
    Ok((sorted != expected).then(|| "a listing is not complete".into()))
}

async fn names(listing: BoxStream<'static, Result<ListEntry, StoreError>>) -> Result<Vec<Key>, StoreError> {
    let key = |entry| match entry {
        ListEntry::Object(info) => Some(info.key),
        ListEntry::Odd { .. } => None,
    };
    listing.try_filter_map(|entry| future::ready(Ok(key(entry)))).try_collect().await
}

fn body(racer: u8) -> Bytes {
    vec![racer; RACE_BYTES].into()
}

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use async_trait::async_trait;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
        ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory,
        path::Path,
    };

    use super::*;
    use crate::store::{Backend, RemoteStore};

    /// Looks whether there is an object, lets others run, and then writes: what a careless server does.
    #[derive(Debug, Default)]
    struct Racy {
        inner: InMemory,
        puts: AtomicUsize,
        /// Of how many creations one falls into the gap.
        one_in: usize,
    }

    impl fmt::Display for Racy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("racy")
        }
    }

    #[async_trait]
    impl ObjectStore for Racy {
        async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            if options.mode != object_store::PutMode::Create
                || !self.puts.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
            {
                return self.inner.put_opts(path, payload, options).await;
            }
            let there = self.inner.head(path).await.is_ok();
            // The clock is the test's: it goes on when everybody has looked.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if there {
                return self.inner.put_opts(path, payload, options).await;
            }
            self.inner.put(path, payload).await
        }

        async fn put_multipart_opts(
            &self,
            path: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.inner.put_multipart_opts(path, options).await
        }

        async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
            self.inner.get_opts(path, options).await
        }

        fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(paths)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.inner.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.inner.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }

    async fn noticed(one_in: usize) -> usize {
        let mut noticed = 0;
        for _ in 0..20 {
            let racy = Racy { one_in, ..Racy::default() };
            let store = Store::from(Backend::Remote(RemoteStore::of(Arc::new(racy))));
            match run(&store).await {
                Ok(()) => {}
                Err(StoreError::NotConditional { .. }) => noticed += 1,
                Err(other) => panic!("{other}"),
            }
            let left: Vec<ListEntry> = store.list().try_collect().await.unwrap();
            assert!(left.is_empty());
        }
        noticed
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_between_looking_and_writing_is_noticed() {
        let (always, often) = (noticed(1).await, noticed(3).await);
        println!("noticed in 20 probes: {always} with a gap in every creation, {often} in every third");
        assert_eq!(always, 20);
        assert!(often >= 10);
    }
}
