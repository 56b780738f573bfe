//! FID's Inception where units are worked on: its weights come from this machine, or from where the job writes.

use std::sync::Arc;

use bytes::Bytes;
use sr3_engine::{ops::Isa, vision::Inception};
use sr3_proto::{Digest, FailureKind, Key, Store, StoreError, off_thread, store::PutMode};
use sr3_worker::Failure;
use tokio::sync::OnceCell;

use crate::models::{Known, Weights, tensors};

/// The network of an order; its weights are read when they are first needed.
pub(super) struct Network {
    known: Known,
    weights: Weights,
    /// Where a coordinator put them.
    store: Arc<Store>,
    bytes: OnceCell<Bytes>,
}

/// Where weights lie beside a job's features.
fn weights_key(sha256: &Digest) -> Key {
    super::set::key(&format!("weights/{sha256}.safetensors"))
}

/// Puts weights of this machine where workers of the job find them, if they are not there.
///
/// # Errors
/// They are not here, or cannot be written.
pub(super) async fn lay_down(known: &Known, weights: &Weights, store: &Store) -> Result<(), String> {
    let key = weights_key(&known.sha256);
    if store.head(&key).await.map_err(|e| e.to_string())?.is_some() {
        return Ok(());
    }
    let (here, sha256) = (weights.clone(), known.sha256.clone());
    let bytes = off_thread(move || here.get(&sha256)).await.ok().flatten();
    let bytes =
        bytes.ok_or("the weights of the network are not on this machine any more: import them again")?;
    store.put(&key, bytes, PutMode::Replace).await.map_err(|e| e.to_string())
}

impl Network {
    pub(super) fn new(known: Known, weights: Weights, store: Arc<Store>) -> Self {
        Self { known, weights, store, bytes: OnceCell::new() }
    }

    /// Names it on a device.
    pub(super) fn name(&self) -> String {
        format!("inception {}", self.known.sha256)
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// They are nowhere, or damaged.
    pub(super) async fn prepare(&self) -> Result<(), Failure> {
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
                let reason = "the weights of FID's Inception network are neither on this machine nor at the job's destination: \
                              run `sr3 weights import FILE`, or submit the job again";
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

    /// The network, ready to look.
    ///
    /// # Errors
    /// The weights are not those of the order.
    pub(super) fn open(&self) -> Result<Inception, String> {
        let bytes = self.bytes.get().ok_or("the network's weights were not read")?;
        let tensors = tensors(bytes).map_err(|e| e.to_string())?;
        let inception = Inception::new(&tensors, Isa::detect()).map_err(|e| e.to_string())?;
        match inception.digest() == self.known.network {
            true => Ok(inception),
            false => Err("the network's weights are not those of the order".into()),
        }
    }
}
