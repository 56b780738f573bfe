//! What an upscaling job does, resolved.
//!
//! [`RecipeSpec`] is the part that decides the bytes of an output, given its input and its key. Its digest is how
//! a later run recognises results as its own. What only decides how fast or how often (batch, threads, globs,
//! bounds) is not in it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sr3_proto::{
    Digest, Head, Location, Needs, Order, StoreError,
    order::{ModelName, Place},
};

use crate::{
    ClassChoice, Colour, DeviceChoice, Dtype, Selection, Wish, Writing, envelope,
    images::{FormatChoice, Naming},
    models::Known,
};

/// Version of the order's canonical form.
const VERSION: u32 = 1;

/// Upscale every image of a source into a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpscaleOrder {
    /// Where the images lie, as the user named it.
    pub source: String,
    /// Where the results go, as the user named it.
    pub destination: String,
    /// The model as the user named it: in the box, or where its checkpoint lies.
    pub model: String,
    /// Memory that the model takes, in bytes.
    pub memory_bytes: u64,
    /// What is done to each.
    pub recipe: RecipeSpec,
    /// How outputs are named.
    pub naming: Naming,
    /// What somebody else has enlarged, where no model does: the kind is then [`PROJECT`](super::PROJECT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enlarged: Option<Enlarged>,
    /// Globs on the path relative to the source, an extension in any case; if there are any, an item must match one.
    pub include: Vec<String>,
    /// Globs on the path relative to the source; an item that matches one is left out.
    pub exclude: Vec<String>,
    /// Shortest encoded length of an item, in bytes; shorter objects are left out.
    pub bytes_min: Option<u64>,
    /// Longest encoded length of an item, in bytes; longer objects are left out.
    pub bytes_max: Option<u64>,
    /// With more quarantined items than this the job fails; none for no bound.
    pub max_bad_items: Option<u64>,
    /// Compute everything again and replace whatever lies at an output's key.
    pub overwrite: bool,
}

/// Where the enlarged pictures lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enlarged {
    /// As the user named it.
    pub place: String,
    /// Under which names: those of their inputs, as [`images::partner`](crate::images::partner) says, or this very one.
    pub naming: Naming,
}

impl UpscaleOrder {
    /// Its kind's name.
    pub fn kind(&self) -> &'static str {
        if self.enlarged.is_some() { super::PROJECT } else { super::NAME }
    }

    /// Its envelope.
    ///
    /// # Errors
    /// Its places cannot be places.
    pub fn envelope(&self, name: Option<String>, priority: u32) -> Result<Order, StoreError> {
        let place = |what: &str, location: &str, writes| {
            Ok::<_, StoreError>(Place { what: what.into(), location: location.parse::<Location>()?, writes })
        };
        let mut places = vec![place("source", &self.source, false)?];
        if let Some(enlarged) = &self.enlarged {
            places.push(place("enlarged", &enlarged.place, false)?);
        }
        places.push(place("destination", &self.destination, true)?);
        let model = self.recipe.model.iter();
        let head = Head {
            name,
            priority,
            places,
            models: model
                .map(|sha256| ModelName { name: self.recipe.model_name.clone(), sha256: sha256.clone() })
                .collect(),
            needs: Needs { class: self.recipe.class.clone(), memory_bytes: self.memory_bytes },
            bad_items_max: self.max_bad_items,
        };
        let payload = envelope::write(VERSION, self);
        Ok(Order { kind: self.kind().into(), head, payload: Bytes::from(payload) })
    }

    /// What an envelope of such a kind holds.
    ///
    /// # Errors
    /// One line: it is of another version.
    pub fn read(order: &Order) -> Result<Self, String> {
        envelope::read(&order.kind, VERSION, &order.payload)
    }

    /// Which of the source's objects it takes.
    pub fn selection(&self) -> Selection {
        let Self { include, exclude, bytes_min, bytes_max, .. } = self.clone();
        Selection { include, exclude, bytes_min, bytes_max }
    }

    /// How whoever runs it uses the model.
    pub fn wish(&self) -> Wish {
        self.recipe.wish(&self.model)
    }
}

/// Everything that decides the bytes of an output, apart from the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeSpec {
    /// Digest of the checkpoint; none where somebody else has enlarged.
    pub model: Option<Digest>,
    /// Its name for people; does not count towards the digest.
    pub model_name: String,
    /// Preset of the checkpoint.
    pub preset: String,
    /// Sampler, where it is not the preset's.
    pub sampler: Option<String>,
    /// Number of steps, where it is not the preset's.
    pub steps: Option<u32>,
    /// Sampler, noise levels and tiles as they will be used: names alone would hide that a model's presets changed.
    pub sampling: String,
    /// Seed of the noise.
    pub seed: u64,
    /// Output size over input size; 0 where every picture brings its own.
    pub scale: u32,
    /// Output format.
    pub format: FormatChoice,
    /// Quality of lossy formats, 1 to 100.
    pub quality: u8,
    /// What lies under transparent pixels where the output's format knows none; without it such pictures are refused.
    #[serde(default)]
    pub background: Option<Colour>,
    /// What images show, where the model is told.
    #[serde(default)]
    pub image_class: Option<ClassChoice>,
    /// What looks at them to tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looker: Option<Known>,
    /// Tile side in output pixels, where it is not the model's.
    pub tile: Option<u32>,
    /// Whether outputs are projected so that they reduce to their input.
    pub projection: bool,
    /// What convolutions are computed in; f32 in recipes from before there was a choice.
    #[serde(default)]
    pub dtype: Dtype,
    /// Class of the results' bits: those of one class are the same whoever computed them.
    #[serde(default = "f32_class")]
    pub class: String,
}

fn f32_class() -> String {
    F32_CLASS.to_string()
}

/// The class that every CPU gives in f32.
pub const F32_CLASS: &str = "f32";

impl RecipeSpec {
    /// A model as its checkpoint says that it is used: default preset, f32, no wishes.
    pub fn plain(model: Digest, model_name: &str, scale: u32, sampling: &str) -> Self {
        let Writing { format, quality, background } = Writing::default();
        Self {
            model: Some(model),
            model_name: model_name.to_string(),
            preset: "default".to_string(),
            sampler: None,
            steps: None,
            sampling: sampling.to_string(),
            seed: 0,
            scale,
            format,
            quality,
            background,
            image_class: None,
            looker: None,
            tile: None,
            projection: true,
            dtype: Dtype::F32,
            class: f32_class(),
        }
    }

    /// Making what somebody else has enlarged reduce to its inputs, which takes no model. Everybody's bits are the same.
    pub fn projection(writing: &Writing) -> Self {
        let Writing { format, quality, background } = *writing;
        Self {
            model: None,
            model_name: String::new(),
            preset: String::new(),
            sampler: None,
            steps: None,
            sampling: "bicubic reduction".to_string(),
            seed: 0,
            scale: 0,
            format,
            quality,
            background,
            image_class: None,
            looker: None,
            tile: None,
            projection: true,
            dtype: Dtype::F32,
            class: String::new(),
        }
    }

    /// How whoever runs it uses the model, which the user named `model`.
    pub fn wish(&self, model: &str) -> Wish {
        let Self { preset, sampler, steps, seed, scale, image_class, tile, projection, dtype, .. } =
            self.clone();
        Wish {
            model: model.to_string(),
            preset: Some(preset),
            scale: Some(scale),
            steps,
            sampler,
            class: image_class,
            tile,
            seed,
            projection,
            dtype,
            device: DeviceChoice::Any,
        }
    }

    /// How results are written.
    pub fn writing(&self) -> Writing {
        Writing { format: self.format, quality: self.quality, background: self.background }
    }

    /// sha256 of the canonical JSON (keys sorted, no white space) of what decides the bytes.
    pub fn digest(&self) -> Digest {
        let mut text = String::new();
        write_canonical(&self.identity(), &mut text);
        Digest::of(text.as_bytes())
    }

    /// The fields in which two recipes differ, as `name: theirs, now ours` texts; empty if the digests are equal.
    pub fn differences(&self, earlier: &Self) -> Vec<String> {
        let (now, then) = (self.identity(), earlier.identity());
        let (Value::Object(now), Value::Object(then)) = (now, then) else { return Vec::new() };
        let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
        names
            .into_iter()
            .filter(|name| then.get(*name) != now.get(*name))
            .map(|name| {
                // Spelt out for machines; in part it would say less than nothing.
                if name == "sampling" {
                    return "sampler, noise levels or tiles differ".to_string();
                }
                let shown = |value: Option<&Value>| match value {
                    None | Some(Value::Null) => "the default".to_string(),
                    Some(Value::String(text)) if name == "model" => text.chars().take(12).collect::<String>(),
                    Some(Value::String(text)) => text.chars().take(40).collect::<String>(),
                    Some(other) => other.to_string(),
                };
                format!("{name} {}, now {}", shown(then.get(name)), shown(now.get(name)))
            })
            .collect()
    }

    fn identity(&self) -> Value {
        let Some(model) = &self.model else {
            let mut identity = serde_json::json!({
                "made by": "projection",
                "reduction": self.sampling,
                "format": self.format,
                "quality": self.quality,
            });
            if let Some(background) = self.background {
                identity["background"] = background.to_string().into();
            }
            return identity;
        };
        let mut identity = serde_json::json!({
            "model": model,
            "preset": self.preset,
            "sampler": self.sampler,
            "steps": self.steps,
            "sampling": self.sampling,
            "seed": self.seed,
            "scale": self.scale,
            "format": self.format,
            "quality": self.quality,
            "tile": self.tile,
            "projection": self.projection,
        });
        // What was no choice once goes without saying, so that results from then are still recognised.
        if let Some(background) = self.background {
            identity["background"] = background.to_string().into();
        }
        if let Some(class) = self.image_class {
            identity["image_class"] = match class {
                ClassChoice::One(class) => class.into(),
                ClassChoice::Folder | ClassChoice::Auto => class.to_string().into(),
            };
        }
        if let Some(looker) = &self.looker {
            identity["looker"] = looker.network.clone().into();
        }
        if self.dtype != Dtype::F32 {
            identity["dtype"] = self.dtype.to_string().into();
        }
        if self.class != F32_CLASS {
            identity["class"] = self.class.clone().into();
        }
        identity
    }
}

/// Keys in byte order whatever map serde_json was built with: a digest must not depend on another crate's features.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (i, (name, value)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(name.clone()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(value, out);
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> RecipeSpec {
        RecipeSpec::plain(Digest::of(b"model"), "photo-4x", 4, "ddim")
    }

    #[test]
    fn the_canonical_form_is_pinned() {
        let mut text = String::new();
        write_canonical(&recipe().identity(), &mut text);
        let model = Digest::of(b"model");
        assert_eq!(
            text,
            format!(
                r#"{{"format":"auto","model":"{model}","preset":"default","projection":true,"quality":95,"sampler":null,"sampling":"ddim","scale":4,"seed":0,"steps":null,"tile":null}}"#
            )
        );
    }

    #[test]
    fn every_field_that_decides_bytes_changes_the_digest_and_the_name_does_not() {
        let base = recipe();
        let changes: [fn(&mut RecipeSpec); 17] = [
            |r| r.model = Some(Digest::of(b"other")),
            |r| r.preset = "fast".into(),
            |r| r.sampler = Some("ddim".into()),
            |r| r.steps = Some(3),
            |r| r.sampling = "ddim at other levels".into(),
            |r| r.seed = 1,
            |r| r.scale = 2,
            |r| r.format = "png".parse().unwrap(),
            |r| r.quality = 80,
            |r| r.background = Some(Colour([255; 3])),
            |r| r.tile = Some(256),
            |r| r.projection = false,
            |r| r.image_class = Some(ClassChoice::One(0)),
            |r| r.image_class = Some(ClassChoice::Folder),
            |r| r.image_class = Some(ClassChoice::Auto),
            |r| r.dtype = Dtype::Bf16,
            |r| r.class = "candle-cpu/avx2/f32".into(),
        ];
        for change in changes {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(base.digest(), other.digest());
            assert_eq!(other.differences(&base).len(), 1);
            assert_eq!(base.differences(&other).len(), 1);
        }
        let mut renamed = base.clone();
        renamed.model_name = "same weights".into();
        assert_eq!(base.digest(), renamed.digest());
    }

    #[test]
    fn differences_say_what_was_and_what_is() {
        let (then, mut now) = (recipe(), recipe());
        now.seed = 7;
        assert_eq!(now.differences(&then), ["seed 0, now 7"]);
    }

    #[test]
    fn an_order_reads_back_and_one_from_the_future_says_so() {
        let order = UpscaleOrder {
            source: "s3://a/in".into(),
            destination: "/out".into(),
            model: "photo-4x".into(),
            memory_bytes: 9,
            recipe: RecipeSpec { seed: u64::MAX, ..recipe() },
            naming: Naming::Mirror,
            enlarged: None,
            include: vec!["*.png".into()],
            exclude: Vec::new(),
            bytes_min: None,
            bytes_max: Some(7),
            max_bad_items: Some(0),
            overwrite: false,
        };
        let mut envelope = order.envelope(Some("n".into()), 2).unwrap();
        assert_eq!(UpscaleOrder::read(&envelope), Ok(order));
        assert_eq!(envelope.written().map(|place| place.location.to_string()).collect::<Vec<_>>(), ["/out"]);
        envelope.payload = br#"{"version":7,"order":"all new"}"#.as_slice().into();
        assert!(UpscaleOrder::read(&envelope).unwrap_err().contains("version 7"));
    }

    #[test]
    fn what_others_have_enlarged_is_another_recipe_that_every_choice_of_writing_changes() {
        let base = RecipeSpec::projection(&Writing::default());
        let mut text = String::new();
        write_canonical(&base.identity(), &mut text);
        assert_eq!(
            text,
            r#"{"format":"auto","made by":"projection","quality":95,"reduction":"bicubic reduction"}"#
        );
        let changes: [fn(&mut Writing); 3] = [
            |w| w.format = "png".parse().unwrap(),
            |w| w.quality = 80,
            |w| w.background = Some(Colour([255; 3])),
        ];
        for change in changes {
            let mut writing = Writing::default();
            change(&mut writing);
            assert_ne!(RecipeSpec::projection(&writing).digest(), base.digest());
        }
        assert!(base.differences(&recipe()).contains(&"made by the default, now projection".to_string()));
    }
}
