//! What a file says besides its pixels, profile and EXIF: collected under one budget, whatever the format.
//!
//! What it promises: a file's texts and packets together take at most [`BYTES_MAX`], compressed ones are charged for
//! what they unpack to, whether they are kept or not; nothing that the format's walk meets is left out without a word: what
//! has no place in [`Metadata`] is named, in one line. Names and texts come from strangers: what is quoted is short and
//! without control characters. Damage here never costs the picture.

use std::fmt::Display;
use std::io::Read;

use super::{
    InputFormat, avif_items, bmp_colours, gif_blocks, jpeg_segments, jxl_boxes, png_chunks, pnm, tiff_tags,
    webp_chunks,
};
use crate::image::iptc;
use crate::image::metadata::{ColourChunks, Metadata, Text};
use crate::image::xmp;

/// Most bytes of all texts and packets of a file.
pub(super) const BYTES_MAX: usize = 4 << 20;
/// Most bytes that one compressed text may unpack to. Novels are shorter.
pub(super) const INFLATED_MAX: usize = 1 << 20;
/// Most texts of a file.
const TEXTS_MAX: usize = 1000;
/// Most names in a note.
const NAMES_MAX: usize = 8;

/// What was found.
#[derive(Default)]
pub(super) struct Extras {
    /// Where the format's decoder finds none.
    pub(super) icc: Option<Vec<u8>>,
    /// Where the format's decoder finds none.
    pub(super) exif: Option<Vec<u8>>,
    pub(super) xmp: Option<String>,
    pub(super) xmp_extension: Option<String>,
    pub(super) iptc: Option<Vec<u8>>,
    pub(super) texts: Vec<Text>,
    pub(super) colour: ColourChunks,
    pub(super) notes: Vec<String>,
    profile_bytes_max: usize,
    spent: usize,
    too_many: usize,
    left_out: Vec<String>,
    more_left_out: usize,
}

impl Extras {
    /// Walks the file. Never fails: what cannot be read is noted.
    pub(super) fn read(bytes: &[u8], format: InputFormat, profile_bytes_max: usize) -> Self {
        let mut extras = Self { profile_bytes_max, ..Self::default() };
        match format {
            InputFormat::Png => png_chunks::read(bytes, &mut extras),
            InputFormat::Jpeg => jpeg_segments::read(bytes, &mut extras),
            InputFormat::Webp => webp_chunks::read(bytes, &mut extras),
            InputFormat::Tiff => tiff_tags::read(bytes, &mut extras),
            InputFormat::Gif => gif_blocks::read(bytes, &mut extras),
            InputFormat::Bmp => bmp_colours::read(bytes, &mut extras),
            InputFormat::Jxl => jxl_boxes::read(bytes, &mut extras),
            InputFormat::Avif => avif_items::read(bytes, &mut extras),
            InputFormat::Pnm => pnm::read_comments(bytes, &mut extras),
        }
        extras.conclude();
        extras
    }

    /// Moves what was kept into `metadata` and the words about the rest into `notes`. The packet is renewed for the size.
    pub(super) fn settle(
        self,
        metadata: &mut Metadata,
        notes: &mut Vec<String>,
        width: usize,
        height: usize,
    ) {
        if self.xmp.as_deref().is_some_and(xmp::tells_of_a_film) {
            notes.push("the film of a motion photo is left out".to_owned());
        }
        metadata.xmp = self.xmp.map(|packet| xmp::renewed(&packet, width, height));
        metadata.xmp_extension = self.xmp_extension;
        metadata.iptc = self.iptc;
        metadata.texts = self.texts;
        metadata.colour = self.colour;
        notes.extend(self.notes);
    }

    fn conclude(&mut self) {
        if self.too_many > 0 {
            let mib = BYTES_MAX >> 20;
            let count = self.too_many;
            self.notes.push(format!(
                "metadata left out: {count} parts pass the limits of {TEXTS_MAX} texts, 1 MiB unpacked and {mib} MiB in all"
            ));
        }
        if !self.left_out.is_empty() {
            let more = match self.more_left_out {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.notes.push(format!("left out: {}{more}", self.left_out.join(", ")));
        }
    }

    /// Charges the budget, or counts one thing that is too much.
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        let fits = self.spent.saturating_add(bytes) <= BYTES_MAX;
        match fits {
            true => self.spent += bytes,
            false => self.too_many += 1,
        }
        fits
    }

    /// Names a part of the file that has no place.
    pub(super) fn leave(&mut self, name: impl Display) {
        let name = quoted(&name.to_string());
        if self.left_out.contains(&name) {
            return;
        }
        match self.left_out.len() {
            0..NAMES_MAX => self.left_out.push(name),
            // Not looked at for doubles: that would take a list without an end.
            _ => self.more_left_out += 1,
        }
    }

    pub(super) fn take_text(&mut self, keyword: &str, text: String) {
        if self.texts.len() >= TEXTS_MAX {
            self.too_many += 1;
        } else if self.spend(keyword.len() + text.len()) {
            self.texts.push(Text { keyword: keyword.to_owned(), text });
        }
    }

    /// A comment of a format that does not say in what characters: UTF-8 if it is, else Latin-1.
    pub(super) fn take_comment(&mut self, bytes: &[u8]) {
        let end = bytes.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        let bytes = &bytes[..end];
        let text = std::str::from_utf8(bytes).map_or_else(|_| latin_1(bytes), str::to_owned);
        if text.is_empty() {
            return;
        }
        match text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            true => self.leave("a comment that is no text"),
            false => self.take_text(Text::COMMENT, text),
        }
    }

    pub(super) fn take_xmp(&mut self, bytes: &[u8]) {
        if !self.spend(bytes.len()) {
            return;
        }
        match xmp::checked(bytes) {
            // Some files hold the same in two places.
            Ok(packet) if self.xmp.as_ref().is_none_or(|first| *first == packet) => self.xmp = Some(packet),
            Ok(_) => self.leave("a second XMP packet"),
            Err(fault) => self.notes.push(format!("XMP dropped: {fault}")),
        }
    }

    pub(super) fn take_iptc(&mut self, bytes: &[u8]) {
        if !self.spend(bytes.len()) {
            return;
        }
        match iptc::checked(bytes) {
            // The same in two places, or once cut short: ImageMagick's TIFFs count wrongly.
            Some(records) => match self.iptc.as_deref() {
                Some(first) if first.starts_with(records) => {}
                Some(first) if !records.starts_with(first) => self.leave("second IPTC records"),
                _ => self.iptc = Some(records.to_vec()),
            },
            None => self.notes.push("IPTC dropped: there is no whole record in it".to_owned()),
        }
    }

    /// Image resources of Photoshop: the IPTC records in them.
    pub(super) fn take_resources(&mut self, bytes: &[u8]) {
        let found = iptc::resources(bytes);
        if let Some(records) = found.iptc {
            self.take_iptc(records);
        }
        if found.others {
            self.leave("Photoshop resources");
        }
    }

    pub(super) fn take_icc(&mut self, profile: &[u8]) {
        if profile.len() > self.profile_bytes_max {
            self.notes.push(format!("profile dropped: it has {} bytes, more than the limit", profile.len()));
        } else if self.icc.is_none() && self.spend(profile.len()) {
            self.icc = Some(profile.to_vec());
        }
    }

    pub(super) fn take_exif(&mut self, block: Vec<u8>) {
        if self.exif.is_none() && self.spend(block.len()) {
            self.exif = Some(block);
        }
    }

    /// Unpacks a zlib stream as far as the budget allows; `None`, noted, when it is too long or damaged.
    pub(super) fn inflate(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        self.unpack(flate2::read::ZlibDecoder::new(packed))
    }

    /// [`Self::inflate`] for what is packed by Brotli.
    pub(super) fn unpack_brotli(&mut self, packed: &[u8]) -> Option<Vec<u8>> {
        self.unpack(brotli_decompressor::Decompressor::new(packed, 4096))
    }

    fn unpack(&mut self, unpacked: impl Read) -> Option<Vec<u8>> {
        let room = INFLATED_MAX.min(BYTES_MAX - self.spent);
        if room == 0 {
            self.too_many += 1;
            return None;
        }
        let mut text = Vec::new();
        let read = unpacked.take(room as u64 + 1).read_to_end(&mut text);
        if text.len() > room || read.is_err() {
            // The work is done: a file of a million small bombs must not have it for nothing.
            self.spent += text.len().min(room);
            match read {
                Ok(_) => self.too_many += 1,
                Err(_) => self.leave("a text that does not unpack"),
            }
            return None;
        }
        // Who takes the text is charged for it.
        Some(text)
    }
}

/// Bytes as the characters of Latin-1.
pub(super) fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// A stranger's word for a note: at most 40 characters, none of them a control character.
pub(super) fn quoted(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(40).collect()
}
