//! TIFFs of sound kinds that the `tiff` crate does not read, laid out anew as kinds that it does.
//!
//! * Zstandard: every strip or tile is unpacked by `ruzstd` and lies, uncompressed, behind the end of the file. None may
//!   unpack to more than its place has; their number must be that of the places.
//! * YCbCr without JPEG: a unit of it (TIFF 6.0, section 21: the luma of a few pixels, then one Cb and one Cr) is a few bytes
//!   of gray to the crate, which undoes whichever compression there is. [`Units::coloured`] makes RGB of them.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;

use super::super::{DecodeError, DecodeLimits, damaged};
use super::FORMAT;
use super::pages::{
    BITS_PER_SAMPLE, BLACK_IS_ZERO, COMPRESSION, Choice, IMAGE_LENGTH, IMAGE_WIDTH, PHOTOMETRIC, Page, Pages,
    ROWS_PER_STRIP, SAMPLES_PER_PIXEL, STRIP_BYTE_COUNTS, STRIP_OFFSETS, TILE_BYTE_COUNTS, TILE_LENGTH,
    TILE_OFFSETS, TILE_WIDTH,
};

/// Both numbers that Zstandard has.
pub(super) const ZSTD: [u64; 2] = [34_926, 50_000];
const YCBCR: u64 = 6;
const JPEG: u64 = 7;

/// A file laid out anew, and the units of its pixels if they are such.
type Repacked = (Vec<u8>, Option<Units>);

/// The file laid out anew; `None` when the crate reads it as it is.
pub(super) fn repacked(
    pages: &Pages<'_>,
    choice: &Choice,
    limits: &DecodeLimits,
) -> Result<Option<Repacked>, DecodeError> {
    let page = &choice.page;
    let units = Units::of(pages, page);
    let mut bytes = pages.patched(choice);
    if ZSTD.contains(&page.compression) {
        let mut laid_out = bytes.unwrap_or_else(|| pages.bytes().to_vec());
        unpack(pages, page, units.as_ref(), limits, &mut laid_out)?;
        bytes = Some(laid_out);
    }
    if let Some(units) = &units {
        let mut laid_out = bytes.unwrap_or_else(|| pages.bytes().to_vec());
        units.as_gray(pages, page, &mut laid_out)?;
        bytes = Some(laid_out);
    }
    Ok(bytes.map(|bytes| (bytes, units)))
}

/// Where the pixels lie: in strips or tiles of so many pixels.
struct Places {
    width: u64,
    height: u64,
    count: u64,
    tiled: bool,
}

impl Places {
    fn of(page: &Page, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        let wrong = || damaged(FORMAT, &"its tags contradict each other");
        let (width, height) = (page.width.ok_or_else(wrong)?, page.height.ok_or_else(wrong)?);
        let planes = if page.planar { page.samples } else { 1 };
        let tiled = page.tile_width.is_some();
        let (across, down) = match (page.tile_width, page.tile_height) {
            (Some(across), Some(down)) => (across, down),
            (None, None) => (width, page.rows_per_strip.unwrap_or(height).min(height)),
            _ => return Err(wrong()),
        };
        limits.admit(across, down)?;
        let count = width.div_ceil(across) * height.div_ceil(down) * planes;
        // Tiles pass the edge by less than their size, but a column of pixels in tiles of full height does so a thousandfold.
        if count * across * down > limits.pixels_max.saturating_mul(2 * planes) {
            return Err(damaged(FORMAT, &"its tiles are far larger than the picture"));
        }
        Ok(Self { width: across, height: down, count, tiled })
    }
}

/// Unpacks all strips or tiles behind the end of `bytes`, and has the directory point there.
fn unpack(
    pages: &Pages<'_>,
    page: &Page,
    units: Option<&Units>,
    limits: &DecodeLimits,
    bytes: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let places = Places::of(page, limits)?;
    let [offsets, lengths] = match places.tiled {
        true => [TILE_OFFSETS, TILE_BYTE_COUNTS],
        false => [STRIP_OFFSETS, STRIP_BYTE_COUNTS],
    };
    let packed = [offsets, lengths].map(|tag| pages.numbers(page, tag, places.count));
    if packed.iter().any(|numbers| numbers.len() as u64 != places.count) {
        return Err(damaged(FORMAT, &"its tags contradict each other"));
    }
    let samples = if page.planar { 1 } else { page.samples };
    let bits = page.bits.first().copied().unwrap_or(1);
    let most = match units {
        Some(units) => units.row_bytes(places.width) * places.height.div_ceil(units.down),
        None => (places.width * samples * bits).div_ceil(8) * places.height,
    };
    let mut moved = [Vec::new(), Vec::new()];
    for (&start, &length) in packed[0].iter().zip(&packed[1]) {
        let end = start.saturating_add(length);
        let chunk = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let chunk = chunk.and_then(|(start, end)| pages.bytes().get(start..end));
        let chunk = chunk.ok_or(DecodeError::Truncated { format: FORMAT })?;
        let start = bytes.len();
        let unpacked = StreamingDecoder::new(chunk).map_err(|_| does_not_unpack())?;
        unpacked.take(most).read_to_end(bytes).map_err(|_| does_not_unpack())?;
        moved[0].push(start as u64);
        moved[1].push((bytes.len() - start) as u64);
    }
    if u32::try_from(bytes.len()).is_err() && !pages.is_big() {
        return Err(damaged(FORMAT, &"it unpacks to more than a TIFF can hold"));
    }
    pages.set(bytes, page, offsets, &moved[0]);
    pages.set(bytes, page, lengths, &moved[1]);
    pages.set(bytes, page, COMPRESSION, &[1]);
    Ok(())
}

fn does_not_unpack() -> DecodeError {
    damaged(FORMAT, &"its compressed pixels do not unpack")
}

/// How YCbCr is stored: a unit is `across` × `down` pixels.
pub(super) struct Units {
    width: usize,
    height: usize,
    across: u64,
    down: u64,
    /// The parts of red, green and blue in luma.
    luma: [f32; 3],
    /// What means black and white (or 0 and ½) in Y, Cb and Cr.
    reference: [f32; 6],
}

impl Units {
    /// `None` if the page is none of these. What [`super::kinds`] lets pass has 8 bits, 3 samples and no planes.
    fn of(pages: &Pages<'_>, page: &Page) -> Option<Self> {
        if page.photometric != Some(YCBCR) || page.compression == JPEG {
            return None;
        }
        let [across, down] = page.subsampling;
        let luma = pages.rationals(page, 529, 3).try_into().unwrap_or([0.299, 0.587, 0.114]);
        let reference = pages.rationals(page, 532, 6).try_into();
        let reference = reference.unwrap_or([0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let [width, height] = [page.width?, page.height?].map(|side| side as usize);
        Some(Self { width, height, across, down, luma, reference })
    }

    /// Bytes of a row of units for `width` pixels.
    fn row_bytes(&self, width: u64) -> u64 {
        width.div_ceil(self.across) * (self.across * self.down + 2)
    }

    /// Has the directory call the units gray.
    fn as_gray(&self, pages: &Pages<'_>, page: &Page, bytes: &mut Vec<u8>) -> Result<(), DecodeError> {
        let part = |side: Option<u64>, of: u64| match side {
            Some(side) if side % of != 0 => {
                Err(damaged(FORMAT, &"its strips or tiles cut its pixels in parts"))
            }
            side => Ok(side.map(|side| side / of)),
        };
        let height = self.height as u64;
        // One strip for all may have any number of rows.
        let rows = part(page.rows_per_strip.filter(|&rows| rows < height), self.down)?;
        part(page.tile_width, self.across)?;
        let values = [
            (IMAGE_WIDTH, Some(self.row_bytes(self.width as u64))),
            (IMAGE_LENGTH, Some(height.div_ceil(self.down))),
            (ROWS_PER_STRIP, Some(rows.unwrap_or(height.div_ceil(self.down)))),
            (TILE_WIDTH, page.tile_width.map(|width| self.row_bytes(width))),
            (TILE_LENGTH, part(page.tile_height, self.down)?),
            (BITS_PER_SAMPLE, Some(8)),
            (SAMPLES_PER_PIXEL, Some(1)),
            (PHOTOMETRIC, Some(BLACK_IS_ZERO)),
        ];
        for (tag, value) in values {
            if let Some(value) = value {
                pages.set(bytes, page, tag, &[value]);
            }
        }
        Ok(())
    }

    /// Width and height of the picture.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// The units as RGB, (H, W, 3). All pixels of a unit have its Cb and Cr, as in libtiff.
    pub(super) fn coloured(&self, units: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let (across, down) = (self.across as usize, self.down as usize);
        let (stride, size) = (self.row_bytes(self.width as u64) as usize, across * down + 2);
        if units.len() < stride * self.height.div_ceil(down) {
            return Err(damaged(FORMAT, &"some of its pixels are missing"));
        }
        let mut samples = Vec::with_capacity(self.width * self.height * 3);
        for y in 0..self.height {
            let row = &units[y / down * stride..][..stride];
            for x in 0..self.width {
                let unit = &row[x / across * size..][..size];
                let luma = unit[y % down * across + x % across];
                samples.extend(self.colour([luma, unit[size - 2], unit[size - 1]]));
            }
        }
        Ok(samples)
    }

    /// TIFF 6.0, section 21, "Conversion to RGB".
    fn colour(&self, stored: [u8; 3]) -> [u8; 3] {
        let range = [255.0, 127.0, 127.0];
        let [y, cb, cr] = [0, 1, 2].map(|c| {
            let [black, white] = [self.reference[2 * c], self.reference[2 * c + 1]];
            let span = if white == black { 1.0 } else { white - black };
            (f32::from(stored[c]) - black) * range[c] / span
        });
        let [red, green, blue] = self.luma;
        let r = cr * (2.0 - 2.0 * red) + y;
        let b = cb * (2.0 - 2.0 * blue) + y;
        let g = (y - blue * b - red * r) / if green == 0.0 { 1.0 } else { green };
        [r, g, b].map(|value| (value.clamp(0.0, 255.0) + 0.5) as u8)
    }
}
