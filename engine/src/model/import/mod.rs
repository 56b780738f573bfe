//! Checkpoints of other programs: reading their files, and finding out which network they hold.
//!
//! Files are taken to come from strangers. Nothing in them is executed, and no length in them is believed before
//! the bytes are there.

mod callable;
mod pickle;
mod pth;
mod view;
mod zip;

pub use pth::read_pth;
