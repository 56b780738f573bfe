//! What a PNG's chunks say besides the pixels: texts, XMP, the profiles that ImageMagick hides in texts, and colour.
//!
//! Size, profile, eXIf, density and the frames are [`super::png`]'s. A chunk with a wrong checksum is not believed. Compressed
//! texts are unpacked under the budget of [`Extras`]. tIME is not carried and not told of: it says when the pixels
//! were last changed, and they are changed now.

use super::extras::{Extras, latin_1, quoted};
use crate::image::exif;

const XMP: &str = "XML:com.adobe.xmp";
const RAW_PROFILE: &str = "Raw profile type ";
/// Texts that repeat what stands in EXIF and XMP, the old orientation and size among it, which would be believed.
const COPIES: [&str; 3] = ["exif:", "tiff:", "xmp:"];
const SIGNATURE_BYTES: usize = 8;

pub(super) fn read(bytes: &[u8], extras: &mut Extras) {
    let mut rest = bytes.get(SIGNATURE_BYTES..).unwrap_or_default();
    let mut before_pixels = true;
    while let Some((chunk, after)) = Chunk::first(rest) {
        rest = after;
        let data = chunk.data;
        match chunk.kind {
            b"IDAT" => before_pixels = false,
            b"IEND" => break,
            b"IHDR" | b"PLTE" | b"tRNS" | b"pHYs" | b"iCCP" | b"eXIf" | b"acTL" | b"fcTL" | b"fdAT"
            | b"tIME" => {}
            b"tEXt" | b"zTXt" | b"iTXt" if !chunk.is_sound() => extras.leave("a damaged text"),
            b"tEXt" => plain(data, extras),
            b"zTXt" => packed(data, extras),
            b"iTXt" => international(data, extras),
            b"caBX" => extras.leave("content credentials (caBX)"),
            _ if before_pixels && chunk.is_sound() && colour(chunk.kind, data, extras) => {}
            kind => extras.leave(latin_1(kind)),
        }
    }
}

struct Chunk<'a> {
    kind: &'a [u8; 4],
    data: &'a [u8],
    /// What the checksum is of.
    checked: &'a [u8],
    checksum: u32,
}

impl<'a> Chunk<'a> {
    /// The chunk that `bytes` begin with, and what follows it.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let (checked, rest) = bytes[4..].split_at_checked(length.checked_add(4)?)?;
        let (checksum, rest) = rest.split_first_chunk::<4>()?;
        let (kind, data) = checked.split_first_chunk::<4>()?;
        Some((Self { kind, data, checked, checksum: u32::from_be_bytes(*checksum) }, rest))
    }

    fn is_sound(&self) -> bool {
        crc32fast::hash(self.checked) == self.checksum
    }
}

/// Takes a chunk about colour; false if it is none, or not of its length.
fn colour(kind: &[u8; 4], data: &[u8], extras: &mut Extras) -> bool {
    fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
        let fits = value.is_some();
        *slot = slot.take().or(value);
        fits
    }
    let numbers = |data: &[u8]| {
        let mut numbers = [0; 8];
        let words = data.as_chunks::<4>().0;
        numbers.iter_mut().zip(words).for_each(|(to, word)| *to = u32::from_be_bytes(*word));
        (data.len() == 32).then_some(numbers)
    };
    let colour = &mut extras.colour;
    match kind {
        b"gAMA" => set(&mut colour.gamma, data.try_into().ok().map(u32::from_be_bytes)),
        b"cHRM" => set(&mut colour.chromaticities, numbers(data)),
        b"sRGB" => set(&mut colour.srgb, <[u8; 1]>::try_from(data).ok().map(|[intent]| intent)),
        b"cICP" => set(&mut colour.cicp, data.try_into().ok()),
        b"mDCV" => set(&mut colour.mastering, data.try_into().ok()),
        b"cLLI" => set(&mut colour.light_level, data.try_into().ok()),
        _ => false,
    }
}

/// Keyword and what follows the zero behind it: 1 to 79 characters that can be seen (PNG 3rd edition, 11.3.3.1).
fn keyword(data: &[u8]) -> Option<(String, &[u8])> {
    let end = data.iter().take(80).position(|&b| b == 0).filter(|&end| end > 0)?;
    let word = latin_1(&data[..end]);
    (!word.chars().any(char::is_control)).then_some((word, &data[end + 1..]))
}

fn plain(data: &[u8], extras: &mut Extras) {
    match keyword(data) {
        Some((word, text)) => take(&word, latin_1(text), extras),
        None => extras.leave("a damaged text"),
    }
}

fn packed(data: &[u8], extras: &mut Extras) {
    match keyword(data) {
        Some((word, [0, packed @ ..])) => {
            if let Some(text) = extras.inflate(packed) {
                take(&word, latin_1(&text), extras);
            }
        }
        _ => extras.leave("a damaged text"),
    }
}

/// Keyword, compressed or not, method, language, keyword in that language, text (PNG 3rd edition, 11.3.3.4).
fn international(data: &[u8], extras: &mut Extras) {
    let parts = keyword(data).and_then(|(word, rest)| {
        let [flag @ (0 | 1), _, rest @ ..] = rest else { return None };
        let mut fields = rest.splitn(3, |&b| b == 0);
        let language = fields.next()?;
        fields.next()?;
        Some((word, *flag == 1, !language.is_empty(), fields.next()?))
    });
    let Some((word, compressed, language, text)) = parts else { return extras.leave("a damaged text") };
    let unpacked = match compressed {
        true => match extras.inflate(text) {
            Some(text) => text,
            None => return,
        },
        false => text.to_vec(),
    };
    match String::from_utf8(unpacked) {
        Ok(text) => {
            if language && word != XMP {
                extras.leave(format!("the language of text {}", quoted(&word)));
            }
            take(&word, text, extras);
        }
        Err(_) => extras.leave("a damaged text"),
    }
}

fn take(keyword: &str, text: String, extras: &mut Extras) {
    if keyword == XMP {
        extras.take_xmp(text.as_bytes());
    } else if let Some(kind) = keyword.strip_prefix(RAW_PROFILE) {
        match raw_profile(&text) {
            Some(profile) => take_profile(kind, profile, extras),
            None => extras.leave(format!("a damaged profile of type {}", quoted(kind))),
        }
    } else if COPIES.iter().any(|prefix| keyword.starts_with(prefix)) {
        extras.leave("ImageMagick's copies of EXIF and XMP");
    } else if text.contains('\0') {
        extras.leave("a damaged text");
    } else {
        extras.take_text(keyword, text);
    }
}

fn take_profile(kind: &str, profile: Vec<u8>, extras: &mut Extras) {
    const XMP_SEGMENT: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    match kind {
        "xmp" => extras.take_xmp(&profile),
        "APP1" if profile.starts_with(XMP_SEGMENT) => extras.take_xmp(&profile[XMP_SEGMENT.len()..]),
        "exif" | "APP1" => extras.take_exif(exif::without_prefix(&profile).to_vec()),
        "iptc" | "8bim" if profile.starts_with(b"8BIM") => extras.take_resources(&profile),
        "iptc" => extras.take_iptc(&profile),
        "icc" | "icm" => extras.take_icc(&profile),
        kind => extras.leave(format!("a profile of type {}", quoted(kind))),
    }
}

/// The bytes of ImageMagick's form: a line with a name, a line with their number, lines of hexadecimal digits.
fn raw_profile(text: &str) -> Option<Vec<u8>> {
    let (_name, rest) = text.strip_prefix('\n')?.split_once('\n')?;
    let (length, digits) = rest.split_once('\n')?;
    let length: usize = length.trim().parse().ok()?;
    let mut digits = digits.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| char::from(b).to_digit(16));
    let mut profile = Vec::with_capacity(length.min(text.len() / 2));
    while let Some(high) = digits.next() {
        profile.push((high? << 4 | digits.next()??) as u8);
    }
    (profile.len() == length).then_some(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_profile_is_read_and_never_believed_about_its_length() {
        assert_eq!(raw_profile("\nexif\n       3\n0aFF\n10\n"), Some(vec![0x0a, 0xff, 0x10]));
        assert_eq!(raw_profile("\ngeneric profile\n0\n"), Some(vec![]));
        for bad in
            ["", "exif\n3\n0aff10", "\nexif\n4\n0aff10", "\nexif\n3\n0aff1", "\nexif\n1\n0g", "\nexif\n-1\n"]
        {
            assert_eq!(raw_profile(bad), None, "{bad:?}");
        }
        assert_eq!(raw_profile(&format!("\nexif\n{}\n00", usize::MAX)), None);
    }

    #[test]
    fn a_keyword_is_short_and_visible() {
        assert_eq!(keyword(b"Author\0Jane"), Some(("Author".to_owned(), &b"Jane"[..])));
        assert_eq!(keyword(&[&[b'k'; 79][..], b"\0"].concat()).unwrap().0.len(), 79);
        for bad in [&b"\0text"[..], b"no end", &[b'k'; 100], b"a\x1bb\0text"] {
            assert_eq!(keyword(bad), None);
        }
    }
}
