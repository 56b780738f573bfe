//! Cutting a job into shards. Pure: entries go in one by one in input order, shards come out.
//!
//! A shard is what is lost when a worker dies, and what is recorded at once. Work is estimated by encoded length
//! with a floor per item, so that a shard is a few photographs or some dozens of thumbnails. A job of little work is
//! cut finer, so that its workers end together: of 120 equal images in nine shards, two workers got 64 and 56, and were
//! 1.85 times as quick as one.

use std::collections::HashSet;

use sr3_proto::{ItemRecord, ItemTask, Key};

/// How large shards get.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// Most items in one.
    pub items_max: usize,
    /// A shard is closed when the weights of its items reach this.
    pub weight_max: u64,
    /// Added to every item's encoded length, for the work that does not shrink with it.
    pub item_weight: u64,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self { items_max: 64, weight_max: 512 * 1024, item_weight: 32 * 1024 }
    }
}

/// One entry of a listing, planned.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// To be computed.
    Item(ItemTask),
    /// Has its verdict.
    Settled(Box<ItemRecord>),
}

/// So many settled entries close a shard too: they cost nothing but the row they stand in.
const SETTLED_MAX: usize = 1024;
/// So many entries are looked at before the first shard is cut; a job that has no more is small.
const LOOK_AHEAD: usize = 1024;
/// A small job gets about so many shards, if it has as many items.
const SHARDS_LEAST: u64 = 64;

/// Cuts planned entries into shards of consecutive entries, so that a job's report is its shards one after the other.
#[derive(Debug)]
pub struct EntryCutter {
    limits: ShardLimits,
    /// The first entries, until it is known whether there are many.
    ahead: Option<Vec<Entry>>,
    entries: Vec<Entry>,
    items: usize,
    weight: u64,
}

impl EntryCutter {
    /// Starts with an empty shard.
    pub fn new(limits: ShardLimits) -> Self {
        Self { limits, ahead: Some(Vec::new()), entries: Vec::new(), items: 0, weight: 0 }
    }

    /// Adds an entry; returns the entries of the shards that are full.
    pub fn push(&mut self, entry: Entry) -> Vec<Vec<Entry>> {
        match &mut self.ahead {
            Some(ahead) => {
                ahead.push(entry);
                if ahead.len() < LOOK_AHEAD { Vec::new() } else { self.cut_ahead() }
            }
            None => self.add(entry).into_iter().collect(),
        }
    }

    /// The entries of the shards that are left.
    pub fn finish(&mut self) -> Vec<Vec<Entry>> {
        let mut shards = self.cut_ahead();
        shards.extend(self.close());
        shards
    }

    /// Chooses how large shards get, and cuts what was looked at.
    fn cut_ahead(&mut self) -> Vec<Vec<Entry>> {
        let ahead = self.ahead.take().unwrap_or_default();
        let all = ahead.iter().map(|entry| self.weight_of(entry)).fold(0, u64::saturating_add);
        self.limits.weight_max = self.limits.weight_max.min(all / SHARDS_LEAST);
        ahead.into_iter().filter_map(|entry| self.add(entry)).collect()
    }

    fn weight_of(&self, entry: &Entry) -> u64 {
        match entry {
            Entry::Item(item) => item.input_bytes.saturating_add(self.limits.item_weight),
            Entry::Settled(_) => 0,
        }
    }

    fn add(&mut self, entry: Entry) -> Option<Vec<Entry>> {
        self.items += usize::from(matches!(entry, Entry::Item(_)));
        self.weight = self.weight.saturating_add(self.weight_of(&entry));
        self.entries.push(entry);
        let full = (self.items > 0 && self.weight >= self.limits.weight_max)
            || self.items >= self.limits.items_max
            || self.entries.len() - self.items >= SETTLED_MAX;
        if full { self.close() } else { None }
    }

    /// The shard that is still open, if it holds anything.
    fn close(&mut self) -> Option<Vec<Entry>> {
        (self.items, self.weight) = (0, 0);
        Some(std::mem::take(&mut self.entries)).filter(|entries| !entries.is_empty())
    }
}

/// Notices two inputs whose outputs are one file where the destination does not tell them apart: where `A.png` and
/// `a.png` are one name, or, as on FAT, `a./b.png` and `a/b.png`. (Everywhere else names of outputs never meet: see
/// [`layout`](sr3_proto::layout).) The first in the order of the listing has it, and the second is said to be set aside
/// rather than lost.
///
/// What counts as one name is a little more than on most such file systems, and less for letters that are composed
/// in two ways; those meet when the second is created, which replaces nothing.
#[derive(Debug, Default)]
pub struct OutputClaims {
    claimed: HashSet<String>,
}

impl OutputClaims {
    /// Claims `output`; false if another input has it.
    pub fn claim(&mut self, output: &Key) -> bool {
        let plain = |segment: &str| segment.trim_end_matches(['.', ' ']).to_lowercase();
        self.claimed.insert(output.segments().map(plain).collect::<Vec<_>>().join("/"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sr3_proto::{OnExisting, OutputFormat};

    use super::*;

    fn task(name: &str, bytes: u64) -> ItemTask {
        let key = Key::new(name).unwrap();
        ItemTask {
            input: key.clone(),
            input_bytes: bytes,
            input_etag: None,
            output: key,
            format: OutputFormat::Png,
            on_existing: OnExisting::Keep,
        }
    }

    /// Lengths of the inputs by shard.
    fn cut(sizes: &[u64], limits: ShardLimits) -> Vec<Vec<u64>> {
        let mut cutter = EntryCutter::new(limits);
        let mut shards = Vec::new();
        for (i, &bytes) in sizes.iter().enumerate() {
            shards.extend(cutter.push(Entry::Item(task(&format!("{i}.png"), bytes))));
        }
        shards.extend(cutter.finish());
        let bytes = |entry: Entry| match entry {
            Entry::Item(item) => item.input_bytes,
            Entry::Settled(_) => unreachable!("none was put in"),
        };
        shards.into_iter().map(|entries| entries.into_iter().map(bytes).collect()).collect()
    }

    proptest! {
        #[test]
        fn every_item_is_in_exactly_one_shard_in_order_and_shards_are_bounded(
            sizes in prop::collection::vec(prop_oneof![0u64..100_000, any::<u64>()], 0..300),
            items_max in 1usize..70,
            weight_max in 1u64..2_000_000,
        ) {
            let limits = ShardLimits { items_max, weight_max, item_weight: 1000 };
            let shards = cut(&sizes, limits);
            prop_assert_eq!(shards.concat(), sizes);
            for items in shards {
                prop_assert!(!items.is_empty() && items.len() <= items_max);
                let but_last = items[..items.len() - 1].iter().map(|bytes| bytes.saturating_add(1000));
                prop_assert!(but_last.fold(0, u64::saturating_add) < weight_max);
            }
        }
    }

    #[test]
    fn names_that_a_file_system_takes_for_one_are_claimed_once() {
        let mut claims = OutputClaims::default();
        let mut claim = |name: &str| claims.claim(&Key::new(name).unwrap());
        assert!(claim("a/B.png") && !claim("A/b.PNG") && !claim("a./b.png") && !claim("a/b.png"));
        assert!(claim("b.png") && claim("É.png") && !claim("é.png"));
    }

    #[test]
    fn a_large_picture_is_a_shard_of_its_own_and_thumbnails_share_one() {
        let sizes: Vec<u64> = (0..2000).map(|i| if i % 100 == 99 { 3_000_000 } else { 5_000 }).collect();
        let shards = cut(&sizes, ShardLimits::default());
        // Thumbnails of 37 kB by weight fill one by fourteens; a large one closes what it comes to.
        assert!(shards.iter().all(|shard| shard.len() <= 14));
        assert!(shards.iter().all(|shard| shard[..shard.len() - 1].iter().all(|bytes| *bytes == 5_000)));
        assert!((150..200).contains(&shards.len()), "{}", shards.len());
    }

    #[test]
    fn a_small_job_is_cut_so_that_its_workers_end_together() {
        let lengths = |count: usize| {
            let shards = cut(&vec![5_000; count], ShardLimits::default());
            shards.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(7), [1; 7]);
        assert_eq!(lengths(120), [2; 60]);
        assert_eq!(lengths(640), [10; 64]);
    }
}
