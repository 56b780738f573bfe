//! Whether an ICC profile is one, and fits the picture it came with (ICC.1:2022, 7.2 and 7.3).
//!
//! A profile is copied into the output, so garbage must not pass: its header, its tag table and its colour space are
//! checked. Its colour mathematics is never evaluated.

use super::picture::Channels;

/// Why a profile is not kept. The words go after "profile dropped: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IccFault {
    /// Too short, or without the signature that every profile has.
    #[error("it is not an ICC profile")]
    NotAProfile,
    /// The size in the header is not the size of the data, or a tag lies outside.
    #[error("it is cut short or damaged")]
    Damaged,
    /// It describes other channels than the picture has.
    #[error("it describes {0} colours, not those of the picture as read")]
    OtherColours(&'static str),
}

const HEADER_BYTES: usize = 128;

/// Checks `profile` against a picture with `channels`; returns it without what follows its own end.
pub(super) fn checked(mut profile: Vec<u8>, channels: Channels) -> Result<Vec<u8>, IccFault> {
    if profile.len() < HEADER_BYTES + 4 || &profile[36..40] != b"acsp" {
        return Err(IccFault::NotAProfile);
    }
    let declared = be32(&profile, 0) as usize;
    if declared < HEADER_BYTES + 4 || declared > profile.len() {
        return Err(IccFault::Damaged);
    }
    profile.truncate(declared);
    let tags = be32(&profile, HEADER_BYTES) as usize;
    let Some(table) = profile.get(HEADER_BYTES + 4..).filter(|rest| rest.len() / 12 >= tags) else {
        return Err(IccFault::Damaged);
    };
    for tag in table.chunks_exact(12).take(tags) {
        let end = u64::from(be32(tag, 4)) + u64::from(be32(tag, 8));
        if end > declared as u64 {
            return Err(IccFault::Damaged);
        }
    }
    match (&profile[16..20], channels.is_colour()) {
        (b"RGB ", true) | (b"GRAY", false) => Ok(profile),
        (b"RGB ", false) => Err(IccFault::OtherColours("RGB")),
        (b"GRAY", true) => Err(IccFault::OtherColours("gray")),
        (b"CMYK", _) => Err(IccFault::OtherColours("CMYK")),
        _ => Err(IccFault::OtherColours("other")),
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest profile that passes: a header and an empty tag table, padded to `len` bytes.
    fn profile(space: &[u8; 4], len: usize) -> Vec<u8> {
        let mut profile = vec![0; len.max(HEADER_BYTES + 4)];
        let declared = u32::try_from(profile.len()).unwrap();
        profile[..4].copy_from_slice(&declared.to_be_bytes());
        profile[16..20].copy_from_slice(space);
        profile[36..40].copy_from_slice(b"acsp");
        profile
    }

    #[test]
    fn a_profile_is_kept_only_if_whole_and_of_the_pictures_colours() {
        let rgb = profile(b"RGB ", 200);
        assert_eq!(checked(rgb.clone(), Channels::Rgba), Ok(rgb.clone()));
        assert_eq!(checked(rgb.clone(), Channels::Gray), Err(IccFault::OtherColours("RGB")));
        assert_eq!(checked(profile(b"CMYK", 200), Channels::Rgb), Err(IccFault::OtherColours("CMYK")));
        assert_eq!(checked(rgb[..150].to_vec(), Channels::Rgb), Err(IccFault::Damaged));
        assert_eq!(checked(vec![7; 500], Channels::Rgb), Err(IccFault::NotAProfile));
        assert_eq!(checked(Vec::new(), Channels::Rgb), Err(IccFault::NotAProfile));

        let mut padded = rgb.clone();
        padded.extend([0; 9]);
        assert_eq!(checked(padded, Channels::Rgb), Ok(rgb.clone()));

        let mut tags_outside = rgb;
        tags_outside[131] = 1;
        tags_outside[136..140].copy_from_slice(&1000_u32.to_be_bytes());
        assert_eq!(checked(tags_outside, Channels::Rgb), Err(IccFault::Damaged));
    }
}
