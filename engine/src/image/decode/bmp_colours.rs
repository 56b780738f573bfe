//! What a BMP's fourth and fifth header say about colour: an embedded profile is taken, calibrated colours and a
//! profile elsewhere are named.

use super::extras::Extras;

/// Where the bitmap's header begins: behind the file's.
const HEADER: usize = 14;
const V4_BYTES: u32 = 108;
const V5_BYTES: u32 = 124;

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let _ = colours(bytes, extras);
}

/// `None` when there is nothing about colour, or it lies outside the file.
fn colours(bytes: &[u8], extras: &mut Extras) -> Option<()> {
    let number =
        |at: usize| Some(u32::from_le_bytes(bytes.get(HEADER + at..HEADER + at + 4)?.try_into().ok()?));
    let size = number(0)?;
    if size < V4_BYTES {
        return None;
    }
    // The four letters are read backwards: the field is a number.
    match &number(56)?.to_be_bytes() {
        b"MBED" if size >= V5_BYTES => {
            let start = HEADER.checked_add(number(112)? as usize)?;
            let end = start.checked_add(number(116)? as usize)?;
            match bytes.get(start..end) {
                Some(profile) => extras.take_icc(profile),
                None => extras.notes.push("profile dropped: it lies outside the file".to_owned()),
            }
        }
        b"LINK" => extras.leave("a profile in another file"),
        // Calibrated by the endpoints and gammas that follow; programs that mean nothing leave them 0.
        [0, 0, 0, 0] if bytes.get(HEADER + 60..HEADER + 108)?.iter().any(|&b| b != 0) => {
            extras.leave("calibrated colours");
        }
        _ => {}
    }
    Some(())
}
