//! What a comparing job does, resolved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::vision::POOL;
use sr3_proto::{
    Digest, Head, Location, Needs, Order,
    order::{ModelName, Place as Named},
};

use super::{Metric, Mode, place::Place};
use crate::{Selection, envelope, models::Known};

/// Version of the order's canonical form.
const VERSION: u32 = 1;
/// What the network takes at work with its weights, and pictures on their way: a process of 0.6 GB was measured.
const MEMORY_BYTES: u64 = 1 << 30;

/// Compare sets of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareOrder {
    /// The set that is judged, as the user named it.
    pub source: String,
    /// The set that it should be like.
    pub reference: Option<String>,
    /// Pictures like those of the reference that nothing was trained on.
    pub held_out: Option<String>,
    /// Where the numbers go; none for a process that only prints them.
    pub destination: Option<String>,
    /// As which tool pictures are prepared.
    pub mode: Mode,
    /// Which numbers, in order, each once.
    pub metrics: Vec<Metric>,
    /// Whether the statistics of the source are written.
    pub save_statistics: bool,
    /// The network that looks.
    pub network: Known,
    /// Which pictures.
    pub selection: Selection,
    /// With more pictures set aside than this the job fails; none for no bound.
    pub max_bad_items: Option<u64>,
}

impl CompareOrder {
    /// Its sets by place, each once, in order: source, reference, held-out.
    pub(super) fn sets(&self) -> Vec<&str> {
        let mut sets: Vec<&str> = Vec::new();
        for written in
            [Some(&self.source), self.reference.as_ref(), self.held_out.as_ref()].into_iter().flatten()
        {
            if !sets.contains(&written.as_str()) {
                sets.push(written);
            }
        }
        sets
    }

    /// Where its sets lie, each once, in order.
    ///
    /// # Errors
    /// A place is none.
    pub fn locations(&self) -> Result<Vec<Location>, String> {
        self.sets().into_iter().map(|written| Place::read(written).map(|place| place.location)).collect()
    }

    /// What is kept of each picture beside its 2048 features.
    pub(super) fn keeps(&self) -> Keeps {
        let asked = |metric| self.metrics.contains(&metric);
        Keeps { spatial: asked(Metric::Sfid), logits: asked(Metric::InceptionScore) }
    }

    /// Names what decides the features of a picture.
    pub(super) fn looks(&self) -> String {
        let Keeps { spatial, logits } = self.keeps();
        let more = [(spatial, " spatial"), (logits, " logits")];
        let more: String = more.into_iter().filter_map(|(is_kept, name)| is_kept.then_some(name)).collect();
        format!("inception {} {} {POOL}{more}", self.network.network, self.mode)
    }

    /// Its envelope.
    ///
    /// # Errors
    /// Its places cannot be places.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, String> {
        let mut places = Vec::new();
        for (what, written, writes) in [
            ("source", Some(&self.source), false),
            ("reference", self.reference.as_ref(), false),
            ("held_out", self.held_out.as_ref(), false),
            ("destination", self.destination.as_ref(), true),
        ] {
            if let Some(written) = written {
                places.push(Named { what: what.into(), location: Place::read(written)?.location, writes });
            }
        }
        let network = Digest::try_from(self.network.network.clone()).map_err(|e| e.to_string())?;
        let head = Head {
            name,
            priority,
            places,
            models: vec![ModelName { name: self.network.name.clone(), sha256: network }],
            // Features have the same bits on every CPU, and every worker has one.
            needs: Needs { class: String::new(), memory_bytes: MEMORY_BYTES },
            bad_items_max: self.max_bad_items,
        };
        let payload = Bytes::from(envelope::write(VERSION, self));
        Ok(Order { kind: super::NAME.into(), head, payload })
    }

    /// What an envelope of this kind holds.
    ///
    /// # Errors
    /// One line: it is of another version.
    pub fn read(order: &Order) -> Result<Self, String> {
        envelope::read(super::NAME, VERSION, &order.payload)
    }
}

/// What is kept of a picture beside its features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keeps {
    /// The spatial features of sFID.
    pub(super) spatial: bool,
    /// The classifier's answers.
    pub(super) logits: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> CompareOrder {
        CompareOrder {
            source: "s3://bucket/a".into(),
            reference: Some("s3://bucket/stats.npz".into()),
            held_out: None,
            destination: Some("s3://bucket/out".into()),
            mode: Mode::default(),
            metrics: vec![Metric::Fid, Metric::PrecisionRecall],
            save_statistics: false,
            network: Known {
                name: "inception-2015-12-05".into(),
                sha256: Digest::of(b"file"),
                network: Digest::of(b"network").to_string(),
                classifies: true,
                bytes: 3,
                file: None,
            },
            selection: Selection::default(),
            max_bad_items: Some(0),
        }
    }

    #[test]
    fn the_canonical_form_is_pinned_and_reads_back() {
        let envelope = order().envelope(None, 1).unwrap();
        assert_eq!(CompareOrder::read(&envelope).unwrap(), order());
        let places: Vec<String> =
            envelope.head.places.iter().map(|place| format!("{} {}", place.what, place.location)).collect();
        assert_eq!(places, ["source s3://bucket/a", "reference s3://bucket", "destination s3://bucket/out"]);
        let expected = "{\"version\":1,\"order\":{\"source\":\"s3://bucket/a\",\"reference\":\"s3://bucket/stats.npz\",\
                        \"held_out\":null,\"destination\":\"s3://bucket/out\",\"mode\":\"pytorch-fid\",\"metrics\":[\"fid\",\
                        \"precision-recall\"],\"save_statistics\":false,\"network\":{\"name\":\"inception-2015-12-05\",\
                        \"sha256\":\"";
        let payload = String::from_utf8(envelope.payload.to_vec()).unwrap();
        assert!(payload.starts_with(expected), "{payload}");
        // Features are found again by this.
        let looks = order().looks();
        assert_eq!(looks, format!("inception {} pytorch-fid 2048", Digest::of(b"network")));
        let more = CompareOrder { metrics: vec![Metric::Sfid, Metric::InceptionScore], ..order() };
        assert!(more.looks().ends_with(" 2048 spatial logits"));
    }
}
