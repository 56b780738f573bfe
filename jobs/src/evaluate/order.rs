//! What a measuring job does, resolved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Head, Location, Needs, Order, StoreError,
    order::{ModelName, Place},
};

use crate::{Selection, envelope, upscale::RecipeSpec};

/// Version of the order's canonical form.
const VERSION: u32 = 1;

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
    /// Its places cannot be places.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, StoreError> {
        let mut places = Vec::new();
        for (what, location, writes) in [
            ("source", Some(&self.source), false),
            ("reference", self.reference.as_ref(), false),
            ("destination", self.destination.as_ref(), true),
        ] {
            if let Some(location) = location {
                places.push(Place { what: what.into(), location: location.parse::<Location>()?, writes });
            }
        }
        let recipes = self.model.iter().map(|model| &model.recipe);
        let head = Head {
            name,
            priority,
            places,
            models: recipes
                .clone()
                .filter_map(|recipe| Some((recipe.model_name.clone(), recipe.model.clone()?)))
                .map(|(name, sha256)| ModelName { name, sha256 })
                .collect(),
            // Measuring alone is the same everywhere.
            needs: Needs {
                class: recipes.map(|recipe| recipe.class.clone()).collect(),
                memory_bytes: self.model.as_ref().map_or(0, |model| model.memory_bytes),
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
