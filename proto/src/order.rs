//! The envelope of a job: what travels, is kept and is scheduled, whatever kind of job it is.
//!
//! An [`Order`] is a spec resolved: digests for names, every default spelt out. Its head holds what coordinator, wire and
//! ledger need to know; its payload is bytes that only the kind reads, here and at the worker.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Digest, Location};

/// A job, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which kind of job reads the payload.
    pub kind: String,
    /// What is known of it without that kind.
    pub head: Head,
    /// The kind's own canonical form.
    pub payload: Bytes,
}

impl Order {
    /// Names the order among others: two with one digest are the same work.
    pub fn digest(&self) -> Digest {
        Digest::of(&[self.kind.as_bytes(), b"\0", &self.payload].concat())
    }

    /// Where it writes.
    pub fn written(&self) -> impl Iterator<Item = &Place> {
        self.head.places.iter().filter(|place| place.writes)
    }
}

/// What is known of an order without its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// For people.
    pub name: Option<String>,
    /// Weight of its share among running jobs, at least 1.
    pub priority: u32,
    /// Every place that it reads or writes.
    pub places: Vec<Place>,
    /// Every model that it runs.
    pub models: Vec<ModelName>,
    /// What a worker must have.
    pub needs: Needs,
    /// With more items set aside than this it fails; none for no bound.
    pub bad_items_max: Option<u64>,
}

/// A place that a job reads or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is to the job, for people: the field of the spec that names it.
    pub what: String,
    /// Where it is.
    pub location: Location,
    /// Whether the job writes there.
    pub writes: bool,
}

/// A model, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// For people.
    pub name: String,
    /// Digest of its checkpoint.
    pub sha256: Digest,
}

/// What a worker must have to run units of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The class of its results' bits, such as `f32` or `bf16/avx512`; empty where any will do.
    pub class: String,
    /// Memory that its models take, in bytes; 0 where none runs.
    pub memory_bytes: u64,
}

/// What a worker has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Kinds of jobs that it runs.
    pub kinds: Vec<String>,
    /// Classes of bits that it computes in, the one it prefers first.
    pub classes: Vec<String>,
    /// Memory that it may use, in bytes; 0 where it does not know.
    pub memory_bytes: u64,
    /// Threads that compute.
    pub threads: u32,
}

impl Offer {
    /// What is missing here for units of such a job, in words; none if nothing is.
    pub fn lacks(&self, kind: &str, needs: &Needs) -> Option<String> {
        if !self.kinds.iter().any(|known| known == kind) {
            return Some(format!("jobs of kind `{kind}`"));
        }
        let class = &needs.class;
        if !class.is_empty() && !self.classes.contains(class) {
            return Some(format!("results of class `{class}`"));
        }
        let is_known = self.memory_bytes > 0;
        (is_known && needs.memory_bytes > self.memory_bytes)
            .then(|| format!("{:.1} GB of memory", needs.memory_bytes as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_lacks_what_it_does_not_offer() {
        let offer = Offer { kinds: vec!["upscale".into()], classes: vec!["f32".into()], ..Offer::default() };
        let class = |class: &str| Needs { class: class.into(), memory_bytes: 5 };
        assert_eq!(offer.lacks("upscale", &class("f32")), None);
        assert_eq!(offer.lacks("upscale", &class("")), None);
        assert_eq!(
            offer.lacks("upscale", &class("cuda/sm_90/f32")).unwrap(),
            "results of class `cuda/sm_90/f32`"
        );
        assert_eq!(offer.lacks("train", &class("")).unwrap(), "jobs of kind `train`");
        let small = Offer { memory_bytes: 4, ..offer };
        assert!(small.lacks("upscale", &class("f32")).unwrap().contains("memory"));
    }

    #[test]
    fn orders_of_two_kinds_never_share_a_digest() {
        let order = |kind: &str, payload: &'static [u8]| {
            Order { kind: kind.into(), head: Head::default(), payload: payload.into() }.digest()
        };
        assert_ne!(order("a", b"b"), order("ab", b""));
    }
}
