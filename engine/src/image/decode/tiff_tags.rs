//! What a TIFF's first directory says besides the pixels: XMP, IPTC, Photoshop's resources; and what EXIF has places for
//! (maker, author, settings, place), as an EXIF block; the primaries as a PNG would say them. Profile and resolution are [`super::tiff`]'s.

use super::extras::Extras;
use crate::image::directory::{Described, File, Raw, speaks_of_pixels};

const XMP: u16 = 700;
const IPTC: u16 = 33_723;
const PHOTOSHOP: u16 = 34_377;
const PHOTOSHOP_LAYERS: u16 = 37_724;
const WHITE_POINT: u16 = 318;
const PRIMARIES: u16 = 319;

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let Some(file) = File::open(bytes) else { return };
    let (mut white, mut primaries) = (None, None);
    for raw in file.first() {
        match raw.tag {
            XMP => extras.take_xmp(raw.data),
            IPTC => extras.take_iptc(raw.data),
            PHOTOSHOP => extras.take_resources(raw.data),
            WHITE_POINT => white = chromaticities::<2>(file, &raw),
            PRIMARIES => primaries = chromaticities::<6>(file, &raw),
            PHOTOSHOP_LAYERS => extras.leave("Photoshop layers"),
            _ => {}
        }
    }
    if let (Some([x, y]), Some([rx, ry, gx, gy, bx, by])) = (white, primaries) {
        extras.colour.chromaticities = Some([x, y, rx, ry, gx, gy, bx, by]);
    }
    let found = file.described(|tag| {
        matches!(tag, XMP | IPTC | PHOTOSHOP | PHOTOSHOP_LAYERS | WHITE_POINT | PRIMARIES)
            || speaks_of_pixels(tag)
    });
    name_what_is_missing(&found, extras);
    if !found.directory.is_empty() {
        extras.take_exif(found.directory.to_block());
    }
}

/// `N` RATIONALs times 100,000; `None` if there are not so many, or they are no places in the diagram.
fn chromaticities<const N: usize>(file: File<'_>, raw: &Raw<'_>) -> Option<[u32; N]> {
    let (rationals, rest) = raw.data.as_chunks::<8>();
    let mut values = [0; N];
    if rationals.len() != N || !rest.is_empty() {
        return None;
    }
    for (value, rational) in values.iter_mut().zip(rationals) {
        let (n, d) = (file.read(&rational[..4])?, file.read(&rational[4..])?);
        // Both are below 2³², so the product fits.
        *value = u32::try_from((n * 100_000).checked_div(d)?).ok().filter(|&v| v <= 100_000)?;
    }
    Some(values)
}

fn name_what_is_missing(found: &Described, extras: &mut Extras) {
    if found.maker_note {
        extras.leave("MakerNote");
    }
    if found.overfull {
        extras.leave("some long tags");
    }
    for tag in &found.others {
        match tag {
            0x010e => extras.leave("a description that tells the old size"),
            0x012d => extras.leave("TransferFunction"),
            33_550 | 33_922 | 34_264 | 34_735..=34_737 | 42_112 | 42_113 => extras.leave("GeoTIFF tags"),
            tag => extras.leave(format!("tag {tag}")),
        }
    }
}
