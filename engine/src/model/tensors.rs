//! Named tensors in host memory, and the files that hold them: safetensors, and NumPy's `.npz`.
//!
//! Reading is meant for files from strangers: every length, offset and shape is checked against bytes that are
//! really there before anything is allocated for it, and [`ReadLimits`] bounds the rest. Writing is a function of the
//! tensors alone (fixed order, no time stamps), so that one set of weights has one digest. Nothing here touches the
//! file system, and nothing here knows what a tensor means.

mod error;
mod npz;
mod safetensors;
mod zip;

use std::collections::BTreeMap;

pub(crate) use error::one_line;
pub use error::{TensorFault, TensorFileError};
pub use npz::{NPZ_HEAD_BYTES, NPZ_TAIL_BYTES, NpzArray, NpzEntry, npz_entries, read_npz, write_npz};
pub(crate) use safetensors::safetensors_header;
pub use safetensors::{read_safetensors, write_safetensors};
pub(crate) use zip::Archive;

/// Element types that a tensor file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// IEEE 754 binary64.
    F64,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::BF16, Self::F64, Self::I64, Self::I32, Self::U8, Self::Bool];

    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }

    /// The name that safetensors files use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F64 => "F64",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Whether the elements are floating-point numbers.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F64)
    }
}

/// One tensor: little endian, contiguous, last axis fastest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTensor {
    /// Element type.
    pub dtype: Dtype,
    /// Axes, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// `len() * dtype.size()` bytes.
    pub data: Vec<u8>,
}

impl HostTensor {
    /// Number of elements held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements as f32: exact for F32, F16, BF16, U8 and Bool, rounded to nearest for the others.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let bytes = self.data.as_slice();
        match self.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32()).collect()
            }
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f32).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b) as f32).collect(),
            Dtype::U8 | Dtype::Bool => bytes.iter().map(|&b| f32::from(b)).collect(),
        }
    }

    /// The elements as f64: exact, but for whole numbers beyond 2^53.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        let bytes = self.data.as_slice();
        match self.dtype {
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            Dtype::I32 => bytes.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
            _ => self.to_f32().into_iter().map(f64::from).collect(),
        }
    }
}

/// Tensors by name.
pub type TensorMap = BTreeMap<String, HostTensor>;

/// What a tensor file may cost. A real checkpoint stays far below every default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Longest file.
    pub file_bytes_max: u64,
    /// Longest description of the tensors: a safetensors header, or the pickle in a `.pth`. Parsing may need ten
    /// times as much memory.
    pub header_bytes_max: u64,
    /// Most bytes that all tensors together may take in memory.
    pub tensor_bytes_max: u64,
    /// Most bytes that the tensors of a `.pth` may take beyond the size of the file. Views may repeat what is stored
    /// once (a tied weight, an expanded scalar); without this bound four bytes could claim terabytes. Those of an `.npz`,
    /// which may be deflated, may take 16 times the file and this.
    pub expansion_bytes_max: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: 8 << 30,
            header_bytes_max: 16 << 20,
            tensor_bytes_max: 8 << 30,
            expansion_bytes_max: 64 << 20,
        }
    }
}

/// What all tensors of one file may still take in memory.
pub(crate) struct Budget {
    used: u64,
    limit: u64,
}

impl Budget {
    /// What a tensor costs beside its elements (name, node, shape), roughly.
    const OVERHEAD: u64 = 128;

    pub(crate) fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    /// Takes `bytes` for the tensor `name`, before they are allocated.
    pub(crate) fn spend(&mut self, name: &str, bytes: u64) -> Result<(), TensorFileError> {
        let overhead = Self::OVERHEAD + name.len() as u64;
        self.used = self.used.saturating_add(bytes).saturating_add(overhead);
        if self.used > self.limit {
            let (bytes, limit) = (self.used, self.limit);
            return Err(TensorFileError::TensorsTooLarge { name: one_line(name), bytes, limit });
        }
        Ok(())
    }
}

impl ReadLimits {
    pub(crate) fn check_file(&self, bytes: usize) -> Result<(), TensorFileError> {
        if bytes as u64 > self.file_bytes_max {
            return Err(TensorFileError::FileTooLarge { bytes: bytes as u64, limit: self.file_bytes_max });
        }
        Ok(())
    }
}

/// Bytes of a tensor of this shape and type; none if the product overflows.
pub(crate) fn byte_length(shape: &[u64], dtype: Dtype) -> Option<u64> {
    // A zero axis makes the product zero even where the others overflow.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(dtype.size() as u64, |product, &axis| product.checked_mul(axis))
}
