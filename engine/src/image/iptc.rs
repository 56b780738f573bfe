//! IPTC records (IIM 4.2), bare and as a Photoshop image resource (8BIM), in which JPEG and PNG carry them.
//!
//! Records are looked at only to see that they are some and where they end; no other resource of Photoshop is kept.

/// The number of the resource that holds IPTC records.
const IPTC_RESOURCE: u16 = 0x0404;

/// The records in `bytes` without what follows the last whole one; `None` when there is none.
pub(super) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let mut end = 0;
    while let Some(next) = record_end(bytes, end) {
        end = next;
    }
    bytes.get(..end).filter(|records| !records.is_empty())
}

/// Where the record that begins at `at` ends, if it is whole: marker, two numbers, length, data (IIM 1.5).
fn record_end(bytes: &[u8], at: usize) -> Option<usize> {
    let Some([0x1c, _, _, high, low]) = bytes.get(at..at + 5) else { return None };
    let data = at + 5;
    let end = match usize::from(u16::from_be_bytes([*high, *low])) {
        length @ 0..0x8000 => data.checked_add(length)?,
        // Records of 32 KiB and more say here how many bytes their length has.
        length => {
            let data_at = data + (length & 0x7fff);
            let digits = bytes.get(data..data_at).filter(|digits| (1..=4).contains(&digits.len()))?;
            data_at.checked_add(digits.iter().fold(0, |n, &d| n << 8 | usize::from(d)))?
        }
    };
    (end <= bytes.len()).then_some(end)
}

/// What a list of Photoshop image resources holds.
pub(super) struct Resources<'a> {
    /// The data of the first IPTC resource.
    pub(super) iptc: Option<&'a [u8]>,
    /// Whether there are resources of other kinds.
    pub(super) others: bool,
}

/// Walks image resources as far as they are whole.
pub(super) fn resources(mut bytes: &[u8]) -> Resources<'_> {
    let mut found = Resources { iptc: None, others: false };
    while let Some((id, data, rest)) = resource(bytes) {
        match id {
            IPTC_RESOURCE => found.iptc = found.iptc.or(Some(data)),
            _ => found.others = true,
        }
        bytes = rest;
    }
    found
}

/// A resource's number and data, and what follows: signature, number, a name and the data, each padded to an even length.
fn resource(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let rest = bytes.strip_prefix(b"8BIM")?;
    let id = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let name = 1 + usize::from(*rest.get(2)?);
    let rest = rest.get(2 + name + name % 2..)?;
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let data = rest.get(4..4_usize.checked_add(length)?)?;
    Some((id, data, rest.get(4 + length + length % 2..).unwrap_or_default()))
}

/// The records as an image resource; `None` if they are longer than it can say.
pub(super) fn as_resource(records: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(records.len()).ok()?;
    let mut bytes = b"8BIM\x04\x04\0\0".to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend(records);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: [u8; 12] = *b"\x1c\x02\x50\0\x07Jane D.";

    #[test]
    fn records_end_with_the_last_whole_one() {
        assert_eq!(checked(&RECORDS), Some(&RECORDS[..]));
        assert_eq!(checked(&[&RECORDS[..], &[0, 0, 0]].concat()), Some(&RECORDS[..]));
        assert_eq!(checked(&[&RECORDS[..], &RECORDS[..9]].concat()), Some(&RECORDS[..]));
        let long = [&b"\x1c\x02\x78\x80\x04\0\0\x9c\x40"[..], &[b'x'; 40_000]].concat();
        assert_eq!(checked(&long), Some(&long[..]));
        for bad in [
            &b""[..],
            b"text",
            b"\x1c\x02\x50\xff\xff\xff",
            b"\x1c\x02\x50\x80\x04\xff\xff\xff\xff",
            &RECORDS[..11],
        ] {
            assert_eq!(checked(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn resources_give_the_records_back() {
        let own = as_resource(&RECORDS[..11]).unwrap();
        assert_eq!(own.len() % 2, 0);
        let found = resources(&own);
        assert_eq!((found.iptc, found.others), (Some(&RECORDS[..11]), false));
        let named = [b"8BIM\x03\xed\x03abc\0\0\0\x01x\0".to_vec(), own.clone()].concat();
        let found = resources(&named);
        assert_eq!((found.iptc, found.others), (Some(&RECORDS[..11]), true));
        for end in 0..named.len() - 1 {
            assert_eq!(resources(&named[..end]).iptc, None, "cut at {end}");
        }
    }
}
