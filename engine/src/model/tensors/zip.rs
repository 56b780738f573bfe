//! The zip archives that PyTorch and NumPy write: a directory at the end, entries stored as they are or deflated.
//!
//! Entries are slices of the archive. PyTorch never compresses tensors, so [`Archive::get`] refuses what is compressed;
//! [`Archive::inflated`] inflates it, to no more bytes than its reader allows. Sizes come from the directory and are checked
//! against the bytes that are there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use flate2::read::DeflateDecoder;

use super::{TensorFileError, one_line};

const END: [u8; 4] = *b"PK\x05\x06";
const END_64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END_64: [u8; 4] = *b"PK\x06\x06";
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
const LOCAL_HEADER: [u8; 4] = *b"PK\x03\x04";
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 0xffff;
/// Marks a 32-bit field whose value is in the zip64 extra field.
const SEE_ZIP64: u64 = 0xffff_ffff;
const ENTRIES_MAX: u64 = 1 << 18;
const OUTSIDE: &str = "its data lies outside the file";

/// An entry as it lies in the archive.
#[derive(Clone, Copy)]
struct Entry<'a> {
    data: &'a [u8],
    /// Bytes once inflated, as the directory claims; those of `data` where it is stored.
    size: u64,
    deflated: bool,
    crc: u32,
}

/// An archive's entries by name.
pub(crate) struct Archive<'a> {
    entries: HashMap<&'a str, Entry<'a>>,
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, TensorFileError> {
        let directory = find_directory(file, 0)?;
        let mut fields = Fields { bytes: &file[..directory.end], at: directory.begin };
        let mut entries = HashMap::new();
        let mut total = 0_usize;
        for _ in 0..directory.entries {
            let listed = read_listed(&mut fields)?;
            let (name, entry) = (listed.name, listed.entry(&file[..directory.begin])?);
            // Entries that share bytes would make checking checksums arbitrarily slow.
            total = total.saturating_add(entry.data.len());
            if total > directory.begin {
                return Err(entry_error(name, "its data overlaps that of other entries"));
            }
            if entries.insert(name, entry).is_some() {
                return Err(entry_error(name, "the name appears twice"));
            }
        }
        Ok(Self { entries })
    }

    /// The names in no particular order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// A stored entry's bytes, checked against its checksum; none if there is no such entry.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&'a [u8]>, TensorFileError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        if entry.deflated {
            return Err(entry_error(name, "it is compressed, which torch.save never does"));
        }
        // PyTorch can be told not to compute checksums; it then writes zero.
        if entry.crc != 0 {
            check(name, entry.data, entry.crc)?;
        }
        Ok(Some(entry.data))
    }

    /// An entry's bytes, inflated where they are deflated, checked against its checksum; none if there is no such entry.
    /// `allow` is asked with the number of bytes before they are allocated.
    pub(crate) fn inflated(
        &self,
        name: &str,
        allow: impl FnOnce(u64) -> Result<(), TensorFileError>,
    ) -> Result<Option<Cow<'a, [u8]>>, TensorFileError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        allow(entry.size)?;
        let data = if entry.deflated { Cow::from(inflate(name, entry)?) } else { Cow::from(entry.data) };
        check(name, &data, entry.crc)?;
        Ok(Some(data))
    }
}

fn check(name: &str, data: &[u8], crc: u32) -> Result<(), TensorFileError> {
    if crc32fast::hash(data) == crc {
        return Ok(());
    }
    Err(entry_error(name, "its checksum is wrong, the file is damaged: fetch it again"))
}

/// Grows with what comes out, never with what is claimed, and stops one byte after that.
fn inflate(name: &str, entry: &Entry<'_>) -> Result<Vec<u8>, TensorFileError> {
    let mut data = vec![];
    let mut decoder = DeflateDecoder::new(entry.data).take(entry.size.saturating_add(1));
    let read = decoder.read_to_end(&mut data);
    if read.is_err() || data.len() as u64 != entry.size {
        return Err(entry_error(name, "what is compressed in it is damaged: fetch the file again"));
    }
    Ok(data)
}

struct Directory {
    begin: usize,
    end: usize,
    entries: u64,
}

/// What an archive's directory says of its entries, from the last bytes of the file, of `length` bytes in all.
pub(crate) fn listed(tail: &[u8], length: u64) -> Result<Vec<Listed<'_>>, TensorFileError> {
    let directory = find_directory(tail, length.saturating_sub(tail.len() as u64))?;
    let mut fields = Fields { bytes: &tail[..directory.end], at: directory.begin };
    (0..directory.entries).map(|_| read_listed(&mut fields)).collect()
}

/// The directory in the end of a file, whose first `base` bytes are not there.
fn find_directory(file: &[u8], base: u64) -> Result<Directory, TensorFileError> {
    let cut = TensorFileError::Truncated { part: "the archive, before its directory" };
    let last = file.len().checked_sub(END_BYTES);
    let first = file.len().saturating_sub(END_BYTES + COMMENT_BYTES_MAX);
    let ends_here = |&at: &usize| {
        let comment = usize::from(u16::from_le_bytes([file[at + 20], file[at + 21]]));
        file[at..].starts_with(&END) && at + END_BYTES + comment == file.len()
    };
    let end = last.and_then(|last| (first..=last).rev().find(ends_here)).ok_or(cut)?;

    let mut fields = Fields { bytes: file, at: end + 10 };
    let mut entries = u64::from(fields.u16()?);
    let mut length = u64::from(fields.u32()?);
    let mut begin = u64::from(fields.u32()?);
    let mut limit = end;
    if entries == 0xffff || length == SEE_ZIP64 || begin == SEE_ZIP64 {
        let locator = end.checked_sub(20).filter(|&at| file[at..].starts_with(&END_64_LOCATOR));
        let locator = locator.ok_or_else(|| malformed(end, "a zip64 archive without its locator"))?;
        let at = Fields { bytes: file, at: locator + 8 }.u64()?;
        limit = at.checked_sub(base).and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
        fields.at = limit;
        if fields.take(4)? != END_64 {
            return Err(malformed(limit, "a zip64 archive without its end record"));
        }
        fields.take(28)?;
        (entries, length, begin) = (fields.u64()?, fields.u64()?, fields.u64()?);
    }
    let begin =
        begin.checked_sub(base).ok_or(TensorFileError::Truncated { part: "the archive's directory" })?;
    if begin.checked_add(length).is_none_or(|stop| stop > limit as u64) {
        return Err(malformed(end, "the directory reaches past its end"));
    }
    if entries > ENTRIES_MAX {
        let (part, unit) = ("the archive", "entries");
        return Err(TensorFileError::HeaderTooLarge { part, size: entries, unit, limit: ENTRIES_MAX });
    }
    Ok(Directory { begin: begin as usize, end: (begin + length) as usize, entries })
}

/// An entry of the directory.
pub(crate) struct Listed<'a> {
    pub(crate) name: &'a str,
    /// Where its local header begins.
    pub(crate) local: u64,
    /// Bytes as they lie there.
    pub(crate) packed: u64,
    /// Bytes once inflated.
    pub(crate) size: u64,
    pub(crate) deflated: bool,
    pub(crate) crc: u32,
}

impl<'a> Listed<'a> {
    /// With the data that it points to, which has to lie in `before`: the archive from its beginning.
    fn entry<'b>(&self, before: &'b [u8]) -> Result<Entry<'b>, TensorFileError> {
        let Self { name, local, packed, size, deflated, crc } = *self;
        let data = local_data(before, local, packed).map_err(|reason| entry_error(name, reason))?;
        Ok(Entry { data, size, deflated, crc })
    }
}

/// The bytes of an entry, inflated where they are deflated and checked, from the file from its local header on.
pub(crate) fn taken<'a>(of: &Listed<'_>, from_local: &'a [u8]) -> Result<Cow<'a, [u8]>, TensorFileError> {
    let entry = Listed { local: 0, ..*of }.entry(from_local)?;
    let data = if entry.deflated { Cow::from(inflate(of.name, &entry)?) } else { Cow::from(entry.data) };
    check(of.name, &data, entry.crc)?;
    Ok(data)
}

/// How far behind its local header an entry's data begins.
pub(crate) fn data_begins(of: &Listed<'_>, from_local: &[u8]) -> Result<usize, TensorFileError> {
    data_begin(from_local).map_err(|reason| entry_error(of.name, reason))
}

fn read_listed<'a>(fields: &mut Fields<'a>) -> Result<Listed<'a>, TensorFileError> {
    let at = fields.at;
    if fields.take(4)? != DIRECTORY_ENTRY {
        return Err(malformed(at, "an entry of the directory does not begin as one"));
    }
    fields.take(4)?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.take(4)?;
    let crc = fields.u32()?;
    let (mut packed, mut size) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
    let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
    fields.take(8)?;
    let mut local = u64::from(fields.u32()?);
    let name = std::str::from_utf8(fields.take(name.into())?)
        .map_err(|_| malformed(at, "the name of an entry is not UTF-8"))?;
    let extra = fields.take(extra.into())?;
    fields.take(comment.into())?;

    // In this order, and only those that did not fit.
    let mut wide = zip64_values(extra)?;
    for value in [&mut size, &mut packed, &mut local] {
        if *value == SEE_ZIP64 {
            *value = wide.u64()?;
        }
    }
    if flags & 1 != 0 {
        return Err(entry_error(name, "it is encrypted"));
    }
    let deflated = method == 8;
    if !deflated && (method != 0 || packed != size) {
        return Err(entry_error(name, "it is compressed in a way that is not read"));
    }
    Ok(Listed { name, local, packed, size, deflated, crc })
}

/// The bytes behind a local header.
fn local_data(before: &[u8], local: u64, size: u64) -> Result<&[u8], &'static str> {
    let header = usize::try_from(local).ok().and_then(|at| before.get(at..)).ok_or(OUTSIDE)?;
    let size = usize::try_from(size).map_err(|_| OUTSIDE)?;
    header.get(data_begin(header)?..).and_then(|data| data.get(..size)).ok_or(OUTSIDE)
}

/// Bytes of a local header, which begins here.
fn data_begin(header: &[u8]) -> Result<usize, &'static str> {
    let fixed = header.first_chunk::<30>().ok_or(OUTSIDE)?;
    if !fixed.starts_with(&LOCAL_HEADER) {
        return Err("its local header is not one");
    }
    let lengths = [[fixed[26], fixed[27]], [fixed[28], fixed[29]]].map(u16::from_le_bytes);
    Ok(fixed.len() + lengths.map(usize::from).iter().sum::<usize>())
}

/// The values of the zip64 extra field, or nothing.
fn zip64_values(extra: &[u8]) -> Result<Fields<'_>, TensorFileError> {
    let mut fields = Fields { bytes: extra, at: 0 };
    while fields.at + 4 <= extra.len() {
        let (id, length) = (fields.u16()?, fields.u16()?);
        let value = fields.take(length.into())?;
        if id == 1 {
            return Ok(Fields { bytes: value, at: 0 });
        }
    }
    Ok(Fields { bytes: &[], at: 0 })
}

/// Little-endian fields in a row.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TensorFileError> {
        let stop = self.at.checked_add(count);
        let taken = stop.and_then(|stop| self.bytes.get(self.at..stop));
        let taken = taken.ok_or(TensorFileError::Truncated { part: "the archive's directory" })?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TensorFileError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| TensorFileError::Truncated { part: "the archive's directory" })
    }

    fn u16(&mut self) -> Result<u16, TensorFileError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, TensorFileError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, TensorFileError> {
        self.array().map(u64::from_le_bytes)
    }
}

fn malformed(offset: usize, reason: &'static str) -> TensorFileError {
    TensorFileError::Malformed { part: "the archive", offset: offset as u64, reason }
}

fn entry_error(name: &str, reason: &'static str) -> TensorFileError {
    TensorFileError::Entry { name: one_line(name), reason }
}
