//! The order of samples: a keyed permutation of an index, one for each epoch, without a list of it.
//!
//! A balanced Feistel network over the smallest even number of bits that covers the count, its rounds keyed by Philox;
//! what falls outside is permuted again until it falls inside (fewer than four times on average). Any place can be asked
//! for at once, so a run goes on from one number, and takes each sample once an epoch however many take part.

use crate::diffusion::NoiseSource;

/// Rounds of the network: four make a pseudo-random permutation, the others are margin.
const ROUNDS: u32 = 8;

/// An order of `count` samples for every epoch.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    source: NoiseSource,
    count: u64,
    /// Bits of a half.
    half: u32,
}

impl Permutation {
    /// Of `count` samples, at least 1 and fewer than 2^32.
    ///
    /// # Panics
    /// If there are none, or too many.
    #[must_use]
    pub fn new(seed: u64, count: u64) -> Self {
        assert!((1..1 << 32).contains(&count), "1 to 2^32 - 1 samples");
        let bits = u64::BITS - (count - 1).leading_zeros();
        Self { source: NoiseSource::new(seed, "order of samples"), count, half: bits.div_ceil(2).max(1) }
    }

    /// How many samples there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sample that comes at `place`, counted from the run's beginning: its epoch, and its index.
    #[must_use]
    pub fn at(&self, place: u64) -> (u64, u64) {
        let (epoch, mut index) = (place / self.count, place % self.count);
        loop {
            index = self.once(epoch, index);
            if index < self.count {
                return (epoch, index);
            }
        }
    }

    fn once(&self, epoch: u64, value: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for round in 0..ROUNDS {
            // A half has 16 bits at most: round and half share a word.
            let [word, ..] = self.source.words(round << 16 | right as u32, epoch as u32);
            (left, right) = (right, left ^ (u64::from(word) & mask));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_epoch_has_every_sample_once(count in 1u64..3000, seed: u64, epoch in 0u64..50) {
            let order = Permutation::new(seed, count);
            let mut seen = vec![false; count as usize];
            for place in epoch * count..(epoch + 1) * count {
                let (of, index) = order.at(place);
                prop_assert_eq!(of, epoch);
                prop_assert!(!std::mem::replace(&mut seen[index as usize], true));
            }
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own_and_none_is_the_listing_s() {
        let order = |seed, epoch: u64| {
            let permutation = Permutation::new(seed, 1000);
            (0..1000).map(|i| permutation.at(epoch * 1000 + i).1).collect::<Vec<_>>()
        };
        let first = order(1, 0);
        let same_place = |other: &[u64]| first.iter().zip(other).filter(|(a, b)| a == b).count();
        let listing: Vec<u64> = (0..1000).collect();
        for other in [order(1, 1), order(2, 0), listing] {
            // One is expected.
            assert!(same_place(&other) < 10);
        }
        assert_eq!(first, order(1, 0));
        let rising = first.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((400..600).contains(&rising), "{rising}");
    }

    #[test]
    fn millions_of_samples_cost_nothing_to_order() {
        let order = Permutation::new(7, 1_281_167);
        let (epoch, index) = order.at(1_281_167 * 300 + 5);
        assert!(epoch == 300 && index < 1_281_167);
    }
}
