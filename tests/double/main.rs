//! Everything around a picture, with a processor that knows none: whole runs in milliseconds. One binary, so that it is
//! linked once.
#![allow(clippy::unwrap_used, reason = "a test binary: a panic is a failure")]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod links;
mod odd_file_systems;
mod real_folders;
mod stopping;
mod upscale;

/// Not a test by itself: what `common::sr3_process` runs.
#[test]
fn the_command() {
    common::become_the_command_if_asked();
}
