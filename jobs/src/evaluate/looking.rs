//! What networks say of a picture's results: on the thread that computes, one picture after the other.

use std::sync::Arc;

use sr3_engine::{
    metrics::{MetricError, Picture},
    vision::{CLASSES, EfficientNetLite0, StLpips, VisionError, rank},
};
use sr3_proto::Store;
use sr3_worker::{Failure, Held, Stop};

use super::{EvaluateOrder, Scores};
use crate::{
    images::Rgb,
    models::{Delivered, Network, Weights},
};

/// The networks of an order.
pub(super) struct Looks {
    st_lpips: Option<Arc<Delivered>>,
    classifier: Option<Arc<Delivered>>,
}

/// What they say of a picture.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// How far each result is from what it should be.
    distances: Vec<f64>,
    /// How many classes come before the picture's own: of what it should be, then of each result.
    ranks: Vec<usize>,
}

impl Looks {
    /// Those of an order, if it has any. Weights are looked for in `weights`, and in the order's destination.
    pub(super) fn new(order: &EvaluateOrder, weights: &Weights, destination: &Arc<Store>) -> Option<Self> {
        let find = |network: Network| {
            let known = order.networks.iter().find(|known| known.network == network.digest())?.clone();
            Some(Arc::new(Delivered::new(known, weights.clone(), Arc::clone(destination))))
        };
        let looks = Self { st_lpips: find(Network::StLpips), classifier: find(Network::EfficientNetLite0) };
        (!order.networks.is_empty()).then_some(looks)
    }

    /// Whether pictures need a class.
    pub(super) const fn classifies(&self) -> bool {
        self.classifier.is_some()
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// They are nowhere, or damaged.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
        for network in [&self.st_lpips, &self.classifier].into_iter().flatten() {
            network.prepare().await?;
        }
        Ok(())
    }

    /// Looks at what a picture of this class should be, and at its results.
    pub(super) fn look<'a>(
        &self,
        held: &mut Held,
        truth: &Rgb,
        results: impl Iterator<Item = &'a Rgb>,
        class: Option<usize>,
    ) -> Result<Looked, Stop> {
        let bad = |e: VisionError| Stop::Bad { reason: e.to_string() };
        let view = |rgb: &'a Rgb| Picture::new(rgb.width, rgb.height, &rgb.pixels);
        let views = results.map(view).collect::<Result<Vec<_>, MetricError>>();
        let views = views.map_err(|e| Stop::Bad { reason: e.to_string() })?;
        let truth = Picture::new(truth.width, truth.height, &truth.pixels);
        let truth = truth.map_err(|e| Stop::Bad { reason: e.to_string() })?;
        let mut looked = Looked::default();
        if let Some(network) = &self.st_lpips {
            let open = || network.open(StLpips::new, StLpips::digest);
            let st_lpips = held.get(&network.name(), network, open)?;
            looked.distances = st_lpips.distances(truth, &views).map_err(bad)?;
        }
        if let (Some(network), Some(class)) = (&self.classifier, class) {
            let open = || network.open(EfficientNetLite0::new, EfficientNetLite0::digest);
            let classifier = held.get(&network.name(), network, open)?;
            let all: Vec<Picture<'_>> = [truth].into_iter().chain(views).collect();
            let logits = classifier.logits(&all).map_err(bad)?;
            looked.ranks = logits.chunks_exact(CLASSES).map(|logits| rank(logits, class)).collect();
        }
        Ok(looked)
    }
}

impl Looked {
    /// What is said of the picture that results should be: whether its class is told at all.
    pub(super) fn truth(&self) -> Option<Scores> {
        self.ranks.first().map(|rank| Scores::default().with_rank(*rank))
    }

    /// Adds what is said of a result, by its place among them.
    pub(super) fn add(&self, at: usize, scores: Scores) -> Scores {
        let scores = Scores { st_lpips: self.distances.get(at).copied(), ..scores };
        match self.ranks.get(at + 1) {
            Some(rank) => scores.with_rank(*rank),
            None => scores,
        }
    }
}
