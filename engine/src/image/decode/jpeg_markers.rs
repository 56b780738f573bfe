//! The segments of a JPEG, walked from marker to marker without decoding a pixel: size, profile, EXIF, JFIF's density, and
//! whether the data reach their end marker.
//!
//! Nothing is allocated by a header's word; segments that pass the end of the file are not there.

use crate::image::metadata::Density;

/// What the segments of a JPEG say, without decoding a pixel.
#[derive(Default)]
pub(super) struct Survey<'a> {
    /// Width and height of the first frame header.
    pub(super) size: Option<(u16, u16)>,
    /// Marker and data of the first frame header.
    pub(super) frame: Option<(u8, &'a [u8])>,
    pub(super) has_scan: bool,
    /// Whether a scan was followed by the end marker.
    pub(super) complete: bool,
    pub(super) exif: Option<&'a [u8]>,
    pub(super) density: Option<Density>,
    /// Number, of how many, bytes: the pieces of the profile as they came.
    profile_pieces: Vec<(u8, u8, &'a [u8])>,
}

/// Walks the segments of a JPEG from its start to its end marker. What follows the end marker is not looked at: phones
/// append films and second pictures there.
pub(super) fn survey(bytes: &[u8]) -> Survey<'_> {
    let mut survey = Survey::default();
    let mut at = 2;
    while let Some((marker, start)) = next_marker(bytes, at) {
        match marker {
            0xd9 => {
                survey.complete = survey.has_scan;
                break;
            }
            // Markers without a length: restart, start of image, temporary.
            0xd0..=0xd8 | 0x01 => at = start,
            _ => {
                let length =
                    bytes.get(start..start + 2).map(|l| usize::from(u16::from_be_bytes([l[0], l[1]])));
                let Some(data) = length.filter(|&l| l >= 2).and_then(|l| bytes.get(start + 2..start + l))
                else {
                    break;
                };
                survey.take(marker, data);
                survey.has_scan |= marker == 0xda;
                at = start + 2 + data.len();
            }
        }
    }
    survey
}

/// The next marker's code at or after `at`, and where its segment begins. Entropy-coded data hide no marker: there a
/// 0xff is followed by 0 (ITU-T T.81, B.1.1.5), so the same search serves headers and scans.
pub(super) fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)?;
        match *bytes.get(at + 1)? {
            0x00 => at += 2,
            0xff => at += 1,
            marker => return Some((marker, at + 2)),
        }
    }
}

impl<'a> Survey<'a> {
    fn take(&mut self, marker: u8, data: &'a [u8]) {
        match (marker, data) {
            // SOF0 to SOF15 without DHT, JPG and DAC, which share the range; the header of a hierarchy, and JPEG-LS.
            (0xc0..=0xcf | 0xde | 0xf7, [_, h0, h1, w0, w1, ..]) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                self.frame.get_or_insert((marker, data));
                let size = (u16::from_be_bytes([*w0, *w1]), u16::from_be_bytes([*h0, *h1]));
                self.size.get_or_insert(size);
            }
            (0xe0, [b'J', b'F', b'I', b'F', 0, _, _, unit, x0, x1, y0, y1, ..]) => {
                let per_inch = match unit {
                    1 => 1.0,
                    2 => 2.54,
                    _ => return,
                };
                let x = f64::from(u16::from_be_bytes([*x0, *x1])) * per_inch;
                let y = f64::from(u16::from_be_bytes([*y0, *y1])) * per_inch;
                self.density = self.density.or(Density::checked(x, y));
            }
            (0xe1, data) => {
                if let Some(block) = data.strip_prefix(b"Exif\0\0") {
                    self.exif.get_or_insert(block);
                }
            }
            (0xe2, data) => {
                if let Some([number, count, piece @ ..]) = data.strip_prefix(b"ICC_PROFILE\0") {
                    self.profile_pieces.push((*number, *count, piece));
                }
            }
            _ => {}
        }
    }

    /// The profile, joined in the order of its numbers (ICC.1:2022, B.4).
    pub(super) fn profile(&self, bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
        let &(_, count, _) = self.profile_pieces.first()?;
        let mut pieces: Vec<_> = self.profile_pieces.iter().filter(|piece| piece.1 == count).collect();
        pieces.sort_by_key(|piece| piece.0);
        let whole = pieces.len() == usize::from(count) && pieces.iter().zip(1..=count).all(|(p, n)| p.0 == n);
        let size: usize = pieces.iter().map(|piece| piece.2.len()).sum();
        if !whole {
            notes.push("profile dropped: some of its segments are missing".to_owned());
            return None;
        }
        if size > bytes_max {
            notes.push(format!("profile dropped: it has {size} bytes, more than the limit of {bytes_max}"));
            return None;
        }
        Some(pieces.iter().flat_map(|piece| piece.2).copied().collect())
    }
}
