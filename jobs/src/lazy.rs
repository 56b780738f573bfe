//! A model that is opened when it is first needed.

use std::sync::Arc;

use sr3_proto::{FailureKind, off_thread};
use sr3_worker::Failure;
use tokio::sync::OnceCell;

use crate::upscale::ModelError;

type Open<T> = Arc<dyn Fn() -> Result<T, ModelError> + Send + Sync>;

/// Something that may still be to be opened.
pub struct Lazy<T> {
    open: Option<Open<T>>,
    cell: OnceCell<Arc<T>>,
}

impl<T: Send + Sync + 'static> Lazy<T> {
    /// It is open.
    pub fn ready(value: T) -> Self {
        Self { open: None, cell: OnceCell::new_with(Some(Arc::new(value))) }
    }

    /// Opened by `open`, which may block.
    pub fn new(open: impl Fn() -> Result<T, ModelError> + Send + Sync + 'static) -> Self {
        Self { open: Some(Arc::new(open)), cell: OnceCell::new() }
    }

    /// The value, opened if it is not.
    ///
    /// # Errors
    /// What opening said, and who could do better.
    pub async fn get(&self) -> Result<Arc<T>, Failure> {
        let opened = self.cell.get_or_try_init(|| async {
            let cannot = |reason: &str| Failure::new(FailureKind::Worker, reason);
            let Some(open) = self.open.clone() else { return Err(cannot("nothing opens it")) };
            match off_thread(move || open()).await {
                Ok(opened) => opened.map(Arc::new).map_err(Failure::from),
                Err(_) => Err(cannot("internal error while a model was opened")),
            }
        });
        opened.await.cloned()
    }
}
