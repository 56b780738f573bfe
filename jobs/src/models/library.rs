//! Opens what a reference names.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use sr3_coordinator::core::OpenStore;
use sr3_engine::model::{
    bundled::{BUNDLED, Bundled},
    checkpoint::{Checkpoint, CheckpointConfig, CheckpointError},
};
use sr3_proto::{Key, Location, Store, StoreError};

use super::Cache;
use crate::upscale::ModelError;

/// Where models come from, and those that are in memory.
pub struct Library {
    open_store: OpenStore,
    cache: Option<Cache>,
    /// By configuration, which names the weights.
    loaded: Mutex<HashMap<String, Weak<Checkpoint>>>,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// What a reference names.
enum Place {
    Box(Bundled),
    Folder(Location),
    Url(Location),
}

impl Library {
    /// Models of places that `open_store` opens, kept in `cache`.
    pub fn new(open_store: OpenStore, cache: Option<Cache>) -> Self {
        Self { open_store, cache, loaded: Mutex::default() }
    }

    /// With every place that this process can open, and the cache of its environment.
    pub fn of_process() -> Self {
        Self::new(Arc::new(Store::at), Cache::of_process())
    }

    /// The configuration of what `reference` names, with the weights' digest, without the weights. May block.
    ///
    /// # Errors
    /// One line that names the reference, and what is there instead.
    pub fn config(&self, reference: &str) -> Result<CheckpointConfig, ModelError> {
        match self.place(reference)? {
            Place::Box(bundled) => bundled.config().map_err(|e| ModelError::Broken(e.to_string())),
            Place::Folder(location) => self.config_in(reference, &location),
            Place::Url(location) => self.config_at(reference, &location),
        }
    }

    /// What `reference` names. May block.
    ///
    /// # Errors
    /// As [`Self::config`]; and where the weights are not those that the configuration names.
    pub fn checkpoint(&self, reference: &str) -> Result<Arc<Checkpoint>, ModelError> {
        match self.place(reference)? {
            Place::Box(bundled) => {
                let broken = |e: CheckpointError| ModelError::Broken(e.to_string());
                let config = bundled.config().map_err(broken)?;
                self.load(&config, || bundled.checkpoint().map_err(broken))
            }
            Place::Folder(location) => {
                let config = self.config_in(reference, &location)?;
                self.load(&config, || {
                    let folder = location.path().unwrap_or(Path::new(""));
                    Checkpoint::read_folder(folder).map_err(unusable)
                })
            }
            Place::Url(location) => {
                let config = self.config_at(reference, &location)?;
                self.load(&config, || self.fetch(reference, &location, &config))
            }
        }
    }

    fn place(&self, reference: &str) -> Result<Place, ModelError> {
        if let Some(bundled) = Bundled::find(reference) {
            return Ok(Place::Box(bundled));
        }
        let location: Location =
            reference.parse().map_err(|e: StoreError| ModelError::Wish(e.to_string()))?;
        match location.path() {
            None => Ok(Place::Url(location)),
            Some(folder) if folder.is_dir() => Ok(Place::Folder(location)),
            Some(_) => {
                let names: Vec<_> = BUNDLED.iter().map(|bundled| bundled.name).collect();
                Err(ModelError::Wish(format!(
                    "unknown model `{reference}`: take one in the box ({}), the folder of a checkpoint, or its URL",
                    names.join(", ")
                )))
            }
        }
    }

    /// Of a folder on this machine, whose files may be links.
    fn config_in(&self, reference: &str, location: &Location) -> Result<CheckpointConfig, ModelError> {
        (self.open_store)(location).map_err(|e| of_store(reference, &e))?;
        let folder = location.path().unwrap_or(Path::new(""));
        let file = folder.join(config_key().as_str());
        let bytes = std::fs::read(&file)
            .map_err(|e| ModelError::Wish(format!("cannot read {}: {e}", file.display())))?;
        CheckpointConfig::from_json(&bytes, &file.display().to_string()).map_err(unusable)
    }

    fn config_at(&self, reference: &str, location: &Location) -> Result<CheckpointConfig, ModelError> {
        let store = (self.open_store)(location).map_err(|e| of_store(reference, &e))?;
        let (config, weights) = (config_key(), weights_key());
        let (bytes, has_weights) = wait(async {
            let (_, bytes) = match store.get(&config).await {
                Err(StoreError::NotFound { .. }) => {
                    return Err(ModelError::Wish(format!(
                        "`{reference}` is no model: it holds no {config}; name the place that `sr3 convert` wrote to"
                    )));
                }
                other => other.map_err(|e| of_store(reference, &e))?,
            };
            let weights = store.head(&weights).await.map_err(|e| of_store(reference, &e))?;
            Ok((bytes, weights.is_some()))
        })??;
        let named = format!("{reference}/{config}");
        let config = CheckpointConfig::from_json(&bytes, &named).map_err(unusable)?;
        match has_weights {
            true => Ok(config),
            false => Err(ModelError::Wish(format!(
                "the model `{reference}` is half there: it holds its configuration and no {weights}; copy it again"
            ))),
        }
    }

    /// The checkpoint at a URL: its weights from the cache, or from there.
    fn fetch(
        &self,
        reference: &str,
        location: &Location,
        config: &CheckpointConfig,
    ) -> Result<Checkpoint, ModelError> {
        let sha256 = &config.sha256;
        if let Some(cache) = &self.cache
            && let Some(bytes) = cache.get(sha256)
        {
            match Checkpoint::with_config(config.clone(), &bytes, &format!("{sha256} in the cache")) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => {
                    tracing::warn!(%error, "weights on disk are damaged: they are fetched again");
                    cache.remove(sha256);
                }
            }
        }
        let store = (self.open_store)(location).map_err(|e| of_store(reference, &e))?;
        let fetched = wait(async { store.get(&weights_key()).await })?;
        let (_, bytes) = fetched.map_err(|e| of_store(reference, &e))?;
        let named = format!("{reference}/{}", weights_key());
        let checkpoint = Checkpoint::with_config(config.clone(), &bytes, &named).map_err(unusable)?;
        if let Some(cache) = &self.cache {
            cache.put(sha256, &bytes);
        }
        Ok(checkpoint)
    }

    /// The checkpoint of a configuration, which names its weights, read if it is not in memory.
    fn load(
        &self,
        config: &CheckpointConfig,
        read: impl FnOnce() -> Result<Checkpoint, ModelError>,
    ) -> Result<Arc<Checkpoint>, ModelError> {
        let key = serde_json::to_string(config).unwrap_or_default();
        // Held while it is read: two that ask at once share one.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let read = Arc::new(read()?);
        loaded.retain(|_, checkpoint| checkpoint.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&read));
        Ok(read)
    }
}

fn config_key() -> Key {
    Key::literal("config.json")
}

fn weights_key() -> Key {
    Key::literal("model.safetensors")
}

fn unusable(error: CheckpointError) -> ModelError {
    ModelError::Wish(error.to_string())
}

fn of_store(reference: &str, error: &StoreError) -> ModelError {
    let text = format!("the model `{reference}` cannot be read: {error}");
    match error {
        StoreError::NotAllowed { .. } | StoreError::Unsupported { .. } | StoreError::Settings { .. } => {
            ModelError::Wish(text)
        }
        _ => ModelError::Unreachable(text),
    }
}

/// Waits for a store, on a thread that may block: within a runtime one of its blocking threads.
fn wait<T>(work: impl Future<Output = T>) -> Result<T, ModelError> {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return Ok(runtime.block_on(work));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|e| ModelError::Broken(format!("cannot start: {e}")))?.block_on(work))
}
