//! Training a network: on one machine or on a gang of workers, to the same bits.
//!
//! | what | where |
//! |---|---|
//! | what a person writes, and what becomes of it | `spec`, `cascade` (several runs by one spec), `choice`, `order`, `resolve` |
//! | which pictures there are, and what they show | `survey` (the first stage: pictures looked at by units), `labels`, `index` |
//! | the job as the coordinator sees it | `kind`, `job` |
//! | from the index to what a step is given | `loader` |
//! | a network, its optimizer, and what they do in a step | `learner` |
//! | a member of the gang, from its seat to the last step | `member`, `agree`, `run`, `facts` |
//! | whether members compute and store rightly | `compare`, `audit` |
//! | what lies at the destination | `checkpoint`, `saving`, `curve`, `window`, `tensorboard`, `validation` |
//!
//! Promises. Weights are a function of the order: not of how many workers took part, of who came or went, of threads, or of
//! how often the run was stopped. A step's samples, crops, noise and sums are functions of the seed and of places. Whoever
//! has finished a step has the only state that there can be after it, so nobody votes. A checkpoint is whole before it is
//! named. Never: a step without all of its grains, or a fresh start where a run lies already.

mod agree;
mod audit;
mod cascade;
mod checkpoint;
mod choice;
mod compare;
mod curve;
mod facts;
mod index;
mod job;
mod kind;
mod labels;
mod learner;
mod loader;
mod member;
mod order;
mod resolve;
mod run;
mod saving;
mod spec;
mod survey;
mod tensorboard;
mod validation;
mod window;

pub use cascade::runs;
pub use checkpoint::{CheckpointError, CheckpointInfo, MemberFile, checkpoints};
pub use choice::{
    CropName, DecayName, GradientsName, LabelsName, LevelDrawName, LossName, ObjectiveName, OrientationsName,
    TargetName,
};
pub use curve::{Row, Sampled, Time, Validation, decode_curve, read_curve};
pub use job::Trained;
pub use kind::Train;
pub use order::{InitFrom, Recipe, ResumeFrom, TrainOrder, sizes};
pub use spec::{ModelField, NumbersMap, TrainFields, TrainSpec};

/// The kind's name.
pub const NAME: &str = "train";
