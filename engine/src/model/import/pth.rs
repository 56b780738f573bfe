//! PyTorch's checkpoint files, `.pth` and `.pt`: the zip archive of PyTorch 1.6 and later, the format before it, and the
//! tensors of TorchScript's archives.
//!
//! Nothing in the file is executed (see `machine`), nothing is allocated because the file claims it, and a file that
//! is damaged, cut off or hostile is an error of one line.

use std::collections::{BTreeMap, HashMap};

use super::machine;
use super::pickle::{Node, Pickle, StorageRef, Value};
use super::view;
use crate::model::tensors::{Archive, Budget, ReadLimits, TensorFault, TensorFileError, TensorMap, one_line};

/// The integer 0x1950a86a20f9469cfc6c as a pickle of protocol 2: how the old format begins.
const LEGACY_MAGIC: [u8; 15] = *b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// Deepest nesting of dictionaries whose tensors are found.
const DEPTH_MAX: usize = 32;
/// Most dictionary items looked at. Shared dictionaries may be met more than once.
const ITEMS_MAX: u64 = 1 << 20;

/// Reads the tensors of a `.pth` file.
///
/// Nested dictionaries are flattened: their keys are joined with `.` (whole numbers count as keys). Values that are
/// neither tensors nor dictionaries are left out, among them lists and what is in them. Views are copied out
/// contiguous; a parameter is its tensor. A module of TorchScript is the dictionary of its attributes; its code is not
/// looked at.
///
/// # Errors
/// [`TensorFileError`] for anything that is not such a file, whole, within the limits, and made of plain tensors.
pub fn read_pth(bytes: &[u8], limits: &ReadLimits) -> Result<TensorMap, TensorFileError> {
    limits.check_file(bytes.len())?;
    if bytes.starts_with(b"PK\x03\x04") {
        read_archive(bytes, limits)
    } else if bytes.starts_with(&LEGACY_MAGIC) {
        read_legacy(bytes, limits)
    } else {
        Err(TensorFileError::UnknownFormat)
    }
}

fn read_archive(bytes: &[u8], limits: &ReadLimits) -> Result<TensorMap, TensorFileError> {
    let archive = Archive::open(bytes)?;
    // Everything lies in one folder, named after the file that was saved.
    let mut folders =
        archive.names().filter_map(|name| name.strip_suffix("data.pkl")).filter(|name| name.ends_with('/'));
    let (Some(folder), None) = (folders.next(), folders.next()) else {
        let reason = "an archive of PyTorch has exactly one of this name in a folder";
        return Err(TensorFileError::Entry { name: "data.pkl".to_string(), reason });
    };
    if archive.get(&format!("{folder}byteorder"))?.is_some_and(|order| order != b"little") {
        let name = one_line(&format!("{folder}byteorder"));
        return Err(TensorFileError::Entry { name, reason: "only little-endian files are read" });
    }
    let pickle = archive.get(&format!("{folder}data.pkl"))?.unwrap_or_default();
    let pickle = load_pickle(pickle, limits)?;
    let mut checked = HashMap::new();
    flatten(&pickle, bytes.len(), limits, |key| {
        if let Some(&data) = checked.get(key) {
            return Ok(data);
        }
        let data = archive.get(&format!("{folder}data/{key}"))?;
        checked.insert(key.to_string(), data);
        Ok(data)
    })
}

fn load_pickle<'a>(bytes: &'a [u8], limits: &ReadLimits) -> Result<Pickle<'a>, TensorFileError> {
    if bytes.len() as u64 > limits.header_bytes_max {
        let (part, unit, limit) = ("the pickle", "bytes", limits.header_bytes_max);
        return Err(TensorFileError::HeaderTooLarge { part, size: bytes.len() as u64, unit, limit });
    }
    machine::run(bytes)
}

/// The format before PyTorch 1.6: five pickles (magic, version, system, tensors, storage keys), then for each key the
/// number of elements (8 bytes) and the elements.
fn read_legacy(bytes: &[u8], limits: &ReadLimits) -> Result<TensorMap, TensorFileError> {
    let mut rest = bytes;
    let mut next = || {
        let head = &rest[..rest.len().min(usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX))];
        let pickle = machine::run(head)?;
        rest = &rest[pickle.length..];
        Ok::<_, TensorFileError>(pickle)
    };
    let (_magic, version, system, tensors, keys) = (next()?, next()?, next()?, next()?, next()?);
    let malformed = |reason| TensorFileError::Malformed { part: "the file's head", offset: 0, reason };
    if !matches!(version.root, Value::Int(1001)) {
        return Err(malformed("the version of the old format is not 1001"));
    }
    let Some(Node::Dict(system)) = system.node(system.root) else {
        return Err(malformed("no description of the system"));
    };
    if system.iter().any(|pair| matches!(pair, (Value::Text("little_endian"), Value::Bool(false)))) {
        return Err(malformed("only little-endian files are read"));
    }
    let keys = keys.items(keys.root).ok_or_else(|| malformed("the storage keys are no list"))?;
    let storages = legacy_storages(rest, &tensors, keys)?;
    flatten(&tensors, bytes.len(), limits, |key| Ok(storages.get(key).copied()))
}

fn legacy_storages<'a>(
    mut rest: &'a [u8],
    tensors: &Pickle<'a>,
    keys: &[Value<'a>],
) -> Result<BTreeMap<&'a str, &'a [u8]>, TensorFileError> {
    const CUT: TensorFileError = TensorFileError::Truncated { part: "a storage" };
    let described: HashMap<&str, &StorageRef<'_>> = tensors
        .nodes
        .iter()
        .filter_map(
            |node| if let Node::Storage(storage) = node { Some((storage.key, storage)) } else { None },
        )
        .collect();
    let mut storages = BTreeMap::new();
    for &key in keys {
        let storage = if let Value::Text(key) = key { described.get(key) } else { None };
        let Some(storage) = storage else {
            let reason = "a storage is listed that no tensor uses";
            return Err(TensorFileError::Malformed { part: "the list of storages", offset: 0, reason });
        };
        let (elements, data) = rest.split_first_chunk().ok_or(CUT)?;
        let length = u64::from_le_bytes(*elements).checked_mul(storage.dtype.size() as u64);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or(CUT)?;
        let (data, after) = data.split_at_checked(length).ok_or(CUT)?;
        storages.insert(storage.key, data);
        rest = after;
    }
    Ok(storages)
}

/// Collects the tensors of nested dictionaries. Goes by an explicit stack: the depth is the file's choice.
fn flatten<'a>(
    pickle: &Pickle<'a>,
    file_bytes: usize,
    limits: &ReadLimits,
    mut storage_bytes: impl FnMut(&str) -> Result<Option<&'a [u8]>, TensorFileError>,
) -> Result<TensorMap, TensorFileError> {
    let stored = (file_bytes as u64).saturating_add(limits.expansion_bytes_max);
    let mut budget = Budget::new(stored.min(limits.tensor_bytes_max));
    let mut result = TensorMap::new();
    let Some(Node::Dict(root)) = pickle.node(pickle.root) else {
        return Err(TensorFileError::NoTensors { root: pickle.kind(pickle.root) });
    };
    let mut open = vec![(root.iter(), 0)];
    let mut name = String::new();
    let mut seen = 0;
    while let Some((items, prefix)) = open.last_mut() {
        name.truncate(*prefix);
        let Some(&(key, value)) = items.next() else {
            open.pop();
            continue;
        };
        seen += 1;
        if seen > ITEMS_MAX || open.len() > DEPTH_MAX {
            return Err(malformed_tree("its dictionaries are nested too deeply, or share too much"));
        }
        let node = pickle.node(value);
        if !matches!(node, Some(Node::Dict(_) | Node::Tensor { .. })) {
            continue;
        }
        push_key(&mut name, key)?;
        match node {
            Some(Node::Dict(items)) => {
                name.push('.');
                open.push((items.iter(), name.len()));
            }
            Some(&Node::Tensor { arguments }) => {
                let fail = |fault| TensorFileError::Tensor { name: one_line(&name), fault };
                let storage = view::storage_of(pickle, arguments)
                    .ok_or_else(|| malformed_tree("a tensor has no storage"))?;
                let bytes = storage_bytes(storage.key)?
                    .ok_or_else(|| fail(TensorFault::StorageMissing { key: one_line(storage.key) }))?;
                if result.contains_key(&name) {
                    return Err(fail(TensorFault::Duplicate));
                }
                let tensor = view::materialise(&name, pickle, arguments, &storage, bytes, &mut budget)?;
                result.insert(name.clone(), tensor);
            }
            _ => {}
        }
    }
    if result.is_empty() {
        return Err(TensorFileError::NoTensors { root: pickle.kind(pickle.root) });
    }
    Ok(result)
}

fn push_key(name: &mut String, key: Value<'_>) -> Result<(), TensorFileError> {
    const NAME_BYTES_MAX: usize = 1024;
    match key {
        Value::Text(text) if name.len() + text.len() <= NAME_BYTES_MAX => name.push_str(text),
        Value::Int(number) => name.push_str(&number.to_string()),
        _ => {
            return Err(malformed_tree(
                "the key of a tensor is neither a text of at most 1024 bytes nor a number",
            ));
        }
    }
    Ok(())
}

fn malformed_tree(reason: &'static str) -> TensorFileError {
    TensorFileError::Malformed { part: "the tree of tensors", offset: 0, reason }
}
