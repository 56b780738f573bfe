//! How a network learns what a picture shows.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use sr3_engine::{
    metrics,
    model::checkpoint::CheckpointConfig,
    vision::{CLASSES, EfficientNetLite0, rank},
};

use super::ModelError;
use crate::{
    ClassChoice,
    class::of_folder,
    images::Rgb,
    models::{Known, Network, Weights, delivered},
};

/// How a network learns what a picture shows. Clones look with the same network.
#[derive(Clone)]
pub(super) enum Told {
    /// This, or nothing.
    One(Option<u32>),
    /// Its folder is called by one of so many classes.
    Folder { classes: usize },
    /// By looking at it.
    Auto(Arc<Mutex<EfficientNetLite0>>),
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(class) => write!(f, "One({class:?})"),
            Self::Folder { classes } => write!(f, "Folder({classes})"),
            Self::Auto(_) => f.write_str("Auto"),
        }
    }
}

/// What a choice needs to look with, if anything.
///
/// # Errors
/// It is not on this machine, or the model has other classes than it tells.
pub(super) fn looker(
    choice: Option<ClassChoice>,
    config: &CheckpointConfig,
    weights: &Weights,
) -> Result<Option<Known>, ModelError> {
    if choice != Some(ClassChoice::Auto) {
        return Ok(None);
    }
    if config.model.classes != CLASSES {
        return Err(ModelError::Wish(format!(
            "class `auto` tells ImageNet's {CLASSES} classes, and `{}` has {}: name a class from 0 on, or `folder`",
            config.name, config.model.classes
        )));
    }
    let known = weights.of(Network::EfficientNetLite0);
    known.map(Some).map_err(|e| ModelError::Wish(format!("class `auto` looks at pictures, and {e}")))
}

impl Told {
    /// As a choice has it, with its [`looker`]'s weights from this machine.
    ///
    /// # Errors
    /// They are damaged.
    pub(super) fn new(
        choice: Option<ClassChoice>,
        config: &CheckpointConfig,
        looker: Option<&Known>,
        weights: &Weights,
    ) -> Result<Self, ModelError> {
        if let Some(known) = looker {
            let network = delivered::here(known, weights, EfficientNetLite0::new, EfficientNetLite0::digest);
            return Ok(Self::Auto(Arc::new(Mutex::new(network.map_err(ModelError::Broken)?))));
        }
        Ok(match choice {
            Some(ClassChoice::One(class)) => Self::One(Some(class)),
            Some(ClassChoice::Folder) => Self::Folder { classes: config.model.classes },
            Some(ClassChoice::Auto) | None => Self::One(None),
        })
    }

    /// What the picture of this path shows; `rgb` are its pixels.
    ///
    /// # Errors
    /// One line: its folder names no class.
    pub(super) fn class(&self, path: &str, rgb: impl FnOnce() -> Rgb) -> Result<Option<u32>, String> {
        match self {
            Self::One(class) => Ok(*class),
            Self::Folder { classes } => of_folder(path, *classes).map(Some),
            Self::Auto(network) => {
                let Rgb { width, height, pixels } = rgb();
                let picture = metrics::Picture::new(width, height, &pixels).map_err(|e| e.to_string())?;
                // It keeps nothing of a picture that could be half-written.
                let mut network = network.lock().unwrap_or_else(PoisonError::into_inner);
                let logits = network.logits(&[picture]).map_err(|e| e.to_string())?;
                Ok((0..CLASSES).find(|class| rank(&logits, *class) == 0).map(|class| class as u32))
            }
        }
    }
}
