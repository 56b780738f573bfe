//! Cutting a list of entries into units. Pure: entries go in one by one in input order, units come out.
//!
//! A unit is what is lost when a worker dies, and what is recorded at once. Work is estimated by encoded length
//! with a floor per item, so that a unit is a few photographs or some dozens of thumbnails. A job of little work is
//! cut finer, so that its workers end together: of 120 equal images in nine units, two workers got 64 and 56, and were
//! 1.85 times as quick as one.

/// How large units get.
#[derive(Clone, Copy, Debug)]
pub struct UnitLimits {
    /// Most items in one.
    pub items_max: usize,
    /// A unit is closed when the weights of its items reach this.
    pub weight_max: u64,
    /// Added to every item's encoded length, for the work that does not shrink with it.
    pub item_weight: u64,
}

impl Default for UnitLimits {
    fn default() -> Self {
        Self { items_max: 64, weight_max: 512 * 1024, item_weight: 32 * 1024 }
    }
}

/// So many settled entries close a unit too: they cost nothing but the row they stand in.
const SETTLED_MAX: usize = 1024;
/// So many entries are looked at before the first unit is cut; a job that has no more is small.
const LOOK_AHEAD: usize = 1024;
/// A small job gets about so many units, if it has as many items.
const UNITS_LEAST: u64 = 64;

/// Cuts planned entries into units of consecutive entries, so that a job's report is its units one after the other.
#[derive(Debug)]
pub struct Cutter<T> {
    limits: UnitLimits,
    /// The first entries, until it is known whether there are many.
    ahead: Option<Vec<(T, Option<u64>)>>,
    entries: Vec<T>,
    items: usize,
    weight: u64,
}

impl<T> Cutter<T> {
    /// Starts with an empty unit.
    pub fn new(limits: UnitLimits) -> Self {
        Self { limits, ahead: Some(Vec::new()), entries: Vec::new(), items: 0, weight: 0 }
    }

    /// Adds an entry: an item with its encoded length, or, with none, something that needs no work. Returns the entries of the
    /// units that are full.
    pub fn push(&mut self, entry: T, bytes: Option<u64>) -> Vec<Vec<T>> {
        match &mut self.ahead {
            Some(ahead) => {
                ahead.push((entry, bytes));
                if ahead.len() < LOOK_AHEAD { Vec::new() } else { self.cut_ahead() }
            }
            None => self.add(entry, bytes).into_iter().collect(),
        }
    }

    /// The entries of the units that are left.
    pub fn finish(&mut self) -> Vec<Vec<T>> {
        let mut units = self.cut_ahead();
        units.extend(self.close());
        units
    }

    /// Chooses how large units get, and cuts what was looked at.
    fn cut_ahead(&mut self) -> Vec<Vec<T>> {
        let ahead = self.ahead.take().unwrap_or_default();
        let all = ahead.iter().map(|(_, bytes)| self.weight_of(*bytes)).fold(0, u64::saturating_add);
        self.limits.weight_max = self.limits.weight_max.min(all / UNITS_LEAST);
        ahead.into_iter().filter_map(|(entry, bytes)| self.add(entry, bytes)).collect()
    }

    fn weight_of(&self, bytes: Option<u64>) -> u64 {
        bytes.map_or(0, |bytes| bytes.saturating_add(self.limits.item_weight))
    }

    fn add(&mut self, entry: T, bytes: Option<u64>) -> Option<Vec<T>> {
        self.items += usize::from(bytes.is_some());
        self.weight = self.weight.saturating_add(self.weight_of(bytes));
        self.entries.push(entry);
        let full = (self.items > 0 && self.weight >= self.limits.weight_max)
            || self.items >= self.limits.items_max
            || self.entries.len() - self.items >= SETTLED_MAX;
        if full { self.close() } else { None }
    }

    /// The unit that is still open, if it holds anything.
    fn close(&mut self) -> Option<Vec<T>> {
        (self.items, self.weight) = (0, 0);
        Some(std::mem::take(&mut self.entries)).filter(|entries| !entries.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lengths of the inputs by unit.
    fn cut(sizes: &[u64], limits: UnitLimits) -> Vec<Vec<u64>> {
        let mut cutter = Cutter::new(limits);
        let mut units = Vec::new();
        for &bytes in sizes {
            units.extend(cutter.push(bytes, Some(bytes)));
        }
        units.extend(cutter.finish());
        units
    }

    proptest! {
        #[test]
        fn every_item_is_in_exactly_one_unit_in_order_and_units_are_bounded(
            sizes in prop::collection::vec(prop_oneof![0u64..100_000, any::<u64>()], 0..300),
            items_max in 1usize..70,
            weight_max in 1u64..2_000_000,
        ) {
            let limits = UnitLimits { items_max, weight_max, item_weight: 1000 };
            let units = cut(&sizes, limits);
            prop_assert_eq!(units.concat(), sizes);
            for items in units {
                prop_assert!(!items.is_empty() && items.len() <= items_max);
                let but_last = items[..items.len() - 1].iter().map(|bytes| bytes.saturating_add(1000));
                prop_assert!(but_last.fold(0, u64::saturating_add) < weight_max);
            }
        }
    }

    #[test]
    fn a_large_picture_is_a_unit_of_its_own_and_thumbnails_share_one() {
        let sizes: Vec<u64> = (0..2000).map(|i| if i % 100 == 99 { 3_000_000 } else { 5_000 }).collect();
        let units = cut(&sizes, UnitLimits::default());
        // Thumbnails of 37 kB by weight fill one by fourteens; a large one closes what it comes to.
        assert!(units.iter().all(|unit| unit.len() <= 14));
        assert!(units.iter().all(|unit| unit[..unit.len() - 1].iter().all(|bytes| *bytes == 5_000)));
        assert!((150..200).contains(&units.len()), "{}", units.len());
    }

    #[test]
    fn a_small_job_is_cut_so_that_its_workers_end_together() {
        let lengths = |count: usize| {
            let units = cut(&vec![5_000; count], UnitLimits::default());
            units.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(7), [1; 7]);
        assert_eq!(lengths(120), [2; 60]);
        assert_eq!(lengths(640), [10; 64]);
    }
}
