//! Files of arrays at a place, of which no more is read than is needed.

use sr3_engine::model::tensors::{
    Dtype, NPZ_HEAD_BYTES, NPZ_TAIL_BYTES, NpzEntry, ReadLimits, TensorFileError, TensorMap, npz_entries,
};
use sr3_proto::{Key, Store, StoreError, store::ObjectInfo, words::printable};

/// What arrays other than pictures may take: statistics are 34 MB, or 67 with spatial ones.
const ARRAY_BYTES_MAX: u64 = 256 << 20;
/// The array of pictures, as NumPy names it where nobody does.
const SAMPLES: &str = "arr_0";
/// Sides of pictures.
const SIDE_MAX: u64 = 1 << 14;

/// A file of arrays.
#[derive(Debug)]
pub(super) struct Npz<'a> {
    store: &'a Store,
    pub(super) info: ObjectInfo,
    /// As the user named it, for people.
    name: String,
    entries: Vec<NpzEntry>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum NpzError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{name}` cannot be used: {source}")]
    Format { name: String, source: TensorFileError },
    #[error("`{name}` cannot be used: {reason}")]
    Content { name: String, reason: String },
}

/// Pictures in a file: (N, H, W, 3) bytes from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Samples {
    pub(super) offset: u64,
    pub(super) count: u64,
    pub(super) height: u32,
    pub(super) width: u32,
}

impl<'a> Npz<'a> {
    /// The file at `key`, which the user named `written`.
    pub(super) async fn open(store: &'a Store, key: &Key, written: &str) -> Result<Self, NpzError> {
        let name = printable(written);
        let info =
            store.head(key).await?.ok_or_else(|| StoreError::NotFound { path: written.to_string() })?;
        let (_, tail) = store.get_part(key, info.bytes.saturating_sub(NPZ_TAIL_BYTES)..info.bytes).await?;
        let entries = npz_entries(&tail, info.bytes);
        let entries = entries.map_err(|source| NpzError::Format { name: name.clone(), source })?;
        Ok(Self { store, info, name, entries })
    }

    fn format(&self, source: TensorFileError) -> NpzError {
        NpzError::Format { name: self.name.clone(), source }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    async fn from(&self, entry: &NpzEntry, more: u64) -> Result<bytes::Bytes, StoreError> {
        let end = entry.begin.saturating_add(NPZ_HEAD_BYTES).saturating_add(more).min(self.info.bytes);
        Ok(self.store.get_part(&self.info.key, entry.begin.min(end)..end).await?.1)
    }

    /// Those of these arrays that are there.
    pub(super) async fn arrays(&self, names: &[&str]) -> Result<TensorMap, NpzError> {
        let limits = ReadLimits { tensor_bytes_max: ARRAY_BYTES_MAX, ..ReadLimits::default() };
        let mut found = TensorMap::new();
        for entry in self.entries.iter().filter(|entry| names.contains(&&*entry.name)) {
            if entry.packed > ARRAY_BYTES_MAX {
                let reason = format!("its array {} takes {} bytes", printable(&entry.name), entry.packed);
                return Err(NpzError::Content { name: self.name.clone(), reason });
            }
            let bytes = self.from(entry, entry.packed).await?;
            let array = entry.read(&bytes, &limits).map_err(|e| self.format(e))?;
            found.insert(entry.name.clone(), array);
        }
        Ok(found)
    }

    /// Its pictures.
    pub(super) async fn samples(&self) -> Result<Samples, NpzError> {
        let wrong = |reason: String| NpzError::Content { name: self.name.clone(), reason };
        let Some(entry) = self.entries.iter().find(|entry| entry.name == SAMPLES) else {
            let names: Vec<String> =
                self.entries.iter().take(5).map(|entry| printable(&entry.name)).collect();
            return Err(wrong(format!(
                "it has neither pictures ({SAMPLES}) nor statistics (mu, sigma), but {}",
                names.join(", ")
            )));
        };
        let head = self.from(entry, 0).await?;
        let place = entry.place(&head, &ReadLimits::default()).map_err(|e| self.format(e))?;
        match (place.dtype, &place.shape[..]) {
            (Dtype::U8, &[count, height, width, 3])
                if (1..=SIDE_MAX).contains(&height) && (1..=SIDE_MAX).contains(&width) =>
            {
                let bytes = count.checked_mul(height * width * 3).and_then(|n| n.checked_add(place.offset));
                if bytes.is_none_or(|end| end > self.info.bytes) {
                    return Err(wrong(format!("it ends before its array {SAMPLES} does: copy it again")));
                }
                Ok(Samples { offset: place.offset, count, height: height as u32, width: width as u32 })
            }
            (dtype, shape) => Err(wrong(format!(
                "its array {SAMPLES} is of {} and shape {shape:?}: pictures are bytes (U8), (N, H, W, 3)",
                dtype.name()
            ))),
        }
    }
}
