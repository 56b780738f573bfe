//! Features of some pictures, as they lie in one object: safetensors, named by its digest.
//!
//! `sha256` (N, 32) are those of the pictures' pixels, `pool` (N, 2048) the features; `spatial` (N, 2023) and `logits` (N, 1008)
//! are there where they were asked for.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sr3_engine::{
    model::tensors::{Dtype, HostTensor, ReadLimits, TensorMap, read_safetensors, write_safetensors},
    vision::{LOGITS, POOL, SPATIAL},
};
use sr3_proto::{Digest, Key, Store};

use super::order::Keeps;
use crate::images::Rgb;

/// Names an object of features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) sha256: Digest,
    pub(super) images: u64,
}

/// sha256 of a picture's size and pixels.
pub(super) type PixelDigest = [u8; 32];

/// Names a picture by what is to be seen, whatever file it lies in.
pub(super) fn pixel_digest(picture: &Rgb) -> PixelDigest {
    let mut digest = Sha256::new();
    digest.update((picture.width as u64).to_le_bytes());
    digest.update((picture.height as u64).to_le_bytes());
    digest.update(&picture.pixels);
    digest.finalize().into()
}

/// Features of pictures, in some order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    /// (N)
    pub(super) pictures: Vec<PixelDigest>,
    /// (N, 2048)
    pub(super) pool: Vec<f32>,
    /// (N, 2023), or empty
    pub(super) spatial: Vec<f32>,
    /// (N, 1008), or empty
    pub(super) logits: Vec<f32>,
}

impl Rows {
    /// Those of `other` after these.
    pub(super) fn append(&mut self, other: Self) {
        self.pictures.extend(other.pictures);
        self.pool.extend(other.pool);
        self.spatial.extend(other.spatial);
        self.logits.extend(other.logits);
    }

    /// The same in the order of the pictures' digests. What has one digest has the same features.
    pub(super) fn sorted(self) -> Self {
        let mut order: Vec<usize> = (0..self.pictures.len()).collect();
        order.sort_by_key(|&i| self.pictures[i]);
        let rows = |values: &[f32], width: usize| -> Vec<f32> {
            if values.is_empty() {
                return Vec::new();
            }
            order.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect()
        };
        Self {
            pictures: order.iter().map(|&i| self.pictures[i]).collect(),
            pool: rows(&self.pool, POOL),
            spatial: rows(&self.spatial, SPATIAL),
            logits: rows(&self.logits, LOGITS),
        }
    }

    /// Names the set of these pictures; they are sorted.
    pub(super) fn set_digest(&self) -> Digest {
        Digest::of(self.pictures.as_flattened())
    }

    /// The object's bytes.
    pub(super) fn encode(&self) -> Result<Bytes, String> {
        let count = self.pictures.len();
        let mut tensors = TensorMap::new();
        let data = self.pictures.as_flattened().to_vec();
        tensors.insert("sha256".into(), HostTensor { dtype: Dtype::U8, shape: vec![count, 32], data });
        for (name, values, width) in [
            ("pool", &self.pool, POOL),
            ("spatial", &self.spatial, SPATIAL),
            ("logits", &self.logits, LOGITS),
        ] {
            if !values.is_empty() {
                let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors
                    .insert(name.into(), HostTensor { dtype: Dtype::F32, shape: vec![count, width], data });
            }
        }
        let written = write_safetensors(&tensors, &Default::default()).map_err(|e| e.to_string())?;
        Ok(written.into())
    }

    /// And back. What a stranger wrote is checked.
    pub(super) fn decode(bytes: &[u8], keeps: Keeps) -> Result<Self, String> {
        let (mut tensors, _) = read_safetensors(bytes, &ReadLimits::default()).map_err(|e| e.to_string())?;
        let digests = tensors.remove("sha256").filter(|t| t.dtype == Dtype::U8);
        let digests = digests.ok_or("it has no pictures' digests")?;
        let count = match digests.shape[..] {
            [count, 32] => count,
            _ => return Err("its digests are none".into()),
        };
        let mut values = |name: &str, width: usize, is_kept: bool| match tensors.remove(name) {
            Some(tensor) if is_kept && tensor.dtype == Dtype::F32 && tensor.shape == [count, width] => {
                Ok(tensor.to_f32())
            }
            None if !is_kept => Ok(Vec::new()),
            _ => Err(format!("it has no features `{name}` of {count} pictures")),
        };
        Ok(Self {
            pool: values("pool", POOL, true)?,
            spatial: values("spatial", SPATIAL, keeps.spatial)?,
            logits: values("logits", LOGITS, keeps.logits)?,
            pictures: digests.data.as_chunks().0.to_vec(),
        })
    }
}

/// Where a part lies.
pub(super) fn part_key(sha256: &Digest) -> Key {
    super::set::key(&format!("features/{sha256}.safetensors"))
}

/// Reads a part, which is what its name says.
///
/// # Errors
/// One line.
pub(super) async fn read(store: &Store, part: &Part, keeps: Keeps) -> Result<Rows, String> {
    let key = part_key(&part.sha256);
    let (_, bytes) = store.get(&key).await.map_err(|e| e.to_string())?;
    if Digest::of(&bytes) != part.sha256 {
        return Err(format!("`{key}` is damaged: remove it, and run the job again"));
    }
    let rows = Rows::decode(&bytes, keeps).map_err(|e| format!("`{key}` cannot be read: {e}"))?;
    match rows.pictures.len() as u64 == part.images {
        true => Ok(rows),
        false => {
            Err(format!("`{key}` has features of {} pictures, not of {}", rows.pictures.len(), part.images))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[u8]) -> Rows {
        Rows {
            pictures: names.iter().map(|name| [*name; 32]).collect(),
            pool: names.iter().flat_map(|name| vec![f32::from(*name); POOL]).collect(),
            spatial: Vec::new(),
            logits: names.iter().flat_map(|name| vec![f32::from(*name); LOGITS]).collect(),
        }
    }

    #[test]
    fn a_part_reads_back_and_lacks_nothing_that_was_asked_for() {
        let keeps = Keeps { spatial: false, logits: true };
        let bytes = rows(&[3, 1]).encode().unwrap();
        assert_eq!(Rows::decode(&bytes, keeps).unwrap(), rows(&[3, 1]));
        assert!(Rows::decode(&bytes, Keeps::default()).is_err(), "it has more");
        assert!(Rows::decode(&bytes, Keeps { spatial: true, logits: true }).is_err(), "it lacks some");
        assert!(Rows::decode(&bytes[..bytes.len() - 1], keeps).is_err());
    }

    #[test]
    fn pictures_are_in_one_order_whoever_looked_at_which() {
        let mut split = rows(&[3, 1]);
        split.append(rows(&[2]));
        assert_eq!(split.sorted(), rows(&[1, 2, 3]));
        let set = |names: &[u8]| rows(names).sorted().set_digest();
        assert_eq!(set(&[2, 1]), set(&[1, 2]));
        assert_ne!(set(&[1, 1]), set(&[1]));
    }
}
