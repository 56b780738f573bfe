//! The boxes of ISO media files (ISO/IEC 14496-12, 4.2), in which AVIF and JPEG XL are packed.
//!
//! A box is a slice of the file: nothing is copied, and what passes the end of the file is told, not read.

/// A box: its four letters and its content; the content is `None` where it passes the end.
pub(super) type Found<'a> = ([u8; 4], Option<&'a [u8]>);

/// The boxes that lie one behind the other in these bytes.
pub(super) struct Boxes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let (size, rest) = self.0.split_first_chunk::<4>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (content, header) = match u32::from_be_bytes(*size) {
            // To the end of the file.
            0 => (Some(rest), 8),
            1 => {
                let (size, rest) = rest.split_first_chunk::<8>()?;
                let length = usize::try_from(u64::from_be_bytes(*size)).ok().and_then(|n| n.checked_sub(16));
                (length.and_then(|length| rest.get(..length)), 16)
            }
            size => ((size as usize).checked_sub(8).and_then(|length| rest.get(..length)), 8),
        };
        self.0 = content.map_or(&[], |content| &self.0[header + content.len()..]);
        Some((*kind, content))
    }
}

/// Numbers of the sizes that boxes have, one behind the other; `None` past the end.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `size` (0 to 8) bytes as a number.
    pub(super) fn number(&mut self, size: usize) -> Option<u64> {
        Some(self.bytes(size)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The next two bytes as a number.
    pub(super) fn short(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    /// The next four bytes as a number.
    pub(super) fn long(&mut self) -> Option<u32> {
        self.number(4).map(|number| number as u32)
    }

    /// The next `size` bytes.
    pub(super) fn bytes(&mut self, size: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(bytes)
    }

    /// The bytes before the next zero, which is passed over.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|&byte| byte == 0)?;
        let text = self.bytes(length)?;
        self.bytes(1)?;
        Some(text)
    }

    /// The version of a full box; its flags are passed over.
    pub(super) fn version(&mut self) -> Option<u8> {
        self.long().map(|word| (word >> 24) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_ends_where_it_says_and_never_past_the_file() {
        let found = |bytes: &'static [u8]| Boxes(bytes).collect::<Vec<_>>();
        let two = found(b"\0\0\0\x0aabcd12\0\0\0\0efgh345");
        assert_eq!(two, [(*b"abcd", Some(&b"12"[..])), (*b"efgh", Some(&b"345"[..]))]);
        let long = found(b"\0\0\0\x01abcd\0\0\0\0\0\0\0\x111");
        assert_eq!(long, [(*b"abcd", Some(&b"1"[..]))]);
        for cut in [
            &b"\0\0\0\x0babcd12"[..],
            b"\xff\xff\xff\xffabcd",
            b"\0\0\0\x07abcd",
            b"\0\0\0\x01abcd\xff\xff\xff\xff\xff\xff\xff\xff1",
        ] {
            assert_eq!(Boxes(cut).collect::<Vec<_>>(), [(*b"abcd", None)], "{cut:?}");
        }
        assert_eq!(Boxes(b"\0\0\0").count(), 0);
    }
}
