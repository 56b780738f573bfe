//! What of a picture's metadata goes into a file of a format, and in words what does not.
//!
//! One place decides for all formats; the formats' writers only lay out what they are handed. A picture with an EXIF
//! block keeps it as it is (renewed for the size). Without one, texts that EXIF has a tag for get a small block of their
//! own where the format has no texts. Nothing is left out without a note.

use super::OutputFormat;
use crate::image::directory::{Directory, File, speaks_of_pixels};
use crate::image::metadata::{Metadata, Text};
use crate::image::picture::Picture;
use crate::image::{exif, xmp};

/// What is to be written, but for pixels, profile and density.
#[derive(Default)]
pub(super) struct Carried<'a> {
    /// Not for TIFF.
    pub(super) exif: Option<Vec<u8>>,
    /// What describes the picture, for TIFF.
    pub(super) tags: Directory,
    pub(super) xmp: Option<String>,
    /// For JPEG: the packet that the first names by its digest.
    pub(super) xmp_extension: Option<&'a str>,
    pub(super) iptc: Option<&'a [u8]>,
    /// For PNG all, for JPEG comments.
    pub(super) texts: Vec<&'a Text>,
}

/// Bytes of XMP in a JPEG's segment (XMP part 3, 1.1.3).
const JPEG_XMP_BYTES_MAX: usize = 65_502;
/// Bytes of IPTC records in a JPEG's segment, behind the signature and the resource's header.
const JPEG_IPTC_BYTES_MAX: usize = 65_533 - 14 - 12;
/// Bytes of a JPEG's comment.
const JPEG_COMMENT_BYTES_MAX: usize = 65_533;

/// Decides for `picture` in `format`.
pub(super) fn carried<'a>(
    picture: &'a Picture,
    format: OutputFormat,
    notes: &mut Vec<String>,
) -> Carried<'a> {
    let (metadata, width, height) = (&picture.metadata, picture.width, picture.height);
    let title = format.title();
    let mut carried = Carried { texts: metadata.texts.iter().collect(), ..Carried::default() };
    match metadata.exif.as_deref().map(|block| exif::renewed(block, width, height)) {
        Some(Ok(block)) if format == OutputFormat::Tiff => carried.tags = tags(&block, notes),
        Some(Ok(block)) => carried.exif = Some(block),
        Some(Err(fault)) => notes.push(format!("EXIF left out: {fault}")),
        None if format == OutputFormat::Png => {}
        None => {
            let tags = from_texts(&mut carried.texts, format);
            match format {
                OutputFormat::Tiff => carried.tags = tags,
                _ => carried.exif = (!tags.is_empty()).then(|| tags.to_block()),
            }
        }
    }
    carry_xmp(&mut carried, metadata, format, (width, height), notes);
    carry_iptc(&mut carried, metadata, format, notes);
    keep_texts(&mut carried.texts, format, notes);
    if format != OutputFormat::Png
        && let Some(lost) = metadata.colour.lost(metadata.icc.is_some())
    {
        notes.push(format!(
            "{lost} left out: {title} has no place for it and viewers will show other colours; choose png"
        ));
    }
    carried
}

/// What of an EXIF block a TIFF has places for.
fn tags(block: &[u8], notes: &mut Vec<String>) -> Directory {
    let Some(file) = File::open(block) else { return Directory::default() };
    let found = file.described(speaks_of_pixels);
    if found.maker_note {
        notes.push("MakerNote left out: it holds only at its place in the block it came in".to_owned());
    }
    if found.overfull {
        notes.push("some EXIF tags left out: together they are longer than 1 MiB".to_owned());
    }
    if !found.others.is_empty() {
        let names = found.others.iter().map(ToString::to_string).collect();
        notes.push(format!("EXIF left out in part: TIFF has no use for tags {}", listed(names)));
    }
    found.directory
}

/// Takes out of `texts` what EXIF has a tag for. A JPEG's comments stay: it has segments for them.
fn from_texts(texts: &mut Vec<&Text>, format: OutputFormat) -> Directory {
    const PARAMETERS: &str = "parameters";
    let mut tags = Directory::default();
    let mut take = |keyword: &str| {
        let at = texts
            .iter()
            .position(|text| text.keyword.eq_ignore_ascii_case(keyword) && !text.text.contains('\0'))?;
        Some(texts.remove(at).text.as_str())
    };
    for (keyword, tag) in
        [("Description", 0x010e), ("Software", 0x0131), ("Author", 0x013b), ("Copyright", 0x8298)]
    {
        if let Some(text) = take(keyword) {
            tags.push_text(tag, text);
        }
    }
    // Image generators put their parameters there when they write JPEG or WebP.
    let comment = take(PARAMETERS).or_else(|| match format {
        OutputFormat::Jpeg => None,
        _ => take(Text::COMMENT),
    });
    if let Some(text) = comment {
        tags.push_comment(text);
    }
    tags
}

fn carry_xmp<'a>(
    carried: &mut Carried<'a>,
    metadata: &'a Metadata,
    format: OutputFormat,
    (width, height): (usize, usize),
    notes: &mut Vec<String>,
) {
    let Some(packet) = &metadata.xmp else { return };
    if format != OutputFormat::Jpeg {
        let Some((packet, split)) = xmp::whole(metadata, width, height) else { return };
        if split {
            notes.push("extended XMP left out: it cannot be joined to the rest".to_owned());
        }
        carried.xmp = Some(packet);
        return;
    }
    let packet = xmp::renewed(packet, width, height);
    if packet.len() > JPEG_XMP_BYTES_MAX {
        notes.push(format!("XMP left out: {} bytes are more than a JPEG holds", packet.len()));
        return;
    }
    // Without the digest in the packet nobody would find the extension.
    carried.xmp_extension =
        metadata.xmp_extension.as_deref().filter(|_| xmp::extension_digest(&packet).is_some());
    carried.xmp = Some(packet);
}

fn carry_iptc<'a>(
    carried: &mut Carried<'a>,
    metadata: &'a Metadata,
    format: OutputFormat,
    notes: &mut Vec<String>,
) {
    let Some(records) = metadata.iptc.as_deref() else { return };
    match format {
        OutputFormat::Webp => notes.push("IPTC left out: WebP has no place for it".to_owned()),
        OutputFormat::Jpeg if records.len() > JPEG_IPTC_BYTES_MAX => {
            notes.push(format!("IPTC left out: {} bytes are more than a JPEG holds", records.len()));
        }
        _ => carried.iptc = Some(records),
    }
}

/// Keeps the texts that the format has a place for.
fn keep_texts(texts: &mut Vec<&Text>, format: OutputFormat, notes: &mut Vec<String>) {
    let fits = |text: &Text| match format {
        OutputFormat::Png => is_keyword(&text.keyword) && !text.text.contains('\0'),
        OutputFormat::Jpeg => {
            let is = |keyword| text.keyword.eq_ignore_ascii_case(keyword);
            (is(Text::COMMENT) || is("Description")) && text.text.len() <= JPEG_COMMENT_BYTES_MAX
        }
        OutputFormat::Webp | OutputFormat::Tiff => false,
    };
    let missing: Vec<_> = texts.iter().filter(|text| !fits(text)).collect();
    if !missing.is_empty() {
        let name = |text: &&&Text| {
            let short: String = text.keyword.chars().filter(|c| !c.is_control()).take(40).collect();
            format!("\"{short}\"")
        };
        let names = listed(missing.iter().map(name).collect());
        notes.push(format!("texts left out: {} has no place for {names}", format.title()));
    }
    texts.retain(|text| fits(text));
}

/// The first eight of some names, and how many more there are.
fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(8);
    names.truncate(8);
    match more {
        0 => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

/// Whether a PNG takes the keyword: 1 to 79 characters of Latin-1 that can be seen.
fn is_keyword(keyword: &str) -> bool {
    let visible = |c: char| !c.is_control() && u32::from(c) < 256;
    (1..=79).contains(&keyword.chars().count()) && keyword.chars().all(visible)
}
