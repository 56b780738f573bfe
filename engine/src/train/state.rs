//! What a run has come to: one value, one file, one digest.
//!
//! All that decides how a run goes on is in a [`TrainingState`]: weights, moments, averages, and how many steps and samples
//! they come from. Nothing random is in it, because nothing random has a state. A file that misses something, or has
//! something else, is an error that names it; nothing is ever begun anew in silence.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::optimizer::{BLOCK, Moments};
use crate::model::tensors::{
    Dtype, HostTensor, ReadLimits, TensorFileError, TensorMap, read_safetensors, write_safetensors,
};

const WEIGHTS: &str = "weights";
const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";
const STEP: &str = "step";
const SAMPLES: &str = "samples";
const SKIPPED: &str = "skipped";

/// What a run has come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingState {
    /// All weights, in the order of the graph's parameters.
    pub weights: Vec<f32>,
    /// The optimizer's, and the averages.
    pub moments: Moments,
}

/// Why a file is no state of this run.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It is damaged.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// Something is not there.
    #[error("`{what}` is missing: the file is not a training state, or of another version")]
    Missing {
        /// What.
        what: String,
    },
    /// Something has no place in it.
    #[error("`{what}` has no place in the training state: it is of another run")]
    Extra {
        /// What.
        what: String,
    },
    /// A list is of another network.
    #[error("`{what}` has {found} values where the network has {expected}: it is of another run")]
    Length {
        /// Which.
        what: String,
        /// Its values.
        found: usize,
        /// The network's.
        expected: usize,
    },
    /// A number that no computation survives.
    #[error("`{what}` holds {value}: training diverged")]
    NotFinite {
        /// Where.
        what: String,
        /// The value.
        value: f32,
    },
}

impl TrainingState {
    /// sha256 of the weights as little-endian f32, in lower-case hexadecimal: what two runs that are the same agree on.
    #[must_use]
    pub fn weights_sha256(&self) -> String {
        weights_sha256(&self.weights)
    }

    /// Its lists, each with its name, in the order in which a peer gets them.
    #[must_use]
    pub fn lists(&self) -> Vec<(String, &[f32])> {
        let Moments { first, second, averages, .. } = &self.moments;
        let averages = averages.iter().enumerate().map(|(i, list)| (average(i), list.as_slice()));
        [(WEIGHTS, &self.weights), (FIRST, first), (SECOND, second)]
            .map(|(name, list)| (name.to_string(), list.as_slice()))
            .into_iter()
            .chain(averages)
            .collect()
    }

    /// That every number in it is one.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), StateError> {
        for (what, list) in self.lists() {
            let bad = list.par_chunks(BLOCK).find_map_first(|part| part.iter().find(|v| !v.is_finite()));
            if let Some(&value) = bad {
                return Err(StateError::NotFinite { what, value });
            }
        }
        Ok(())
    }

    /// The file; a function of the state alone.
    ///
    /// # Errors
    /// It holds numbers that are none: such a state is never written.
    pub fn encode(&self) -> Result<Vec<u8>, StateError> {
        self.check()?;
        let tensor = |list: &[f32]| HostTensor {
            dtype: Dtype::F32,
            shape: vec![list.len()],
            data: list.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        let tensors: TensorMap = self.lists().into_iter().map(|(name, list)| (name, tensor(list))).collect();
        let metadata = BTreeMap::from([
            (STEP.to_string(), self.moments.step.to_string()),
            (SAMPLES.to_string(), self.moments.samples.to_string()),
            (SKIPPED.to_string(), self.moments.skipped.to_string()),
        ]);
        Ok(write_safetensors(&tensors, &metadata)?)
    }

    /// Reads a file that [`Self::encode`] wrote for a network of `parameters` values and so many averages.
    ///
    /// # Errors
    /// [`StateError`] for anything else.
    pub fn decode(bytes: &[u8], parameters: usize, averages: usize) -> Result<Self, StateError> {
        let (mut tensors, metadata) = read_safetensors(bytes, &ReadLimits::default())?;
        let number = |what: &str| {
            let text = metadata.get(what).and_then(|text| text.parse::<u64>().ok());
            text.ok_or_else(|| StateError::Missing { what: what.to_string() })
        };
        let (step, samples, skipped) = (number(STEP)?, number(SAMPLES)?, number(SKIPPED)?);
        if skipped > step {
            return Err(StateError::Missing { what: SKIPPED.to_string() });
        }
        let mut list = |what: &str| {
            let tensor = tensors.remove(what).filter(|tensor| tensor.dtype == Dtype::F32);
            let list = tensor.ok_or_else(|| StateError::Missing { what: what.to_string() })?.to_f32();
            match list.len() == parameters {
                true => Ok(list),
                false => Err(StateError::Length {
                    what: what.to_string(),
                    found: list.len(),
                    expected: parameters,
                }),
            }
        };
        let weights = list(WEIGHTS)?;
        let (first, second) = (list(FIRST)?, list(SECOND)?);
        let averages = (0..averages).map(|i| list(&average(i))).collect::<Result<_, _>>()?;
        if let Some(what) = tensors.into_keys().next() {
            return Err(StateError::Extra { what });
        }
        let state = Self { weights, moments: Moments { step, skipped, samples, first, second, averages } };
        state.check()?;
        Ok(state)
    }
}

/// [`TrainingState::weights_sha256`] of weights that are in no state yet.
#[must_use]
pub fn weights_sha256(weights: &[f32]) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::with_capacity(4 * BLOCK);
    for part in weights.chunks(BLOCK) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        hash.update(&bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number that any flipped bit of `values` changes, fast enough to be taken in every step. No protection against
/// anyone who means to deceive.
#[must_use]
pub fn fingerprint(values: &[f32]) -> u64 {
    const PRIME: u64 = 0x9E37_79B9_7F4A_7C15;
    const LANES: usize = 8;
    let of_block = |block: &[f32]| {
        let mut lanes = [PRIME; LANES];
        for chunk in block.chunks(LANES) {
            // Each step is one to one in the lane, so a difference is never lost.
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane = (*lane ^ u64::from(value.to_bits())).wrapping_mul(PRIME).rotate_left(23);
            }
        }
        lanes.into_iter().fold(PRIME, |all, lane| (all ^ lane).wrapping_mul(PRIME).rotate_left(31))
    };
    let blocks: Vec<u64> = values.par_chunks(BLOCK).map(of_block).collect();
    blocks
        .into_iter()
        .fold(values.len() as u64, |all, block| (all ^ block).wrapping_mul(PRIME).rotate_left(31))
}

fn average(index: usize) -> String {
    format!("average.{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TrainingState {
        let list = |k: u32| (0..40_000u32).map(|i| (i * k % 1009) as f32 / 500.0 - 1.0).collect::<Vec<_>>();
        let averages = vec![list(3), list(5)];
        let moments =
            Moments { step: 12, skipped: 1, samples: 96, first: list(7), second: list(11), averages };
        TrainingState { weights: list(13), moments }
    }

    #[test]
    fn a_state_is_read_back_as_it_was() {
        let state = state();
        let bytes = state.encode().unwrap();
        assert_eq!(bytes, state.encode().unwrap());
        assert!(TrainingState::decode(&bytes, 40_000, 2).unwrap() == state);
    }

    #[test]
    fn what_is_missing_or_foreign_is_named() {
        let bytes = state().encode().unwrap();
        let missing = TrainingState::decode(&bytes, 40_000, 3).unwrap_err();
        assert!(matches!(missing, StateError::Missing { what } if what == "average.2"));
        let extra = TrainingState::decode(&bytes, 40_000, 1).unwrap_err();
        assert!(matches!(extra, StateError::Extra { what } if what == "average.1"));
        let length = TrainingState::decode(&bytes, 39_999, 2).unwrap_err();
        assert!(matches!(length, StateError::Length { found: 40_000, expected: 39_999, .. }));
        assert!(matches!(TrainingState::decode(b"x", 1, 0).unwrap_err(), StateError::File(_)));
    }

    #[test]
    fn a_number_that_is_none_is_never_written() {
        for what in 0..4 {
            let mut bad = state();
            let Moments { first, second, averages, .. } = &mut bad.moments;
            let list = [&mut bad.weights, first, second, &mut averages[1]][what].as_mut_slice();
            list[39_998] = f32::NAN;
            assert!(matches!(bad.encode().unwrap_err(), StateError::NotFinite { .. }));
        }
    }

    #[test]
    fn any_flipped_bit_changes_the_fingerprint() {
        let mut values = state().weights;
        let before = fingerprint(&values);
        for (at, bit) in [(0, 0), (1, 31), (20_000, 7), (39_999, 22)] {
            let old = values[at];
            values[at] = f32::from_bits(old.to_bits() ^ 1 << bit);
            assert_ne!(fingerprint(&values), before);
            values[at] = old;
        }
        assert_eq!(fingerprint(&values), before);
    }
}
