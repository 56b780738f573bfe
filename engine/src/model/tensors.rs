//! Named tensors in host memory, and the safetensors file that holds them.
//!
//! Reading is meant for files from strangers: every length, offset and shape is checked against bytes that are
//! really there before anything is allocated for it, and [`ReadLimits`] bounds the rest. Writing is a function of the
//! tensors alone (fixed order, no time stamps), so that one set of weights has one digest. Nothing here touches the
//! file system, and nothing here knows what a tensor means.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

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
    /// once (a tied weight, an expanded scalar); without this bound four bytes could claim terabytes.
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

/// Why a file of tensors was refused. Every message is one line, whatever the file says.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// Longer than [`ReadLimits::file_bytes_max`].
    #[error(
        "the file has {bytes} bytes, more than the limit of {limit}: raise the limit if you trust the file"
    )]
    FileTooLarge {
        /// Length of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The description of the tensors is longer than [`ReadLimits::header_bytes_max`], or has too many parts.
    #[error("{part} has {size} {unit}, more than the limit of {limit}: this is not a plain checkpoint")]
    HeaderTooLarge {
        /// Which part of the file.
        part: &'static str,
        /// Its size as claimed.
        size: u64,
        /// What is counted.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The tensors are larger than the limits allow.
    #[error("tensor {name} takes the total to {bytes} bytes, more than the limit of {limit}")]
    TensorsTooLarge {
        /// The tensor that went over.
        name: String,
        /// Bytes of all tensors up to it.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file ends too early.
    #[error("the file ends inside {part}: it is damaged or was cut off, fetch it again")]
    Truncated {
        /// What was being read.
        part: &'static str,
    },
    /// No format that is read here.
    #[error(
        "the file is no PyTorch checkpoint: it begins with neither a zip archive nor PyTorch's old format"
    )]
    UnknownFormat,
    /// A part contradicts its format.
    #[error("{part} is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Which part of the file.
        part: &'static str,
        /// Where, counted from the start of that part.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The header is not the JSON that it has to be.
    #[error("the header is not valid: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// An entry of the archive cannot be used.
    #[error("archive entry {name}: {reason}")]
    Entry {
        /// Name in the archive.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The pickle names something that is not part of plain tensors.
    #[error(
        "the pickle asks for {global}, which is never run here: save a state_dict of plain tensors instead"
    )]
    Global {
        /// Module and name in Python.
        global: String,
    },
    /// There is no dictionary of tensors in the file.
    #[error("the file holds no named tensors: its root is {root}, where a dictionary of tensors belongs")]
    NoTensors {
        /// What the root is.
        root: &'static str,
    },
    /// One tensor is wrong.
    #[error("tensor {name}: {fault}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: TensorFault,
    },
}

/// What is wrong with one tensor.
#[derive(Debug, thiserror::Error)]
pub enum TensorFault {
    /// Number of bytes does not follow from shape and type.
    #[error("its shape {shape} of {dtype} does not fill {bytes} bytes")]
    Shape {
        /// Shape, written out.
        shape: String,
        /// Element type.
        dtype: &'static str,
        /// Bytes there are.
        bytes: u64,
    },
    /// The product of the axes does not fit 64 bits.
    #[error("the product of its shape {shape} overflows")]
    Overflow {
        /// Shape, written out.
        shape: String,
    },
    /// Unknown element type.
    #[error("element type {dtype} is none of F32, F16, BF16, F64, I64, I32, U8, BOOL")]
    Dtype {
        /// As the file has it.
        dtype: String,
    },
    /// Tensors must follow each other without gap or overlap.
    #[error("its bytes are {begin} to {end}, but the next free byte is {free} and there are {held}")]
    Offsets {
        /// First byte.
        begin: u64,
        /// Byte after the last.
        end: u64,
        /// Where it has to begin.
        free: u64,
        /// Bytes of all tensors in the file.
        held: u64,
    },
    /// The view reads outside its storage.
    #[error("it reads element {last} of a storage of {held}")]
    PastEnd {
        /// Highest element read.
        last: u64,
        /// Elements there are.
        held: u64,
    },
    /// A storage is shorter or longer than it says.
    #[error("storage {key} holds {held} bytes where {claimed} are claimed")]
    StorageLength {
        /// Its key.
        key: String,
        /// Bytes there are.
        held: u64,
        /// Bytes that its description asks for.
        claimed: u64,
    },
    /// No such storage in the file.
    #[error("storage {key} is not in the file")]
    StorageMissing {
        /// Its key.
        key: String,
    },
    /// An offset, stride or axis is negative or not a number, or there are too many axes.
    #[error("its {what} must be {allowed}")]
    View {
        /// Which number.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The name was used before.
    #[error("the name appears twice")]
    Duplicate,
}

/// Text from a file as part of a one-line message: control characters escaped, long text cut.
pub(crate) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    let mut line: String = text.chars().take(CHARS_MAX).flat_map(escape).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    if line.is_empty() { "(empty)".to_string() } else { line }
}

fn escape(c: char) -> Box<dyn Iterator<Item = char>> {
    // U+2028 and U+2029 end a line too.
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
        Box::new(c.escape_default())
    } else {
        Box::new(std::iter::once(c))
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

struct Header {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { metadata: BTreeMap::new(), tensors: BTreeMap::new() };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else if header.tensors.contains_key(&key) {
                        return Err(serde::de::Error::custom(format_args!("the name {key} appears twice")));
                    } else {
                        header.tensors.insert(key, map.next_value()?);
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Reads a safetensors file: its tensors, and the text metadata in its header.
///
/// # Errors
/// [`TensorFileError`] for anything but a whole, consistent file within the limits: tensors that overlap, leave gaps
/// or reach past the end, names used twice, element types not in [`Dtype`].
pub fn read_safetensors(
    bytes: &[u8],
    limits: &ReadLimits,
) -> Result<(TensorMap, BTreeMap<String, String>), TensorFileError> {
    limits.check_file(bytes.len())?;
    let (length, rest) =
        bytes.split_first_chunk().ok_or(TensorFileError::Truncated { part: "the header's length" })?;
    let length = u64::from_le_bytes(*length);
    if length > limits.header_bytes_max {
        let (part, unit, limit) = ("the header", "bytes", limits.header_bytes_max);
        return Err(TensorFileError::HeaderTooLarge { part, size: length, unit, limit });
    }
    let (header, data) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or(TensorFileError::Truncated { part: "the header" })?;
    let Header { metadata, tensors } = serde_json::from_slice(header)
        .map_err(|error| TensorFileError::Json { reason: one_line(&error.to_string()) })?;

    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| entry.data_offsets);
    let (mut free, held) = (0, data.len() as u64);
    let mut budget = Budget::new(limits.tensor_bytes_max);
    let mut result = TensorMap::new();
    for (name, entry) in order {
        let fail = |fault| TensorFileError::Tensor { name: one_line(name), fault };
        let [begin, end] = entry.data_offsets;
        let range = (begin == free && end >= begin && end <= held).then_some(begin as usize..end as usize);
        let range = range.ok_or_else(|| fail(TensorFault::Offsets { begin, end, free, held }))?;
        let tensor = slice_tensor(entry, &data[range], &mut budget, name)?;
        result.insert(name.clone(), tensor);
        free = end;
    }
    if free != held {
        let reason = "bytes follow that belong to no tensor";
        return Err(TensorFileError::Malformed { part: "the data", offset: free, reason });
    }
    Ok((result, metadata))
}

fn slice_tensor(
    entry: &Entry,
    data: &[u8],
    budget: &mut Budget,
    name: &str,
) -> Result<HostTensor, TensorFileError> {
    let fail = |fault| TensorFileError::Tensor { name: one_line(name), fault };
    let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == entry.dtype);
    let dtype = dtype.ok_or_else(|| fail(TensorFault::Dtype { dtype: one_line(&entry.dtype) }))?;
    let shape_text = || one_line(&format!("{:?}", &entry.shape[..entry.shape.len().min(40)]));
    let bytes = byte_length(&entry.shape, dtype)
        .ok_or_else(|| fail(TensorFault::Overflow { shape: shape_text() }))?;
    if bytes != data.len() as u64 {
        let (dtype, bytes) = (dtype.name(), data.len() as u64);
        return Err(fail(TensorFault::Shape { shape: shape_text(), dtype, bytes }));
    }
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let shape = shape.ok_or_else(|| fail(TensorFault::Overflow { shape: shape_text() }))?;
    budget.spend(name, bytes)?;
    Ok(HostTensor { dtype, shape, data: data.to_vec() })
}

/// The first bytes of a safetensors file with these tensors (length and header, padded to 8 bytes). The tensors' data
/// has to follow in the order in which this leaves `tensors`: wide elements first, so that all are aligned, then by
/// name. It is the order that the format's own library writes.
pub(crate) fn safetensors_header(
    tensors: &mut [(&str, Dtype, &[usize])],
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    tensors.sort_by_key(|(name, dtype, _)| (std::cmp::Reverse(dtype.size()), *name));
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut parts = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        let pairs: Vec<_> =
            metadata.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
        parts.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut begin = 0;
    for (name, dtype, shape) in tensors {
        // A zero axis makes the tensor empty, whatever the others are.
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let end = begin + count * dtype.size();
        let axes: Vec<_> = shape.iter().map(usize::to_string).collect();
        let (name, dtype, axes) = (quote(name), dtype.name(), axes.join(","));
        parts.push(format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{axes}],\"data_offsets\":[{begin},{end}]}}"
        ));
        begin = end;
    }
    let mut header = format!("{{{}}}", parts.join(","));
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file
}

/// Writes a safetensors file. The bytes are a function of the arguments alone.
///
/// # Errors
/// [`TensorFault::Shape`] where a tensor's data does not fill its shape.
pub fn write_safetensors(
    tensors: &TensorMap,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, TensorFileError> {
    for (name, tensor) in tensors {
        let axes: Vec<u64> = tensor.shape.iter().map(|&axis| axis as u64).collect();
        let bytes = tensor.data.len() as u64;
        if byte_length(&axes, tensor.dtype) != Some(bytes) {
            let (shape, dtype) = (format!("{axes:?}"), tensor.dtype.name());
            let fault = TensorFault::Shape { shape, dtype, bytes };
            return Err(TensorFileError::Tensor { name: one_line(name), fault });
        }
    }
    let mut order: Vec<_> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype, tensor.shape.as_slice())).collect();
    let mut file = safetensors_header(&mut order, metadata);
    file.reserve_exact(tensors.values().map(|tensor| tensor.data.len()).sum());
    for (name, ..) in order {
        file.extend_from_slice(&tensors[name].data);
    }
    Ok(file)
}
