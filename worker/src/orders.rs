//! The orders that a worker has open: those in use, and the few that were used last.

use std::sync::{Arc, Mutex, PoisonError};

use sr3_proto::{Digest, FailureKind, Order};
use tokio::sync::OnceCell;

use crate::{OpenOrder, Runners, Stores, work::Failure};

/// Open orders, the one used last in front. One that is pushed out stays open until its last unit is done.
pub(crate) struct Orders {
    runners: Runners,
    kept_max: usize,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    order: Digest,
    models: Vec<Digest>,
    /// Empty while it is opened.
    open: Arc<OnceCell<Arc<dyn OpenOrder>>>,
}

impl Orders {
    pub(crate) fn new(runners: Runners, kept_max: usize) -> Self {
        Self { runners, kept_max: kept_max.max(1), kept: Mutex::default() }
    }

    /// The order, opened if it is not. Units that ask at once share one.
    pub(crate) async fn get(
        &self,
        order: &Arc<Order>,
        stores: &Arc<Stores>,
    ) -> Result<Arc<dyn OpenOrder>, Failure> {
        let kind = &order.kind;
        let Some(runner) = self.runners.find(kind) else {
            let version = env!("CARGO_PKG_VERSION");
            let reason = format!(
                "this worker (sr3 {version}) runs no jobs of kind `{kind}`: run the same sr3 on every machine"
            );
            return Err(Failure::new(FailureKind::Worker, reason));
        };
        let digest = order.digest();
        let cell = self.cell(&digest, order);
        let result = cell.get_or_try_init(|| runner.open(order, stores)).await.cloned();
        if result.is_err() {
            self.lock().retain(|kept| kept.order != digest || kept.open.initialized());
        }
        result
    }

    /// Models that are loaded, each once.
    pub(crate) fn loaded(&self) -> Vec<Digest> {
        let kept = self.lock();
        let open = kept.iter().filter(|kept| kept.open.initialized());
        let mut models: Vec<_> = open.flat_map(|kept| kept.models.clone()).collect();
        models.sort_unstable();
        models.dedup();
        models
    }

    fn cell(&self, digest: &Digest, order: &Order) -> Arc<OnceCell<Arc<dyn OpenOrder>>> {
        let mut kept = self.lock();
        let found = match kept.iter().position(|kept| kept.order == *digest) {
            Some(at) => kept.remove(at),
            None => Kept {
                order: digest.clone(),
                models: order.head.models.iter().map(|model| model.sha256.clone()).collect(),
                open: Arc::default(),
            },
        };
        let cell = Arc::clone(&found.open);
        kept.insert(0, found);
        kept.truncate(self.kept_max);
        cell
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
