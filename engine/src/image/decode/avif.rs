//! AVIF: the container is read here, the AV1 pictures in it are decoded by `re_rav1d`.
//!
//! Read are the primary picture, whole or a grid of tiles, of 8, 10 and 12 bits, gray or in any usual matrix and range,
//! and its alpha. Sizes are admitted as the container says them, and a picture of another size is refused. Of an animation
//! the still picture is read that its file begins with.
//!
//! Colours are not converted: a profile is handed on, and a colour space that is named by numbers is told as PNG tells it.

mod colours;
pub(super) mod items;
mod planes;

use self::items::Items;
use self::planes::{Coding, Planes};
use super::boxes::{Boxes, Fields};
use super::{Channels, DecodeError, DecodeLimits, Found, InputFormat, Samples, damaged, unsupported};

const FORMAT: InputFormat = InputFormat::Avif;

/// Alpha's two names.
const ALPHA: [&[u8]; 2] = [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"];

pub(super) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Found, DecodeError> {
    let Some(items) = Items::read(bytes) else {
        return Err(without_items(bytes));
    };
    let id = items.primary;
    let (width, height) = items.size(id).ok_or_else(|| damaged(FORMAT, &"it does not say its size"))?;
    limits.admit(width.into(), height.into())?;

    let mut canvas = Canvas::decode(&items, id, limits)?;
    let mut notes = Vec::new();
    if let Some(alpha) = alpha_of(&items, id) {
        let opacity = Canvas::decode(&items, alpha, limits)?;
        if (opacity.width, opacity.height) != (canvas.width, canvas.height) {
            return Err(unsupported(FORMAT, &"its transparency has another size: save it again as PNG"));
        }
        let premultiplied =
            items.references.iter().any(|r| &r.kind == b"prem" && r.from == id && r.to.contains(&alpha));
        canvas.join(&opacity, premultiplied);
    }
    if is_animation(bytes) {
        notes.push("first frame of an animation".to_owned());
    }
    Ok(Found {
        width: canvas.width,
        height: canvas.height,
        channels: canvas.channels,
        icc: profile(&items, id, limits.profile_bytes_max, &mut notes),
        samples: canvas.samples,
        exif: None,
        density: None,
        orientation: Some(orientation(&items, id)),
        lossy: true,
        notes,
    })
}

/// Width and height as the container says, before any turn.
pub(super) fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    let items = Items::read(bytes)?;
    items.size(items.primary)
}

/// Why there are no items: the file is cut, a film, or damaged.
fn without_items(bytes: &[u8]) -> DecodeError {
    let mut has_film = false;
    for (kind, content) in Boxes(bytes) {
        has_film |= &kind == b"moov";
        match (&kind, content) {
            (_, None) => return DecodeError::Truncated { format: FORMAT },
            (b"meta", _) => return damaged(FORMAT, &"its list of pictures is wrong"),
            _ => {}
        }
    }
    match has_film {
        true => {
            unsupported(FORMAT, &"it is an animation without a still picture: save its first frame as PNG")
        }
        false => DecodeError::Truncated { format: FORMAT },
    }
}

fn is_animation(bytes: &[u8]) -> bool {
    Boxes(bytes).any(|(kind, _)| &kind == b"moov")
}

/// The item that is the alpha of item `id`.
fn alpha_of(items: &Items<'_>, id: u32) -> Option<u32> {
    let mut auxiliary = items.references.iter().filter(|r| &r.kind == b"auxl" && r.to.contains(&id));
    auxiliary
        .find(|r| {
            let name = items.property(r.from, b"auxC").and_then(|c| Fields(c.get(4..)?).text());
            name.is_some_and(|name| ALPHA.contains(&name))
        })
        .map(|r| r.from)
}

/// As an EXIF orientation what `irot` (a turn against the clock) and then `imir` ask for.
fn orientation(items: &Items<'_>, id: u32) -> u16 {
    let first = |kind| items.property(id, kind).and_then(|content| content.first());
    let quarters = first(b"irot").map_or(0, |byte| byte & 3);
    let mirrored = first(b"imir").map(|byte| byte & 1);
    match (quarters, mirrored) {
        (0, None) => 1,
        (1, None) => 8,
        (2, None) => 3,
        (_, None) => 6,
        // Top and bottom change places.
        (0, Some(0)) => 4,
        (1, Some(0)) => 5,
        (2, Some(0)) => 2,
        (_, Some(0)) => 7,
        // Left and right change places.
        (0, _) => 2,
        (1, _) => 7,
        (2, _) => 4,
        (_, _) => 5,
    }
}

fn profile(items: &Items<'_>, id: u32, bytes_max: usize, notes: &mut Vec<String>) -> Option<Vec<u8>> {
    let profile = items.properties(id).filter(|p| &p.0 == b"colr").find_map(|(_, content, _)| {
        content.strip_prefix(b"prof").or_else(|| content.strip_prefix(b"rICC"))
    })?;
    if profile.len() > bytes_max {
        notes.push(format!("profile dropped: it has {} bytes, more than the limit", profile.len()));
        return None;
    }
    Some(profile.to_vec())
}

/// Primaries, transfer function, matrix and range as the container's numbers say.
pub(super) fn numbers(items: &Items<'_>, id: u32) -> Option<[u16; 4]> {
    let colours = items.properties(id).filter(|p| &p.0 == b"colr");
    let nclx = colours.filter_map(|(_, content, _)| content.strip_prefix(b"nclx")).next()?;
    let mut fields = Fields(nclx);
    Some([fields.short()?, fields.short()?, fields.short()?, fields.number(1)? as u16 >> 7])
}

/// Refuses an item with a property that must not be passed over.
fn check_properties(items: &Items<'_>, id: u32) -> Result<(), DecodeError> {
    for (kind, content, essential) in items.properties(id) {
        let what = match (&kind, content) {
            (b"av1C" | b"ispe" | b"pixi" | b"colr" | b"irot" | b"imir" | b"auxC" | b"pasp", _) => continue,
            (b"clap", _) => "a part of it is to be cut out",
            // All layers, the first of its versions: what a picture without these has.
            (b"lsel", [0xff, 0xff]) | (b"a1op", [0]) => continue,
            (b"lsel" | b"a1op", _) => "it holds several versions of a picture",
            _ if essential => "it has a property that is not known",
            _ => continue,
        };
        return Err(unsupported(FORMAT, &format!("{what}: save it again as PNG")));
    }
    Ok(())
}

/// A picture as it comes out, 8 bit or brought to 16.
struct Canvas {
    width: usize,
    height: usize,
    channels: Channels,
    samples: Samples,
}

impl Canvas {
    /// Decodes item `id`, a picture or a grid.
    fn decode(items: &Items<'_>, id: u32, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        check_properties(items, id)?;
        let kind = items.item(id).map(|item| item.kind);
        let (width, height) = items.size(id).ok_or_else(|| damaged(FORMAT, &"it does not say its size"))?;
        limits.admit(width.into(), height.into())?;
        let coding =
            numbers(items, id).map(|[_, _, matrix, range]| Coding { matrix, full_range: range == 1 });
        match kind.as_ref() {
            Some(b"av01") => {
                let planes = decode_item(items, id, limits)?;
                let mut canvas = Self::new(width as usize, height as usize, &planes);
                canvas.paint(&planes, coding.unwrap_or(planes.coding), 0, 0)?;
                Ok(canvas)
            }
            Some(b"grid") => Self::decode_grid(items, id, (width, height), coding, limits),
            _ => Err(unsupported(FORMAT, &"its picture is put together of others: save it again as PNG")),
        }
    }

    /// A grid of tiles (ISO/IEC 23008-12, 6.6.2.3): rows and columns of equal pictures, cut at the right and at the bottom.
    fn decode_grid(
        items: &Items<'_>,
        id: u32,
        (width, height): (u32, u32),
        coding: Option<Coding>,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let wrong = || damaged(FORMAT, &"its tiles do not make a picture");
        let data = items.data(id).ok_or_else(truncated)?;
        let mut fields = Fields(&data);
        let mut next = |size| fields.number(size).ok_or_else(wrong);
        next(1)?;
        let wide = if next(1)? & 1 == 1 { 4 } else { 2 };
        let (rows, columns) = (next(1)? as usize + 1, next(1)? as usize + 1);
        let told = (next(wide)?, next(wide)?);
        let tiles = items.references.iter().find(|r| &r.kind == b"dimg" && r.from == id).ok_or_else(wrong)?;
        if told != (width.into(), height.into()) || tiles.to.len() != rows * columns {
            return Err(wrong());
        }
        let (width, height) = (width as usize, height as usize);
        let mut canvas: Option<(Self, usize, usize)> = None;
        let mut packed = 0;
        for (i, &tile) in tiles.to.iter().enumerate() {
            // Many tiles may point at the same bytes.
            packed += items.data(tile).map_or(0, |data| data.len());
            if packed > items.file_bytes() {
                return Err(wrong());
            }
            let planes = decode_item(items, tile, limits)?;
            let coding = coding
                .or(numbers(items, tile)
                    .map(|[_, _, matrix, range]| Coding { matrix, full_range: range == 1 }));
            let (tile_width, tile_height) = (planes.luma.width, planes.luma.height);
            if canvas.is_none() {
                let covers = tile_width * columns >= width && tile_height * rows >= height;
                let none_spare = tile_width * (columns - 1) < width && tile_height * (rows - 1) < height;
                if !covers || !none_spare {
                    return Err(wrong());
                }
                canvas = Some((Self::new(width, height, &planes), tile_width, tile_height));
            }
            let Some((canvas, w, h)) = canvas.as_mut().filter(|c| (c.1, c.2) == (tile_width, tile_height))
            else {
                return Err(wrong());
            };
            if canvas.channels != channels_of(&planes) || canvas.samples.bits() != depth_of(&planes) {
                return Err(wrong());
            }
            canvas.paint(&planes, coding.unwrap_or(planes.coding), i % columns * *w, i / columns * *h)?;
        }
        canvas.map(|(canvas, ..)| canvas).ok_or_else(wrong)
    }

    fn new(width: usize, height: usize, planes: &Planes) -> Self {
        let channels = channels_of(planes);
        let count = width * height * channels.count();
        let samples = match depth_of(planes) {
            8 => Samples::U8(vec![0; count]),
            _ => Samples::U16(vec![0; count]),
        };
        Self { width, height, channels, samples }
    }

    /// Lays a decoded picture down with its corner at `left`, `top`, which lie inside; what passes the edge is cut off.
    fn paint(&mut self, planes: &Planes, coding: Coding, left: usize, top: usize) -> Result<(), DecodeError> {
        let (width, height, count) = (self.width, self.height, self.channels.count());
        let length = planes.luma.width.min(width - left) * count;
        colours::rows(planes, coding, |y, row| {
            if top + y >= height {
                return;
            }
            let start = ((top + y) * width + left) * count;
            let row = row[..length].iter();
            match &mut self.samples {
                Samples::U8(samples) => {
                    let places = samples[start..start + length].iter_mut();
                    places.zip(row).for_each(|(place, &value)| *place = level(value, 255.0) as u8);
                }
                Samples::U16(samples) => {
                    let places = samples[start..start + length].iter_mut();
                    places.zip(row).for_each(|(place, &value)| *place = level(value, 65_535.0));
                }
            }
        })
    }

    /// Gives the picture the first samples of `opacity`, of the same size, as alpha.
    fn join(&mut self, opacity: &Self, premultiplied: bool) {
        let (count, step) = (self.channels.count(), opacity.channels.count());
        let alpha = |pixel: usize| match &opacity.samples {
            Samples::U8(samples) => 257 * u32::from(samples[pixel * step]),
            Samples::U16(samples) => samples[pixel * step].into(),
        };
        self.samples = match &self.samples {
            Samples::U8(samples) => Samples::U8(
                samples
                    .chunks_exact(count)
                    .enumerate()
                    .flat_map(|(pixel, colours)| {
                        let alpha = ((alpha(pixel) + 128) / 257) as u8;
                        let plain = colours
                            .iter()
                            .map(move |&v| plain(v.into(), alpha.into(), 255, premultiplied) as u8);
                        plain.chain([alpha])
                    })
                    .collect(),
            ),
            Samples::U16(samples) => Samples::U16(
                samples
                    .chunks_exact(count)
                    .enumerate()
                    .flat_map(|(pixel, colours)| {
                        let alpha = alpha(pixel) as u16;
                        let plain = colours
                            .iter()
                            .map(move |&v| plain(v.into(), alpha.into(), 65_535, premultiplied) as u16);
                        plain.chain([alpha])
                    })
                    .collect(),
            ),
        };
        self.channels = if self.channels.is_colour() { Channels::Rgba } else { Channels::GrayAlpha };
    }
}

/// A colour without the alpha that it may be multiplied with.
fn plain(colour: u64, alpha: u64, full: u64, premultiplied: bool) -> u64 {
    if premultiplied && alpha > 0 { ((colour * full + alpha / 2) / alpha).min(full) } else { colour }
}

/// 0..1 as the nearest of the levels up to `full`.
fn level(value: f32, full: f32) -> u16 {
    (value.clamp(0.0, 1.0) * full + 0.5) as u16
}

fn channels_of(planes: &Planes) -> Channels {
    if planes.chroma.is_some() { Channels::Rgb } else { Channels::Gray }
}

fn depth_of(planes: &Planes) -> u8 {
    if planes.bits == 8 { 8 } else { 16 }
}

fn decode_item(items: &Items<'_>, id: u32, limits: &DecodeLimits) -> Result<Planes, DecodeError> {
    if items.item(id).is_none_or(|item| &item.kind != b"av01") {
        return Err(damaged(FORMAT, &"a picture in it is not there"));
    }
    check_properties(items, id)?;
    let (width, height) = items.size(id).ok_or_else(|| damaged(FORMAT, &"a tile does not say its size"))?;
    limits.admit(width.into(), height.into())?;
    let data = items.data(id).ok_or_else(truncated)?;
    planes::decode(&data, width, height)
}

fn truncated() -> DecodeError {
    DecodeError::Truncated { format: FORMAT }
}
