//! The models in the box: part of the binary, so that the first command needs no download.

use super::checkpoint::{Checkpoint, CheckpointConfig, CheckpointError};

/// The model that is used where none is named.
pub const DEFAULT_MODEL: &str = "photo-4x";

/// A model in the box.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// What `--model` takes.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
}

/// All of them.
pub const BUNDLED: &[Bundled] = &[Bundled {
    name: DEFAULT_MODEL,
    about: "photographs, 4×",
    config: include_bytes!("../../models/photo-4x/config.json"),
    weights: include_bytes!("../../models/photo-4x/model.safetensors"),
}];

impl Bundled {
    /// The model of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        BUNDLED.iter().copied().find(|bundled| bundled.name == name)
    }

    /// Its configuration, without its weights.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub fn config(&self) -> Result<CheckpointConfig, CheckpointError> {
        CheckpointConfig::from_json(self.config, self.name)
    }

    /// Reads it.
    ///
    /// # Errors
    /// None with the files that a release is built from: a test reads each.
    pub fn checkpoint(&self) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::from_bytes(self.config, self.weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_in_the_box_can_be_read() {
        assert!(Bundled::find(DEFAULT_MODEL).is_some());
        for bundled in BUNDLED {
            let checkpoint = bundled.checkpoint().unwrap();
            assert!(
                checkpoint.config.tile.is_some() && !checkpoint.config.credits.is_empty(),
                "{}",
                bundled.name
            );
        }
    }
}
