//! How the worker gets a processor for a job, and the few that it keeps open.

use std::sync::{Arc, Mutex, PoisonError};

use sr3_proto::{Digest, UpscaleSpec, off_thread};
use tokio::sync::OnceCell;

use crate::Processor;

/// Opens models; implemented by whoever knows where they lie.
pub trait OpenProcessor: Send + Sync + 'static {
    /// What runs them.
    type Processor: Processor;

    /// Opens the model that the spec names and makes a processor for its recipe. May block.
    ///
    /// # Errors
    /// One line. What was opened must have the digest `spec.recipe.model`: an error about that names the model and
    /// both digests.
    fn open(&self, spec: &UpscaleSpec) -> Result<Self::Processor, String>;
}

/// Open processors, the one used last in front. One that is pushed out stays open until its last shard is done.
pub(crate) struct Models<O: OpenProcessor> {
    opener: Arc<O>,
    kept_max: usize,
    kept: Mutex<Vec<Kept<O::Processor>>>,
}

struct Kept<P> {
    recipe: Digest,
    model: Digest,
    /// Empty while it is opened.
    processor: Arc<OnceCell<Arc<P>>>,
}

impl<O: OpenProcessor> Models<O> {
    pub(crate) fn new(opener: Arc<O>, kept_max: usize) -> Self {
        Self { opener, kept_max: kept_max.max(1), kept: Mutex::default() }
    }

    /// The processor for a spec, opened if it is not. Shards that ask at once share one.
    pub(crate) async fn get(&self, spec: &Arc<UpscaleSpec>) -> Result<Arc<O::Processor>, String> {
        let recipe = spec.recipe.digest();
        let cell = self.cell(&recipe, &spec.recipe.model);
        let (opener, asked) = (Arc::clone(&self.opener), Arc::clone(spec));
        let opened = cell.get_or_try_init(|| async move {
            match off_thread(move || opener.open(&asked)).await {
                Ok(opened) => opened.map(Arc::new),
                Err(_) => Err(format!("internal error while the model `{}` was opened", spec.model)),
            }
        });
        let result = opened.await.cloned();
        if result.is_err() {
            self.lock().retain(|kept| kept.recipe != recipe || kept.processor.initialized());
        }
        result
    }

    /// Models that are loaded, each once.
    pub(crate) fn loaded(&self) -> Vec<Digest> {
        let mut models: Vec<_> =
            self.lock().iter().filter(|k| k.processor.initialized()).map(|k| k.model.clone()).collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    fn cell(&self, recipe: &Digest, model: &Digest) -> Arc<OnceCell<Arc<O::Processor>>> {
        let mut kept = self.lock();
        let found = match kept.iter().position(|kept| kept.recipe == *recipe) {
            Some(at) => kept.remove(at),
            None => Kept { recipe: recipe.clone(), model: model.clone(), processor: Arc::default() },
        };
        let cell = Arc::clone(&found.processor);
        kept.insert(0, found);
        kept.truncate(self.kept_max);
        cell
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Kept<O::Processor>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
