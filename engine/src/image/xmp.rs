//! XMP packets (ISO 16684-1): whether one is, and keeping it from contradicting the pixels.
//!
//! A packet is text of strangers and stays as it came but for a few numbers that would be wrong beside the new pixels:
//! they are replaced where they stand, by their usual names (`tiff:Orientation` …), as attributes and as elements. No XML is
//! parsed, so there is nothing to expand and nothing to follow.

use super::metadata::Metadata;

/// Why a packet is not kept. The words go after "XMP dropped: ".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmpFault {
    /// UTF-16 packets exist in theory; JPEG, PNG and TIFF ask for UTF-8.
    #[error("it is no UTF-8 text")]
    NotText,
    /// There is no RDF in it.
    #[error("it is no XMP packet")]
    NotXmp,
}

/// The packet in `bytes`, without the zero bytes that some writers put behind it.
pub(super) fn checked(bytes: &[u8]) -> Result<String, XmpFault> {
    let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| XmpFault::NotText)?;
    if text.contains('\0') {
        return Err(XmpFault::NotText);
    }
    if !text.contains("<rdf:RDF") {
        return Err(XmpFault::NotXmp);
    }
    Ok(text.to_owned())
}

/// Whether the packet says that a film follows the picture, which no result has.
pub(super) fn tells_of_a_film(packet: &str) -> bool {
    ["GCamera:MotionPhoto", "GCamera:MicroVideo"].iter().any(|name| set(packet, name, "0") != packet)
}

/// The packet for a picture of `width` × `height` upright pixels without a film behind it: orientation 1, the sizes that
/// are there renewed.
pub(super) fn renewed(packet: &str, width: usize, height: usize) -> String {
    let (width, height) = (width.to_string(), height.to_string());
    let numbers = [
        ("tiff:Orientation", "1"),
        ("tiff:ImageWidth", &width),
        ("tiff:ImageLength", &height),
        ("exif:PixelXDimension", &width),
        ("exif:PixelYDimension", &height),
        ("GCamera:MotionPhoto", "0"),
        ("GCamera:MicroVideo", "0"),
    ];
    numbers.iter().fold(packet.to_owned(), |packet, (name, value)| set(&packet, name, value))
}

/// The packet with every number called `name` set to `value`.
fn set(packet: &str, name: &str, value: &str) -> String {
    let mut result = String::with_capacity(packet.len());
    let mut rest = packet;
    while let Some(at) = rest.find(name) {
        let whole_name =
            !rest[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':'));
        let (head, tail) = rest.split_at(at + name.len());
        result.push_str(head);
        rest = tail;
        if let Some((lead, digits)) = number(tail).filter(|_| whole_name) {
            result.push_str(&tail[..lead]);
            result.push_str(value);
            rest = &tail[lead + digits..];
        }
    }
    result.push_str(rest);
    result
}

/// Where the number after a property's name begins, and how long it is: `="6"`, `='6'` or `>6<`.
fn number(tail: &str) -> Option<(usize, usize)> {
    let value = match tail.trim_start().strip_prefix('=') {
        Some(value) => value.trim_start().strip_prefix(['"', '\''])?,
        None => tail.strip_prefix('>')?.trim_start(),
    };
    let lead = tail.len() - value.len();
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    let end = &value[digits..];
    let closed = match tail.starts_with('>') {
        true => end.trim_start().starts_with('<'),
        false => end.starts_with(['"', '\'']),
    };
    ((1..=10).contains(&digits) && closed).then_some((lead, digits))
}

const EXTENDED: &str = "xmpNote:HasExtendedXMP";

/// The digest by which the packet names its extension (XMP part 3, 1.1.3.1): 32 hexadecimal digits.
pub(super) fn extension_digest(packet: &str) -> Option<&str> {
    let tail = &packet[packet.find(EXTENDED)? + EXTENDED.len()..];
    let value = tail.strip_prefix("=\"").or(tail.strip_prefix("='")).or(tail.strip_prefix('>'))?;
    value.get(..32).filter(|digest| digest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The packet with its extension in it, for formats that need not split; `None` when the two cannot be joined as text:
/// an extension that names its namespaces outside of what is moved.
pub(super) fn joined(packet: &str, extension: &str) -> Option<String> {
    let open = extension.find("<rdf:RDF")?;
    let body = open + extension[open..].find('>')? + 1;
    let close = extension.rfind("</rdf:RDF>").filter(|&close| close >= body)?;
    let names = extension[..body].matches("xmlns:").count();
    let own = extension[..body].matches("xmlns:rdf=").count() + extension[..body].matches("xmlns:x=").count();
    if names != own {
        return None;
    }
    let packet = without_digest(packet);
    let end = packet.rfind("</rdf:RDF>")?;
    Some([&packet[..end], &extension[body..close], &packet[end..]].concat())
}

fn without_digest(packet: &str) -> String {
    let digest = extension_digest(packet).unwrap_or_default();
    let forms = [
        format!("{EXTENDED}=\"{digest}\""),
        format!("{EXTENDED}='{digest}'"),
        format!("<{EXTENDED}>{digest}</{EXTENDED}>"),
    ];
    forms.iter().fold(packet.to_owned(), |packet, form| packet.replace(form, ""))
}

/// The picture's packet as one text for a picture of `width` × `height` pixels, and whether an extension had to stay out.
pub(super) fn whole(metadata: &Metadata, width: usize, height: usize) -> Option<(String, bool)> {
    let packet = renewed(metadata.xmp.as_deref()?, width, height);
    Some(match &metadata.xmp_extension {
        None => (packet, false),
        Some(extension) => match joined(&packet, extension) {
            Some(joined) => (joined, false),
            None => (without_digest(&packet), true),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_utf8_with_rdf_in_it() {
        assert_eq!(checked(b"<rdf:RDF/>\0\0"), Ok("<rdf:RDF/>".to_owned()));
        assert_eq!(checked(b"<rdf:RDF/>\0<"), Err(XmpFault::NotText));
        assert_eq!(checked(b"<rdf:RDF>\xff"), Err(XmpFault::NotText));
        assert_eq!(checked(b"hello"), Err(XmpFault::NotXmp));
        assert_eq!(checked(b""), Err(XmpFault::NotXmp));
    }

    #[test]
    fn numbers_that_would_be_wrong_are_replaced_in_either_form() {
        let cases = [
            ("<a tiff:Orientation=\"6\" b='6'>", "<a tiff:Orientation=\"1\" b='6'>"),
            ("<a tiff:Orientation = '8'>", "<a tiff:Orientation = '1'>"),
            ("<tiff:Orientation>6</tiff:Orientation>", "<tiff:Orientation>1</tiff:Orientation>"),
            ("<tiff:Orientation> 3\n</tiff:Orientation>", "<tiff:Orientation> 1\n</tiff:Orientation>"),
            ("exif:PixelXDimension=\"64\"", "exif:PixelXDimension=\"256\""),
            ("<exif:PixelYDimension>4800</x>", "<exif:PixelYDimension>192</x>"),
            (
                "tiff:ImageWidth=\"1\" tiff:ImageLength=\"1\"",
                "tiff:ImageWidth=\"256\" tiff:ImageLength=\"192\"",
            ),
            ("GCamera:MotionPhoto=\"1\"", "GCamera:MotionPhoto=\"0\""),
        ];
        for (before, after) in cases {
            assert_eq!(renewed(before, 256, 192), after);
        }
        for same in [
            "tiff:Orientation=\"six\"",
            "mytiff:Orientation=\"6\"",
            "tiff:Orientation",
            "tiff:Orientation=",
            "tiff:Orientation=\"6",
            "tiff:Orientation>6",
            "tiff:OrientationX=\"6\"",
            "a tiff:Orientation ist 6, ü",
            "exif:PixelXDimension=\"12345678901\"",
        ] {
            assert_eq!(renewed(same, 256, 192), same);
        }
        assert!(tells_of_a_film("GCamera:MicroVideo=\"1\""));
        assert!(!tells_of_a_film("GCamera:MotionPhoto=\"0\""));
    }

    #[test]
    fn an_extension_is_joined_unless_its_namespaces_would_be_lost() {
        let digest = "0123456789ABCDEF0123456789ABCDEF";
        let main = format!("<rdf:RDF><rdf:Description xmpNote:HasExtendedXMP=\"{digest}\"/></rdf:RDF>");
        assert_eq!(extension_digest(&main), Some(digest));
        let extension = "<x:xmpmeta xmlns:x=\"a\"><rdf:RDF xmlns:rdf=\"r\"><rdf:Description a:b=\"1\"/></rdf:RDF></x:xmpmeta>";
        let joined_text = "<rdf:RDF><rdf:Description /><rdf:Description a:b=\"1\"/></rdf:RDF>";
        assert_eq!(joined(&main, extension).as_deref(), Some(joined_text));
        let outside = extension.replace("xmlns:rdf=\"r\"", "xmlns:rdf=\"r\" xmlns:a=\"s\"");
        assert_eq!(joined(&main, &outside), None);
        for broken in ["", "<rdf:RDF", "<rdf:RDF>", "</rdf:RDF><rdf:RDF>"] {
            assert_eq!(joined(&main, broken), None);
        }
        assert_eq!(extension_digest("xmpNote:HasExtendedXMP=\"12"), None);
        assert_eq!(extension_digest("xmpNote:HasExtendedXMP=\"ü123456789ABCDEF0123456789ABCDE\""), None);
    }
}
