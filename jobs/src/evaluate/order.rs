//! What a measuring job does, resolved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Digest, Head, Location, Needs, Order,
    order::{ModelName, Place},
};

use super::Metric;
use crate::{Selection, envelope, models::Known, upscale::RecipeSpec};

/// Version of the order's canonical form.
const VERSION: u32 = 2;

/// Measure pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluateOrder {
    /// Where the pictures lie, as the user named it.
    pub source: String,
    /// Where lie those that they should be; none where they are reduced and enlarged again.
    pub reference: Option<String>,
    /// Where the numbers go; none for a process that only prints them.
    pub destination: Option<String>,
    /// What enlarges, if anything does.
    pub model: Option<Enlarging>,
    /// Size of the pictures over that of their inputs: how far they are reduced, and how wide a border luma leaves out.
    pub scale: u32,
    /// Only the middle square of this side is measured.
    pub crop: Option<u32>,
    /// Which numbers, in order, each once.
    pub metrics: Vec<Metric>,
    /// The networks that some of them take.
    pub networks: Vec<Known>,
    /// Whether what the model makes is written as well.
    pub pictures: bool,
    /// Which pictures.
    pub selection: Selection,
    /// With more pictures set aside than this the job fails; none for no bound.
    pub max_bad_items: Option<u64>,
}

/// A model and its recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enlarging {
    /// The model as the user named it.
    pub model: String,
    /// Memory that it takes, in bytes.
    pub memory_bytes: u64,
    /// How it enlarges.
    pub recipe: RecipeSpec,
}

impl EvaluateOrder {
    /// Its envelope.
    ///
    /// # Errors
    /// Its places cannot be places, or the digest of a network's weights none.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, String> {
        let mut places = Vec::new();
        for (what, location, writes) in [
            ("source", Some(&self.source), false),
            ("reference", self.reference.as_ref(), false),
            ("destination", self.destination.as_ref(), true),
        ] {
            if let Some(location) = location {
                let location = location.parse::<Location>().map_err(|e| e.to_string())?;
                places.push(Place { what: what.into(), location, writes });
            }
        }
        let recipes = self.model.iter().map(|model| &model.recipe);
        let networks = self.networks.iter().map(|known| {
            let sha256 = Digest::try_from(known.network.clone()).map_err(|e| e.to_string())?;
            Ok(ModelName { name: known.name.clone(), sha256 })
        });
        let networks = networks.collect::<Result<Vec<_>, String>>()?;
        let head = Head {
            name,
            priority,
            places,
            models: recipes
                .clone()
                .filter_map(|recipe| Some((recipe.model_name.clone(), recipe.model.clone()?)))
                .map(|(name, sha256)| ModelName { name, sha256 })
                .chain(networks)
                .collect(),
            // Measuring alone is the same everywhere.
            needs: Needs {
                class: recipes.map(|recipe| recipe.class.clone()).collect(),
                memory_bytes: self
                    .metrics
                    .iter()
                    .fold(self.model.as_ref().map_or(0, |model| model.memory_bytes), |sum, metric| {
                        sum.saturating_add(metric.memory_bytes())
                    }),
            },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_pinned_and_reads_back() {
        let order = EvaluateOrder {
            source: "s3://bucket/a".into(),
            reference: Some("s3://bucket/b".into()),
            destination: Some("s3://bucket/out".into()),
            model: None,
            scale: 4,
            crop: None,
            metrics: vec![Metric::MeanShift, Metric::StLpips],
            networks: vec![Known {
                name: "st-lpips-alexnet".into(),
                sha256: Digest::of(b"file"),
                network: Digest::of(b"network").to_string(),
                classifies: false,
                bytes: 3,
                file: None,
            }],
            pictures: false,
            selection: Selection::default(),
            max_bad_items: Some(0),
        };
        let envelope = order.envelope(None, 1).unwrap();
        assert_eq!(EvaluateOrder::read(&envelope).unwrap(), order);
        assert_eq!(
            envelope.head.models[0].sha256,
            Digest::of(b"network"),
            "held to the list of what may be used"
        );
        assert_eq!(envelope.head.needs.memory_bytes, 2200 << 20);
        let expected = "{\"version\":2,\"order\":{\"source\":\"s3://bucket/a\",\"reference\":\"s3://bucket/b\",\
                        \"destination\":\"s3://bucket/out\",\"model\":null,\"scale\":4,\"crop\":null,\"metrics\":[\
                        \"mean-shift\",\"st-lpips\"],\"networks\":[{\"name\":\"st-lpips-alexnet\",\"sha256\":\"";
        let payload = String::from_utf8(envelope.payload.to_vec()).unwrap();
        assert!(payload.starts_with(expected), "{payload}");
    }
}
