//! What earlier runs recorded about a destination, and what that means for an item now. Pure.
//!
//! | recorded ok under this recipe | input | output | then |
//! |---|---|---|---|
//! | yes | same tag, or same digest (where somebody else has enlarged it, of both pictures) | there, of the recorded length | finished |
//! | yes | changed, same source | any | computed again, the earlier result replaced |
//! | yes | changed, of another source | any | computed, nothing replaced |
//! | yes | same | gone or of another length | computed again; only the earlier result itself is replaced |
//! | no, or quarantined | | any | computed, nothing replaced |
//!
//! "Nothing replaced": an object that already holds the very bytes of the result is fine, any other quarantines the
//! item. With `--overwrite` everything is computed and replaced. Results of another recipe stop the run before it
//! begins, unless an earlier run of this recipe was allowed to replace them and did not get to the end.

use std::collections::{BTreeMap, HashMap};

use sr3_proto::{Digest, RunId, store::ObjectInfo};

use super::{ItemRecord, ItemStatus, OnExisting, RecipeSpec, RunRecord, ShardManifest};

/// The latest result of every input, and what every run was asked to do.
#[derive(Debug, Default)]
pub struct History {
    results: HashMap<String, Past>,
    jobs: BTreeMap<RunId, RunRecord>,
    recipes: HashMap<Digest, RecipeSpec>,
}

#[derive(Debug)]
struct Past {
    run: RunId,
    record: ItemRecord,
}

/// What is to be done with an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing: this is its record.
    Finished(Box<ItemRecord>),
    /// Compute it.
    Compute(OnExisting),
}

impl History {
    /// Adds what a run was asked to do.
    pub fn add_run(&mut self, job: RunRecord) {
        self.jobs.insert(job.run, job);
    }

    /// Adds a manifest. The order of calls does not matter.
    pub fn add_manifest(&mut self, manifest: ShardManifest) {
        let run = manifest.run;
        self.recipes.insert(manifest.recipe_digest.clone(), manifest.recipe);
        for record in manifest.items {
            if record.status != ItemStatus::Ok {
                continue;
            }
            let known = self.results.get(&record.input).map(|past| past.run);
            if known.is_none_or(|known| known <= run) {
                self.results.insert(record.input.clone(), Past { run, record });
            }
        }
    }

    /// What was known before `run` began.
    #[must_use]
    pub fn before(mut self, run: RunId) -> Self {
        self.jobs.retain(|id, _| *id < run);
        self.results.retain(|_, past| past.run < run);
        self
    }

    /// The latest run, if `owner` began it.
    pub fn latest_of(&self, owner: &str) -> Option<RunId> {
        let (&run, record) = self.jobs.last_key_value()?;
        (record.owner == owner).then_some(run)
    }

    /// The id of the next run.
    pub fn next_run(&self) -> RunId {
        let latest = self.jobs.keys().copied().chain(self.results.values().map(|past| past.run)).max();
        latest.map_or(RunId::new(1), RunId::next)
    }

    /// Results of other recipes than `recipe` that nobody allowed it to replace: the record, and in which fields
    /// its recipe differs.
    pub fn foreign<'a>(
        &'a self,
        recipe: &'a RecipeSpec,
    ) -> impl Iterator<Item = (&'a ItemRecord, Vec<String>)> {
        let digest = recipe.digest();
        // The latest run of this recipe that could replace: what was recorded before it is its to replace.
        let allowed_before = self
            .jobs
            .values()
            .filter(|job| job.overwrite && job.recipe.digest() == digest)
            .map(|job| job.run)
            .max();
        self.results
            .values()
            .filter(move |past| past.record.recipe != digest && Some(past.run) >= allowed_before)
            .map(|past| {
                let theirs = self.recipes.get(&past.record.recipe);
                (&past.record, theirs.map(|theirs| recipe.differences(theirs)).unwrap_or_default())
            })
    }

    /// Whether any run has a result of this input.
    pub fn knows(&self, input: &str) -> bool {
        self.results.contains_key(input)
    }

    /// What to do with `input`, which somebody has made `enlarged` of, now that `output` is what lies at `output_key`. None if
    /// their tags do not decide: then read both and ask [`History::decide_by_digest`].
    pub fn decide(
        &self,
        recipe: &Digest,
        input: &ObjectInfo,
        enlarged: Option<&ObjectInfo>,
        output_key: &sr3_proto::Key,
        output: Option<&ObjectInfo>,
    ) -> Option<Decision> {
        let Some(past) = self.results.get(input.key.as_str()) else {
            return Some(Decision::Compute(OnExisting::Keep));
        };
        let record = &past.record;
        let ours = || match &record.output_sha256 {
            Some(digest) => OnExisting::ReplaceOwn(digest.clone()),
            None => OnExisting::Keep,
        };
        if record.output.as_ref() != Some(output_key) {
            return Some(Decision::Compute(OnExisting::Keep));
        }
        if record.recipe != *recipe {
            return Some(Decision::Compute(ours()));
        }
        let whole = output.is_some_and(|o| Some(o.bytes) == record.output_bytes);
        let same = |now: &Option<String>, then: &Option<String>| now.is_some() && now == then;
        let same_enlarged = enlarged.is_none_or(|now| {
            record.enlarged.as_ref().is_some_and(|then| then.path == now.key && same(&now.etag, &then.etag))
        });
        if whole && same(&input.etag, &record.input_etag) && same_enlarged {
            Some(Decision::Finished(Box::new(record.clone())))
        } else {
            None
        }
    }

    /// The second half of [`History::decide`]: `input_sha256` is the digest of the input as it is now; with what somebody
    /// else has made of it comes the digest of that.
    pub fn decide_by_digest(
        &self,
        source: &str,
        input: &ObjectInfo,
        input_sha256: &Digest,
        enlarged: Option<(&ObjectInfo, &Digest)>,
        output: Option<&ObjectInfo>,
    ) -> Decision {
        let Some(past) = self.results.get(input.key.as_str()) else {
            return Decision::Compute(OnExisting::Keep);
        };
        let record = &past.record;
        let enlarged_then = record.enlarged.as_ref().and_then(|then| then.sha256.as_ref());
        let same_input = record.input_sha256.as_ref() == Some(input_sha256)
            && enlarged_then == enlarged.map(|(_, digest)| digest);
        let whole = output.is_some_and(|o| Some(o.bytes) == record.output_bytes);
        let same_source = self.jobs.get(&past.run).is_some_and(|job| job.source == source);
        match &record.output_sha256 {
            _ if same_input && whole => {
                let mut record = ItemRecord { input_etag: input.etag.clone(), ..record.clone() };
                if let (Some(then), Some((now, _))) = (&mut record.enlarged, enlarged) {
                    (then.path, then.etag) = (now.key.clone(), now.etag.clone());
                }
                Decision::Finished(Box::new(record))
            }
            Some(digest) if same_input || same_source => {
                Decision::Compute(OnExisting::ReplaceOwn(digest.clone()))
            }
            _ => Decision::Compute(OnExisting::Keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use sr3_proto::{Key, UnitId};

    use super::{
        super::{EnlargedRecord, record::VERSION},
        *,
    };

    fn recipe(seed: u64) -> RecipeSpec {
        RecipeSpec { seed, ..RecipeSpec::plain(Digest::of(b"model"), "m", 4, "as played") }
    }

    fn object(name: &str, bytes: u64, etag: &str) -> ObjectInfo {
        ObjectInfo { key: key(name), bytes, etag: Some(etag.into()) }
    }

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn ok_record(name: &str, recipe: &RecipeSpec) -> ItemRecord {
        ItemRecord {
            reason: None,
            input_sha256: Some(Digest::of(b"input")),
            output_sha256: Some(Digest::of(b"output")),
            output_bytes: Some(100),
            input_etag: Some("e1".into()),
            ..ItemRecord::without_result(name, Some(key(name)), ItemStatus::Ok, "", recipe)
        }
    }

    fn job(number: u64, recipe: &RecipeSpec, overwrite: bool) -> RunRecord {
        let (run, recipe) = (RunId::new(number), recipe.clone());
        RunRecord {
            version: VERSION,
            run,
            recipe,
            source: "/in".into(),
            enlarged: None,
            owner: String::new(),
            overwrite,
        }
    }

    fn manifest(number: u64, recipe: &RecipeSpec, items: Vec<ItemRecord>) -> ShardManifest {
        ShardManifest {
            version: VERSION,
            run: RunId::new(number),
            unit: UnitId::new(0),
            recipe: recipe.clone(),
            recipe_digest: recipe.digest(),
            items,
        }
    }

    /// Job 1 of seed 0 made `a.png`.
    fn history() -> History {
        let mut history = History::default();
        history.add_run(job(1, &recipe(0), false));
        history.add_manifest(manifest(1, &recipe(0), vec![ok_record("a.png", &recipe(0))]));
        history
    }

    fn own() -> Option<Decision> {
        Some(Decision::Compute(OnExisting::ReplaceOwn(Digest::of(b"output"))))
    }

    #[test]
    fn an_item_is_finished_only_if_recipe_input_and_output_agree() {
        let (history, digest) = (history(), recipe(0).digest());
        let whole = object("a.png", 100, "o");
        let decide = |input: &ObjectInfo, output: Option<&ObjectInfo>| {
            history.decide(&digest, input, None, &key("a.png"), output)
        };
        let same = object("a.png", 7, "e1");
        assert!(matches!(decide(&same, Some(&whole)), Some(Decision::Finished(_))));
        assert_eq!(decide(&same, None), None);
        assert_eq!(decide(&same, Some(&object("a.png", 99, "o"))), None);
        assert_eq!(decide(&object("a.png", 7, "e2"), Some(&whole)), None);
        assert_eq!(decide(&ObjectInfo { etag: None, ..same.clone() }, Some(&whole)), None);
        assert_eq!(
            decide(&object("new.png", 7, "e1"), Some(&whole)),
            Some(Decision::Compute(OnExisting::Keep))
        );
        // The same input under another output name, as after a change of layout.
        let renamed = history.decide(&digest, &same, None, &key("a.png.png"), None);
        assert_eq!(renamed, Some(Decision::Compute(OnExisting::Keep)));
        assert_eq!(history.decide(&recipe(1).digest(), &same, None, &key("a.png"), Some(&whole)), own());
    }

    #[test]
    fn the_digest_decides_where_the_tag_does_not() {
        let history = history();
        let (input, whole) = (object("a.png", 7, "e2"), object("a.png", 100, "o"));
        let decide = |source: &str, content: &[u8], output: Option<&ObjectInfo>| {
            Some(history.decide_by_digest(source, &input, &Digest::of(content), None, output))
        };
        match decide("/in", b"input", Some(&whole)) {
            Some(Decision::Finished(record)) => assert_eq!(record.input_etag.as_deref(), Some("e2")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(decide("/elsewhere", b"input", Some(&whole)), Some(Decision::Finished(_))));
        assert_eq!(decide("/in", b"input", None), own());
        assert_eq!(decide("/elsewhere", b"input", None), own());
        assert_eq!(decide("/in", b"changed", Some(&whole)), own());
        assert_eq!(decide("/elsewhere", b"changed", Some(&whole)), Some(Decision::Compute(OnExisting::Keep)));
    }

    #[test]
    fn a_later_failure_does_not_forget_the_result_that_still_lies_there() {
        let mut history = history();
        let bad = ItemRecord::without_result("a.png", None, ItemStatus::Quarantined, "broken", &recipe(0));
        history.add_manifest(manifest(2, &recipe(0), vec![bad]));
        let input = object("a.png", 7, "e1");
        let decided = history.decide(
            &recipe(0).digest(),
            &input,
            None,
            &key("a.png"),
            Some(&object("a.png", 100, "o")),
        );
        assert!(matches!(decided, Some(Decision::Finished(_))));
    }

    #[test]
    fn the_latest_result_counts_in_whatever_order_manifests_are_read() {
        let newer = ItemRecord { output_bytes: Some(200), ..ok_record("a.png", &recipe(0)) };
        let manifests = [
            manifest(1, &recipe(0), vec![ok_record("a.png", &recipe(0))]),
            manifest(2, &recipe(0), vec![newer]),
        ];
        for order in [[0, 1], [1, 0]] {
            let mut history = History::default();
            for i in order {
                history.add_manifest(manifests[i].clone());
            }
            let (input, digest) = (object("a.png", 7, "e1"), recipe(0).digest());
            let decide = |bytes| {
                history.decide(&digest, &input, None, &key("a.png"), Some(&object("a.png", bytes, "o")))
            };
            assert!(matches!(decide(200), Some(Decision::Finished(_))));
            assert_eq!(decide(100), None);
            assert_eq!(history.next_run(), RunId::new(3));
        }
    }

    #[test]
    fn another_recipe_is_foreign_until_a_run_was_allowed_to_replace_it() {
        let mut history = history();
        assert_eq!(history.foreign(&recipe(0)).count(), 0);
        let foreign: Vec<_> = history.foreign(&recipe(1)).map(|(_, differences)| differences).collect();
        assert_eq!(foreign, [["seed 0, now 1"]]);
        history.add_run(job(2, &recipe(1), true));
        assert_eq!(history.foreign(&recipe(1)).count(), 0, "job 2 did not get to it, job 3 may");
        // What a third recipe recorded after that is not covered.
        history.add_run(job(3, &recipe(2), true));
        history.add_manifest(manifest(3, &recipe(2), vec![ok_record("a.png", &recipe(2))]));
        assert_eq!(history.foreign(&recipe(1)).count(), 1);
        assert_eq!(history.next_run(), RunId::new(4));
    }

    #[test]
    fn a_pair_is_finished_only_if_both_of_it_are_what_they_were() {
        let recipe = RecipeSpec::projection(&crate::Writing::default());
        let enlarged = EnlargedRecord {
            path: key("a.png"),
            sha256: Some(Digest::of(b"enlarged")),
            bytes: Some(50),
            etag: Some("f1".into()),
            consistency_error: None,
            mean_shift: None,
        };
        let mut history = History::default();
        history.add_run(job(1, &recipe, false));
        let record = ItemRecord { enlarged: Some(enlarged), ..ok_record("a.png", &recipe) };
        history.add_manifest(manifest(1, &recipe, vec![record]));
        let (input, whole) = (object("a.png", 7, "e1"), object("a.png", 100, "o"));
        let decide = |enlarged: &ObjectInfo| {
            history.decide(&recipe.digest(), &input, Some(enlarged), &key("a.png"), Some(&whole))
        };
        let (same, touched) = (object("a.png", 50, "f1"), object("a.jpg", 50, "f2"));
        assert!(matches!(decide(&same), Some(Decision::Finished(_))));
        assert_eq!(decide(&touched), None);
        let by_digest = |content: &[u8]| {
            let enlarged = Digest::of(content);
            history.decide_by_digest(
                "/in",
                &input,
                &Digest::of(b"input"),
                Some((&touched, &enlarged)),
                Some(&whole),
            )
        };
        assert_eq!(Some(by_digest(b"changed")), own());
        match by_digest(b"enlarged") {
            Decision::Finished(record) => assert_eq!(record.enlarged.unwrap().path, key("a.jpg")),
            other => panic!("{other:?}"),
        }
    }
}
