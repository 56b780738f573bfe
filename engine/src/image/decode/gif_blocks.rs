//! What a GIF's extension blocks say: comments and XMP (GIF89a; XMP part 3, 1.1.2).
//!
//! Frames are walked over, not unpacked.

use super::extras::{BYTES_MAX, Extras};

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let _ = walk(bytes, extras);
}

/// Walks the blocks; `None` at the end of a file that has no trailer.
fn walk(bytes: &[u8], extras: &mut Extras) -> Option<()> {
    let mut at = 13 + colour_table(*bytes.get(10)?);
    loop {
        match *bytes.get(at)? {
            0x21 => {
                let label = *bytes.get(at + 1)?;
                let start = at + 2;
                at = end_of_blocks(bytes, start)?;
                extension(label, bytes.get(start..at)?, extras);
            }
            0x2c => at = end_of_blocks(bytes, at + 11 + colour_table(*bytes.get(at + 9)?))?,
            _ => return Some(()),
        }
    }
}

/// Bytes of the colour table that a packed field announces.
fn colour_table(packed: u8) -> usize {
    if packed & 0x80 == 0 { 0 } else { 3 << ((packed & 7) + 1) }
}

/// Where the sub-blocks that begin at `at` end: behind the one of length 0.
fn end_of_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length => at += 1 + usize::from(length),
        }
    }
}

fn extension(label: u8, blocks: &[u8], extras: &mut Extras) {
    match label {
        // Graphic control: how the frame is shown.
        0xf9 => {}
        0xfe => match blocks.len() {
            0..BYTES_MAX => extras.take_comment(&joined(blocks)),
            _ => extras.leave("a long comment"),
        },
        0x01 => extras.leave("a text block"),
        0xff => match blocks.get(1..12) {
            // How often an animation is shown, of which only the first frame is read.
            Some(b"NETSCAPE2.0" | b"ANIMEXTS1.0" | b"ICCRGBG1012") => {}
            Some(b"XMP DataXMP") => {
                // The packet stands bare. Behind it a ramp (1, 255, 254 … 0) leads any reader of sub-blocks to the end;
                // UTF-8 has no 255.
                let packet = blocks.get(12..).unwrap_or_default();
                let packet = packet.split(|&b| b == 0xff).next().unwrap_or_default();
                extras.take_xmp(packet.strip_suffix(&[1]).unwrap_or(packet));
            }
            Some(name) => extras.leave(String::from_utf8_lossy(name).trim_end_matches(char::from(0))),
            None => {}
        },
        label => extras.leave(format!("extension {label}")),
    }
}

/// The data of sub-blocks without their lengths.
fn joined(mut blocks: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(blocks.len());
    while let [length, rest @ ..] = blocks {
        let (block, rest) = rest.split_at(rest.len().min((*length).into()));
        data.extend(block);
        blocks = rest;
    }
    data
}
