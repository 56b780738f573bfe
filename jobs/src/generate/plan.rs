//! The order of a job's units: a group of samples through its first stage, then its parts through the next, depth first, each
//! held back until what it is made from is recorded. So whoever works through the list finishes samples from the beginning,
//! and few pictures of earlier stages lie about. Pure.

use super::sample::{Sample, UnitBytes};

/// A unit of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) unit: UnitBytes,
    /// How many units before it in the list the one stands that it needs; none of a first stage.
    pub(super) after: Option<usize>,
}

/// The units of a group, in order. `sizes` are the samples of a unit in each stage; each divides the one before.
pub(super) fn units(group: &[Sample], sizes: &[u64]) -> Vec<Place> {
    let mut places = Vec::new();
    push(&mut places, group, sizes, 0, None);
    places
}

fn push(places: &mut Vec<Place>, samples: &[Sample], sizes: &[u64], stage: usize, from: Option<usize>) {
    let at = places.len();
    let unit = UnitBytes { stage, samples: samples.to_vec() };
    places.push(Place { unit, after: from.map(|from| at - from) });
    if let Some(size) = sizes.get(stage + 1) {
        for part in samples.chunks((*size).max(1) as usize) {
            push(places, part, sizes, stage + 1, Some(at));
        }
    }
}

/// How far planning came: which group, and how many of its units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Index of the group's first sample.
    pub(super) index: u64,
    /// Units of it that are planned.
    pub(super) units: usize,
    /// The key in the source after which the group begins; empty for its beginning, or where there is none.
    pub(super) after: String,
}

impl Cursor {
    pub(super) fn read(text: &str) -> Self {
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let (index, units) = (number(), number() as usize);
        Self { index, units, after: parts.next().unwrap_or_default().to_string() }
    }

    pub(super) fn write(&self) -> String {
        format!("{}:{}:{}", self.index, self.units, self.after)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(count: u64) -> Vec<Sample> {
        (0..count).map(|index| Sample { index, input: None }).collect()
    }

    proptest! {
        #[test]
        fn every_stage_makes_every_sample_once_from_a_unit_before_it(
            powers in prop::collection::vec(0u32..5, 1..5),
            count in 1u64..40,
        ) {
            let mut sizes: Vec<u64> = powers.iter().map(|power| 1 << power).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let group = samples(count.min(sizes[0]));
            let places = units(&group, &sizes);
            for stage in 0..sizes.len() {
                let of_stage = places.iter().filter(|place| place.unit.stage == stage);
                let made: Vec<_> = of_stage.flat_map(|place| place.unit.samples.clone()).collect();
                prop_assert_eq!(&made, &group);
            }
            for (at, place) in places.iter().enumerate() {
                match place.after {
                    None => prop_assert_eq!(place.unit.stage, 0),
                    Some(back) => {
                        let from = &places[at - back].unit;
                        prop_assert_eq!(from.stage + 1, place.unit.stage);
                        prop_assert!(place.unit.samples.iter().all(|sample| from.samples.contains(sample)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_cursor_reads_back_whatever_the_key_holds() {
        for after in ["", "a:b/c:3.png"] {
            let cursor = Cursor { index: 7, units: 3, after: after.to_string() };
            assert_eq!(Cursor::read(&cursor.write()), cursor);
        }
        assert_eq!(Cursor::read(""), Cursor::default());
    }
}
