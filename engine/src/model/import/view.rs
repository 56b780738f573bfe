//! From a storage and a view of it (offset, shape, strides) to a contiguous tensor.

use super::pickle::{Node, Pickle, StorageRef, Value};
use crate::model::tensors::{Budget, HostTensor, TensorFault, TensorFileError, byte_length, one_line};

/// PyTorch itself allows 64; no checkpoint comes near.
const AXES_MAX: usize = 16;

/// A checked view: where each element lies in its storage.
struct View {
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

/// The storage that a tensor views.
pub(super) fn storage_of<'a>(pickle: &Pickle<'a>, arguments: usize) -> Option<StorageRef<'a>> {
    let items = pickle.items(Value::Node(arguments))?;
    match pickle.node(*items.first()?)? {
        Node::Storage(storage) => Some(*storage),
        _ => None,
    }
}

/// Copies the elements that a tensor views out of its storage's bytes. Bytes are taken from `budget` before they are
/// allocated.
pub(super) fn materialise(
    name: &str,
    pickle: &Pickle<'_>,
    arguments: usize,
    storage: &StorageRef<'_>,
    bytes: &[u8],
    budget: &mut Budget,
) -> Result<HostTensor, TensorFileError> {
    let fail = |fault| TensorFileError::Tensor { name: one_line(name), fault };
    let size = storage.dtype.size();
    let claimed = storage.elements.checked_mul(size as u64);
    if claimed != Some(bytes.len() as u64) {
        let (key, held, claimed) = (one_line(storage.key), bytes.len() as u64, claimed.unwrap_or(u64::MAX));
        return Err(fail(TensorFault::StorageLength { key, held, claimed }));
    }
    let view = read_view(pickle, arguments).map_err(fail)?;
    let overflow = || TensorFault::Overflow { shape: format!("{:?}", view.shape) };
    let total = byte_length(&view.shape, storage.dtype).ok_or_else(|| fail(overflow()))?;
    if total > 0 {
        let mut steps = view.shape.iter().zip(&view.strides);
        let last = steps
            .try_fold(view.offset, |sum, (&axis, &stride)| sum.checked_add((axis - 1).checked_mul(stride)?));
        let last = last.ok_or_else(|| fail(overflow()))?;
        if last >= storage.elements {
            return Err(fail(TensorFault::PastEnd { last, held: storage.elements }));
        }
    }
    budget.spend(name, total)?;
    let shape: Option<Vec<usize>> = view.shape.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let shape = shape.ok_or_else(|| fail(overflow()))?;
    let data = copy(&view, bytes, size, total as usize);
    Ok(HostTensor { dtype: storage.dtype, shape, data })
}

fn read_view(pickle: &Pickle<'_>, arguments: usize) -> Result<View, TensorFault> {
    const COUNT: &str = "a whole number, 0 or more";
    let number = |value, what| match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| TensorFault::View { what, allowed: COUNT }),
        _ => Err(TensorFault::View { what, allowed: COUNT }),
    };
    let numbers = |value, what| {
        let items = pickle.items(value).filter(|items| items.len() <= AXES_MAX);
        let items = items.ok_or(TensorFault::View { what, allowed: "a tuple of at most 16 numbers" })?;
        items.iter().map(|&item| number(item, what)).collect::<Result<Vec<_>, _>>()
    };
    let items = pickle.items(Value::Node(arguments)).and_then(|items| items.first_chunk::<4>());
    let &[_, offset, shape, strides] =
        items.ok_or(TensorFault::View { what: "description", allowed: "a tuple of four" })?;
    let view = View {
        offset: number(offset, "offset")?,
        shape: numbers(shape, "shape")?,
        strides: numbers(strides, "strides")?,
    };
    if view.shape.len() != view.strides.len() {
        return Err(TensorFault::View { what: "strides", allowed: "as many as it has axes" });
    }
    Ok(view)
}

/// The elements in row-major order. `view` lies within `bytes`, and `total` is the length of the result.
fn copy(view: &View, bytes: &[u8], size: usize, total: usize) -> Vec<u8> {
    if total == 0 {
        return vec![];
    }
    // Axes of one element may have any stride: they never step.
    let axes = view.shape.iter().zip(&view.strides).filter(|&(&axis, _)| axis > 1);
    let axes: Vec<(usize, usize)> =
        axes.map(|(&axis, &stride)| (axis as usize, stride as usize * size)).collect();
    let begin = view.offset as usize * size;
    let dense =
        |(run, ok): (usize, bool), &(axis, stride): &(usize, usize)| (run * axis, ok && stride == run);
    if axes.iter().rev().fold((size, true), dense).1 {
        return bytes[begin..begin + total].to_vec();
    }
    let mut data = Vec::with_capacity(total);
    let mut index = vec![0; axes.len()];
    let mut at = begin;
    while data.len() < total {
        data.extend_from_slice(&bytes[at..at + size]);
        for (position, &(axis, stride)) in index.iter_mut().zip(&axes).rev() {
            *position += 1;
            if *position < axis {
                at += stride;
                break;
            }
            at -= (axis - 1) * stride;
            *position = 0;
        }
    }
    data
}
