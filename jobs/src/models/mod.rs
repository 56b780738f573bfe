//! Models by reference: a name in the box, a folder, or a URL of any store that the product reads.
//!
//! A reference is resolved from its `config.json` alone, which names the sha256 of the weights. Weights that come over a
//! network are kept in a [`Cache`] on disk; those in memory are shared by everything in the process that uses them.

mod cache;
pub(crate) mod delivered;
mod library;
mod networks;
mod weights;

pub use cache::{Cache, cache_bytes_max, cache_folder};
pub(crate) use delivered::{Delivered, bring, lay_down};
pub use library::Library;
pub use networks::Network;
pub use weights::{Imported, Known, Weights, WeightsError};
