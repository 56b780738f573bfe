//! A network's weights where units are worked on: they come from this machine, or from where the job writes.

use std::sync::Arc;

use bytes::Bytes;
use sr3_engine::{model::tensors::TensorMap, ops::Isa, vision::VisionError};
use sr3_proto::{Digest, FailureKind, Key, Store, StoreError, layout, off_thread, store::PutMode};
use sr3_worker::Failure;
use tokio::sync::OnceCell;

use super::{Known, Weights, weights::tensors};

/// The weights of an order's network; they are read when they are first needed.
pub(crate) struct Delivered {
    known: Known,
    weights: Weights,
    /// Where a coordinator put them.
    store: Arc<Store>,
    bytes: OnceCell<Bytes>,
}

/// Where weights lie in a job's destination: apart from its results.
fn weights_key(sha256: &Digest) -> Key {
    layout::state_key(&format!("weights/{sha256}.safetensors"))
}

/// Puts weights of this machine where workers of the job find them, if they are not there.
///
/// # Errors
/// They are not here, or cannot be written.
pub(crate) async fn lay_down(known: &Known, weights: &Weights, store: &Store) -> Result<(), String> {
    let key = weights_key(&known.sha256);
    if store.head(&key).await.map_err(|e| e.to_string())?.is_some() {
        return Ok(());
    }
    let (here, sha256) = (weights.clone(), known.sha256.clone());
    let bytes = off_thread(move || here.get(&sha256)).await.ok().flatten();
    let gone =
        || format!("the weights of {} are not on this machine any more: import them again", known.name);
    store.put(&key, bytes.ok_or_else(gone)?, PutMode::Replace).await.map_err(|e| e.to_string())
}

/// The network, by weights of this machine.
///
/// # Errors
/// They are not here, or not those of the network.
pub(crate) fn here<N>(
    known: &Known,
    weights: &Weights,
    new: impl FnOnce(&TensorMap, Isa) -> Result<N, VisionError>,
    digest: impl FnOnce(&N) -> &str,
) -> Result<N, String> {
    let gone =
        || format!("the weights of {} are not on this machine any more: import them again", known.name);
    opened(&weights.get(&known.sha256).ok_or_else(gone)?, known, new, digest)
}

/// Has weights on this machine, from where a coordinator put them if they are not here.
///
/// # Errors
/// They are nowhere, or damaged.
pub(crate) async fn bring(known: &Known, weights: &Weights, store: &Arc<Store>) -> Result<(), Failure> {
    Delivered::new(known.clone(), weights.clone(), Arc::clone(store)).prepare().await
}

impl Delivered {
    pub(crate) fn new(known: Known, weights: Weights, store: Arc<Store>) -> Self {
        Self { known, weights, store, bytes: OnceCell::new() }
    }

    /// Names the network on a device.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.known.name, self.known.sha256)
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// They are nowhere, or damaged.
    pub(crate) async fn prepare(&self) -> Result<(), Failure> {
        self.bytes.get_or_try_init(|| self.read()).await.map(drop)
    }

    async fn read(&self) -> Result<Bytes, Failure> {
        let (here, sha256) = (self.weights.clone(), self.known.sha256.clone());
        if let Ok(Some(bytes)) = off_thread(move || here.get(&sha256)).await {
            return Ok(bytes);
        }
        let key = weights_key(&self.known.sha256);
        let bytes = match self.store.get(&key).await {
            Ok((_, bytes)) => bytes,
            Err(StoreError::NotFound { .. }) => {
                let reason = format!(
                    "the weights of {} are neither on this machine nor at the job's destination: run `sr3 weights import \
                     FILE`, or submit the job again",
                    self.known.name
                );
                return Err(Failure::new(FailureKind::Worker, reason));
            }
            Err(error) => return Err(Failure::new(FailureKind::Transient, error)),
        };
        if Digest::of(&bytes) != self.known.sha256 {
            return Err(Failure::new(FailureKind::Transient, format!("`{key}` is damaged: remove it")));
        }
        let (here, known, kept) = (self.weights.clone(), self.known.clone(), bytes.clone());
        // Only so that it need not be fetched again.
        let _ = off_thread(move || here.keep(&known, &kept)).await;
        Ok(bytes)
    }

    /// The network, ready to look: made by `new`, and told by its digest.
    ///
    /// # Errors
    /// The weights are not those of the order.
    pub(crate) fn open<N>(
        &self,
        new: impl FnOnce(&TensorMap, Isa) -> Result<N, VisionError>,
        digest: impl FnOnce(&N) -> &str,
    ) -> Result<N, String> {
        let bytes = self.bytes.get().ok_or("the network's weights were not read")?;
        opened(bytes, &self.known, new, digest)
    }
}

fn opened<N>(
    bytes: &[u8],
    known: &Known,
    new: impl FnOnce(&TensorMap, Isa) -> Result<N, VisionError>,
    digest: impl FnOnce(&N) -> &str,
) -> Result<N, String> {
    let tensors = tensors(bytes).map_err(|e| e.to_string())?;
    let network = new(&tensors, Isa::detect()).map_err(|e| e.to_string())?;
    match digest(&network) == known.network {
        true => Ok(network),
        false => Err("the network's weights are not those of the order".into()),
    }
}
