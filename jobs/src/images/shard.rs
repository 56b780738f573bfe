//! Tar shards, as WebDataset has them: many pictures in one object.
//!
//! A shard is read once, from its beginning to its end, in pieces of some MiB; what it holds is never in memory together. Where
//! each picture lies is known then, and that range can be read alone. Of members that are no pictures by their names the texts
//! that end in `.cls` are kept, and others passed over; compressed archives are not read, since no picture in them can be found without all before it.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_proto::{Key, Store, off_thread};
use sr3_worker::{Attempt, Stop};
use tokio::runtime::Handle;

use super::{is_image_extension, read_part};

/// The extension of what says what a sample shows.
const LABEL: &str = "cls";
/// Most bytes of that.
const LABEL_BYTES_MAX: u64 = 256;
/// Bytes that are asked for at once.
const PIECE: u64 = 8 << 20;

/// A picture in a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its name in the archive.
    pub(crate) name: String,
    /// Of its first byte in the object.
    pub(crate) offset: u64,
}

/// What lies in a shard.
#[derive(Debug)]
pub(crate) struct Contents<T> {
    /// What was made of each picture, with where it lies and its length.
    pub(crate) pictures: Vec<(Place, u64, T)>,
    /// What is said of samples, by [`sample_name`]: the texts of members that end in `.cls`.
    pub(crate) labels: HashMap<String, String>,
    /// Why no more could be read.
    pub(crate) damage: Option<String>,
}

/// Reads a shard of `length` bytes, and hands over each picture of up to `bytes_max`, or its length where it has more.
///
/// # Errors
/// The store's; that it is none, or ends too early, is [`Contents::damage`].
pub(crate) async fn walk<T: Send + 'static>(
    store: &Arc<Store>,
    key: &Key,
    etag: Option<&str>,
    length: u64,
    bytes_max: u64,
    attempt: &Arc<Attempt>,
    look: impl Fn(Result<Vec<u8>, u64>) -> T + Send + 'static,
) -> Result<Contents<T>, Stop> {
    let pieces = Pieces {
        runtime: Handle::current(),
        store: Arc::clone(store),
        key: key.clone(),
        etag: etag.map(ToString::to_string),
        attempt: Arc::clone(attempt),
        length,
        at: 0,
        piece: Bytes::new(),
        stop: None,
    };
    let walked = off_thread(move || walk_now(pieces, bytes_max, look)).await;
    walked.map_err(|_| Stop::worker("internal error while a shard was read"))?
}

fn walk_now<T>(
    mut pieces: Pieces,
    bytes_max: u64,
    look: impl Fn(Result<Vec<u8>, u64>) -> T,
) -> Result<Contents<T>, Stop> {
    let mut contents = Contents { pictures: Vec::new(), labels: HashMap::new(), damage: None };
    let damage = walk_archive(&mut tar::Archive::new(&mut pieces), bytes_max, look, &mut contents);
    // What the store said comes through the archive as an error of its own.
    if let Some(stop) = pieces.stop {
        return Err(stop);
    }
    contents.damage = damage
        .err()
        .map(|error| format!("it is damaged after {} pictures: {error}", contents.pictures.len()));
    Ok(contents)
}

fn walk_archive<R: Read, T>(
    archive: &mut tar::Archive<R>,
    bytes_max: u64,
    look: impl Fn(Result<Vec<u8>, u64>) -> T,
    contents: &mut Contents<T>,
) -> io::Result<()> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
        if extension.as_deref() == Some(LABEL) && entry.size() <= LABEL_BYTES_MAX {
            let mut text = String::new();
            // What is no text says nothing.
            if entry.read_to_string(&mut text).is_ok() {
                contents.labels.insert(sample_name(&name).to_string(), text.trim().to_string());
            }
            continue;
        }
        if !extension.is_some_and(|extension| is_image_extension(&extension)) {
            continue;
        }
        let (offset, bytes) = (entry.raw_file_position(), entry.size());
        let read = match bytes <= bytes_max {
            true => {
                let mut all = Vec::new();
                entry.read_to_end(&mut all)?;
                if all.len() as u64 != bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(all)
            }
            false => Err(bytes),
        };
        contents.pictures.push((Place { name, offset }, bytes, look(read)));
    }
    Ok(())
}

/// What the members of a sample have in common: a name up to the first dot of its last part.
pub(crate) fn sample_name(name: &str) -> &str {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    name[last..].find('.').map_or(name, |dot| &name[..last + dot])
}

/// An object as something to read from, piece by piece.
struct Pieces {
    runtime: Handle,
    store: Arc<Store>,
    key: Key,
    etag: Option<String>,
    attempt: Arc<Attempt>,
    length: u64,
    at: u64,
    piece: Bytes,
    /// Why the store gives no more.
    stop: Option<Stop>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.at < self.length {
            let range = self.at..self.length.min(self.at + PIECE);
            self.at = range.end;
            let read = read_part(&self.store, &self.key, self.etag.as_deref(), range, &self.attempt);
            match self.runtime.block_on(read) {
                Ok(piece) => self.piece = piece,
                Err(stop) => {
                    self.stop = Some(stop);
                    return Err(io::Error::other("the store gives no more"));
                }
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// Each picture with its bytes, or its length where it is too long; and how it ended.
    type Walked = (Contents<Result<Vec<u8>, u64>>, io::Result<()>);

    fn walked(bytes: &[u8]) -> Walked {
        let mut contents = Contents { pictures: Vec::new(), labels: HashMap::new(), damage: None };
        let ended = walk_archive(&mut tar::Archive::new(bytes), 100, |read| read, &mut contents);
        (contents, ended)
    }

    #[test]
    fn pictures_are_where_the_index_says_whatever_lies_between_them() {
        let long = format!("{}/two.PNG", "folder/".repeat(30));
        let all = archive(&[
            ("a/one.jpg", b"first"),
            ("a/one.cls", b"7\n"),
            ("b.c/two.cls", b" rose "),
            ("b.c/three.cls", b"\xff"),
            (&long, b"second!"),
            ("big.png", &[1; 101]),
        ]);
        let (Contents { pictures, labels, .. }, ended) = walked(&all);
        ended.unwrap();
        let said = |name: &str| labels.get(sample_name(name)).map(String::as_str);
        assert_eq!(
            ["a/one.jpg", "b.c/two.seg.png", "b.c/three.png", "big.png"].map(said),
            [Some("7"), Some("rose"), None, None]
        );
        assert_eq!(
            pictures.iter().map(|(place, ..)| place.name.as_str()).collect::<Vec<_>>(),
            ["a/one.jpg", &long, "big.png"]
        );
        for (place, bytes, read) in &pictures[..2] {
            let range = place.offset as usize..(place.offset + bytes) as usize;
            assert_eq!(&all[range], &read.clone().unwrap()[..]);
        }
        assert_eq!(pictures[2].2, Err(101), "longer than is read");
    }

    #[test]
    fn of_an_archive_that_is_cut_off_what_comes_before_is_kept() {
        let all = archive(&[("one.jpg", b"first"), ("two.jpg", &[7; 90])]);
        let (contents, ended) = walked(&all[..1536 + 40]);
        assert_eq!(contents.pictures.len(), 1);
        assert!(ended.is_err());
        let (contents, ended) = walked(&[9; 4096]);
        assert!(contents.pictures.is_empty() && ended.is_err(), "it is no archive");
    }
}
