//! NumPy's `.npz`: a zip archive of arrays, stored (`savez`) or deflated (`savez_compressed`).
//!
//! What FID tools exchange: `mu` and `sigma` of a set's features, `arr_0` of a set's images (N, H, W, 3). Arrays of numbers are
//! read; pickled objects, texts and big-endian numbers are refused. What is written is stored, in the order of the names
//! and without a time, so that it is a function of the tensors.

use std::borrow::Cow;

use super::zip::{self, Archive, Listed};
use super::{
    Budget, Dtype, HostTensor, ReadLimits, TensorFault, TensorFileError, TensorMap, byte_length, one_line,
};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const SUFFIX: &str = ".npy";
/// Most bytes that come out of a byte of the file, beside [`ReadLimits::expansion_bytes_max`].
const RATIO_MAX: u64 = 16;
/// NumPy itself allows 64.
const AXES_MAX: usize = 16;
const TYPES: [(&str, Dtype); 7] = [
    ("<f4", Dtype::F32),
    ("<f2", Dtype::F16),
    ("<f8", Dtype::F64),
    ("<i8", Dtype::I64),
    ("<i4", Dtype::I32),
    ("|u1", Dtype::U8),
    ("|b1", Dtype::Bool),
];

/// Reads the arrays of an `.npz`, by their names without `.npy`, in C order whatever their order in the file.
///
/// # Errors
/// [`TensorFileError`] for anything but a whole archive of arrays of numbers within the limits. What is deflated may take 16
/// times the file's bytes and `expansion_bytes_max`.
pub fn read_npz(bytes: &[u8], limits: &ReadLimits) -> Result<TensorMap, TensorFileError> {
    limits.check_file(bytes.len())?;
    let archive = Archive::open(bytes)?;
    let most = (bytes.len() as u64).saturating_mul(RATIO_MAX).saturating_add(limits.expansion_bytes_max);
    let mut budget = Budget::new(most.min(limits.tensor_bytes_max));
    let mut names: Vec<&str> = archive.names().filter(|name| name.ends_with(SUFFIX)).collect();
    names.sort_unstable();
    let mut result = TensorMap::new();
    for entry in names {
        let name = &entry[..entry.len() - SUFFIX.len()];
        let array = archive.inflated(entry, |bytes| budget.spend(name, bytes))?;
        if let Some(array) = array {
            result.insert(name.to_string(), read_array(name, array, limits)?);
        }
    }
    if result.is_empty() {
        return Err(TensorFileError::NoTensors { root: "an archive without arrays (.npy)" });
    }
    Ok(result)
}

/// Bytes at the end of an `.npz` that hold its directory, unless it has thousands of arrays.
pub const NPZ_TAIL_BYTES: u64 = 256 << 10;
/// Bytes at most before an array's elements: the archive's header and NumPy's.
pub const NPZ_HEAD_BYTES: u64 = 256 << 10;

/// An array of an `.npz` that is not read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpzEntry {
    /// Its name, without `.npy`.
    pub name: String,
    /// Where the archive's header of it begins.
    pub begin: u64,
    /// Bytes that it takes in the file behind that header.
    pub packed: u64,
    /// Bytes once inflated.
    pub size: u64,
    /// Whether it is deflated.
    pub deflated: bool,
    crc: u32,
}

/// Where an array's elements lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NpzArray {
    /// Element type.
    pub dtype: Dtype,
    /// Axes, slowest first.
    pub shape: Vec<u64>,
    /// Of the first element in the file.
    pub offset: u64,
}

/// The arrays of an `.npz` of `length` bytes, from its last ones ([`NPZ_TAIL_BYTES`], or all).
///
/// # Errors
/// [`TensorFileError`] where it is no archive, or its directory is longer.
pub fn npz_entries(tail: &[u8], length: u64) -> Result<Vec<NpzEntry>, TensorFileError> {
    let entry = |listed: Listed<'_>| {
        Some(NpzEntry {
            name: listed.name.strip_suffix(SUFFIX)?.to_string(),
            begin: listed.local,
            packed: listed.packed,
            size: listed.size,
            deflated: listed.deflated,
            crc: listed.crc,
        })
    };
    Ok(zip::listed(tail, length)?.into_iter().filter_map(entry).collect())
}

impl NpzEntry {
    fn listed(&self) -> Listed<'_> {
        let Self { name, begin, packed, size, deflated, crc } = self;
        let (local, packed, size, deflated, crc) = (*begin, *packed, *size, *deflated, *crc);
        Listed { name, local, packed, size, deflated, crc }
    }

    /// The array, from the file's bytes from `begin` on: [`NPZ_HEAD_BYTES`] and `packed` more, or all there are.
    ///
    /// # Errors
    /// [`TensorFileError`] as [`read_npz`]; also where it takes more than the limits allow.
    pub fn read(&self, bytes: &[u8], limits: &ReadLimits) -> Result<HostTensor, TensorFileError> {
        Budget::new(limits.tensor_bytes_max).spend(&self.name, self.size)?;
        read_array(&self.name, zip::taken(&self.listed(), bytes)?, limits)
    }

    /// Where its elements lie, from the file's bytes from `begin` on: [`NPZ_HEAD_BYTES`], or all there are.
    ///
    /// # Errors
    /// [`TensorFileError`] where it is compressed, not in C order, or does not fill its place.
    pub fn place(&self, bytes: &[u8], limits: &ReadLimits) -> Result<NpzArray, TensorFileError> {
        let wrong = |reason| TensorFileError::Entry { name: one_line(&self.name), reason };
        if self.deflated {
            return Err(wrong(
                "it is compressed, so that no row of it can be found: save it with numpy.savez",
            ));
        }
        let begin = zip::data_begins(&self.listed(), bytes)?;
        let array = bytes.get(begin..).ok_or(TensorFileError::Truncated { part: "an array's header" })?;
        let Header { dtype, fortran, shape, length } = read_header(&self.name, array, limits)?;
        if fortran && shape.len() > 1 {
            return Err(wrong("its first axis is the fastest: save it in C order"));
        }
        let all = byte_length(&shape, dtype).and_then(|bytes| bytes.checked_add(length as u64));
        if all != Some(self.size) {
            return Err(wrong("its elements do not fill its shape: the file is damaged"));
        }
        Ok(NpzArray { dtype, shape, offset: self.begin.saturating_add((begin + length) as u64) })
    }
}

/// What an array's header says.
struct Header {
    dtype: Dtype,
    /// Whether the first axis is the fastest.
    fortran: bool,
    shape: Vec<u64>,
    /// Where the elements begin.
    length: usize,
}

fn read_array(name: &str, array: Cow<'_, [u8]>, limits: &ReadLimits) -> Result<HostTensor, TensorFileError> {
    let fail = |fault| TensorFileError::Tensor { name: one_line(name), fault };
    let header = read_header(name, &array, limits)?;
    let shape_text = || one_line(&format!("{:?}", header.shape));
    let expected = byte_length(&header.shape, header.dtype);
    let expected = expected.ok_or_else(|| fail(TensorFault::Overflow { shape: shape_text() }))?;
    let bytes = (array.len() - header.length) as u64;
    if bytes != expected {
        let dtype = header.dtype.name();
        return Err(fail(TensorFault::Shape { shape: shape_text(), dtype, bytes }));
    }
    let shape: Option<Vec<usize>> = header.shape.iter().map(|&axis| usize::try_from(axis).ok()).collect();
    let shape = shape.ok_or_else(|| fail(TensorFault::Overflow { shape: shape_text() }))?;
    let mut data = array.into_owned();
    data.drain(..header.length);
    if header.fortran && shape.len() > 1 {
        data = to_c_order(&data, &shape, header.dtype.size());
    }
    Ok(HostTensor { dtype: header.dtype, shape, data })
}

fn read_header(name: &str, array: &[u8], limits: &ReadLimits) -> Result<Header, TensorFileError> {
    let cut = || TensorFileError::Truncated { part: "an array's header" };
    let wrong = |reason| TensorFileError::Entry { name: one_line(name), reason };
    let rest = array.strip_prefix(MAGIC).ok_or_else(|| wrong("it is no array of NumPy"))?;
    let (&[version, _], rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (length, rest) = match version {
        1 => rest.split_first_chunk().map(|(n, rest)| (u64::from(u16::from_le_bytes(*n)), rest)),
        2 | 3 => rest.split_first_chunk().map(|(n, rest)| (u64::from(u32::from_le_bytes(*n)), rest)),
        _ => return Err(wrong("only versions 1 to 3 of NumPy's format are read")),
    }
    .ok_or_else(cut)?;
    if length > limits.header_bytes_max {
        let (part, unit, limit) = ("an array's header", "bytes", limits.header_bytes_max);
        return Err(TensorFileError::HeaderTooLarge { part, size: length, unit, limit });
    }
    let text = rest.get(..length as usize).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| wrong("its header is not UTF-8"))?;
    let field = |key: &str| text.split_once(key).map(|(_, value)| value.trim_start());
    let descr = field("'descr':").and_then(|value| value.strip_prefix('\'')?.split_once('\''));
    let (descr, _) = descr.ok_or_else(|| wrong("its elements are records, which are not read"))?;
    let dtype = TYPES.iter().find(|(name, _)| *name == descr).map(|(_, dtype)| *dtype);
    let dtype = dtype.ok_or_else(|| TensorFileError::Tensor {
        name: one_line(name),
        fault: TensorFault::Dtype { dtype: one_line(descr) },
    })?;
    let fortran = match field("'fortran_order':") {
        Some(value) if value.starts_with("False") => false,
        Some(value) if value.starts_with("True") => true,
        _ => return Err(wrong("its header does not say the order of its axes")),
    };
    let shape = field("'shape':").and_then(|value| value.strip_prefix('(')?.split_once(')'));
    let axes = shape.map(|(axes, _)| axes.split(',').map(str::trim).filter(|axis| !axis.is_empty()));
    let shape: Option<Vec<u64>> = axes.and_then(|axes| axes.map(|axis| axis.parse().ok()).collect());
    let shape = shape.filter(|shape| shape.len() <= AXES_MAX);
    let shape = shape.ok_or_else(|| wrong("its shape is not one of at most 16 whole numbers"))?;
    Ok(Header { dtype, fortran, shape, length: array.len() - rest.len() + length as usize })
}

/// Elements of a given size from first axis fastest to last axis fastest.
fn to_c_order(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut steps = vec![size; shape.len()];
    for axis in 1..shape.len() {
        steps[axis] = steps[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    while out.len() < data.len() {
        let at: usize = index.iter().zip(&steps).map(|(i, step)| i * step).sum();
        out.extend_from_slice(&data[at..at + size]);
        for (i, axis) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *axis {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// Writes tensors as NumPy's `savez` does: stored, with 64-bit sizes. NumPy has no bf16: it becomes f32, which is exact.
#[must_use]
pub fn write_npz(tensors: &TensorMap) -> Vec<u8> {
    let (mut file, mut directory) = (vec![], vec![]);
    for (name, tensor) in tensors {
        let (name, begin) = (format!("{name}{SUFFIX}"), file.len() as u64);
        let tensor = match tensor.dtype {
            Dtype::BF16 => Cow::Owned(widened(tensor)),
            _ => Cow::Borrowed(tensor),
        };
        let header = array_header(&tensor);
        let size = (header.len() + tensor.data.len()) as u64;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        crc.update(&tensor.data);
        // Version 4.5, UTF-8 names, stored, the first of January 1980.
        let mut common = vec![];
        for field in [45u16, 1 << 11, 0, 0, 0x21] {
            common.extend(field.to_le_bytes());
        }
        common.extend(crc.finalize().to_le_bytes());
        common.extend([0xff; 8]);
        common.extend((name.len() as u16).to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(20u16.to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(wide(&[size, size]));
        file.extend(&header);
        file.extend(&tensor.data);
        directory.extend(b"PK\x01\x02\x2d\x00");
        directory.extend(&common);
        directory.extend(28u16.to_le_bytes());
        // No comment, first disk, no attributes; the offset is in the extra field.
        directory.extend([0; 10]);
        directory.extend([0xff; 4]);
        directory.extend(name.as_bytes());
        directory.extend(wide(&[size, size, begin]));
    }
    let (begin, length, count) = (file.len() as u64, directory.len() as u64, tensors.len() as u64);
    file.append(&mut directory);
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for field in [count, count, length, begin] {
        file.extend(field.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend((begin + length).to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([0xff; 12]);
    file.extend([0; 2]);
    file
}

/// The extra field of numbers that stand in 64 bits.
fn wide(values: &[u64]) -> Vec<u8> {
    let mut field = 1u16.to_le_bytes().to_vec();
    field.extend((8 * values.len() as u16).to_le_bytes());
    values.iter().for_each(|value| field.extend(value.to_le_bytes()));
    field
}

fn widened(tensor: &HostTensor) -> HostTensor {
    let data = tensor.to_f32().into_iter().flat_map(f32::to_le_bytes).collect();
    HostTensor { dtype: Dtype::F32, shape: tensor.shape.clone(), data }
}

fn array_header(tensor: &HostTensor) -> Vec<u8> {
    let descr = TYPES.iter().find(|(_, dtype)| *dtype == tensor.dtype).map_or("", |(name, _)| name);
    let axes: String = tensor.shape.iter().map(|axis| format!("{axis}, ")).collect();
    // A tuple of one ends with a comma, longer ones do not have to, but may.
    let shape = axes.trim_end();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Version 1: elements begin at a multiple of 64 bytes.
    while !(MAGIC.len() + 4 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut header = MAGIC.to_vec();
    header.extend([1, 0]);
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}
