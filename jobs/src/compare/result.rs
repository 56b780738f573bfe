//! What comes of a comparison, and its files.

use serde::{Deserialize, Serialize};
use sr3_proto::{Digest, Key};

use super::Mode;

/// The numbers, as JSON.
pub fn numbers_key() -> Key {
    Key::literal("compared.json")
}

/// A line of JSON for each picture that was left out: set, name, reason.
pub fn left_out_key() -> Key {
    Key::literal("left-out.jsonl")
}

/// The numbers of sets, with all that decides them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// As which tool pictures were prepared.
    pub mode: Mode,
    /// How they were resized, in words.
    pub resize: String,
    /// The network that looked.
    pub network: String,
    /// sha256 of its weights.
    pub weights: String,
    /// The sets.
    pub sets: Vec<SetNumbers>,
    /// What was computed.
    pub numbers: Numbers,
    /// What a reader should know of them.
    pub notes: Vec<String>,
    /// Where the source's statistics lie beside the features, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<String>,
}

/// What a set is in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The set that is judged.
    Source,
    /// The set that it should be like.
    Reference,
    /// Pictures that nothing was trained on.
    HeldOut,
}

/// A set of pictures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetNumbers {
    /// What it is.
    pub role: Role,
    /// Where it lies, as the user named it.
    pub place: String,
    /// Pictures that count; none where statistics do not say.
    pub images: Option<u64>,
    /// sha256 of the set: of its pictures' pixels, whatever their files; none where statistics do not say.
    pub sha256: Option<Digest>,
    /// Whether only mean and covariance were there.
    pub only_statistics: bool,
    /// Pictures that could not be read.
    pub left_out: u64,
    /// The first of them, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out_first: Vec<(String, String)>,
}

/// What was computed; what was not asked for, or cannot be given, is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Fréchet Inception Distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fid: Option<f64>,
    /// The same of spatial features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sfid: Option<f64>,
    /// Kernel Inception Distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<KidNumbers>,
    /// Monge Inception Distance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mind: Option<f64>,
    /// Of the source's pictures, the share that looks like some of the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Of the reference's pictures, the share that looks like some of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Inception Score of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inception_score: Option<ScoreNumbers>,
    /// Distances to the nearest picture of the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memorisation: Option<MemorisationNumbers>,
}

/// KID over subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KidNumbers {
    /// Mean of the subsets.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// How many.
    pub subsets: u64,
    /// Pictures of each.
    pub size: u64,
}

/// Inception Score over splits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreNumbers {
    /// Mean of the splits.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// How many.
    pub splits: u64,
}

/// Distances to the nearest picture of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorisationNumbers {
    /// Their median for the source.
    pub source: f64,
    /// Their median for held-out pictures.
    pub held_out: f64,
    /// Probability that a picture of the source lies nearer than one held out: 0.5 where nothing is copied.
    pub nearer: f64,
}
