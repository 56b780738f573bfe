//! Where the end marker of a PNG belongs if it is missing.
//!
//! A PNG without its end marker (IEND) may have every pixel: all its IDAT chunks are whole. Whether they hold enough is
//! for the decoder to say; here only chunks are walked, none is unpacked.

/// The chunk that ends a PNG: length, name and checksum.
pub(super) const IEND: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];

/// How a PNG without its end marker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    /// Bytes up to the end of its last whole chunk.
    pub(super) at: usize,
    /// Whether another chunk begins there and is cut, other than the end marker itself.
    pub(super) in_chunk: bool,
}

/// Where the PNG in `bytes` stops; `None` if it has an end marker, no pixels, or stops in the middle of them.
pub(super) fn missing(bytes: &[u8]) -> Option<Stop> {
    let mut at = 8;
    let mut has_pixels = false;
    loop {
        let rest = bytes.get(at..)?;
        let (length, name) = match rest {
            [a, b, c, d, name @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), name),
            _ => (0, &[][..]),
        };
        let name = name.get(..4).unwrap_or(name);
        let whole = (length as usize).checked_add(12).filter(|&size| size <= rest.len());
        match (whole, name) {
            (Some(_), b"IEND") => return None,
            (Some(size), name) => {
                has_pixels |= name == b"IDAT";
                at += size;
            }
            (None, b"IDAT") => return None,
            (None, name) => {
                let in_chunk = !name.is_empty() && !b"IEND".starts_with(name);
                return has_pixels.then_some(Stop { at, in_chunk });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&(data.len() as u32).to_be_bytes(), &name[..], data, &[0; 4]].concat()
    }

    #[test]
    fn only_what_comes_after_the_pixels_may_be_missing() {
        let head = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &[0; 13])].concat();
        let pixels = [&head[..], &chunk(b"IDAT", &[1; 40])].concat();
        let at = pixels.len();
        assert_eq!(missing(&[&pixels[..], &IEND].concat()), None);
        assert_eq!(missing(&pixels), Some(Stop { at, in_chunk: false }));
        assert_eq!(missing(&[&pixels[..], &IEND[..9]].concat()), Some(Stop { at, in_chunk: false }));
        let exif = chunk(b"eXIf", &[2; 20]);
        assert_eq!(missing(&[&pixels[..], &exif[..25]].concat()), Some(Stop { at, in_chunk: true }));
        assert_eq!(missing(&[&pixels[..], &exif].concat()).map(|stop| stop.at), Some(at + exif.len()));
        assert_eq!(missing(&pixels[..at - 1]), None, "the checksum of the pixels is cut");
        assert_eq!(missing(&[&pixels[..], &pixels[head.len()..at - 1]].concat()), None);
        assert_eq!(missing(&head), None);
        assert_eq!(missing(b"\x89PNG"), None);
    }
}
