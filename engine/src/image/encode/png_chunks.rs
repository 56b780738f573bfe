//! A PNG's chunks for colour, texts, XMP and IPTC.
//!
//! They stand before the pixels, in a fixed order. Texts of Latin-1 go into tEXt, others into iTXt, none compressed: the same
//! bytes on every machine, and readable with any tool. IPTC, which PNG has no chunk for, goes where ImageMagick and
//! ExifTool put and find it.

use super::carried::Carried;
use crate::image::iptc;
use crate::image::metadata::ColourChunks;

/// A chunk's name and data.
pub(super) type Chunk = ([u8; 4], Vec<u8>);

/// The chunks that say how the samples are meant, exactly as they came.
pub(super) fn colour(colour: &ColourChunks) -> Vec<Chunk> {
    let chunks = [
        (*b"cICP", colour.cicp.map(|codes| codes.to_vec())),
        (*b"mDCV", colour.mastering.map(|data| data.to_vec())),
        (*b"cLLI", colour.light_level.map(|data| data.to_vec())),
        (*b"sRGB", colour.srgb.map(|intent| vec![intent])),
        (*b"gAMA", colour.gamma.map(|gamma| gamma.to_be_bytes().to_vec())),
        (*b"cHRM", colour.chromaticities.map(|xy| xy.into_iter().flat_map(u32::to_be_bytes).collect())),
    ];
    chunks.into_iter().filter_map(|(name, data)| Some((name, data?))).collect()
}

/// The chunks of texts, packet and records.
pub(super) fn texts(carried: &Carried<'_>) -> Vec<Chunk> {
    let mut chunks: Vec<_> = carried.texts.iter().map(|text| self::text(&text.keyword, &text.text)).collect();
    if let Some(resource) = carried.iptc.and_then(iptc::as_resource) {
        chunks.push(text("Raw profile type iptc", &raw_profile("iptc", &resource)));
    }
    chunks.extend(carried.xmp.as_ref().map(|packet| international("XML:com.adobe.xmp", packet)));
    chunks
}

fn text(keyword: &str, text: &str) -> Chunk {
    match latin_1(text) {
        Some(bytes) => (*b"tEXt", [&latin_1(keyword).unwrap_or_default()[..], &[0], &bytes].concat()),
        None => international(keyword, text),
    }
}

/// Not compressed, of no language, without a translated keyword.
fn international(keyword: &str, text: &str) -> Chunk {
    (*b"iTXt", [&latin_1(keyword).unwrap_or_default()[..], &[0; 5], text.as_bytes()].concat())
}

fn latin_1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(c).ok()).collect()
}

/// ImageMagick's form: a line with a name, a line with the number of bytes, lines of 36 bytes in hexadecimal digits.
fn raw_profile(name: &str, bytes: &[u8]) -> String {
    let mut text = format!("\n{name}\n{:8}\n", bytes.len());
    for line in bytes.chunks(36) {
        line.iter().for_each(|b| {
            text.extend([b >> 4, b & 15].map(|d| char::from(b"0123456789abcdef"[usize::from(d)])))
        });
        text.push('\n');
    }
    text
}
