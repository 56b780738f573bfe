//! The built command with the model in its box, as a user would run it. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

mod class;
#[path = "../classes/mod.rs"]
mod classes;
mod commands;
mod convert;
mod devices;
mod evaluate;
mod fid;
mod hard_pictures;
mod hidden_colours;
#[path = "../inception/mod.rs"]
mod inception;
mod project;
mod real_pictures;
mod report;
mod same_bytes;
mod seams;
mod spec;
mod tune;
#[path = "../wheels/mod.rs"]
mod wheels;
