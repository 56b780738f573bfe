//! The safetensors format: 8 bytes with the header's length, a JSON header, the tensors' bytes without gaps.
//!
//! It is read here and not by the crate `safetensors`, which takes headers of up to 100 MB whatever its caller can afford,
//! lets the last of two tensors of one name count without a word, and does not say which tensor's shape, type or size is
//! wrong. Files come from strangers here. Tests hold the two to the same files, both ways.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::{
    Budget, Dtype, HostTensor, ReadLimits, TensorFault, TensorFileError, TensorMap, byte_length, one_line,
};

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
                        continue;
                    }
                    match header.tensors.entry(key) {
                        Slot::Vacant(slot) => drop(slot.insert(map.next_value()?)),
                        Slot::Occupied(slot) => {
                            let name = slot.key();
                            return Err(serde::de::Error::custom(format_args!(
                                "the name {name} appears twice"
                            )));
                        }
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
