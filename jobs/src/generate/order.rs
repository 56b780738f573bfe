//! What a generating job does, resolved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{
    Digest, Head, Location, Needs, Order, StoreError,
    order::{ModelName, Place},
};

use crate::{Dtype, Selection, envelope};

/// Version of the order's canonical form.
const VERSION: u32 = 2;

/// Make samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateOrder {
    /// Where samples go, as the user named it.
    pub destination: String,
    /// How many; 0 where there are as many as pictures in the source.
    pub count: u64,
    /// Where small pictures lie that the first stage enlarges; none where it makes some of noise.
    pub source: Option<String>,
    /// Which of them.
    pub selection: Selection,
    /// What samples show, in turn, as the models number it; empty where nobody is told.
    pub classes: Vec<u32>,
    /// What the classes are called, in that order; empty where they have no names.
    pub class_names: Vec<String>,
    /// The stages, from small to large.
    pub stages: Vec<StageOrder>,
    /// Whether the pictures of all stages but the last stay.
    pub keep_stages: bool,
    /// Of all noise.
    pub seed: u64,
    /// The class of bits that a worker must give; stages in f32 have those of every CPU.
    pub class: String,
}

/// A stage, resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageOrder {
    /// The model as the user named it.
    pub model: String,
    /// What it calls itself.
    pub model_name: String,
    /// Digest of its checkpoint.
    pub sha256: Digest,
    /// The preset in force.
    pub preset: String,
    /// What the user asked for instead of the preset's.
    pub sampler: Option<String>,
    /// The same.
    pub steps: Option<u64>,
    /// Sampler and noise levels in force, spelt out.
    pub sampling: String,
    /// Classifier-free guidance.
    pub guidance: f64,
    /// Blur of what it is given, in pixels of what it makes.
    pub blur: f64,
    /// Noise that is added to what it is given, of 255.
    pub noise: f64,
    /// Noise, of 255, at which it is stopped early; 0 where it is not.
    pub truncated: f64,
    /// Whether results are projected.
    pub projection: bool,
    /// What its convolutions multiply.
    pub dtype: Dtype,
    /// The class of its bits.
    pub class: String,
    /// Whether it is told what a sample shows.
    pub told_class: bool,
    /// Side of the pictures that it makes; 0 where that depends on the source.
    pub side: u64,
    /// Output pixels per input pixel and axis; 1 of a stage that makes pictures of noise.
    pub scale: u64,
    /// Evaluations of the network that a sample takes.
    pub evaluations: u64,
    /// Samples of a unit.
    pub samples: u64,
    /// Memory that it takes, in bytes.
    pub memory_bytes: u64,
}

impl GenerateOrder {
    /// Its envelope.
    ///
    /// # Errors
    /// Its places cannot be places.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, StoreError> {
        let mut places = Vec::new();
        for (what, location, writes) in
            [("source", self.source.as_ref(), false), ("destination", Some(&self.destination), true)]
        {
            if let Some(location) = location {
                places.push(Place { what: what.into(), location: location.parse::<Location>()?, writes });
            }
        }
        let model =
            |stage: &StageOrder| ModelName { name: stage.model.clone(), sha256: stage.sha256.clone() };
        let head = Head {
            name,
            priority,
            places,
            models: self.stages.iter().map(model).collect(),
            needs: Needs {
                class: self.class.clone(),
                // A worker keeps what it has loaded.
                memory_bytes: self.stages.iter().map(|stage| stage.memory_bytes).sum(),
            },
            bad_items_max: None,
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

    /// Names what samples are functions of, beside their indexes: jobs with one digest make the same samples, more or fewer.
    pub fn recipe_digest(&self) -> Digest {
        let recipe = Self { destination: String::new(), count: 0, keep_stages: false, ..self.clone() };
        // How samples are cut into units changes none.
        let stages = recipe.stages.iter().map(|stage| StageOrder {
            model: String::new(),
            samples: 0,
            memory_bytes: 0,
            ..stage.clone()
        });
        let recipe = Self { stages: stages.collect(), ..recipe };
        Digest::of(&serde_json::to_vec(&recipe).unwrap_or_default())
    }

    /// What the sample of an index shows; none where nobody is told.
    pub fn class_of(&self, index: u64) -> Option<u32> {
        let turn = index.checked_rem(self.classes.len() as u64)?;
        self.classes.get(turn as usize).copied()
    }

    /// The name of a class, for people and for folders.
    pub fn class_name(&self, class: u32) -> String {
        let turn = self.classes.iter().position(|other| *other == class);
        let name = turn.and_then(|turn| self.class_names.get(turn));
        // One that would be no name of a folder, or be overlooked, is none here.
        let is_plain = |name: &&String| !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        name.filter(is_plain).cloned().unwrap_or_else(|| format!("class-{class:05}"))
    }
}
