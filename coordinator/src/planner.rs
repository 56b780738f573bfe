//! Cutting a job into shards. Pure: entries go in one by one in input order, shards come out.
//!
//! A shard is what is lost when a worker dies, and what is recorded at once. Work is estimated by encoded length
//! with a floor per item, so that a shard is a few photographs or some dozens of thumbnails.

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

/// Cuts planned entries into shards of consecutive entries, so that a job's report is its shards one after the other.
#[derive(Debug)]
pub struct EntryCutter {
    limits: ShardLimits,
    entries: Vec<Entry>,
    items: usize,
    weight: u64,
}

impl EntryCutter {
    /// Starts with an empty shard.
    pub fn new(limits: ShardLimits) -> Self {
        Self { limits, entries: Vec::new(), items: 0, weight: 0 }
    }

    /// Adds an entry; returns the shard's entries when it is full.
    pub fn push(&mut self, entry: Entry) -> Option<Vec<Entry>> {
        if let Entry::Item(item) = &entry {
            self.items += 1;
            self.weight =
                self.weight.saturating_add(item.input_bytes).saturating_add(self.limits.item_weight);
        }
        self.entries.push(entry);
        let full = self.weight >= self.limits.weight_max
            || self.items >= self.limits.items_max
            || self.entries.len() - self.items >= SETTLED_MAX;
        if full { self.finish() } else { None }
    }

    /// The shard that is still open, if it holds anything.
    pub fn finish(&mut self) -> Option<Vec<Entry>> {
        (self.items, self.weight) = (0, 0);
        Some(std::mem::take(&mut self.entries)).filter(|entries| !entries.is_empty())
    }
}

/// Notices two inputs that would have the same output: `a.gif` and `a.gif.png` both come out as `a.gif.png`.
///
/// In the byte order of keys the shorter name comes first and keeps the output.
#[derive(Debug, Default)]
pub struct OutputClaims {
    grown: HashSet<Key>,
}

impl OutputClaims {
    /// Claims `output` for `input`; false if an earlier input has it.
    pub fn claim(&mut self, input: &Key, output: &Key) -> bool {
        // An output that keeps its input's name can only meet one that grew to that name.
        if input == output { !self.grown.contains(output) } else { self.grown.insert(output.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sr3_proto::{FormatChoice, OnExisting, OutputFormat, layout::output_key};

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

        #[test]
        fn no_two_items_ever_write_the_same_output(
            names in prop::collection::btree_set("[ab](\\.(png|gif|jpg)){0,3}", 1..30),
            format in prop::sample::select(vec!["auto", "png", "jpeg"]),
        ) {
            let choice: FormatChoice = format.parse().unwrap();
            let mut claims = OutputClaims::default();
            let mut written = HashSet::new();
            for name in &names {
                let input = Key::new(name.as_str()).unwrap();
                let (output, _) = output_key(&input, choice).unwrap();
                if claims.claim(&input, &output) {
                    prop_assert!(written.insert(output));
                } else {
                    prop_assert!(written.contains(&output));
                }
            }
        }
    }

    #[test]
    fn a_large_picture_is_a_shard_of_its_own_and_thumbnails_share_one() {
        let shards = cut(&[3_000_000, 3_000_000, 5_000, 5_000, 5_000], ShardLimits::default());
        assert_eq!(shards.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 3]);
    }
}
