//! Numbers from one process to another of the same machine, through memory that both have mapped.
//!
//! A segment has one writer and one reader, the two ends of a link, and is cut into slots. The writer puts numbers into a slot
//! that is free and says over the link which; the reader gives it back once it has read them. Where no slot is free the
//! numbers themselves go over the link, so that nobody ever waits for one.
//!
//! It is a file without a name, and gone with its processes. What is in it is as trusted as what the peer says over the link:
//! all is read and written atomically, so that whatever the other process does is no more than wrong numbers, and the file is
//! sealed against shrinking, so that there always is memory behind it. Only Linux has such files; elsewhere, and where
//! another user's or another container's process cannot be looked into, links do without.

use std::{
    fs::{File, OpenOptions},
    io,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use memmap2::{MmapOptions, MmapRaw};
use sr3_proto::wire::v1;

use super::{reduce::CHUNK, tree::Numbers};

/// Slots: more than parts are sent ahead, and some for sums. The first that is free is taken, so that memory is used as needed.
const SLOTS: usize = 24;
/// Numbers of a slot: what travels at once.
const SLOT: usize = CHUNK;
/// Cells before the first slot, a page: the key, and from there on for each slot whether it is taken, a cache line each.
const HEAD: usize = 512;
const KEY: usize = 4;
const LINE: usize = 8;
const _: () = assert!(KEY + SLOTS * LINE <= HEAD);
/// Cells of a slot, two numbers each.
const SLOT_CELLS: usize = SLOT / 2;
const CELLS: usize = HEAD + SLOTS * SLOT_CELLS;
const BYTES: usize = CELLS * size_of::<AtomicU64>();

/// A file without a name that keeps its length.
#[cfg(target_os = "linux")]
fn sealed(bytes: u64) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let file = File::from(memfd_create("sr3-link", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Whether a file cannot become shorter.
#[cfg(target_os = "linux")]
fn is_sealed(file: &File) -> io::Result<bool> {
    use rustix::fs::{SealFlags, fcntl_get_seals};
    Ok(fcntl_get_seals(file)?.contains(SealFlags::SHRINK))
}

#[cfg(not(target_os = "linux"))]
fn sealed(_: u64) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn is_sealed(_: &File) -> io::Result<bool> {
    Ok(false)
}

/// Memory of two processes.
#[derive(Debug)]
struct Segment {
    memory: MmapRaw,
}

impl Segment {
    /// Maps a file that can never be shorter than a segment.
    fn map(file: &File) -> io::Result<Self> {
        if !is_sealed(file)? || file.metadata()?.len() != BYTES as u64 {
            return Err(io::Error::other("it is no segment"));
        }
        Ok(Self { memory: MmapOptions::new().len(BYTES).map_raw(file)? })
    }

    fn cells(&self) -> &[AtomicU64] {
        // SAFETY: so much is mapped for as long as `self` lives, a page aligns more than a cell, and the file behind it is sealed
        // against shrinking. Both processes reach it by atomic operations alone, for which zeros are as good as any.
        #[allow(unsafe_code, reason = "memory of another process has no other type")]
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), CELLS)
        }
    }

    /// Whether a slot is taken: 1, else 0.
    fn mark(&self, slot: usize) -> &AtomicU64 {
        &self.cells()[KEY + slot * LINE]
    }

    fn slot(&self, slot: usize) -> &[AtomicU64] {
        &self.cells()[HEAD + slot * SLOT_CELLS..][..SLOT_CELLS]
    }

    /// What only whoever made it and whoever was told know.
    fn key(&self) -> Vec<u8> {
        self.cells()[..KEY].iter().flat_map(|cell| cell.load(Acquire).to_le_bytes()).collect()
    }
}

/// The end that writes.
#[derive(Debug)]
pub(super) struct Writer {
    segment: Segment,
    file: File,
}

impl Writer {
    /// Makes a segment; none where there are no such files.
    pub(super) fn new() -> Option<Self> {
        let made = || -> io::Result<Self> {
            let file = sealed(BYTES as u64)?;
            let segment = Segment::map(&file)?;
            let key: [u64; KEY] = rand::random();
            segment.cells().iter().zip(key).for_each(|(cell, word)| cell.store(word, Release));
            Ok(Self { segment, file })
        };
        made().inspect_err(|error| tracing::debug!(%error, "there is no memory for two processes")).ok()
    }

    /// How the reader finds it.
    pub(super) fn offer(&self) -> v1::Segment {
        use std::os::fd::AsRawFd;
        v1::Segment {
            process: std::process::id(),
            file: self.file.as_raw_fd().unsigned_abs(),
            key: self.segment.key().into(),
        }
    }

    /// The slot in which they lie now; none where they do not fit, or none is free.
    pub(super) fn put(&self, values: &[f32]) -> Option<v1::Slot> {
        let number = (0..SLOTS).find(|slot| self.segment.mark(*slot).load(Acquire) == 0)?;
        let length = u32::try_from(values.len()).ok().filter(|length| *length as usize <= SLOT)?;
        let cells = self.segment.slot(number);
        let (pairs, last) = values.as_chunks::<2>();
        let rest = cells.iter().zip(pairs).map(|(cell, [a, b])| (cell, *a, *b));
        let last = cells.get(pairs.len()).zip(last.first()).map(|(cell, a)| (cell, *a, 0.0));
        rest.chain(last).for_each(|(cell, a, b)| {
            cell.store(u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32, Relaxed);
        });
        self.segment.mark(number).store(1, Release);
        Some(v1::Slot { number: number as u32, length })
    }
}

/// The end that reads.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    segment: Arc<Segment>,
}

impl Reader {
    /// Finds what a peer has made; none where it cannot be reached, or is not what was offered.
    pub(super) fn open(offer: &v1::Segment) -> Option<Self> {
        let path = format!("/proc/{}/fd/{}", offer.process, offer.file);
        let opened = || -> io::Result<Segment> {
            let segment = Segment::map(&OpenOptions::new().read(true).write(true).open(path)?)?;
            if segment.key() == offer.key { Ok(segment) } else { Err(io::Error::other("it is another")) }
        };
        let opened =
            opened().inspect_err(|error| tracing::debug!(%error, "the peer's memory is out of reach"));
        Some(Self { segment: Arc::new(opened.ok()?) })
    }

    /// The numbers in a slot, which is given back when they are dropped; none where there cannot be such.
    pub(super) fn take(&self, slot: v1::Slot) -> Option<Taken> {
        let (number, length) = (slot.number as usize, slot.length as usize);
        let is_there = number < SLOTS && length <= SLOT && self.segment.mark(number).load(Acquire) == 1;
        is_there.then(|| Taken { segment: Arc::clone(&self.segment), number, length })
    }
}

/// Numbers that lie in a slot.
#[derive(Debug)]
pub struct Taken {
    segment: Arc<Segment>,
    number: usize,
    length: usize,
}

impl Taken {
    /// They, where they lie.
    pub fn numbers(&self) -> Numbers<'_> {
        Numbers::Shared(&self.segment.slot(self.number)[..self.length.div_ceil(2)], self.length)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.segment.mark(self.number).store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(taken: &Taken) -> Vec<f32> {
        let mut values = vec![0.0; taken.numbers().len()];
        taken.numbers().copy_to(&mut values);
        values
    }

    #[test]
    fn numbers_come_as_they_went_until_no_slot_is_free() {
        let writer = Writer::new().unwrap();
        let reader = Reader::open(&writer.offer()).unwrap();
        let values: Vec<f32> = (0..SLOT).map(|i| i as f32 * 1.37 - 5.0).collect();
        let mut taken: Vec<Taken> = (1..=SLOTS)
            .map(|n| {
                let taken = reader.take(writer.put(&values[..n]).unwrap()).unwrap();
                assert_eq!(read(&taken), values[..n]);
                taken
            })
            .collect();
        assert_eq!(writer.put(&values), None);
        // What was given back is taken again; all else is as it was.
        taken.remove(3);
        let slot = writer.put(&values).unwrap();
        assert_eq!(slot.number, 3);
        assert_eq!(read(&reader.take(slot).unwrap()), values);
        assert_eq!(read(&taken[3]), values[..5]);
    }

    #[test]
    fn what_is_not_what_was_offered_is_not_opened() {
        let writer = Writer::new().unwrap();
        let offer = writer.offer();
        assert!(Reader::open(&v1::Segment { key: vec![0; 32].into(), ..offer.clone() }).is_none());
        assert!(Reader::open(&v1::Segment { process: u32::MAX, ..offer.clone() }).is_none());
        // A file of this process that is none, with the right key and length.
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(&offer.key).unwrap();
        other.set_len(BYTES as u64).unwrap();
        let file = std::os::fd::AsRawFd::as_raw_fd(&other).unsigned_abs();
        assert!(Reader::open(&v1::Segment { file, ..offer.clone() }).is_none());
        // Slots that are none, or hold nothing, or more than they can.
        let reader = Reader::open(&offer).unwrap();
        for slot in [(SLOTS as u32, 1), (0, 1), (0, SLOT as u32 + 1)] {
            assert!(reader.take(v1::Slot { number: slot.0, length: slot.1 }).is_none(), "{slot:?}");
        }
        let slot = writer.put(&[1.0]).unwrap();
        assert!(reader.take(v1::Slot { length: SLOT as u32 + 1, ..slot }).is_none());
    }
}
